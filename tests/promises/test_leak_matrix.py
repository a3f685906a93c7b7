"""Promise 1: nothing that identifies anyone is ever written, whatever happens to a request or to the proxy.

The real proxy stands in front of a real nginx. Each kind of request carries fresh secrets; afterwards every byte that
the proxy wrote anywhere (store, temporary folder, standard output and error) is searched for each of them, in every
encoding that `audit.marks` knows. So that an empty store can't pass, the rows are counted, too.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from anonproxy.audit.search import search
from tests.support.marked_requests import CASES, Marks, head, talk
from tests.support.ports import free_port
from tests.support.servers import ProxyProcess, run_nginx, run_proxy, wait_until

pytestmark = pytest.mark.slow

CONFIG = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
workers = 2
trusted_proxies = ["127.0.0.1"]
[[sites]]
name = "www"
hosts = ["www.example.org"]
upstream = "http://127.0.0.1:{origin}"
[[sites]]
name = "down"
hosts = ["down.example.org"]
upstream = "http://127.0.0.1:{nobody}"
"""

PAGES = {"index.html": b"<h1>Library</h1>" * 500, "search/index.html": b"found", "large.bin": bytes(30_000_000)}
SETTLED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve a library's pages with a real nginx."""
    with run_nginx(tmp_path_factory.mktemp("nginx"), PAGES) as port:
        yield port


@pytest.fixture
def proxy(tmp_path: Path, origin: int) -> Iterator[ProxyProcess]:
    """Run the real proxy in front of nginx and of a site that is down."""
    with run_proxy(tmp_path / "proxy", CONFIG.format(origin=origin, nobody=free_port())) as process:
        yield process


def rows(proxy: ProxyProcess) -> int:
    """Count the rows on disk with nobody's code but DuckDB's."""
    if not list(proxy.store.glob("hot/**/*.parquet")):
        return 0
    with duckdb.connect() as connection:
        counted = connection.execute(f"SELECT count(*) FROM read_parquet('{proxy.store}/hot/**/*.parquet')").fetchone()
    assert counted is not None
    return int(counted[0])


def wait_for_rows(proxy: ProxyProcess, expected: int, what: str) -> None:
    """Wait until so many rows are on disk, and no more."""
    wait_until(lambda: rows(proxy) >= expected, SETTLED_WITHIN_S, f"{what} written")
    assert rows(proxy) == expected, what


def assert_nothing_leaked(proxy: ProxyProcess, marks: Marks) -> None:
    """Search every byte that was written for every secret that was sent."""
    result = search(proxy.written_places, marks.made)
    assert not result.hits
    assert not result.unopened
    assert result.files > 0


def test_no_request_leaks(proxy: ProxyProcess) -> None:
    """Whatever is sent, exactly its rows are written, and nothing of it is found, running or stopped."""
    marks = Marks()
    expected = 0
    for case in CASES:
        already = len(marks.made)
        case.send(proxy.port, marks)
        assert len(marks.made) > already, case.name
        expected += case.rows
        wait_for_rows(proxy, expected, case.name)
    assert_nothing_leaked(proxy, marks)
    assert proxy.stop() == 0
    assert rows(proxy) == expected
    assert_nothing_leaked(proxy, marks)


def test_signals_print_nothing(proxy: ProxyProcess) -> None:
    """Signals that make mitmproxy print its connections are ignored by every process, and requests go on."""
    marks = Marks()
    forwarded = f"X-Forwarded-For: {marks.address('address of a running request')}"
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
        connection.sendall(f"GET /{marks.word('path of a running request')} HTTP/1.1\r\n{forwarded}\r\n".encode())
        for pid in proxy.pids():
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                os.kill(pid, number)
        connection.sendall(b"Host: www.example.org\r\nConnection: close\r\n\r\n")
        assert b" 404 " in connection.recv(65536)
    assert proxy.stop() == 0
    assert rows(proxy) == 1
    assert_nothing_leaked(proxy, marks)


@pytest.mark.parametrize("victim", ["worker", "writer", "everything"])
def test_kill_leaks_nothing(proxy: ProxyProcess, victim: str) -> None:
    """After kill -9 at a random moment nothing identifying is on disk, and what was flushed is still whole."""
    marks = Marks()
    normal = CASES[0]
    for _ in range(20):
        normal.send(proxy.port, marks)
    wait_until(lambda: rows(proxy) == 20, SETTLED_WITHIN_S, "20 rows")
    normal.send(proxy.port, marks)
    if victim == "everything":
        proxy.kill()
        proxy.start()
    else:
        for pid in proxy.pids():
            if f"anonproxy.proxy.{victim}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not proxy.is_ready(), SETTLED_WITHIN_S, "noticed")
        wait_until(proxy.is_ready, SETTLED_WITHIN_S, "brought back")
    normal.send(proxy.port, marks)
    assert proxy.stop() == 0
    assert 21 <= rows(proxy) <= 22
    assert_nothing_leaked(proxy, marks)


