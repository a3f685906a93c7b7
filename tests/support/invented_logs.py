"""Logs of a library that nobody has, of which one knows what is in them."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from anonproxy.ingest.pipeline import Task, find_zone
from anonproxy.ingest.sources import find_logs, open_sources
from anonproxy.model.settings import Settings
from anonproxy.store.imports import Refusal, Shelf

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 "
    "Mobile/15E148 Safari/604.1"
)
ROBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

FIRST_DAY = date(2026, 11, 10)
NOW_S = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp())
K = 5


@dataclass(frozen=True)
class Line:
    """A line of a log, and what is true of it."""

    time_s: float
    text: str
    person: int  # 0 for a robot
    path: str
    status: int

    @property
    def date(self) -> date:
        """Give its day."""
        return datetime.fromtimestamp(self.time_s, UTC).date()


def invent(days: int = 3, people: int = 30, first: date = FIRST_DAY, seed: int = 1, host: str = "") -> list[Line]:
    """Return a log in which each person comes once a day, at any hour, for four pages a minute or two apart."""
    chance = random.Random(seed)
    lines = []
    for number in range(days):
        midnight_s = datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp() + number * 86_400
        for person in range(1, people + 1):
            begins_s = midnight_s + chance.randrange(86_000 if person % 5 else 60)
            for page, path in enumerate(("/", "/events", f"/about/{person % 3}", f"/search?q=private+{person}")):
                time_s = begins_s + page * chance.randrange(60, 120) - (600 if person % 7 == 0 else 0)
                status = 404 if chance.random() < 0.1 else 200
                lines.append(_line(time_s, person, path, status, PHONE if person % 2 else FIREFOX, host))
        for second in range(0, 86_400, 7_200):
            lines.append(_line(midnight_s + second, 0, "/", 200, ROBOT, host))
    return sorted(lines, key=lambda line: line.time_s)


def _line(time_s: float, person: int, path: str, status: int, agent: str, host: str) -> Line:
    client = f"203.0.113.{person}" if person else "192.0.2.1"
    at = datetime.fromtimestamp(time_s, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    before = f"{host}:80 " if host else ""
    text = f'{before}{client} - - [{at}] "GET {path} HTTP/1.1" {status} 5000 "-" "{agent}"'
    return Line(time_s, text, person, path, status)


def count_by_day(lines: Iterable[Line]) -> Counter[date]:
    """Count lines by their days."""
    return Counter(line.date for line in lines)


def write_log(path: Path, lines: Sequence[Line]) -> Path:
    """Write a log as a server does."""
    path.write_text("".join(f"{line.text}\n" for line in lines), encoding="utf-8")
    return path


def settings(root: Path, **changes: Any) -> Settings:
    """Return the settings of a library with one site, unless told otherwise."""
    site = {"name": "www", "upstream": "http://127.0.0.1:9", "sitemap": "", "routes": [{"path": "/events"}]}
    return Settings.model_validate(
        {
            "store": {"path": str(root)},
            "privacy": {"time_zone": "America/New_York", "k": K},
            "sites": [site],
            **changes,
        }
    )


def plan(
    config: Settings,
    *paths: Path,
    taken: dict[tuple[str, date], Refusal] | None = None,
    now_s: int = NOW_S,
    **changes: Any,
) -> Task:
    """Return the task of importing logs."""
    sources, _ = open_sources(*find_logs(paths), None, find_zone(config.privacy), config.proxy)
    return Task(config, tuple(sources), Shelf(now_s, config.store, taken or {}))._replace(**changes)


def day(number: int) -> date:
    """Return one of the log's days."""
    return FIRST_DAY + timedelta(days=number)
