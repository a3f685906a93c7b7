"""The whole of `anonproxy run`: a supervisor, its writer and its workers, as real processes."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from anonproxy.audit.ledger import read_ledger
from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search
from anonproxy.model.errors import OperatorError, StoreBusy
from anonproxy.proxy.listeners import bind_listener
from anonproxy.proxy.plan import verify_no_loop
from anonproxy.proxy.server import child_environment
from anonproxy.store.lock import StoreLock
from tests.proxy.conftest import (
    HOST,
    PAGE,
    PATIENCE_S,
    Http2Visitor,
    Origin,
    can_connect,
    connect_tls,
    make_settings,
    read_all,
    read_head,
    split_response,
    start_tls,
    wait_until,
    write_certificate,
)
from tests.support.ports import free_port

CONFIG = """\
[store]
path = "{store}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin}"
trusted_proxies = ["127.0.0.0/8"]
workers = {workers}
drain_s = {drain_s}
{tls}
[[sites]]
name = "www"
hosts = ["{host}"]
upstream = "http://127.0.0.1:{upstream}"
sitemap = ""
"""

TLS = """\
tls_listen = "127.0.0.1:{port}"
[[proxy.certificates]]
certificate = "{certificate}"
key = "{key}"
"""


class Running:
    """One `anonproxy run`."""

    def __init__(
        self,
        folder: Path,
        upstream: int,
        workers: int = 1,
        drain_s: float = 10,
        tls: tuple[int, dict[str, str]] | None = None,
    ) -> None:
        self.port, self.admin = free_port(), free_port()
        self.folder = folder
        self.config = folder / "anonproxy.toml"
        self.config.write_text(
            CONFIG.format(
                store=folder / "store", port=self.port, admin=self.admin, host=HOST, upstream=upstream,
                workers=workers, drain_s=drain_s, tls=TLS.format(port=tls[0], **tls[1]) if tls else "",
            )
        )  # fmt: skip
        self.said = folder / "said"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "anonproxy", "run", "--config", str(self.config)], stdout=said, stderr=said
            )

    def wait_ready(self) -> None:
        """Wait until pages are served and written."""
        wait_until(lambda: self.process.poll() is not None or (can_connect(self.admin) and self.metric("workers") > 0))
        wait_until(lambda: self.metric("writer_ready") == 1 and self.children() != [])

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask for a page; return status and body."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as visitor:
            ask = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n"
            visitor.sendall(ask.encode())
            status, _, body = split_response(read_all(visitor))
            return status, body

    def metrics(self) -> dict[str, float]:
        """Read the metrics; labels are joined to the name."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=PATIENCE_S) as response:
            families = text_string_to_metric_families(response.read().decode())
        return {"/".join((s.name, *s.labels.values())): s.value for family in families for s in family.samples}

    def metric(self, name: str) -> float:
        """Read one metric."""
        return self.metrics()[f"anonproxy_{name}"]

    def adds_up(self, requests: int) -> bool:
        """Tell whether so many requests were counted, none is under way, and each was written or dropped."""
        read = self.metrics()
        dropped = sum(value for name, value in read.items() if name.startswith("anonproxy_dropped_total"))
        settled = read["anonproxy_pending_rows"] == read["anonproxy_queued_requests"] == 0
        return (
            settled and requests == read["anonproxy_requests_total"] == read["anonproxy_hits_written_total"] + dropped
        )

    def children(self, module: str = "anonproxy.proxy") -> list[int]:
        """Return the process ids of the children that run a module."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in listed if module in Path(f"/proc/{pid}/cmdline").read_text()]

    def stop(self) -> int:
        """End it as systemd would; return the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Give a way to start the proxy; it is ended after the test whatever happens."""
    started: list[Running] = []

    def start_one(upstream: int, **options: Any) -> Running:
        started.append(Running(tmp_path, upstream, **options))
        return started[-1]

    yield start_one
    for running in started:
        running.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(PATIENCE_S)
        running.process.kill()
        running.process.wait()


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits to be buried."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


@pytest.mark.slow
def test_pages_are_served_and_rows_written_whatever_dies(start: Callable[..., Running], nginx: int) -> None:
    """Workers and the writer may be killed: both come back, pages are served meanwhile, and the counts add up."""
    running = start(nginx, workers=2)
    running.wait_ready()
    wait_until(lambda: running.metric("workers") == 2)
    asked = 0
    for _ in range(20):
        assert running.get("/page.html?q=hunter2") == (200, PAGE)
        asked += 1
    wait_until(lambda: running.adds_up(asked))
    assert running.metric("hits_written_total") == asked

    [writer] = running.children("anonproxy.proxy.writer")
    os.kill(writer, signal.SIGKILL)
    wait_until(lambda: has_ended(writer))
    with pytest.raises(StoreBusy):  # nobody else takes the store before the next writer
        StoreLock(running.folder / "store")
    wait_until(lambda: running.metric("writer_ready") == 0)
    for _ in range(20):
        assert running.get("/page.html?q=hunter2") == (200, PAGE)
        asked += 1
    wait_until(lambda: running.metric("writer_ready") == 1)
    wait_until(lambda: running.adds_up(asked))
    assert running.metric("hits_written_total") == asked, "what was sent meanwhile waited in the kernel"

    held = [socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) for _ in range(8)]
    for connection in held:
        connection.sendall(f"GET /empty HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert read_head(connection).startswith(b"HTTP/1.1 204")
    asked += len(held)
    wait_until(lambda: running.adds_up(asked))  # what a worker had no time to hand over would be dropped
    victim, survivor = running.children("anonproxy.proxy.worker")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: has_ended(victim) and running.metric("workers") == 2)
    for connection in held:
        connection.sendall(f"GET /empty HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            asked += read_head(connection).startswith(b"HTTP/1.1 204")
        connection.close()
    assert survivor in running.children("anonproxy.proxy.worker")
    wait_until(lambda: running.adds_up(asked))

    with socket.create_connection(("127.0.0.1", running.port)) as visitor:
        visitor.sendall(b"GET /hunter2 without meaning\r\n\r\n")
        read_all(visitor)
    for child in running.children():
        arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        assert arguments[-2].startswith(b"anonproxy.proxy."), "settings travel by standard input"
        os.kill(child, signal.SIGUSR1)
        os.kill(child, signal.SIGUSR2)
        os.kill(child, signal.SIGHUP)
    children = running.children()
    assert running.get("/page.html")[0] == 200
    asked += 1
    assert running.stop() == 0
    assert all(has_ended(child) for child in children)
    said = running.said.read_text()
    assert f"anonproxy stopped: {asked} requests, {asked} rows written, 0 dropped" in said
    assert "127.0.0.1:" in said.splitlines()[0]
    assert not any(word in said for word in ("hunter2", "page.html", "203.0.113", "mitm", "Traceback"))
    found = search([running.folder], SECRETS)
    assert not found.hits
    assert found.pages > 0


@pytest.mark.slow
def test_running_requests_are_finished_before_it_ends(start: Callable[..., Running]) -> None:
    """After SIGTERM new visitors are refused, a running request gets its answer, and its row is written."""
    is_asked, may_answer = False, False

    def play(connection: socket.socket, _head: bytes) -> None:
        nonlocal is_asked
        is_asked = True
        wait_until(lambda: may_answer)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with Origin(play) as origin:
        running = start(origin.port)
        running.wait_ready()
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) as visitor:
            visitor.sendall(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            wait_until(lambda: is_asked)
            running.process.terminate()
            wait_until(lambda: not can_connect(running.port))
            may_answer = True
            assert split_response(read_all(visitor))[2] == b"hello"
        assert running.process.wait(PATIENCE_S) == 0
        assert "stopped: 1 requests, 1 rows written, 0 dropped" in running.said.read_text()


@pytest.mark.slow
def test_writer_that_is_stopped_as_it_starts_writes_first(start: Callable[..., Running], nginx: int) -> None:
    """Pages are served while the writer starts; whatever signals then come, each of them is a row."""
    running = start(nginx)
    wait_until(lambda: running.children("anonproxy.proxy.writer") != [])
    [writer] = running.children("anonproxy.proxy.writer")
    os.kill(writer, signal.SIGSTOP)  # it takes its time to start
    wait_until(lambda: can_connect(running.admin) and running.metric("workers") > 0)
    assert running.get("/page.html?q=hunter2") == (200, PAGE)
    assert running.metric("writer_ready") == 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(writer, number)
    running.process.terminate()
    wait_until(lambda: running.children("anonproxy.proxy.worker") == [])
    os.kill(writer, signal.SIGCONT)
    assert running.process.wait(PATIENCE_S) == 0
    assert "stopped: 1 requests, 1 rows written, 0 dropped" in running.said.read_text()
    found = search([running.folder], SECRETS)
    assert not found.hits
    assert found.pages > 0


@pytest.mark.slow
def test_children_end_with_a_supervisor_that_is_killed(start: Callable[..., Running], nginx: int) -> None:
    """After kill -9 of the supervisor nothing is left behind, and what was served is written."""
    running = start(nginx)
    running.wait_ready()
    assert running.get("/page.html")[0] == 200
    children = running.children()
    running.process.kill()
    running.process.wait()
    wait_until(lambda: all(has_ended(child) for child in children))
    assert not can_connect(running.port)
    assert any(path.suffix == ".parquet" for path in (running.folder / "store" / "hot").rglob("*"))


@pytest.mark.slow
def test_unusable_store_is_said_at_once(start: Callable[..., Running], nginx: int, tmp_path: Path) -> None:
    """A store that can't be used ends the start with status 2 and a sentence."""
    (tmp_path / "store").write_text("not a folder")
    running = start(nginx)
    assert running.process.wait(PATIENCE_S) == 2
    assert "store" in running.said.read_text()
    assert "Traceback" not in running.said.read_text()


