"""Rows, a vocabulary and a clock for the tests of this room."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.hit import Hit
from anonproxy.model.settings import StoreSettings
from anonproxy.model.vocabularies import ELAPSED_BUCKETS_S, Origin
from anonproxy.model.vocabulary import Entry, Vocabulary
from anonproxy.store.write import SegmentWriter

HOUR_S = 3_600
DAY_S = 86_400
DATE = "2026-11-21"
MIDNIGHT = 1_795_219_200  # the beginning of that day, UTC
K = 10

_VALUES = {
    "route": ("/", "/events", "/record/{id}", "/café", "(unlisted)"),
    "network": ("203.0.113.0/24",),
    "network_class": ("remote", "staff"),
    "referrer": ("(direct)", "(internal)", "(other)", "search.example"),
    "campaign": ("autumn",),
    "language": ("en", "es"),
}


def vocabulary(*sites: str) -> Vocabulary:
    """Return a closed world for some sites."""
    return Vocabulary(
        Entry(site, column, value, Origin.CONFIGURED)
        for site in sites or ("www",)
        for column, values in _VALUES.items()
        for value in values
    )


def hit(at_s: int = 0, **changes: Any) -> Hit:
    """Return the first page of a visit at a time of the day, with changes."""
    plain = Hit(
        time=MIDNIGHT + at_s, site="www", method="GET", route="/", kind="page", status=200, size_bytes=256,
        duration_ms=10, visit=1, step=1, elapsed_s=0, network=None, network_class="remote", country="US",
        referrer="(direct)", channel="direct", campaign=None, browser="Chrome", os="Windows", device="desktop", bot="",
        language="en",
    )  # fmt: skip
    return plain._replace(**changes)


def visits(count: int, at_s: int = 0, first: int = 1, **changes: Any) -> list[Hit]:
    """Return one page each of several visits."""
    return [hit(at_s, visit=number, **changes) for number in range(first, first + count)]


def random_hits(random: Random, count: int, hours: int = 24) -> list[Hit]:
    """Return rows that vary in every column."""
    choices: dict[str, list[Any]] = {
        column.name: sorted(column.values, key=repr) for column in HIT_COLUMNS if column.values
    }
    choices |= {name: list(values) for name, values in _VALUES.items()}
    choices |= {"bot": ["", "", "search"], "kind": ["page", "page", "asset"], "elapsed_s": list(ELAPSED_BUCKETS_S)}
    choices |= {"step": [0, 1, 1, 2, 3], "network": [None, "203.0.113.0/24"], "campaign": [None, "autumn"]}
    hits = []
    for _ in range(count):
        changes = {name: random.choice(values) for name, values in choices.items()}
        changes["visit"] = random.choice([None, random.randrange(2**64), random.randrange(20)])
        if changes["visit"] is None:
            changes |= {"step": None, "elapsed_s": None}
        hits.append(hit(random.randrange(hours) * HOUR_S, **changes))
    return hits


def write(root: Path, hits: Iterable[Hit], sites: tuple[str, ...] = ("www",)) -> None:
    """Write rows as one segment for each hour."""
    root.mkdir(exist_ok=True)
    writer = SegmentWriter(root, vocabulary(*sites))
    for each in hits:
        assert writer.add(each) is None
    count = writer.pending
    assert writer.flush() == count


def settings(**changes: Any) -> StoreSettings:
    """Return the settings of a store."""
    return StoreSettings(path="unused", **changes)


class Notes(list[tuple[str, Mapping[str, str | int]]]):
    """A journal that keeps its entries."""

    def __call__(self, event: str, details: Mapping[str, str | int]) -> None:
        self.append((event, details))

    def events(self) -> list[str]:
        """Return the names of what happened."""
        return [event for event, _ in self]


def tree(root: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