def test_pages_are_served_while_the_writer_is_dead(proxy: ProxyProcess) -> None:
    """Serving never depends on writing: with the writer stopped every page still comes."""
    marks = Marks()
    writer = next(p for p in proxy.pids() if b"anonproxy.proxy.writer" in Path(f"/proc/{p}/cmdline").read_bytes())
    os.kill(writer, signal.SIGSTOP)
    for _ in range(50):
        CASES[0].send(proxy.port, marks)
    os.kill(writer, signal.SIGCONT)
    assert proxy.stop() == 0
    assert rows(proxy) == 50
    assert_nothing_leaked(proxy, marks)


def test_full_disk_serves_on_and_leaks_nothing(tmp_path: Path, origin: int) -> None:
    """With the disk full, pages are served, nothing falls back to a log, and writing goes on once there is room."""
    folder = tmp_path / "proxy"
    store = folder / "store"
    store.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(store)], check=True)
    try:
        with run_proxy(folder, CONFIG.format(origin=origin, nobody=free_port())) as proxy:
            marks = Marks()
            CASES[0].send(proxy.port, marks)
            wait_until(lambda: rows(proxy) == 1, SETTLED_WITHIN_S, "first row")
            filler = store / "filler"
            with filler.open("wb", buffering=0) as file:
                while True:
                    try:
                        file.write(bytes(4096))
                    except OSError:
                        break
            for _ in range(10):
                CASES[0].send(proxy.port, marks)
            wait_until(lambda: proxy.metrics().get("anonproxy_pending_rows", 0) == 10, SETTLED_WITHIN_S, "10 pending")
            assert rows(proxy) == 1
            filler.unlink()
            wait_until(lambda: rows(proxy) == 11, SETTLED_WITHIN_S, "the rest written")
            assert proxy.stop() == 0
            assert_nothing_leaked(proxy, marks)
    finally:
        subprocess.run(["umount", str(store)], check=True)


def test_origin_learns_no_address(tmp_path: Path) -> None:
    """The site behind sees none of the visitor's addresses, in whichever header they came."""
    marks = Marks()
    address = marks.address("address for the origin")
    names = (
        "X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP",
        "Fastly-Client-IP", "X-Original-Forwarded-For", "X-ProxyUser-Ip", "X-Originating-IP", "Client-IP",
    )  # fmt: skip
    headers = [f"{name}: {address}" for name in names] + [f"Forwarded: for={address}"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = CONFIG.format(origin=listener.getsockname()[1], nobody=free_port()).replace(
            "[[sites]]", '[[sites]]\nsitemap = ""'
        )
        with run_proxy(tmp_path / "proxy", config) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port), 10) as visitor:
                visitor.sendall(head("GET", "/", *headers))
                listener.settimeout(10)
                connection, _ = listener.accept()
                received = connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                assert b" 200 " in visitor.recv(65536)
                connection.close()
            assert proxy.stop() == 0
    assert b"GET / HTTP/1.1" in received
    assert address.encode() not in received


def test_stock_mitmdump_is_as_silent(tmp_path: Path, origin: int) -> None:
    """The same addon in a stock mitmdump leaks nothing, even beside an addon that raises with the URL in its text."""
    store, temporary, port = tmp_path / "store", tmp_path / "tmp", free_port()
    temporary.mkdir()
    config = tmp_path / "anonproxy.toml"
    config.write_text(
        CONFIG.format(origin=origin, nobody=free_port()).format(store=store, port=port, admin_port=free_port())
    )
    failing = tmp_path / "failing.py"
    failing.write_text("def request(flow):\n    raise RuntimeError(flow.request.url + str(flow.client_conn))\n")
    output = temporary / "output.log"
    marks = Marks()
    script = Path("anonproxy/proxy/mitmdump.py").resolve()
    arguments = ["-s", str(script), "-s", str(failing), "--mode", f"reverse:http://127.0.0.1:{origin}"]
    with output.open("wb") as file:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("mitmdump"), *arguments, "-p", str(port), "--listen-host", "127.0.0.1"],
            stdout=file, stderr=file, cwd=temporary,
            env={**os.environ, "ANONPROXY_CONFIG": str(config), "HOME": str(temporary), "TMPDIR": str(temporary)},
        )  # fmt: skip
    try:
        wait_until(lambda: b" 200 " in _ask(port), 30, "mitmdump serving")
        for case in CASES:
            if case.name not in {"origin down", "unknown host"}:
                case.send(port, marks)
        os.kill(process.pid, signal.SIGUSR1)
        os.kill(process.pid, signal.SIGUSR2)
        assert b" 200 " in talk(port, head("GET", "/"))
    finally:
        process.terminate()
        process.wait(30)
    result = search([store, temporary], marks.made)
    assert not result.hits
    assert result.files > 0


def _ask(port: int) -> bytes:
    try:
        return talk(port, head("GET", "/"))
    except OSError:
        return b""
