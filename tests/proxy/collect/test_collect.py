"""The whole of `anonproxy collect`: lines by every way become rows, nothing raw is written, and each is counted."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search
from tests.ingest.recorders import FIREFOX, values
from tests.support.ports import free_port
from tests.support.servers import CollectProcess, run_collect, wait_until

CONFIG: Final = """\
[store]
path = "{store}"
flush_s = 0.2
[proxy]
admin_listen = "127.0.0.1:{admin_port}"
[collect]
listen = ["unix:{store}.sock", "udp:127.0.0.1:{port}", "tcp:127.0.0.1:{port}"]
[[sites]]
name = "www"
hosts = ["library.example.org"]
upstream = "http://127.0.0.1:1"
sitemap = ""
routes = [{{ path = "/events" }}]
"""
PATIENCE_S: Final = 30.0
SECRETS: Final = (
    "198.51.100.77",
    "hunter2zebra",
    "5e551017cafe5e551017cafe",
    "secret-diary-of-a-reader",
    "reader@example.org",
)
MARKS: Final = [Mark(f"secret {number}", secret) for number, secret in enumerate(SECRETS)]
HEADER: Final = b"<190>Mar  2 17:00:00 anonproxy: "


def line_of(number: int = 0) -> bytes:
    """Write a line of a request that is full of secrets."""
    client, term, session, diary, mail = SECRETS
    fields = (
        f"{time.time():.3f}", client, "library.example.org", f"GET /events?q={term}&mail={mail}&n={number} HTTP/1.1",
        "200", "512", "0.002", f"PHPSESSID={session}", "-", f"{FIREFOX} {diary}", f"https://www.google.com/{diary}",
        "en", "0", "-",
    )  # fmt: skip
    return "\t".join(fields).encode()


# Lines of which no row comes, each full of secrets, and why.
BAD_LINES: Final[dict[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "too few fields": ("unreadable", lambda line: line.rpartition(b"\t")[0]),
    "too many fields": ("unreadable", lambda line: line.replace(b"\t200\t", b"\t200\thunter2zebra\t")),
    "no time": ("bad_time", lambda line: SECRETS[1].encode() + line[14:]),
    "no address": ("bad_address", lambda line: line.replace(b"198.51.100.77", b"198.51.100.77.hunter2zebra")),
    "no site": ("unknown_site", lambda line: line.replace(b"library.example.org", b"hunter2zebra.example")),
    "cut in two": ("unreadable", lambda line: line[:40]),
    "binary": ("bad_time", lambda line: bytes(range(11, 256)) + line),
    "another format": ("unreadable", lambda line: b'{"client": "198.51.100.77", "uri": "/hunter2zebra"}'),
    "status no number": ("unreadable", lambda line: line.replace(b"\t200\t", b"\thunter2zebra\t")),
}


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectProcess]:
    """Run the real collector."""
    with run_collect(tmp_path / "collect", CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CollectProcess]:
    """Run one that several tests use."""
    with run_collect(tmp_path_factory.mktemp("collect"), CONFIG) as running:
        yield running


def send_datagrams(collector: CollectProcess, family: int, lines: list[bytes]) -> None:
    """Send datagrams to the AF_UNIX socket or the UDP port, waiting where there is no room."""
    where = str(collector.socket) if family == socket.AF_UNIX else ("127.0.0.1", collector.port)
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        for line in lines:
            out.sendto(line, where)


def send_stream(collector: CollectProcess, stream: bytes) -> None:
    """Send bytes over TCP."""
    with socket.create_connection(("127.0.0.1", collector.port)) as out:
        out.sendall(stream)


def send_pipe(collector: CollectProcess, stream: bytes) -> None:
    """Write to what Apache writes to."""
    command = [sys.executable, "-m", "anonproxy", "collect", "--pipe", "--config", str(collector.config)]
    ended = subprocess.run(command, input=stream, capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


WAYS: Final[dict[str, Callable[[CollectProcess, list[bytes]], None]]] = {
    "unix": lambda collector, lines: send_datagrams(collector, socket.AF_UNIX, [HEADER + line for line in lines]),
    "udp": lambda collector, lines: send_datagrams(
        collector, socket.AF_INET, [HEADER + line + b"\n" for line in lines]
    ),
    "tcp": lambda collector, lines: send_stream(collector, b"".join(HEADER + line + b"\n" for line in lines)),
    "counted": lambda collector, lines: send_stream(
        collector, b"".join(b"%d %s" % (len(HEADER + line), HEADER + line) for line in lines)
    ),
    "pipe": lambda collector, lines: send_pipe(collector, b"\n".join(lines)),
}


def rows(collector: CollectProcess) -> int:
    """Count the rows on disk, with nobody's code but DuckDB's."""
    return len(values(collector.store, "1"))


def dropped(collector: CollectProcess) -> dict[str, float]:
    """Return how many lines were dropped, by reason."""
    found = {
        name.partition('"')[2].rstrip('"}'): number
        for name, number in collector.metrics().items()
        if name.startswith("anonproxy_dropped_total{") and number
    }
    return found


def is_balanced(collector: CollectProcess) -> bool:
    """Tell whether every line that came is a row or was dropped, and none is on its way."""
    with contextlib.suppress(OSError):
        metrics = collector.metrics()
        known = metrics["anonproxy_hits_written_total"] + sum(dropped(collector).values())
        return metrics["anonproxy_requests_total"] == known
    return False


@pytest.mark.slow
def test_lines_by_every_way_become_rows_and_nothing_else(collector: CollectProcess) -> None:
    """By each way good lines become rows and bad ones are counted by their reason, no secret of either is found in any
    byte that is written, running or stopped, and what came just before the end is written as well."""
    sent, reasons = 0, list(BAD_LINES.values())
    for way, send in WAYS.items():
        send(collector, [line_of(number) for number in range(30)] + [bad(line_of()) for _, bad in reasons])
        sent += 30
        wait_until(lambda: rows(collector) >= sent, PATIENCE_S, f"rows by {way}")  # noqa: B023 - at once
        assert rows(collector) == sent, way
    wait_until(lambda: is_balanced(collector), PATIENCE_S, "every line accounted for")
    expected: dict[str, float] = {}
    for reason, _ in reasons:
        expected[reason] = expected.get(reason, 0) + len(WAYS)
    assert dropped(collector) == expected
    assert set(values(collector.store, "route, browser, referrer, network")) == {
        ("/events", "Firefox", "google.com", None)
    }
    assert len(set(values(collector.store, "visit"))) == 1, "one session by whichever way"
    found = search(collector.written_places, MARKS)
    assert not found.hits
    send_datagrams(collector, socket.AF_INET, [HEADER + line_of(number) for number in range(50)])
    assert collector.stop() == 0
    assert rows(collector) == sent + 50
    found = search(collector.written_places, MARKS)
    assert not found.hits
    assert not found.unopened


def find_child(collector: CollectProcess, name: str) -> int:
    """Return the process of the receiver or the writer."""
    for pid in collector.pids():
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_text().strip("\0").endswith(f"collect.{name}"):
                return pid
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["receiver", "writer"])
def test_killed_process_comes_back_and_its_lines_are_counted(shared: CollectProcess, victim: str) -> None:
    """After kill -9 another one goes on, each line that was taken is a row or was dropped and counted, and nothing raw
    is left behind. Lines that wait in the kernel or in memory meanwhile become rows."""
    first, later, before, taken = 400, 300, rows(shared), shared.metrics()["anonproxy_requests_total"]
    lines = [HEADER + line_of(number) for number in range(first)]
    send_datagrams(shared, socket.AF_INET, lines)
    os.kill(killed := find_child(shared, victim), signal.SIGKILL)
    send_datagrams(shared, socket.AF_INET, lines[:later])
    wait_until(lambda: find_child(shared, victim) not in {0, killed}, PATIENCE_S, f"another {victim}")
    wait_until(lambda: shared.metrics()["anonproxy_writer_ready"] == 1, PATIENCE_S, "the writer ready")
    send_datagrams(shared, socket.AF_INET, lines[:1])
    wait_until(lambda: rows(shared) > before + later, PATIENCE_S, "later lines written")
    wait_until(lambda: is_balanced(shared), PATIENCE_S, "every line accounted for")
    taken = shared.metrics()["anonproxy_requests_total"] - taken
    gathered = first if victim == "receiver" else 0  # what it had just taken is nobody's count
    assert first + later + 1 - gathered <= taken <= first + later + 1
    assert set(dropped(shared)) <= {"writer_down"}
    assert not search(shared.written_places, MARKS).hits


@pytest.mark.slow
@pytest.mark.parametrize("late", ["receiver", "writer"])
def test_stopped_as_it_starts_it_takes_what_has_come(tmp_path: Path, late: str) -> None:
    """Whichever process is still starting then, lines that have come are rows before the collector ends."""
    collector = CollectProcess(tmp_path, CONFIG)
    process = collector.launch()
    try:
        wait_until(lambda: find_child(collector, late) != 0, PATIENCE_S, f"a {late}")
        os.kill(held := find_child(collector, late), signal.SIGSTOP)  # it takes its time to start
        send_datagrams(collector, socket.AF_INET, [HEADER + line_of(number) for number in range(50)])
        process.terminate()
        wait_until(lambda: "stops" in collector.output.read_text(), PATIENCE_S, "the supervisor to stop")
        os.kill(held, signal.SIGCONT)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            collector.kill()
    assert rows(collector) == 50
    assert not search(collector.written_places, MARKS).hits


@pytest.mark.slow
def test_stopped_receiver_holds_up_nobody(shared: CollectProcess) -> None:
    """While the receiver stands still, senders never wait, and what the kernel had room for becomes rows afterwards."""
    before = rows(shared)
    os.kill(find_child(shared, "receiver"), signal.SIGSTOP)
    began_s = time.monotonic()
    send_datagrams(shared, socket.AF_INET, [HEADER + line_of(number) for number in range(2_000)])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.connect(str(shared.socket))
        with contextlib.suppress(BlockingIOError):  # the queue is full
            while True:
                out.send(line_of())
    assert time.monotonic() - began_s < PATIENCE_S
    os.kill(find_child(shared, "receiver"), signal.SIGCONT)
    wait_until(lambda: rows(shared) >= before + 2_000, PATIENCE_S, "what waited is written")


@pytest.mark.slow
def test_reload_takes_another_place(shared: CollectProcess) -> None:
    """After a reload lines come in by the new place, the old sockets that stay lose nothing, and a broken configuration
    changes nothing."""
    wait_until(lambda: is_balanced(shared), PATIENCE_S, "nothing on its way")
    before, port = rows(shared), free_port()
    text = shared.config.read_text()
    shared.config.write_text(text.replace(f'"tcp:127.0.0.1:{shared.port}"', f'"udp:127.0.0.1:{port}"'))
    command = [sys.executable, "-m", "anonproxy", "reload", "--config", str(shared.config)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 0
    send_datagrams(shared, socket.AF_UNIX, [line_of()])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(line_of(), ("127.0.0.1", port))
    wait_until(lambda: rows(shared) == before + 2, PATIENCE_S, "both lines written")
    shared.config.write_text(text.replace("[collect]", '[collect]\nformat = "nonsense"'))
    assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 1
    send_datagrams(shared, socket.AF_UNIX, [line_of()])
    wait_until(lambda: rows(shared) == before + 3, PATIENCE_S, "the third line written")


@pytest.mark.slow
def test_nobody_is_shown_by_top(shared: CollectProcess) -> None:
    """Who asks most isn't remembered here, and whoever wants to know is told where to ask instead of "nobody"."""
    command = [sys.executable, "-m", "anonproxy", "top", "--json", "--config", str(shared.config)]
    ended = subprocess.run(command, check=False, capture_output=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"Ask the server that serves the pages" in ended.stderr


def test_pipe_reads_on_without_a_collector(tmp_path: Path) -> None:
    """Where nobody collects, the pipe takes everything, says nothing, and ends well with its input."""
    config = tmp_path / "anonproxy.toml"
    config.write_text(CONFIG.format(store=tmp_path / "store", port=free_port(), admin_port=1))
    command = [sys.executable, "-m", "anonproxy", "collect", "--pipe", "--config", str(config)]
    stream = b"".join(line_of(number) + b"\n" for number in range(20_000))
    ended = subprocess.run(command, input=stream, capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert {path.name for path in tmp_path.iterdir()} == {"anonproxy.toml"}


@pytest.mark.slow
def test_pipe_tells_what_it_lost(tmp_path: Path) -> None:
    """Lines that came through a pipe while nobody collected are counted once somebody does, and later ones are rows."""
    collector = CollectProcess(tmp_path / "collect", CONFIG)
    command = [sys.executable, "-m", "anonproxy", "collect", "--pipe", "--config", str(collector.config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as pipe:
        assert pipe.stdin
        pipe.stdin.write(b"".join(line_of(number) + b"\n" for number in range(9_000)))
        pipe.stdin.flush()
        wait_until(lambda: unread_bytes(pipe) == 0, PATIENCE_S, "all read")
        try:
            collector.start()
            pipe.stdin.write(line_of() + b"\n")
            pipe.stdin.close()
            wait_until(lambda: rows(collector) == 1, PATIENCE_S, "the last line is a row")
            wait_until(lambda: dropped(collector) == {"unreadable": 9_000}, PATIENCE_S, "the others are counted")
        finally:
            collector.kill()
    assert pipe.returncode == 0


def unread_bytes(pipe: "subprocess.Popen[bytes]") -> int:
    """Return what nobody has read of a program's input yet."""
    answer = array("i", [0])
    assert pipe.stdin
    fcntl.ioctl(pipe.stdin.fileno(), termios.FIONREAD, answer)
    return answer[0]
