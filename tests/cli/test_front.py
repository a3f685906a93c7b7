"""What `front` prints works in the real servers: visitors reach the site, and their addresses reach no disk."""

import contextlib
import datetime
import ipaddress
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import h2.connection
import h2.events
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from anonproxy.cli import front
from anonproxy.cli.front import TEMPLATES, find_backend, render_front
from anonproxy.model.errors import OperatorError
from anonproxy.model.parse_settings import parse_settings
from tests.support.ports import free_port
from tests.support.servers import STOPPED_WITHIN_S, ProxyProcess, is_listening, run_proxy, wait_until

HOST: Final = "library.example.org"
# Loopback has 2^24 addresses: the visitor comes from one, nginx and the others talk to anonproxy from another.
VISITOR: Final = "127.77.66.55"
VISITOR_NETWORK: Final = "127.77.66.0"
FORGED: Final = "203.0.113.99"
CANARIES: Final = (VISITOR.encode(), ipaddress.ip_address(VISITOR).packed, FORGED.encode(), b"hunter2")
PATIENCE_S: Final = 10.0
H2_FRAME_BYTES: Final = 16_384

CONFIG: Final = """\
[store]
path = "{{store}}"
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
trusted_proxies = ["127.0.0.1"]
forward_client = "truncated"
[[sites]]
name = "www"
hosts = ["{host}"]
upstream = "http://127.0.0.1:{upstream}"
sitemap = ""
"""

NGINX: Final = """\
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {printed};
}}
"""
APACHE: Final = """\
ServerRoot {folder}
DefaultRuntimeDir {folder}
PidFile {folder}/pid
{modules}
User www-data
Group www-data
Listen 127.0.0.1:{http}
Listen 127.0.0.1:{https}
ErrorLog {folder}/error.log
LogFormat "%h %r %{{Referer}}i" all
CustomLog {folder}/access.log all
Include {printed}
"""
APACHE_MODULES: Final = (
    *("mpm_event", "authz_core", "socache_shmcb", "ssl", "http2"),
    *("headers", "rewrite", "proxy", "proxy_http", "setenvif", "alias"),
)


@dataclass(frozen=True, slots=True)
class Front:
    """A running server, and where it could have written."""

    folder: Path
    printed: Path
    http: int
    https: int
    process: "subprocess.Popen[bytes]"


def move(text: str, http: int, https: int) -> str:
    """Move what is printed from all addresses and the well-known ports to loopback and free ones."""
    text = re.sub(r".*\[::\]:(80|443).*\n", "", text)
    text = re.sub(r"^(\s*)(user|group|chroot) .*\n", "", text, flags=re.MULTILINE)
    for port, free in ((80, http), (443, https)):
        text = re.sub(rf"(listen|bind) (\*:)?{port}\b", rf"\1 127.0.0.1:{free}", text)
        text = text.replace(f"<VirtualHost *:{port}>", f"<VirtualHost *:{free}>")
    return text


def start_nginx(folder: Path, printed: Path, _http: int, _https: int) -> list[str]:
    """Include it as Debian's nginx.conf does, with its logs on."""
    conf = folder / "main.conf"
    conf.write_text(NGINX.format(folder=folder, printed=printed))
    return ["nginx", "-c", str(conf), "-e", str(folder / "start.log")]


def start_caddy(_folder: Path, printed: Path, http: int, https: int) -> list[str]:
    """Set ports by Caddy's own options."""
    ports = f"{{\n    admin off\n    default_bind 127.0.0.1\n    http_port {http}\n    https_port {https}\n"
    printed.write_text(printed.read_text().replace("{\n", ports, 1))
    return ["caddy", "run", "--config", str(printed), "--adapter", "caddyfile"]


def start_haproxy(_folder: Path, printed: Path, _http: int, _https: int) -> list[str]:
    """Run it as it is."""
    return ["haproxy", "-db", "-f", str(printed)]