@pytest.mark.slow
def test_store_that_is_being_imported_into_is_said(start: Callable[..., Running], nginx: int, tmp_path: Path) -> None:
    """An import that was started first has to be stopped: beside the proxy it goes on where it was."""
    importing = StoreLock(tmp_path / "store")
    running = start(nginx)
    assert running.process.wait(PATIENCE_S) == 2
    assert "Stop it first; if it is an import, start that again afterwards" in running.said.read_text()
    importing.release()


def test_taken_port_names_its_setting() -> None:
    """A port that can't be had is an error that names the setting and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OperatorError, match=f"proxy.listen: can't listen on {address}: something else listens"):
            bind_listener("listen", address)
    with pytest.raises(OperatorError, match=r"proxy\.admin_listen: can't listen on .*: this machine has no"):
        bind_listener("admin_listen", "192.0.2.1:80")


def test_own_address_is_no_upstream() -> None:
    """A site whose upstream is the proxy itself is refused: each request would ask itself."""
    with bind_listener("listen", "127.0.0.1:0") as listener:
        with pytest.raises(OperatorError, match="site0"):
            verify_no_loop(make_settings(listener.getsockname()[1]), listener)
        verify_no_loop(make_settings(1), listener)


def test_children_inherit_no_switch_that_makes_them_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debug switches and TLS key logs of the environment don't reach the children."""
    monkeypatch.setenv("SSLKEYLOGFILE", "/nonexistent")
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    assert {"SSLKEYLOGFILE", "PYTHONASYNCIODEBUG"}.isdisjoint(child_environment())


