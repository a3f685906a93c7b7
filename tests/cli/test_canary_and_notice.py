"""`canary` finds what a set-up leaks and refuses what it can't prove; `notice` writes the page where it is asked to."""

import datetime
import http.server
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from anonproxy.audit.canary import Sent, parse_target, run_canary
from anonproxy.audit.ledger import read_ledger
from anonproxy.audit.probes import PROBES
from anonproxy.audit.processes import Machine, look_around
from anonproxy.config import read_settings
from anonproxy.ingest.control import ask
from tests.support.ports import free_port
from tests.support.servers import ProxyProcess, run_nginx, run_proxy

CONFIG = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
trusted_proxies = ["127.0.0.1"]
[[sites]]
name = "www"
hosts = ["www.example.org"]
upstream = "http://127.0.0.1:{origin}"
sitemap = ""
"""
PAGES = {"index.html": b"<h1>Library</h1>", "search/index.html": b"found"}
# What every word of a canary looks like.
SECRET = re.compile(r"zq[b-df-hj-np-tv-xz]{12}", re.IGNORECASE)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """Run the real proxy in front of a real nginx."""
    folder = tmp_path_factory.mktemp("canary")
    with (
        run_nginx(folder / "nginx", PAGES) as origin,
        run_proxy(folder / "proxy", CONFIG.format(origin=origin)) as process,
    ):
        yield process


def anonproxy(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a verb as an operator does."""
    command = [sys.executable, "-m", "anonproxy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def canary(proxy: ProxyProcess, *arguments: object, url: str = "") -> tuple[int, dict[str, Any]]:
    """Send a canary, and return exit status and result."""
    done = anonproxy("canary", url or f"http://127.0.0.1:{proxy.port}", "--json", *arguments)
    assert not SECRET.search(done.stdout + done.stderr)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def findings(result: dict[str, Any]) -> str:
    """Return all findings as one text."""
    return "\n".join(
        f"{found['where']}: {found['what']}" for answer in result["answers"] for found in answer["findings"]
    )


def sent(proxy: ProxyProcess) -> Sent:
    """Return what a direct canary sends."""
    return Sent.plan(
        [probe for probe in PROBES if "http" in probe.schemes],
        parse_target(f"http://127.0.0.1:{proxy.port}", read_settings(proxy.config)),
    )


@pytest.mark.slow
def test_clean(proxy: ProxyProcess) -> None:
    """In front of the real proxy a canary passes: exactly its rows are there, and nothing of it is found."""
    status, result = canary(proxy, "--config", proxy.config, "--look-in", proxy.temporary, "--look-in", proxy.output)
    assert (status, result["verdict"], findings(result)) == (0, "pass", "")
    assert result["rows"] == sent(proxy).least > 40
    assert "exactly those that must be there" in result["account"]
    rows, forced, marks, control = (answer["looked_at"] for answer in result["answers"])
    assert rows == {"requests": sent(proxy).requests, "rows": result["rows"]}
    assert forced == {"commands": 2}
    assert not list(proxy.store.glob("hot/*/*/*.open")), "an hour was not sealed"
    assert read_ledger(proxy.store / "ledger")[-1].details == {"requested": 1}
    assert result["places"][:3] == [str(proxy.store), str(proxy.temporary), str(proxy.output)]
    assert marks["marks"] == control["marks"] > 100
    assert marks["files"] > 3
    assert marks["pages"] > 20


@pytest.mark.slow
def test_who_may_not_look_gets_no_pass(proxy: ProxyProcess) -> None:
    """Where the processes don't show what they print to, the marks may stand there, and nobody can tell."""
    settings, url = read_settings(proxy.config), f"http://127.0.0.1:{proxy.port}"
    seen = look_around(proxy.store)
    hidden = Machine(tuple(replace(process, files=None) for process in seen.processes))
    done = run_canary(
        parse_target(url, settings), proxy.store, time.time(), partial(ask, proxy.store), settings, machine=hidden
    )
    assert [answer.verdict for answer in done.answers] == ["pass", "pass", "can't tell", "pass"]
    (what,) = done.answers[2].outcome.unknown
    assert "are not shown; run as root" in what


@pytest.mark.slow
def test_words_for_people(proxy: ProxyProcess) -> None:
    """On a terminal it says in plain words what it did and what it means, and shows no secret."""
    done = anonproxy("canary", f"http://127.0.0.1:{proxy.port}", "-c", proxy.config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ Nothing that was sent is written anywhere, in any form" in done.stdout
    assert "In plain words: the proxy took all of it down" in done.stdout
    assert not SECRET.search(done.stdout + done.stderr)


@pytest.mark.slow
def test_store_alone(proxy: ProxyProcess) -> None:
    """Without a configuration the host must be named; then the rows are there at least."""
    url = f"http://127.0.0.1:{proxy.port}"
    refused = anonproxy("canary", url, "--store", proxy.store)
    assert (refused.returncode, "--host" in refused.stderr) == (2, True)
    status, result = canary(proxy, "--store", proxy.store, "--host", "www.example.org")
    assert (status, findings(result)) == (0, "")
    assert "could not be asked" in result["account"]
    assert 40 < result["rows"] <= result["requests"]


@pytest.mark.slow
def test_other_visitors(proxy: ProxyProcess) -> None:
    """Other visitors' rows are not taken for the canary's."""
    stop = threading.Event()

    def visit() -> None:
        while not stop.wait(0.01):
            proxy.get("/search", {"Host": "www.example.org"})

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        status, result = canary(proxy, "--config", proxy.config)
    finally:
        stop.set()
        visitor.join()
    assert (status, findings(result)) == (0, "")
    assert result["rows"] > sent(proxy).most
    assert "other visitors'" in result["account"]


@pytest.mark.slow
def test_wrong_store(proxy: ProxyProcess, tmp_path: Path) -> None:
    """A store in which nothing arrives fails, however clean it is."""
    status, result = canary(proxy, "--config", proxy.config, "--store", tmp_path)
    assert (status, result["verdict"]) == (1, "fail")
    assert f"{sent(proxy).least} new rows expected, 0 found. Is it this proxy's store?" in findings(result)


class Origin(http.server.BaseHTTPRequestHandler):
    """A site that writes down what it is asked for, as sites do."""

    log: Path

    def do_GET(self) -> None:
        """Answer, and log the target; of what it answers to, it keeps the session as a digest only."""
        with self.log.open("a") as log:
            log.write(f'"GET {self.path}" 200\n')
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def run_origin(log: Path) -> Iterator[int]:
    """Run the site that logs."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Logging", (Origin,), {"log": log}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_leaky_log(tmp_path: Path) -> None:
    """A log of the site's own in which targets stand is found out, by label and place."""
    log = tmp_path / "logs/access.log"
    log.parent.mkdir()
    with (
        run_origin(log) as origin,
        run_proxy(tmp_path / "proxy", CONFIG.format(origin=origin)) as proxy,
    ):
        status, result = canary(proxy, "--config", proxy.config, "--look-in", log.parent)
        assert (status, result["verdict"]) == (1, "fail")
        assert [answer["verdict"] for answer in result["answers"]] == ["pass", "pass", "fail", "pass"], result[
            "account"
        ]
        found = findings(result)
        assert f"{log}: “search term”, plain" in found
        assert "“barcode in a path”" in found
        assert "“path encoded twice”, percent-encoded twice, every byte" in found
        assert "session cookie" not in found
        assert str(proxy.store) not in found
        assert canary(proxy, "--config", proxy.config)[0] == 0


def make_certificate(folder: Path) -> Path:
    """Write a certificate that nobody vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "www.example.org")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, day, day.replace(year=2046)).sign(key, hashes.SHA256())
    )  # fmt: skip
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until there are no more."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def run_tls(folder: Path, port: int) -> Iterator[int]:
    """Run what speaks TLS to visitors, and passes on to a port what they say."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(folder))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(raw: socket.socket) -> None:
        try:
            with (
                context.wrap_socket(raw, server_side=True) as visitor,
                socket.create_connection(("127.0.0.1", port)) as site,
            ):
                back = threading.Thread(target=pump, args=(site, visitor))
                back.start()
                pump(visitor, site)
                back.join()
        except OSError:
            raw.close()

    def accept() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(raw,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.slow
def test_https(proxy: ProxyProcess, tmp_path: Path) -> None:
    """Through something that speaks TLS, as many rows are there as it must pass on, and nothing is found."""
    with run_tls(tmp_path, proxy.port) as port:
        status, result = canary(proxy, "--config", proxy.config, url=f"https://localhost:{port}")
    assert (status, findings(result)) == (0, "")
    assert "something may stand in between" in result["account"]


def test_proxy_is_down(tmp_path: Path) -> None:
    """Where nobody listens, it says so and how to mend it, with exit status 2."""
    config = tmp_path / "anonproxy.toml"
    store = tmp_path / "store"
    store.mkdir()
    config.write_text(CONFIG.format(origin=1).format(store=store, port=8080, admin_port=free_port()))
    done = anonproxy("canary", f"http://127.0.0.1:{free_port()}", "--config", config)
    assert done.returncode == 2
    assert "can't be reached (Connection refused). Start the proxy with `anonproxy run`" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--store", "/nowhere/at/all"], "Name the store with --store or --config"),
        (["--store", "/", "--look-in", "/nowhere/at/all"], "Correct --look-in"),
        (["--config", "/nowhere/at/all"], "anonproxy init"),
    ],
)
def test_environment(arguments: list[str], remedy: str) -> None:
    """What isn't there is named before anything is sent, with exit status 2."""
    done = anonproxy("canary", "http://127.0.0.1:1", *arguments)
    assert done.returncode == 2
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_what_it_leaves() -> None:
    """Whoever runs it in production can read before what it sends and leaves."""
    text = " ".join(anonproxy("canary", "--help").stdout.split())
    assert "It is safe in production" in text
    assert "It leaves some 65 rows" in text


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration."""
    path = tmp_path / "anonproxy.toml"
    path.write_text(CONFIG.format(origin=1).format(store=tmp_path / "store", port=8080, admin_port=9901))
    return path


@pytest.mark.parametrize(("form", "begins"), [("html", "<!DOCTYPE html>"), ("markdown", "# What"), ("text", "What")])
def test_notice(config: Path, form: str, begins: str) -> None:
    """The page goes to standard output in the form that was asked for."""
    done = anonproxy("notice", "--config", config, "--format", form, "--contact", "Ann Lee")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(begins)
    assert "Ann Lee" in done.stdout


def test_notice_to_a_file(config: Path) -> None:
    """With --output the page stands in that file, in place of an older one."""
    page = config.with_name("notice.html")
    page.write_text("old")
    done = anonproxy("notice", "-c", config, "-o", page)
    assert (done.returncode, done.stdout) == (0, f"Wrote {page}\n")
    assert page.read_text(encoding="utf-8") == anonproxy("notice", "-c", config).stdout


def test_notice_that_cannot_be_written(config: Path) -> None:
    """A file that can't be written is named with what to do."""
    done = anonproxy("notice", "-c", config, "-o", "/nowhere/at/all.html")
    assert done.returncode == 2
    assert "Name another file with --output" in done.stderr


def test_published_notice_is_compared(config: Path) -> None:
    """A published page that still says what the configuration does passes; after a change it fails, line by line."""
    page = config.with_name("notice.html")
    anonproxy("notice", "-c", config, "-o", page)
    assert anonproxy("notice", "-c", config, "--check", page).returncode == 0
    config.write_text(config.read_text(encoding="utf-8") + "\n[privacy]\nk = 25\n", encoding="utf-8")
    done = anonproxy("notice", "-c", config, "--check", page)
    assert done.returncode == 1
    assert "25" in done.stdout
