"""Hold for the proxy's tests: real sites to stand behind it, and the proxy itself on a real socket."""

import asyncio
import contextlib
import datetime
import functools
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anonproxy.anonymize.request import RawRequest
from anonproxy.model.settings import Settings
from anonproxy.proxy.addon import AnonproxyAddon
from anonproxy.proxy.master import LeanMaster
from anonproxy.proxy.tls import Certificates
from tests.support.ports import free_port

HOST: Final = "library.example.org"
PATIENCE_S: Final = 60.0
PAGE: Final = b"<html>" + b"0123456789abcdef" * 560 + b"</html>"
LARGE_BYTES: Final = 64 * 1024 * 1024
LONG_AGO: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
FAR_OFF: Final = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)

NGINX: Final = """\
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type text/plain; client_max_body_size 100m;
  types {{ text/html html; }}
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/www; if_modified_since before;
    location = /empty {{ return 204; }}
    location = /old {{ return 302 /page.html?moved=1; }}
    location = /private {{ add_header Cache-Control private; add_header Set-Cookie "a=1"; return 200 mine; }}
    location = /echo {{ return 200 "$request_method $request_uri $http_host $http_x_forwarded_for $http_forwarded\
 $http_x_real_ip $http_x_forwarded_proto $http_x_forwarded_host $http_via"; }}
    location = /upload {{ client_max_body_size 1m; proxy_pass http://127.0.0.1:{port}/accept; }}
    location = /accept {{ return 200 "[$http_content_length]"; }}
    location = /compressed {{ gzip on; gzip_min_length 1; gzip_types text/plain; alias {folder}/www/page.html; }}
  }}
}}
"""


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that will come, or fail."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def can_connect(port: int) -> bool:
    """Tell whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a real nginx with a small site; give its port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed")
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    www = folder / "www"
    www.mkdir()
    (www / "page.html").write_bytes(PAGE)
    with (www / "large").open("wb") as large:
        large.truncate(LARGE_BYTES)
    folder.chmod(0o755)
    www.chmod(0o755)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    process = subprocess.Popen([program, "-c", str(config), "-e", str(folder / "error.log")])
    try:
        wait_until(functools.partial(can_connect, port))
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


class Origin:
    """A site that does what the test says: each connection is handed to `play`, with the head of the first request."""

    def __init__(self, play: Callable[[socket.socket, bytes], None], tls: ssl.SSLContext | None = None) -> None:
        self._play = play
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heads: list[bytes] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        accepting = threading.Thread(target=self._accept, daemon=True)
        accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closed alone, it would be waited for on, by its number, which another listener may get.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as closing:
            connection.settimeout(PATIENCE_S)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            closing.enter_context(connection)
            head = read_head(connection)
            if head:
                self.heads.append(head)
                self._play(connection, head)


def read_head(connection: socket.socket) -> bytes:
    """Read a message's head, byte by byte so that nothing of the body is taken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def read_all(connection: socket.socket) -> bytes:
    """Read until the other side closes or resets."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def make_settings(
    *ports: int, hosts: tuple[tuple[str, ...], ...] = (), upstream: str = "http://127.0.0.1", **proxy: object
) -> Settings:
    """Return settings with one site for each port, the first for HOST unless `hosts` says otherwise."""
    named = hosts or ((HOST,),)
    return Settings.model_validate(
        {
            "store": {"path": "/nonexistent"},
            "proxy": {"listen": "127.0.0.1:0", **proxy},
            "sites": [
                {"name": f"site{number}", "hosts": list(names), "upstream": f"{upstream}:{port}"}
                for number, (port, names) in enumerate(zip(ports, named, strict=True))
            ],
        }
    )


def connect_tls(port: int, *protocols: str, name: str = HOST) -> ssl.SSLSocket:
    """Connect over TLS without looking at the certificate."""
    return start_tls(socket.create_connection(("127.0.0.1", port), PATIENCE_S), *protocols, name=name)


def start_tls(connection: socket.socket, *protocols: str, name: str = HOST) -> ssl.SSLSocket:
    """Go on over TLS without looking at the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context.wrap_socket(connection, server_hostname=name)