@pytest.mark.slow
def test_certificate_is_replaced_under_load_and_nothing_leaks(
    start: Callable[..., Running], nginx: int, tmp_path: Path
) -> None:
    """A new certificate is shown within seconds, no connection breaks, and TLS and HTTP/2 leave no word in the log."""
    tls_port = free_port()
    made = write_certificate(tmp_path, HOST)
    running = start(nginx, workers=2, tls=(tls_port, made))
    running.wait_ready()
    first = shown_certificate(tls_port)
    with Http2Visitor(connect_tls(tls_port, "h2")) as visitor, connect_tls(tls_port, "http/1.1") as old:
        asked = 0

        def ask_both() -> None:
            nonlocal asked
            assert visitor.get("/page.html?q=hunter2", ("cookie", "id=hunter2")) == (200, PAGE)
            old.sendall(f"GET /empty?q=hunter2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            assert read_head(old).startswith(b"HTTP/1.1 204")
            asked += 2

        ask_both()
        write_certificate(tmp_path, HOST)

        def is_replaced() -> bool:
            ask_both()
            return all(shown_certificate(tls_port) != first for _ in range(4))

        wait_until(is_replaced)
        ask_both()
    for protocol in ("h2", "http/1.1"):
        with connect_tls(tls_port, protocol, name="hunter2.example") as visitor_socket:
            visitor_socket.sendall(b"GET /hunter2 without meaning\r\n\r\n" + bytes(50))
            read_all(visitor_socket)
    with Http2Visitor(connect_tls(tls_port, "h2")) as visitor:
        assert visitor.get("/hunter2", host="hunter2.example")[0] == 421
        stream = visitor.ask("/hunter2", ("x-bad", "hunter2\r\n"))
        while stream not in visitor.ended and visitor.read():
            pass
        asked += 1
    with socket.create_connection(("127.0.0.1", tls_port)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00hunter2")
        raw.shutdown(socket.SHUT_WR)
        read_all(raw)
    for child in running.children():
        os.kill(child, signal.SIGUSR1)
    wait_until(lambda: running.adds_up(asked))
    # The supervisor, which says it, looks at the files at other moments than the workers, which show them.
    wait_until(lambda: "anonproxy certificates were read anew\n" in running.said.read_text())
    assert running.stop() == 0
    said = running.said.read_text()
    assert not any(word in said for word in ("hunter2", "page.html", "mitm", "Traceback", "suppressed"))
    found = search([running.folder], SECRETS)
    assert not found.hits
    assert found.pages > 0
    assert not list(running.folder.rglob("*mitm*"))


def shown_certificate(port: int) -> bytes | None:
    """Return the certificate that a new visitor is shown."""
    with connect_tls(port) as connection:
        return connection.getpeercert(binary_form=True)


def reload(running: Running) -> tuple[int, str]:
    """Ask the proxy to take its configuration anew; return the exit status and what was said."""
    code = "from anonproxy.cli import main; from anonproxy import cli; cli.VERBS['reload'] = ''; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "reload", "--config", str(running.config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_reload_is_whole_and_drops_nothing(start: Callable[..., Running], nginx: int, tmp_path: Path) -> None:
    """Under load a new configuration is taken whole or refused whole; every request is answered, counts add up."""
    running = start(nginx)
    running.wait_ready()
    ended, asked, failures = threading.Event(), [0, 0], []

    def visit(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_S)
        while not ended.is_set():
            connection.request("GET", f"/page.html?q=hunter2&n={number}", headers={"Host": HOST})
            answer = connection.getresponse()
            if (answer.status, answer.read()) != (200, PAGE):
                failures.append(answer.status)
            asked[number] += 1
            time.sleep(0.02)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(2)]
    for visitor in visitors:
        visitor.start()
    text = running.config.read_text()
    [first_worker], [first_writer] = (running.children(f"anonproxy.proxy.{name}") for name in ("worker", "writer"))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for wrong, words in (
            (text.replace("workers = 1", "workers = 0"), "proxy.workers"),
            (text.replace(f'"127.0.0.1:{running.port}"', f'"127.0.0.1:{port}"'), "something else listens there"),
        ):
            running.config.write_text(wrong)
            status, said = reload(running)
            assert (status, words in said) == (1, True), said
    running.config.write_text(text.replace(str(tmp_path / "store"), str(running.config)))
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: running.said.read_text().count("keeps the configuration it has") == 2)
    assert "can't be used as a store" in running.said.read_text()
    assert running.children("anonproxy.proxy.worker") == [first_worker]

    running.config.write_text(text.replace("workers = 1", "workers = 2"))
    assert reload(running) == (0, "The new configuration is in force.\n")
    wait_until(lambda: has_ended(first_worker) and running.metric("workers") == 2)
    assert has_ended(first_writer)
    ended.set()
    for visitor in visitors:
        visitor.join()
    assert failures == []
    wait_until(lambda: running.adds_up(sum(asked)))
    assert running.stop() == 0
    said = running.said.read_text()
    assert f"anonproxy stopped: {sum(asked)} requests" in said
    assert not any(word in said for word in ("hunter2", "Traceback", "suppressed"))
    assert reload(running)[0] == 2
    events = [entry.event for entry in read_ledger(tmp_path / "store" / "ledger")]
    assert events.count("configured") == 2


