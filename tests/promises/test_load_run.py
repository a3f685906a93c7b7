"""A day that goes wrong, under load: whatever is killed, filled or replaced, answers are right and counts add up.

Visitors who check every byte ask all the time, over HTTP and HTTPS, while a worker is killed, the configuration is
taken anew, the certificate is replaced, the writer is killed, the disk is filled, the writer is killed again on the
full disk, and the site is restarted. Each visitor writes down what became of each request. Of what nobody can have
answered (because the worker that had it was killed, or the site wasn't there) nothing is expected; of all else,
everything.
"""

import contextlib
import http.client
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final

import pytest

from anonproxy.audit.search import search
from tests.promises.test_leak_matrix import rows
from tests.proxy.conftest import connect_tls, write_certificate
from tests.support.marked_requests import HOST, Marks
from tests.support.ports import free_port
from tests.support.servers import ProxyProcess, run_nginx, run_proxy, wait_until

pytestmark = pytest.mark.slow

CONFIG: Final = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
tls_listen = "127.0.0.1:{tls_port}"
admin_listen = "127.0.0.1:{{admin_port}}"
workers = 2
trusted_proxies = ["127.0.0.1"]
[[proxy.certificates]]
certificate = "{certificate}"
key = "{key}"
[[sites]]
name = "www"
hosts = ["{host}"]
upstream = "http://127.0.0.1:{origin}"
sitemap = ""
"""

VISITORS: Final = 6  # half of them over HTTPS
PAGES: Final = {f"page-{number}.html": Random(number).randbytes(1 + number * 3_000) for number in range(12)}
# Visitors come and go: after so many requests each makes a new connection.
REQUESTS_PER_CONNECTION: Final = 40
# As people's browsers do; without a pause the visitors would take the processor that what is started anew needs.
PAUSE_S: Final = 0.01
# In each phase every visitor gets so many right answers before the next thing goes wrong.
STEADY: Final = 15
WITHIN_S: Final = 40.0
DISK: Final = "size=512k,mode=700"


class Outcome(StrEnum):
    """What became of a request."""

    RIGHT = "right"  # 200, and every byte
    NO_SITE = "no site"  # our page for a site that isn't there
    BROKEN = "broken"  # the connection ended before the answer did
    WRONG = "wrong"  # anything else


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as the visitor knows it."""

    visitor: int
    outcome: Outcome
    connected_s: float
    began_s: float
    ended_s: float


