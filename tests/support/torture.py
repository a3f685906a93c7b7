"""Recorders to be killed, forked by a parent that imported everything: python -m tests.support.torture STORE SHARED.

For each line "SITE TIME" on its standard input the parent forks a recorder that records requests of that site in
bursts, from that date on, and keeps house without a pause; and it answers with the process id. A day passes in a
second, so that hours close, days settle and tiers are purged while one looks on. What was handed over, what was written
and what is being done just now stands in memory that outlives the child.
"""

import mmap
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from anonproxy.ingest.recorder import Recorder
from anonproxy.model.settings import Settings
from tests.ingest.recorders import request

SITES: Final = tuple(f"s{number:02}" for number in range(60))
HASTE: Final = 86_400

# Cells of the shared memory.
RECORDED, WRITTEN, NOW = range(3)
PHASES: Final = {"flush": 3, "seal": 4, "settle": 5, "purge": 6, "rotate_now": 7}
CELLS: Final = 8


def settings(root: Path, *names: str) -> Settings:
    """Return the settings of some sites, with short tiers."""
    sites = [
        {"name": name, "hosts": [f"{name}.example.org"], "upstream": "http://127.0.0.1:9", "sitemap": ""}
        for name in names
    ]
    return Settings.model_validate(
        {
            "store": {"path": str(root), "hot_hours": 30, "hits_days": 2, "flush_s": 0.1},
            "privacy": {"time_zone": "UTC"},
            "sites": sites,
        }
    )


def map_cells(path: Path) -> Any:
    """Map the shared numbers."""
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), CELLS * 8)).cast("q")


def torture(root: Path, cells: Any, site: str, start_s: float) -> None:
    """Record and keep house until killed."""
    begun_s, seen = time.monotonic(), threading.local()

    def clock() -> float:
        seen.time_s = start_s + (time.monotonic() - begun_s) * HASTE
        cells[NOW] = int(seen.time_s)
        return float(seen.time_s)

    # In such haste two looks at a clock are minutes apart: the steady one shows what this thread saw last.
    recorder = Recorder(settings(root, site), clock, lambda: float(seen.time_s))
    for phase, cell in PHASES.items():
        announce(recorder, phase, cells, cell)

    # In no order, so that a settling day doesn't hide what comes after it.
    acts = (
        recorder.keep_house,
        recorder._rotate_now,
        lambda: recorder._attempt("seal_failed", recorder._seal),
        lambda: recorder._attempt("purge_failed", recorder._purge),
    )

    def keep_house() -> None:
        while True:
            random.choice(acts)()
            time.sleep(0.005)  # others want the disk, too

    threading.Thread(target=keep_house, daemon=True).start()
    while True:
        burst, time_s = random.randint(1, 100), clock()
        for number in range(burst):
            recorder.record(request(time_s, f"198.51.100.{number % 250 + 1}", raw_host=f"{site}.example.org"))
        cells[RECORDED] += burst  # before it is flushed: all of it is there, or nothing
        while recorder.counts["pending"]:
            recorder.tick()
        cells[WRITTEN] = recorder.counts["written"]


def announce(recorder: Recorder, phase: str, cells: Any, cell: int) -> None:
    """Let a cell tell while something is being done."""
    act: Callable[[], Any] = getattr(recorder, f"_{phase}")

    def announced() -> None:
        cells[cell] = 1
        act()
        cells[cell] = 0

    setattr(recorder, f"_{phase}", announced)


def tell(word: object) -> None:
    """Answer."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main(root: Path, shared: Path) -> None:
    """Fork a recorder for each line, and wait until it is killed."""
    for line in sys.stdin:
        site, start_s = line.split()
        child = os.fork()
        if not child:
            torture(root, map_cells(shared), site, float(start_s))
        tell(child)
        os.waitpid(child, 0)
        tell("gone")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