@pytest.mark.slow
@pytest.mark.parametrize("is_secure", [False, True], ids=["in clear", "over TLS"])
def test_who_is_just_connecting_is_served(
    start: Callable[..., Running], nginx: int, tmp_path: Path, is_secure: bool
) -> None:
    """Who has been accepted when a worker is told to leave, and hasn't said a word, gets the page."""
    tls_port = free_port()
    running = start(nginx, tls=(tls_port, write_certificate(tmp_path, HOST)))
    running.wait_ready()
    [worker] = running.children("anonproxy.proxy.worker")
    with socket.create_connection(("127.0.0.1", tls_port if is_secure else running.port), PATIENCE_S) as visitor:
        time.sleep(0.2)  # it has accepted
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.4)  # it has looked several times whether it may go
        asking = start_tls(visitor) if is_secure else visitor
        asking.sendall(f"GET /page.html HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert split_response(read_all(asking))[2] == PAGE
        asking.close()
    wait_until(lambda: has_ended(worker))


# Looked for inside the pages of Parquet, too, where the bytes of a file are compressed.
SECRETS = (Mark("secret", "hunter2"), Mark("address", "203.0.113.7"))


@pytest.mark.slow
def test_own_pages_and_json_logs_come_with_a_reload(start: Callable[..., Running], tmp_path: Path) -> None:
    """A folder with a mistake is refused whole; a good one is shown after a reload, and the log is JSON from then."""
    running = start(free_port())
    running.wait_ready()
    folder = tmp_path / "pages"
    folder.mkdir()
    text = running.config.read_text()
    running.config.write_text(text.replace("[proxy]", f'[proxy]\nerror_pages = "{folder}"\nlog_format = "json"'))
    (folder / "misspelt.html").write_text("mine")
    status, said = reload(running)
    assert (status, "misspelt.html is never shown" in said) == (1, True)
    assert b"does not answer" in running.get("/")[1]
    (folder / "misspelt.html").rename(folder / "502.html")
    assert reload(running)[0] == 0
    wait_until(lambda: running.get("/")[1] == b"mine")
    [worker, *_] = running.children("anonproxy.proxy.worker")
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in running.children("anonproxy.proxy.worker") and running.metric("workers") == 1)
    (folder / "502.html").unlink()
    assert running.get("/") == (502, b"mine"), "what was read at the reload is shown, whatever starts anew"
    assert running.stop() == 0
    lines = running.said.read_text().splitlines()
    spoken = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line["event"] for line in spoken] == ["reloaded", "worker_ended", "stopping", "stopped"]
    assert spoken[1]["status"] == -9
    assert all(line.startswith("anonproxy ") for line in lines[: -len(spoken)])


