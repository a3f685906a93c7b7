"""A recorder in a world whose clocks the test holds."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from anonproxy.anonymize.request import RawRequest
from anonproxy.audit.ledger import Entry, read_ledger
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.settings import Settings

MIDDAY = 1_795_262_400.0  # 2026-11-21 12:00 UTC
HOUR_S = 3_600.0
DAY_S = 86_400.0
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass
class World:
    """What a machine's two clocks say."""

    time_s: float = MIDDAY
    steady_s: float = 1000.0

    def clock(self) -> float:
        """Return the date."""
        return self.time_s

    def steady(self) -> float:
        """Return the time since the machine started."""
        return self.steady_s

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.time_s += seconds
        self.steady_s += seconds

    def set_clock(self, time_s: float) -> None:
        """Set the date, while no time passes."""
        self.time_s = time_s


def settings(root: Path, **store: Any) -> Settings:
    """Return the settings of a library with one site."""
    site = {"name": "www", "upstream": "http://127.0.0.1:9", "sitemap": "", "routes": [{"path": "/events"}]}
    return Settings.model_validate(
        {"store": {"path": str(root), **store}, "privacy": {"time_zone": "UTC"}, "sites": [site]}
    )


@contextmanager
def recording(root: Path, world: World | None = None, **store: Any) -> Iterator[Recorder]:
    """Run a recorder, and close it as the writer does."""
    world = world or World()
    recorder = Recorder(settings(root, **store), world.clock, world.steady)
    try:
        yield recorder
    finally:
        recorder.close()


def request(time_s: float = MIDDAY, client: str = "198.51.100.7", **changes: Any) -> RawRequest:
    """Return a visitor's request."""
    usual = {"raw_target": "/events", "status": 200, "raw_user_agent": FIREFOX}
    return RawRequest(time_s, client, **{**usual, **changes})


def rows(root: Path) -> int:
    """Count the rows on disk, with nobody's code but DuckDB's."""
    return len(values(root, "1"))


def values(root: Path, columns: str, tiers: tuple[str, ...] = ("hot", "hits")) -> list[tuple[Any, ...]]:
    """Return columns of all rows on disk."""
    found = []
    for tier in tiers:
        if list((root / tier).rglob("*.parquet")):
            with duckdb.connect() as connection:
                found += connection.execute(
                    f"SELECT {columns} FROM read_parquet('{root}/{tier}/**/*.parquet')"
                ).fetchall()
    return found


def entries(root: Path) -> list[Entry]:
    """Return the ledger, verified."""
    return read_ledger(root / "ledger")


def events(root: Path) -> list[str]:
    """Return what the ledger says happened."""
    return [entry.event for entry in entries(root)]


def count_events(root: Path) -> Counter[str]:
    """Return how often each thing happened."""
    return Counter(events(root))