class Visitor(threading.Thread):
    """Asks for pages until told to end, and writes down what came of it."""

    def __init__(self, number: int, connect: Callable[[], http.client.HTTPConnection], marks: Marks) -> None:
        super().__init__(daemon=True)
        self.asked: list[Asked] = []
        self.ending = threading.Event()
        self._number = number
        self._connect = connect
        self._headers = {"Host": HOST, "X-Forwarded-For": marks.address(f"address of visitor {number}")}
        self._query = marks.word(f"query of visitor {number}")

    def run(self) -> None:
        random = Random(self._number)
        while not self.ending.is_set():
            connected_s = time.monotonic()
            with contextlib.closing(self._connect()) as connection:
                for _ in range(REQUESTS_PER_CONNECTION):
                    began_s = time.monotonic()
                    outcome = self._ask(connection, random.choice(list(PAGES)))
                    self.asked.append(Asked(self._number, outcome, connected_s, began_s, time.monotonic()))
                    if self.ending.wait(PAUSE_S) or outcome != Outcome.RIGHT:
                        break

    def _ask(self, connection: http.client.HTTPConnection, page: str) -> Outcome:
        try:
            connection.request("GET", f"/{page}?q={self._query}", headers=self._headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return Outcome.BROKEN
        if answer.status in {502, 504} and b"The website" in body:
            return Outcome.NO_SITE
        return Outcome.RIGHT if (answer.status, body) == (200, PAGES[page]) else Outcome.WRONG


@dataclass(frozen=True, slots=True)
class Load:
    """All visitors."""

    visitors: list[Visitor]

    @property
    def asked(self) -> list[Asked]:
        """Return every request so far."""
        return [asked for visitor in self.visitors for asked in visitor.asked]

    def go_on(self) -> None:
        """Wait until every visitor has got some more right answers."""
        then = [len(visitor.asked) for visitor in self.visitors]

        def has_gone_on() -> bool:
            return all(
                sum(asked.outcome == Outcome.RIGHT for asked in visitor.asked[start:]) >= STEADY
                for visitor, start in zip(self.visitors, then, strict=True)
            )

        wait_until(has_gone_on, WITHIN_S, "steady load")

    def end(self) -> None:
        """Let the visitors finish what they are asking, and go."""
        for visitor in self.visitors:
            visitor.ending.set()
        for visitor in self.visitors:
            visitor.join(WITHIN_S)
            assert not visitor.is_alive()


@contextlib.contextmanager
def visiting(port: int, tls_port: int, marks: Marks) -> Iterator[Load]:
    """Have visitors ask, until the end whatever happens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def connect(number: int) -> http.client.HTTPConnection:
        if number % 2:
            return http.client.HTTPSConnection("127.0.0.1", tls_port, timeout=20, context=context)
        return http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    load = Load([Visitor(number, lambda number=number: connect(number), marks) for number in range(VISITORS)])  # type: ignore[misc]  # mypy doesn't know a lambda's default
    for visitor in load.visitors:
        visitor.start()
    try:
        yield load
    finally:
        load.end()


def find_children(proxy: ProxyProcess, name: str) -> list[int]:
    """Return the processes of a kind."""
    return [pid for pid in proxy.pids() if f"anonproxy.proxy.{name}".encode() in command_line(pid)]


def kill_writer(proxy: ProxyProcess) -> None:
    """Kill the writer, and wait until that is noticed."""
    [writer] = find_children(proxy, "writer")
    os.kill(writer, signal.SIGKILL)
    wait_until(lambda: proxy.metrics()["anonproxy_writer_ready"] == 0, WITHIN_S, "the writer's end")


def command_line(pid: int) -> bytes:
    """Return what a process was started with; nothing of one that has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def shown_certificate(port: int) -> bytes | None:
    """Return the certificate that a new visitor is shown."""
    with connect_tls(port) as connection:
        return connection.getpeercert(binary_form=True)


def fill(path: Path) -> None:
    """Leave no byte free."""
    with path.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """Make a store on a disk of its own, so small that it can be filled."""
    folder = tmp_path / "proxy" / "store"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_counts_add_up_whatever_goes_wrong(tmp_path: Path, store: Path) -> None:
    """No answer is wrong; none fails that a living worker and site could give; each request is in exactly one count."""
    marks, tls_port = Marks(), free_port()
    with contextlib.ExitStack() as site:
        origin = site.enter_context(run_nginx(tmp_path / "nginx", PAGES))
        config = CONFIG.format(
            origin=origin, host=HOST, tls_port=tls_port, **write_certificate(tmp_path, HOST, issuer="first")
        )
        with run_proxy(tmp_path / "proxy", config) as proxy, visiting(proxy.port, tls_port, marks) as load:
            load.go_on()

            worker_killed_s = time.monotonic()
            os.kill(find_children(proxy, "worker")[0], signal.SIGKILL)
            load.go_on()
            wait_until(lambda: proxy.metrics()["anonproxy_workers"] == 2, WITHIN_S, "two workers")

            text = proxy.config.read_text()
            proxy.config.write_text(text.replace("workers = 2", "workers = 3"))
            reload = [sys.executable, "-m", "anonproxy", "reload", "--config", str(proxy.config)]
            subprocess.run(reload, check=True, capture_output=True, timeout=180)
            load.go_on()

            before = shown_certificate(tls_port)
            write_certificate(tmp_path, HOST, issuer="second")
            wait_until(
                lambda: all(shown_certificate(tls_port) != before for _ in range(6)), WITHIN_S, "the new certificate"
            )
            load.go_on()

            kill_writer(proxy)
            load.go_on()
            wait_until(lambda: proxy.metrics()["anonproxy_writer_ready"] == 1, WITHIN_S, "a writer")
            load.go_on()

            failed = 'anonproxy_store_failures_total{step="flush"}'
            failures = proxy.metrics()[failed]
            fill(store / "filler")
            wait_until(lambda: proxy.metrics()[failed] > failures, WITHIN_S, "a full disk")
            load.go_on()
            kill_writer(proxy)
            load.go_on()
            (store / "filler").unlink()
            wait_until(lambda: proxy.metrics()["anonproxy_writer_ready"] == 1, WITHIN_S, "a writer with room")
            load.go_on()

            site_stopped_s = time.monotonic()
            site.close()
            wait_until(lambda: load.asked[-1].outcome == Outcome.NO_SITE, WITHIN_S, "a page that says so")
            site.enter_context(run_nginx(tmp_path / "nginx", PAGES, origin))
            site_back_s = time.monotonic()
            load.go_on()

            load.end()
            wait_until(lambda: is_at_rest(proxy.metrics()), WITHIN_S, "all counted")
            told = proxy.metrics()
            assert proxy.stop() == 0

    asked = load.asked
    outcomes = Counter(each.outcome for each in asked)
    broken = [each for each in asked if each.outcome == Outcome.BROKEN]

    # Every request that reached a living worker and a living site got the right bytes.
    assert outcomes[Outcome.WRONG] == 0
    assert outcomes[Outcome.RIGHT] > VISITORS * STEADY * 8
    for each in asked:
        met_killed_worker = each.connected_s < worker_killed_s < each.ended_s
        met_no_site = each.began_s < site_back_s and each.ended_s > site_stopped_s
        assert each.outcome == Outcome.RIGHT or met_no_site or (each.outcome == Outcome.BROKEN and met_killed_worker)
    with_worker = Counter(each.visitor for each in broken if each.ended_s < site_stopped_s)
    assert max(with_worker.values(), default=0) <= 1, "only its own connections suffer"

    # The proxy has begun exactly the requests that were answered, and of those that broke off some it can tell.
    answered = outcomes[Outcome.RIGHT] + outcomes[Outcome.NO_SITE]
    begun = told["anonproxy_requests_total"] + told["anonproxy_lost_requests_total"]
    assert answered <= begun <= answered + len(broken)
    assert told["anonproxy_lost_requests_total"] <= VISITORS

    # What it has begun and finished was written, or dropped for a reason that this day had; the rows are there.
    dropped = {name: number for name, number in told.items() if name.startswith("anonproxy_dropped_total") and number}
    assert told["anonproxy_requests_total"] == told["anonproxy_hits_written_total"] + sum(dropped.values())
    assert dropped.keys() <= {f'anonproxy_dropped_total{{reason="{why}"}}' for why in ("writer_down", "queue_full")}
    assert rows(proxy) == told["anonproxy_hits_written_total"]
    said = proxy.output.read_text()
    assert (
        f"stopped: {told['anonproxy_requests_total']:.0f} requests, {told['anonproxy_hits_written_total']:.0f} rows "
        f"written, {sum(dropped.values()):.0f} dropped" in said
    )
    assert told["anonproxy_faults_total"] == 0
    assert "suppressed" not in said

    found = search(proxy.written_places, marks.made)
    assert not found.hits
    assert not found.unopened
    assert found.pages > 0


def is_at_rest(told: dict[str, float]) -> bool:
    """Tell whether nothing is under way any more."""
    return all(told[f"anonproxy_{name}"] == 0 for name in ("running_requests", "queued_requests", "pending_rows"))