def write_certificate(
    folder: Path,
    *names: str,
    file: str = "site",
    issuer: str = "test",
    ends: datetime.datetime = FAR_OFF,
    passphrase: bytes = b"",
) -> dict[str, str]:
    """Write a certificate signed by itself, and its key; return them as the settings name them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(LONG_AGO)
        .not_valid_after(ends)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    paths = {"certificate": folder / f"{file}.pem", "key": folder / f"{file}.key"}
    shut = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    contents = {
        "certificate": builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        "key": key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, shut),
    }
    for kind, path in paths.items():
        new = path.with_suffix(".new")
        new.write_bytes(contents[kind])
        new.replace(path)
    return {kind: str(path) for kind, path in paths.items()}


class Http2Visitor:
    """A visitor who speaks HTTP/2 by the h2 library, and notes what comes."""

    def __init__(self, connection: ssl.SSLSocket, window: int = 1 << 20) -> None:
        self.socket = connection
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False,
                                                                        normalize_outbound_headers=False))  # fmt: skip
        self.window_is_open = True
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, int] = defaultdict(int)
        self.texts: dict[int, bytes] = defaultdict(bytes)
        self.hints: dict[int, list[list[tuple[bytes, bytes]]]] = defaultdict(list)  # heads of interim answers
        self.trailers: dict[int, list[tuple[bytes, bytes]]] = {}
        self.ended: dict[int, int | None] = {}  # None, or the code of a reset
        self.farewell: h2.events.ConnectionTerminated | None = None
        self.sent = 0  # bytes of a body
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        if window > 65535:
            self.h2.increment_flow_control_window(window)
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Send what the library wants sent."""
        self.socket.sendall(self.h2.data_to_send())

    def ask(
        self,
        path: str,
        *fields: tuple[str, str | bytes],
        method: str = "GET",
        host: str = HOST,
        body: bytes | None = None,
        is_all: bool = True,
    ) -> int:
        """Send a request, with its body unless that is None or isn't all there yet; return its stream."""
        stream: int = self.h2.get_next_available_stream_id()
        pseudo = ((":method", method), (":scheme", "https"), (":authority", host), (":path", path))
        self.h2.send_headers(stream, [*pseudo, *fields], end_stream=body is None and is_all)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        self.flush()
        return stream

    def read(self) -> bool:
        """Take what comes next; return False at the end."""
        data = self.socket.recv(1 << 16)
        for event in self.h2.receive_data(data) if data else ():
            match event:
                case h2.events.ResponseReceived():
                    self.heads[event.stream_id or 0] = dict(event.headers or ())
                case h2.events.InformationalResponseReceived():
                    self.hints[event.stream_id or 0].append(list(event.headers or ()))
                case h2.events.TrailersReceived():
                    self.trailers[event.stream_id or 0] = list(event.headers or ())
                case h2.events.DataReceived():
                    self.bodies[event.stream_id or 0] += len(event.data or b"")
                    if len(self.texts[event.stream_id or 0]) < len(PAGE):
                        self.texts[event.stream_id or 0] += event.data or b""
                    if self.window_is_open:
                        self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                case h2.events.StreamEnded():
                    self.ended.setdefault(event.stream_id or 0, None)
                case h2.events.StreamReset():
                    self.ended.setdefault(event.stream_id or 0, int(event.error_code or 0))
                case h2.events.ConnectionTerminated():
                    self.farewell = event
        self.flush()
        return bool(data)

    def wait(self, *streams: int) -> None:
        """Read until these requests are answered or reset."""
        while not all(stream in self.ended for stream in streams):
            assert self.read(), "the connection ended"

    def get(self, path: str, *fields: tuple[str, str], method: str = "GET", host: str = HOST) -> tuple[int, bytes]:
        """Ask for a page and wait for it; return status and body."""
        stream = self.ask(path, *fields, method=method, host=host)
        self.wait(stream)
        return int(self.heads[stream][b":status"]), self.texts[stream]


class Serving:
    """The proxy on a real socket, with a list as its sink."""

    def __init__(self, settings: Settings, own_pages: Mapping[str, str] | None = None) -> None:
        self.requests: list[RawRequest] = []
        self.counts: Counter[str] = Counter()
        self.addon = AnonproxyAddon(settings, self.requests.append, self._count, own_pages=own_pages)
        self._settings = settings
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._tls_listener = socket.create_server(("127.0.0.1", 0))
        self.tls_port: int = self._tls_listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _count(self, name: str) -> None:
        self.counts[name] += 1

    def _run(self) -> None:
        async def serve() -> None:
            self._stop = asyncio.Event()
            master = LeanMaster(self._settings, self.addon)
            await master.start([self._listener])
            if self._settings.proxy.tls_listen:
                await master.start([self._tls_listener], Certificates(self._settings.proxy.certificates).context)
            self._started.set()
            await self._stop.wait()
            master.stop_accepting()
            self.addon.done()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(serve())

    def __enter__(self) -> Self:
        self._started = threading.Event()
        self._thread.start()
        assert self._started.wait(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        self._tls_listener.close()

    def connect(self) -> socket.socket:
        """Connect as a visitor."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def connect_tls(self, *protocols: str, name: str = HOST) -> ssl.SSLSocket:
        """Connect as a visitor over TLS, who looks at no certificate."""
        return connect_tls(self.tls_port, *protocols, name=name)

    def send(self, raw: bytes) -> bytes:
        """Send bytes as a visitor, and return everything that comes back until the connection closes."""
        with self.connect() as visitor:
            visitor.sendall(raw)
            return read_all(visitor)

    def get(self, path: str, *headers: str, method: str = "GET", host: str = HOST) -> tuple[int, bytes, bytes]:
        """Ask for a page on a connection of its own; return status, head and body."""
        lines = (f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", "")
        return split_response(self.send("\r\n".join(lines).encode()))

    def recorded(self, number: int) -> list[RawRequest]:
        """Return the records, once there are that many."""
        wait_until(lambda: len(self.requests) >= number)
        assert len(self.requests) == number
        assert self.counts["requests"] == number
        return self.requests


def split_response(raw: bytes) -> tuple[int, bytes, bytes]:
    """Return a response's status, head and the rest."""
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head else 0, head, body


@pytest.fixture
def proxied(nginx: int) -> Iterator[Serving]:
    """Run the proxy in front of nginx, on loopback as a trusted proxy itself."""
    with Serving(make_settings(nginx, trusted_proxies=["127.0.0.0/8"])) as serving:
        yield serving


def memory_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
