"""Promise: killed at any instant, nothing that was written is lost or doubled, and the ledger tells the truth."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from random import Random
from typing import IO

import duckdb
import pytest

from anonproxy.audit.check import Verdict
from anonproxy.audit.ledger import read_ledger
from anonproxy.audit.run import run_audit
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.ingest.recorder import Recorder
from anonproxy.store.layout import find_foreign
from tests.ingest.recorders import DAY_S, FIREFOX, MIDDAY, World, rows
from tests.support.servers import ProxyProcess, run_nginx, run_proxy, wait_until
from tests.support.torture import CELLS, NOW, PHASES, RECORDED, SITES, WRITTEN, map_cells, settings

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
KILLS = 46

CONFIG = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:{origin}"
sitemap = ""
"""
PROXY_KILLS = 4
# The flush window, the tick, and what a busy machine takes longer.
WINDOW_S = 0.2 + 0.25 + 1.5


@contextmanager
def forking(root: Path, shared: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    """Run the parent of the recorders."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.torture", root, shared],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        try:
            yield parent.stdin, parent.stdout
        finally:
            parent.kill()


def count_rows(root: Path, site: str) -> int:
    """Count the rows of a site: those that are hot, and those that its totals tell of."""
    hot = list(root.glob(f"hot/site={site}/*/*.parquet"))
    segments = list(root.glob(f"hot/site={site}/*/*.open/*.parquet"))
    totals = list(root.glob(f"daily/site={site}/*/*.parquet"))
    with duckdb.connect() as connection:
        counts = [
            connection.read_parquet([str(path) for path in files], hive_partitioning=False).aggregate(what).fetchall()
            for files, what in (
                (hot + segments, "count(*)"),
                (totals, "coalesce(sum(hits) FILTER (dimension = 'total'), 0)"),
            )
            if files
        ]
    return sum(int(count[0][0]) for count in counts)


def test_killed_in_every_phase_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """kill -9 while rows are flushed, hours sealed, days settled, tiers purged, keys rotated.

    Each recorder has a site of its own and hands over bursts of all sizes, one flush each. So of each site there are
    the rows that were acknowledged, and the last burst wholly or not at all: a burst that was doubled would show.
    """
    random, root, shared = Random(5), tmp_path / "store", tmp_path / "shared"
    shared.write_bytes(bytes(CELLS * 8))
    cells = map_cells(shared)
    handed, written, died = dict[str, int](), dict[str, int](), Counter[str]()
    time_s = MIDDAY
    with forking(root, shared) as (orders, answers):
        for site, phase in zip(SITES[:KILLS], cycle(PHASES)):
            cells[:] = shared_zeros()
            cells[NOW] = int(time_s)
            orders.write(f"{site} {time_s}\n")
            orders.flush()
            child = int(answers.readline())
            wait_until(lambda: cells[RECORDED] > 0, 20, "a first burst")
            # Some hours of haste, then the phase, then a moment.
            time.sleep(random.random() * 0.1)
            deadline = time.monotonic() + 3
            while not cells[PHASES[phase]] and time.monotonic() < deadline:
                pass
            if random.random() < 0.5:
                time.sleep(random.random() ** 2 * 0.02)
            os.kill(child, signal.SIGKILL)
            assert answers.readline() == "gone\n"
            died.update(name for name, cell in PHASES.items() if cells[cell])
            handed[site], written[site] = cells[RECORDED], cells[WRITTEN]
            time_s = cells[NOW] + 60.0
    assert set(died) == set(PHASES)
    world = World(time_s)
    recorder = Recorder(settings(root, *handed), world.clock, world.steady)
    recorder.keep_house()
    found = {site: count_rows(root, site) for site in handed}
    assert {site for site, count in found.items() if count not in {written[site], handed[site]}} == set()
    told = Counter(entry.event for entry in read_ledger(root / "ledger"))
    assert min(told[event] for event in ("started", "sealed", "settled", "purged", "rotated")) >= 5
    assert find_foreign(root) == []
    report = run_audit(root, world.time_s, settings(root, *handed))
    assert [(result.check.code, result.outcome) for result in report.results if result.verdict != Verdict.PASS] == []
    recorder.close()
    assert sum(found.values()) > 300
    assert time_s - MIDDAY > 3 * DAY_S


def shared_zeros() -> memoryview:
    """Return as many zeros as there are cells."""
    return memoryview(bytes(CELLS * 8)).cast("q")


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[int]:
    """Serve a page with a real nginx."""
    with run_nginx(tmp_path / "nginx", {"index.html": b"<h1>Library</h1>"}) as port:
        yield port


def test_the_whole_proxy_killed_under_load(tmp_path: Path, origin: int) -> None:
    """Of what visitors were answered, only that of the last moments before each kill is missing; no row is doubled."""
    random = Random(6)
    with run_proxy(tmp_path / "proxy", CONFIG.format(origin=origin)) as proxy:
        for number in range(PROXY_KILLS):
            if number:
                proxy.start()
            before, asked, answered = rows(proxy.store), [0] * 3, list[float]()
            ended = threading.Event()
            threads = [
                threading.Thread(target=load, args=(proxy, worker, asked, answered, ended)) for worker in range(3)
            ]
            for thread in threads:
                thread.start()
            wait_until(lambda: rows(proxy.store) > before, 20, "a first flush")  # noqa: B023 - it is called here only
            time.sleep(WINDOW_S + random.random())
            killed_s = time.monotonic()
            proxy.kill()
            ended.set()
            for thread in threads:
                thread.join()
            written = rows(proxy.store) - before
            assert sum(time_s < killed_s - WINDOW_S for time_s in answered) <= written <= sum(asked)
        proxy.start()
        wait_until(lambda: proxy.get("/") == 200, 10, "a page")
        assert proxy.stop() == 0
        told = Counter(entry.event for entry in read_ledger(proxy.store / "ledger"))
        assert (told["started"], told["stopped"], told["configured"]) == (PROXY_KILLS + 1, 1, 1)
        report = run_audit(proxy.store, now(), read_settings(proxy.config))
        assert [
            (result.check.code, result.outcome) for result in report.results if result.verdict != Verdict.PASS
        ] == []


def load(proxy: ProxyProcess, worker: int, asked: list[int], answered: list[float], ended: threading.Event) -> None:
    """Ask for pages until told to end, whatever happens to the proxy."""
    while not ended.is_set():
        asked[worker] += 1
        with contextlib.suppress(OSError, http.client.HTTPException):
            if proxy.get("/", {"User-Agent": FIREFOX, "X-Forwarded-For": "198.51.100.7"}) == 200:
                answered.append(time.monotonic())