# What systemd does: opens sockets, and starts the program with them from the third file on, under the same process id.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "anonproxy", "run", "--config", sys.argv[2]])
"""


@pytest.mark.slow
def test_socket_of_systemd_is_served_and_outlives_the_service(nginx: int, tmp_path: Path) -> None:
    """Visitors who come before the service, or between two of them, wait and are served; a stray socket is refused."""
    config = tmp_path / "anonproxy.toml"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as stray:
        text = CONFIG.format(
            store=tmp_path / "store", port=listener.getsockname()[1], admin=free_port(), host=HOST, upstream=nginx,
            workers=2, drain_s=10, tls="",
        )  # fmt: skip
        config.write_text(text)

        def activate(opened: socket.socket) -> "subprocess.Popen[bytes]":
            arguments = [sys.executable, "-c", ACTIVATE, str(opened.fileno()), str(config)]
            return subprocess.Popen(arguments, pass_fds=(opened.fileno(),), stderr=subprocess.PIPE)

        for _ in range(2):
            with socket.create_connection(listener.getsockname()) as early:
                early.sendall(f"GET /empty HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                early.settimeout(PATIENCE_S)
                with activate(listener) as process:
                    assert split_response(read_all(early))[0] == 204
                    process.terminate()
                    assert process.wait(PATIENCE_S) == 0
        config.write_text(text.replace(f":{listener.getsockname()[1]}", ":0"))
        with activate(stray) as process:
            assert process.stderr
            assert b"systemd listens on 127.0.0.1:" in process.stderr.read()
            assert process.wait(PATIENCE_S) == 2