def start_apache(folder: Path, printed: Path, http: int, https: int) -> list[str]:
    """Include it as Debian's apache2.conf does, with its logs on."""
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in APACHE_MODULES)
    conf = folder / "main.conf"
    conf.write_text(APACHE.format(folder=folder, printed=printed, modules=modules, http=http, https=https))
    return ["apache2", "-f", str(conf), "-DFOREGROUND"]


STARTS: Final[dict[str, Callable[[Path, Path, int, int], list[str]]]] = {
    "nginx": start_nginx,
    "caddy": start_caddy,
    "haproxy": start_haproxy,
    "apache": start_apache,
}


def ask(*arguments: str) -> Result:
    """Run the verb in this process."""
    return CliRunner().invoke(front.command, list(arguments))


@contextlib.contextmanager
def run_front(server: str, folder: Path, config: Path, *options: str) -> Iterator[Front]:
    """Run a server with what `front` prints for a configuration of anonproxy."""
    folder.chmod(0o755)  # nginx and Apache serve as another user; pytest's folders are the owner's alone
    write_certificate(folder / "chain.pem", folder / "key.pem")
    (folder / "bundle.pem").write_bytes((folder / "chain.pem").read_bytes() + (folder / "key.pem").read_bytes())
    asked = ask(server, "--config", str(config), "--certificate", str(folder / "chain.pem"), "--key",
                str(folder / "key.pem"), *options)  # fmt: skip
    assert (asked.exit_code, asked.stderr) == (0, "")
    http, https = free_port(), free_port()
    printed = folder / TEMPLATES[server]
    text = move(asked.stdout, http, https).replace(front.HAPROXY_BUNDLE, str(folder / "bundle.pem"))
    printed.write_text(text.replace("|/usr/bin/anonproxy", f"|{sys.executable} -P -m anonproxy"))
    command = STARTS[server](folder, printed, http, https)
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    environment |= dict.fromkeys(("HOME", "TMPDIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    said = folder / "said.log"
    with said.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(https) or process.poll() is not None, PATIENCE_S, f"{server} listening")
        assert process.poll() is None, said.read_text()
        yield Front(folder, printed, http, https, process)
    finally:
        process.terminate()
        process.wait(STOPPED_WITHIN_S)


def write_certificate(chain: Path, key_path: Path) -> None:
    """Write a self-signed certificate for the host, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Site(BaseHTTPRequestHandler):
    """Answers with what it was asked, and echoes what comes over a WebSocket."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with target and headers, or change the protocol."""
        if self.headers["Upgrade"] == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")  # RFC 6455 section 1.3
            self.end_headers()
            self.wfile.write(self.rfile.read1())
            self.close_connection = True
            return
        self._answer(b"")

    def do_POST(self) -> None:
        """Answer with the number of bytes that came."""
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        heard = {"target": self.path, "bytes": len(body), **{k.lower(): v for k, v in self.headers.items()}}
        answer = json.dumps(heard).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """Run the website; give its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def proxy(site: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Run anonproxy in front of the website."""
    with run_proxy(tmp_path_factory.mktemp("proxy"), CONFIG.format(host=HOST, upstream=site)) as running:
        yield running
        assert running.stop() == 0


def connect(port: int) -> socket.socket:
    """Connect as the visitor."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S, source_address=(VISITOR, 0))


def connect_tls(port: int, protocol: str) -> ssl.SSLSocket:
    """Connect as the visitor over TLS, and agree on a protocol."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    wrapped = context.wrap_socket(connect(port), server_hostname=HOST)
    assert wrapped.selected_alpn_protocol() == protocol
    return wrapped


def read_all(connection: socket.socket) -> bytes:
    """Read until the other end closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def head_of(line: str, *headers: str) -> bytes:
    """Write a request's head."""
    forged = (f"X-Forwarded-For: {FORGED}", f"Forwarded: for={FORGED}", "Cookie: card=hunter2")
    return "\r\n".join((line, f"Host: {HOST}", *forged, *headers, "", "")).encode()


def get(port: int, target: str = "/page?q=hunter2%2Fa//b") -> tuple[int, bytes]:
    """Ask over TLS and HTTP/1.1; return status and body."""
    with connect_tls(port, "http/1.1") as visitor:
        visitor.sendall(head_of(f"GET {target} HTTP/1.1", "Connection: close"))
        head, _, body = read_all(visitor).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def post_h2(port: int, body: bytes) -> dict[str, Any]:
    """Post over HTTP/2, and return what the site heard."""
    with connect_tls(port, "h2") as visitor:
        connection = h2.connection.H2Connection()
        connection.initiate_connection()
        pseudo = [(":method", "POST"), (":path", "/form"), (":authority", HOST), (":scheme", "https")]
        connection.send_headers(1, [*pseudo, ("x-forwarded-for", FORGED), ("content-length", str(len(body)))])
        for start in range(0, len(body), H2_FRAME_BYTES):
            connection.send_data(1, body[start : start + H2_FRAME_BYTES])
        connection.end_stream(1)
        visitor.sendall(connection.data_to_send())
        answer = b""
        while True:
            for event in connection.receive_data(visitor.recv(65536)):
                if isinstance(event, h2.events.DataReceived):
                    answer += event.data or b""
                if isinstance(event, h2.events.StreamEnded):
                    heard: dict[str, Any] = json.loads(answer)
                    return heard
            visitor.sendall(connection.data_to_send())


def verify_no_canary(at: Front) -> None:
    """Search every file of the server but those that we gave it."""
    given = {at.printed, at.folder / "chain.pem", at.folder / "key.pem", at.folder / "bundle.pem"}
    for path in at.folder.rglob("*"):
        if path.is_file() and path not in given:
            content = path.read_bytes()
            assert not [canary for canary in CANARIES if canary in content], path.name


@pytest.mark.slow
@pytest.mark.parametrize("server", TEMPLATES)
def test_visitors_pass_and_leave_no_address(server: str, proxy: ProxyProcess, tmp_path: Path) -> None:
    """Through the real server the site is reached over HTTP/1.1, HTTP/2 and WebSocket, the visitor's address is the one
    that anonproxy takes, a forged one is not believed, and the server's files hold none, whatever it is sent."""
    with run_front(server, tmp_path, proxy.config) as at:
        status, body = get(at.https)
        assert status == 200, body
        heard = json.loads(body)
        assert heard["target"] == "/page?q=hunter2%2Fa//b", "the target is handed on byte for byte"
        assert heard["host"] == heard["x-forwarded-host"] == HOST
        assert heard["x-forwarded-proto"] == "https"
        assert heard["x-forwarded-for"] == VISITOR_NETWORK, "anonproxy chose the visitor, and the site got the network"
        assert FORGED not in body.decode()

        heard = post_h2(at.https, b"hunter2" * 9_000)
        assert (heard["bytes"], heard["x-forwarded-for"], heard["host"]) == (63_000, VISITOR_NETWORK, HOST)

        with connect_tls(at.https, "http/1.1") as visitor:
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", key)
            visitor.sendall(head_of("GET /live HTTP/1.1", *upgrade))
            answer = visitor.recv(65536)
            assert answer.startswith(b"HTTP/1.1 101")
            visitor.sendall(b"\x81\x05hello")
            assert b"hello" in answer + read_all(visitor)

        with connect(at.http) as visitor:
            visitor.sendall(head_of("GET /page?q=hunter2 HTTP/1.1", "Connection: close"))
            head = read_all(visitor).partition(b"\r\n\r\n")[0].decode()
            assert re.match(r"HTTP/1\.1 30[18] ", head)
            assert re.search(rf"(?i)location: https://{HOST}(:\d+)?/page\?q=hunter2", head)

        for broken in (
            b"GET /hunter2 without meaning\r\n\r\n",
            head_of("GET /hunter2\0 HTTP/1.1"),
            b"\x16\x03\x01hunter2",
        ):
            with connect(at.https) as visitor:
                visitor.sendall(broken)
                visitor.shutdown(socket.SHUT_WR)
                read_all(visitor)
            with connect_tls(at.https, "http/1.1") as visitor:
                visitor.sendall(broken)
    verify_no_canary(at)


@pytest.mark.slow
@pytest.mark.parametrize("server", TEMPLATES)
def test_absent_proxy_is_not_logged_by_address(server: str, tmp_path: Path) -> None:
    """While anonproxy is away the server answers for itself, and its error log names no visitor."""
    config = tmp_path / "anonproxy.toml"
    text = CONFIG.format(host=HOST, upstream=1)
    config.write_text(text.format(store="/s", port=free_port(), admin_port=1))
    with run_front(server, tmp_path, config) as at:
        assert get(at.https)[0] in {502, 503}
    verify_no_canary(at)


def settings_of(hosts: list[str], listen: str = "127.0.0.1:8080") -> Any:
    """Read a configuration with these hosts."""
    text = f'store.path = "/s"\nproxy.listen = "{listen}"\n[[sites]]\nname = "a"\nupstream = "http://127.0.0.1:1"\n'
    return parse_settings(f"{text}hosts = {json.dumps(hosts)}\n", "test")


@pytest.mark.parametrize(
    ("server", "hosts", "line"),
    [
        ("nginx", ["a.example", "*.b.example"], "server_name a.example *.b.example;"),
        ("nginx", ["*"], "server_name _;"),
        ("caddy", ["a.example", "b.example"], "a.example, b.example {"),
        ("caddy", [], "https:// {"),
        ("apache", ["a.example", "b.example"], "    ServerName a.example\n    ServerAlias b.example\n"),
        ("apache", [], "    ServerName localhost\n"),
    ],
)
def test_hosts_are_those_of_the_configuration(server: str, hosts: list[str], line: str) -> None:
    """Each server is told the configured hosts; without any it answers to all."""
    assert line in render_front(server, settings_of(hosts), "/c.pem", "/k.pem")


def test_certificate_is_certbots_unless_named() -> None:
    """The certificate is looked for where certbot puts it; without a host to name it by, it must be named."""
    assert "/etc/letsencrypt/live/b.example/privkey.pem" in render_front("nginx", settings_of(["*.b.example"]))
    with pytest.raises(OperatorError, match="--certificate"):
        render_front("nginx", settings_of([]), certificate="/c.pem")


def test_redirect_to_https_is_left_to_the_server_in_front() -> None:
    """A configuration that would send each visitor back to the server in front is refused with the remedy."""
    settings = settings_of(["a.example"])
    circling = settings.model_copy(update={"proxy": settings.proxy.model_copy(update={"redirect_to_https": True})})
    with pytest.raises(OperatorError, match=r"proxy\.redirect_to_https: .* remove it"):
        render_front("nginx", circling)


@pytest.mark.parametrize(
    ("listen", "backend"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("127.0.0.1", 80)),
        ("[::]:8080", ("::1", 8080)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("192.0.2.7:8080", ("192.0.2.7", 8080)),
    ],
)
def test_backend_is_where_this_machine_reaches_it(listen: str, backend: tuple[str, int]) -> None:
    """A listener on all addresses is reached over loopback; the address is also the one to trust."""
    assert find_backend(listen) == backend
    assert f'trusted_proxies = ["{backend[0]}"]' in render_front("haproxy", settings_of(["a.example"], listen))


def test_missing_trust_is_said(tmp_path: Path) -> None:
    """Where anonproxy.toml doesn't trust the server yet, the line that it needs is said beside the configuration."""
    path = tmp_path / "anonproxy.toml"
    path.write_text(
        'store.path = "/s"\n[[sites]]\nname = "a"\nupstream = "http://127.0.0.1:1"\nhosts = ["a.example"]\n'
    )
    asked = ask("caddy", "--config", str(path))
    assert 'trusted_proxies = ["127.0.0.1"]' in asked.stderr
    assert "a.example {" in asked.stdout
