"""The store's tree as it lies on disk: every name in it, and what the declared layout says that it is.

The layout is told here a second time on purpose: what wrote the files is not asked what they are.
"""

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final, Literal, cast

from anonproxy.clock import now
from anonproxy.model.columns import Tier as RowTier

Tier = RowTier | Literal["vocabulary", "ledger"]
Role = Literal["folder", "sealed", "segment", "aside", "settled", "ledger"]

HOUR_S: Final = 3_600
DAY_S: Final = 86_400

# A write takes milliseconds, on a busy machine more. What changed longer ago is no longer being written.
WRITTEN_WITHIN_S: Final = 2.0
LOOK_AGAIN_S: Final = 0.05
LOOKS: Final = 40

_SITE: Final = r"site=(?P<site>[a-z0-9][a-z0-9_-]{0,31})"
_DAY: Final = rf"{_SITE}/date=(?P<date>\d{{4}}-\d\d-\d\d)"
_HOUR: Final = r"(?P<hour>[01]\d|2[0-3])"
_RANDOM: Final = r"[0-9a-f]{16}"
_TEMPORARY: Final = r"(?P<temporary>\.tmp)?"

# What may stand in a store, and nothing else.
_PATTERNS: Final[tuple[tuple[str, Role], ...]] = (
    (rf"(?P<tier>hot)/{_DAY}/{_HOUR}\.parquet{_TEMPORARY}", "sealed"),
    (rf"(?P<tier>hot)/{_DAY}/{_HOUR}\.(open|closing)/{_RANDOM}\.parquet{_TEMPORARY}", "segment"),
    (rf"(?P<tier>hot)/{_DAY}/{_HOUR}\.{_RANDOM}\.broken", "aside"),
    (rf"(?P<tier>hits|daily|vocabulary)/{_DAY}/(?P=tier)\.parquet{_TEMPORARY}", "settled"),
    (r"(?P<tier>ledger)/(ledger\.jsonl|public-key\.pem|signing-key\.pem)", "ledger"),
    (rf"(?P<tier>hot)/{_DAY}/{_HOUR}\.(open|closing)", "folder"),
    (rf"(?P<tier>hot|hits|daily|vocabulary)(/{_SITE}(/date=(?P<date>\d{{4}}-\d\d-\d\d))?)?", "folder"),
    (r"(?P<tier>ledger)|\.", "folder"),
)
LAYOUT: Final = tuple((re.compile(pattern, re.ASCII), role) for pattern, role in _PATTERNS)

# Endings of names that a report may repeat. The name itself could be anybody's.
_ENDINGS: Final = (
    ".bak", ".csv", ".db", ".duckdb", ".gz", ".json", ".jsonl", ".key", ".log", ".parquet", ".pem", ".sql", ".sqlite",
    ".swp", ".tmp", ".txt", ".wal", ".xlsx", ".zip",
)  # fmt: skip

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True, slots=True)
class Place:
    """What the layout says of a path."""

    role: Role
    tier: Tier | None
    site: str | None
    day: date | None
    hour: int | None
    is_temporary: bool

    @property
    def starts_at(self) -> int:
        """Give the first second of the hour or day that the rows belong to.

        Units: unix seconds
        """
        return day_start(self.day) + (self.hour or 0) * HOUR_S if self.day else 0


@dataclass(frozen=True, slots=True)
class Node:
    """One name in the tree; `place` is None where the layout knows no such name."""

    path: str
    kind: Kind
    mode: int
    mtime_ns: int
    size_bytes: int
    names: int
    owner: int
    place: Place | None

    @property
    def is_table(self) -> bool:
        """Tell whether rows should be in it."""
        return self.place is not None and self.place.role in {"sealed", "segment", "settled"}

    @property
    def shown(self) -> str:
        """Give the path as a report may repeat it: an undeclared name could itself be a leak."""
        if self.place:
            return "the store's folder" if self.path == "." else self.path
        parent, _, name = self.path.rpartition("/")
        folder = f"{parent}/" if parent and parse_place(parent, "folder") else "…/" if parent else ""
        ending = next((f" ending in {ending}" for ending in _ENDINGS if name.endswith(ending)), "")
        return f"{folder}(a name of {len(name)} characters{ending})"


def day_start(day: date) -> int:
    """Give the first second of a day.

    Units: unix seconds
    """
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def parse_place(path: str, kind: Kind) -> Place | None:
    """Find what the layout says of a path; None when it knows no such name."""
    for pattern, role in LAYOUT:
        if match := pattern.fullmatch(path):
            named = match.groupdict()
            day = _parse_date(named.get("date"))
            if (role == "folder") != (kind == "folder") or kind in {"link", "other"} or (named.get("date") and not day):
                return None
            hour = named.get("hour")
            return Place(
                role,
                cast(Tier | None, named.get("tier")),
                named.get("site"),
                day,
                int(hour) if hour else None,
                is_temporary=bool(named.get("temporary")),
            )
    return None


def walk(root: Path) -> Iterator[Node]:
    """List everything in a tree, the root itself first as `.`; links are not followed.

    Raises: OSError where a folder can't be listed; FileNotFoundError also for what goes away meanwhile
    """
    yield read_node(root, ".")
    pending = [""]
    while pending:
        parent = pending.pop()
        for name in sorted(os.listdir(root / parent)):
            node = read_node(root, f"{parent}/{name}" if parent else name)
            yield node
            if node.kind == "folder":
                pending.append(node.path)


def watch_node(root: Path, path: str) -> Iterator[Node]:
    """Read one name, and again as long as it changed only a moment ago: a write may be under way. It ends, whoever
    goes on writing.

    Raises: OSError, also when it goes away meanwhile
    """
    for _ in range(LOOKS):
        node = read_node(root, path)
        yield node
        if not 0 <= now() - node.mtime_ns / 1e9 < WRITTEN_WITHIN_S:
            return
        time.sleep(LOOK_AGAIN_S)


def read_node(root: Path, path: str) -> Node:
    """Read what the file system says of one name.

    Raises: OSError
    """
    status = os.lstat(root / path)
    kind = _kind(status.st_mode)
    return Node(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_mtime_ns,
        status.st_size,
        status.st_nlink,
        status.st_uid,
        parse_place(path, kind),
    )


def _kind(mode: int) -> Kind:
    kinds: tuple[tuple[bool, Kind], ...] = (
        (stat.S_ISREG(mode), "file"),
        (stat.S_ISDIR(mode), "folder"),
        (stat.S_ISLNK(mode), "link"),
    )
    return next((kind for applies, kind in kinds if applies), "other")


def _parse_date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
