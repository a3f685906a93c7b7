"""Hold for the conformance suite: sites to stand behind the proxy, the proxy, and nginx as what it is measured by."""

import contextlib
import gzip
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.wire import PATIENCE_S, Broken, Garbage, Message, Wire, connect
from tests.proxy.conftest import write_certificate
from tests.support.ports import free_port
from tests.support.servers import ProxyProcess, is_listening, run_proxy, wait_until

RAW: Final = "raw.example.org"
SITE: Final = "nginx.example.org"
SECURE: Final = "localhost"  # as its certificate says
SIX: Final = "six.example.org"
DOWN: Final = "down.example.org"

PAGE: Final = b"<html>" + b"0123456789abcdef" * 560 + b"</html>"

NGINX: Final = """\
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; default_type text/plain; client_max_body_size 0; types {{ text/html html; }}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; gzip_min_length 1; gzip_types text/plain;
  keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{site}; listen 127.0.0.1:{secure} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    root {folder}/www; large_client_header_buffers 4 32k;
    location = /empty {{ return 204; }}
    location = /old {{ return 301 /page.html?moved=1; }}
    location = /away {{ return 302 https://elsewhere.example/path?x=1; }}
    location = /cookies {{
      add_header Set-Cookie "a=1; Path=/; HttpOnly"; add_header Set-Cookie "b=2; Secure";
      add_header X-Frame-Options DENY; return 200 mine;
    }}
    location = /compressed {{ gzip on; alias {folder}/www/page.html; }}
    location = /fixed.gz {{ add_header Content-Encoding gzip; alias {folder}/www/page.gz; }}
    location = /fixed.br {{ add_header Content-Encoding br; alias {folder}/www/page.br; }}
    location = /accept {{ return 200 "[$request_method $http_content_length $http_transfer_encoding]"; }}
    location = /limited {{ client_max_body_size 10; proxy_pass http://127.0.0.1:{site}/accept; }}
    location = /echo {{ return 200 "$request_method $request_uri $http_host $http_user_agent"; }}
    location = /host {{ return 200 "$host"; }}
  }}
  server {{
    listen 127.0.0.1:{reference};
    location / {{ proxy_pass http://127.0.0.1:{raw}; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""

CONFIG: Final = """\
[store]
path = "{{store}}"
flush_s = 1
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
tls_listen = "[::1]:{tls}"
max_connections = 5000
[[proxy.certificates]]
certificate = "{certificate}"
key = "{key}"
"""
SITE_CONFIG: Final = """\
[[sites]]
name = "{name}"
hosts = ["{host}"]
upstream = "{upstream}"
sitemap = ""
"""

# What an origin does with a connection: it may read requests from it, which are then remembered, and send bytes.
Script = Callable[["Connection"], None]


@dataclass
class Connection:
    """One connection to the scripted origin."""

    socket: socket.socket
    requests: list[Message] = field(default_factory=list)
    has_garbage: bool = False
    is_over: bool = False

    def __post_init__(self) -> None:
        self.wire = Wire(self.socket)

    def read(self) -> Message | None:
        """Read the next request and remember it."""
        try:
            request = self.wire.read_request()
        except Broken:
            return None
        except Garbage:
            self.has_garbage = True
            return None
        if request is not None:
            self.requests.append(request)
        return request

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(raw)


class Origin:
    """A site that does what the test says, and remembers every request that it could read, and if there was more."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.script: Script = answer_always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.connections: list[Connection] = []
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._listener.listen(1024)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def play(self, script: Script) -> None:
        """Begin a new case."""
        self.script, self.connections = script, []

    @property
    def requests(self) -> list[Message]:
        """Return the requests of this case."""
        return [request for connection in self.connections for request in connection.requests]

    @property
    def has_garbage(self) -> bool:
        """Tell whether something came that is no request."""
        return any(connection.has_garbage for connection in self.connections)

    def wait(self) -> None:
        """Wait until everybody has left, so that nothing of the case is still on its way."""
        wait_until(lambda: all(one.is_over for one in self.connections), PATIENCE_S, "the origin's connections closing")

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)  # ends the thread that waits for visitors
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                accepted.settimeout(PATIENCE_S)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(accepted)
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection, self.script), daemon=True).start()

    @staticmethod
    def _serve(connection: Connection, script: Script) -> None:
        with contextlib.suppress(OSError), connection.socket:
            script(connection)
        connection.is_over = True


def answer_always(*answers: bytes) -> Script:
    """Return a script that answers each request with the same bytes, in pieces as given, as long as there are any."""

    def script(connection: Connection) -> None:
        while connection.read():
            for piece in answers:
                connection.send(piece)

    return script


def answer_once(*answers: bytes) -> Script:
    """Return a script that answers one request and closes."""

    def script(connection: Connection) -> None:
        if connection.read():
            for piece in answers:
                connection.send(piece)

    return script


@dataclass(frozen=True)
class Stage:
    """Everything that runs, and where it is to be reached."""

    raw: Origin
    six: Origin
    site: int
    secure: int
    reference: int
    proxy: ProxyProcess
    tls: int

    def connect_tls(self, host: str, *protocols: str) -> ssl.SSLSocket:
        """Connect to the proxy over TLS and IPv6, without looking at the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(protocols)
        return context.wrap_socket(connect(self.tls, "::1"), server_hostname=host)


def write_pages(folder: Path) -> None:
    """Write what nginx serves; nginx reads as nobody."""
    www = folder / "www"
    www.mkdir()
    (www / "page.html").write_bytes(PAGE)
    (www / "page.gz").write_bytes(gzip.compress(PAGE))
    (www / "page.br").write_bytes(b"\x0b\x02\x80brotli, or so it says\x03" * 50)  # nobody on the way unpacks it
    for path in (folder, *folder.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Run the origins, nginx and the proxy, once for the whole suite."""
    folder = tmp_path_factory.mktemp("conformance")
    write_pages(folder)
    files = write_certificate(folder, SECURE, "*.example.org")
    raw, six = Origin(), Origin("::1")
    site, secure, reference, tls = free_port(), free_port(), free_port(), free_port()
    nginx = folder / "nginx.conf"
    nginx.write_text(NGINX.format(folder=folder, site=site, secure=secure, reference=reference, raw=raw.port, **files))
    upstreams = {
        RAW: f"http://127.0.0.1:{raw.port}",
        SITE: f"http://127.0.0.1:{site}",
        SECURE: f"https://localhost:{secure}",
        SIX: f"http://[::1]:{six.port}",
        DOWN: f"http://127.0.0.1:{free_port()}",
    }
    config = CONFIG.format(tls=tls, **files) + "".join(
        SITE_CONFIG.format(name=host.partition(".")[0], host=host, upstream=upstream)
        for host, upstream in upstreams.items()
    )
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    with contextlib.ExitStack() as running, pytest.MonkeyPatch.context() as patch:
        running.callback(raw.close)
        running.callback(six.close)
        server = subprocess.Popen(["nginx", "-c", str(nginx), "-e", str(folder / "start.log")], env=environment)
        running.callback(server.wait, PATIENCE_S)
        running.callback(server.terminate)
        wait_until(lambda: is_listening(site), PATIENCE_S, "nginx listening")
        patch.setenv("SSL_CERT_FILE", files["certificate"])
        proxy = running.enter_context(run_proxy(folder / "proxy", config))
        yield Stage(raw, six, site, secure, reference, proxy, tls)
