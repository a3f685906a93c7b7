"""The evidence: one look at a store's tree, and its files read page by page, for every check to share."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from anonproxy.audit.bucket import Bucket
from anonproxy.audit.limits import Limits, digest_settings
from anonproxy.audit.parquet_pages import BrokenParquet
from anonproxy.audit.processes import NO_MACHINE, Machine
from anonproxy.audit.tables import Table, Value, parse_table
from anonproxy.audit.tree import HOUR_S, Node, Place, Tier, day_start, walk, watch_node
from anonproxy.model.errors import StoreError
from anonproxy.model.settings import Settings

# A proxy at work renames files while we look: a look in which something went away is thrown away.
TRIES = 30

# About 25 bytes a row: 200 MB. What is beyond is read again by each check.
MAX_KEPT_ROWS = 8_000_000

Progress = Callable[[str, int, int], None]


def ignore_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the auditor brings along, because what lies in the store was written by whom they audit."""

    public_key: bytes | None = None  # PEM, as it was published
    head: str | None = None  # an earlier head of the ledger, as it was written down

    @property
    def limits(self) -> tuple[str, ...]:
        """Say what can't be shown without what is missing."""
        return tuple(what for value, what in ((self.public_key, OWN_KEY), (self.head, NO_HEAD)) if value is None)


NO_ANCHOR: Final = Anchor()
OWN_KEY: Final = (
    "The ledger was verified with the public key that lies in the store. That shows that it is whole, not who "
    "signed it: whoever holds the machine could begin another one with a key of their own. --public-key brings "
    "the published one"
)
NO_HEAD: Final = (
    "No earlier head of the ledger was given. Without one, nobody sees whether its last entries were cut off, or "
    "whether its owner signed the whole anew. --head brings one that was written down"
)


@dataclass(frozen=True, slots=True)
class Word:
    """What a vocabulary file says of one value."""

    origin: Value
    visits: Value


class Evidence:
    """A store as it lay on disk at one moment.

    Raises: StoreError when there is no such folder, or it can't be listed
    """

    def __init__(
        self,
        root: Path,
        now_s: float,
        settings: Settings | None = None,
        progress: Progress = ignore_progress,
        limits: Limits | None = None,
        anchor: Anchor = NO_ANCHOR,
        look_in: Sequence[Path] = (),
        machine: Machine = NO_MACHINE,
        bucket: Bucket | None = None,
    ) -> None:
        if not root.is_dir():
            raise StoreError(f"{root}: there is no such folder. Name the store with --store or --config")
        self.root = root
        self.now_s = now_s
        self.anchor = anchor
        self.look_in = tuple(look_in)
        self.machine = machine
        self.bucket = bucket  # that the store was fetched from
        self.limits = limits or (Limits.configured(settings) if settings else Limits.loosest())
        self.in_force_since = self._find_start(settings)
        self._imported_at = dict(self._find_imports())
        self._kept: dict[str, Table] = {}
        self._kept_rows = 0
        self._unreadable: dict[str, str] = {}
        self.nodes = self._gather(progress)
        self.vocabulary = cache(self._read_vocabulary)

    @property
    def row_count(self) -> int:
        """Count the rows about requests; a vocabulary holds none."""
        return sum(table.row_count for table in self.tables("hot", "hits", "daily"))

    @property
    def is_copy(self) -> bool:
        """Tell whether the files lost their times when they were copied here: then times and modes say nothing."""
        tables = [node for node in self.nodes if node.is_table]
        return bool(tables) and all(node.mtime_ns % (HOUR_S * 10**9) for node in tables)

    def limits_on(self, place: Place) -> Limits:
        """Give the limits of the rows in a place. What was written before the configuration came into force had others.

        A day's rows are written from its first second on, but for an imported day, which is as old as its import.
        """
        if place.day is None or self.in_force_since is None:
            return self.limits
        written_s = self._imported_at.get((place.site, place.day), day_start(place.day))
        return Limits.loosest() if written_s < self.in_force_since else self.limits

    def is_imported(self, place: Place) -> bool:
        """Tell whether the ledger says that a place's day was imported."""
        return place.day is not None and (place.site, place.day) in self._imported_at

    def tables(self, *tiers: Tier) -> Iterator[Table]:
        """Give the tables of some tiers that can be read, unfinished ones included."""
        for node in self._table_nodes(*tiers):
            if table := self._table(node):
                yield table

    def unread(self, *tiers: Tier) -> Iterator[str]:
        """Say which tables of some tiers can't be read, and why."""
        for node in self.nodes:
            if node.place and node.place.tier in tiers:
                if node.place.role == "aside":
                    yield f"{node.path} was set aside by the store as unreadable"
                elif node.path in self._unreadable:
                    yield f"{node.path} can't be read: {self._unreadable[node.path]}"

    def read(self, path: str) -> bytes | None:
        """Read a file whole; None where there is none that can be read."""
        try:
            return (self.root / path).read_bytes()
        except OSError:
            return None

    def _find_start(self, settings: Settings | None) -> int | None:
        """Find since when the configuration is in force, according to the ledger, which a check of its own verifies.

        Units: unix seconds; None when the ledger doesn't know this configuration as the present one
        """
        digest = digest_settings(settings) if settings else None
        changes = [
            (entry["details"].get("settings_sha256"), entry["time"])
            for entry in _parse_lines(self.read("ledger/ledger.jsonl") or b"")
            if entry["event"] == "configured"
        ]
        present = list(takewhile(lambda change: change[0] == digest, reversed(changes)))
        return int(present[-1][1]) if present else None

    def _find_imports(self) -> Iterator[tuple[tuple[str | None, date], int]]:
        """Give each day that was imported, with the time of its last import, according to the ledger.

        Units: unix seconds
        """
        for entry in _parse_lines(self.read("ledger/ledger.jsonl") or b""):
            if entry["event"] == "imported":
                with suppress(ValueError):
                    day = date.fromisoformat(str(entry["details"].get("date")))
                    yield (str(entry["details"].get("site")), day), entry["time"]

    def _read_vocabulary(self, site: str, day: date) -> dict[tuple[Value, Value], Word] | None:
        """Give what a day's vocabulary says, by column and value; None where there is none that can be read."""
        for table in self.tables("vocabulary"):
            place = table.place
            if (place.site, place.day, place.is_temporary) == (site, day, False):
                return {
                    (column, value): Word(origin, visits)
                    for column, value, origin, visits in table.distinct("column", "value", "origin", "visits")
                }
        return None

    def _gather(self, progress: Progress) -> tuple[Node, ...]:
        """Walk the tree and read what is in motion in it, anew until nothing goes away meanwhile."""
        for _ in range(TRIES):
            self._kept, self._kept_rows, self._unreadable = {}, 0, {}
            try:
                self.nodes = tuple(walk(self.root))
                nodes = sorted(self._table_nodes("hot", "hits", "daily", "vocabulary"), key=_is_lasting)
                for done, node in enumerate(nodes):
                    progress("reading", done, len(nodes))
                    self._read(node)
                return self.nodes
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"{self.root} can't be read ({error.strerror}). Run as the store's owner") from None
        raise StoreError(f"{self.root} changes all the time. Try again, or audit a copy")

    def _table_nodes(self, *tiers: Tier) -> list[Node]:
        return [node for node in self.nodes if node.is_table and node.place and node.place.tier in tiers]

    def _table(self, node: Node) -> Table | None:
        if node.path in self._unreadable:
            return None
        if node.path in self._kept:
            return self._kept[node.path]
        try:
            return self._read(node)
        except FileNotFoundError:
            self._unreadable[node.path] = "it went away meanwhile"
            return None

    def _read(self, node: Node) -> Table | None:
        if node.place is None:
            return None
        try:
            table = self._parse(node, node.place)
        except BrokenParquet as error:
            self._unreadable[node.path] = str(error)
            return None
        except PermissionError:
            self._unreadable[node.path] = "permission denied"
            return None
        if self._kept_rows + table.row_count <= MAX_KEPT_ROWS:
            self._kept[node.path] = table
            self._kept_rows += table.row_count
        return table

    def _parse(self, node: Node, place: Place) -> Table:
        """Read a table; one that is being written is read again until it is whole, or nobody writes it any more."""
        broken: BrokenParquet
        # Its time is looked at before it is read: by the time of its end it could be whole, unlike what was read.
        for _ in watch_node(self.root, node.path) if place.is_temporary else [node]:
            try:
                return parse_table(node, place, (self.root / node.path).read_bytes())
            except BrokenParquet as error:
                broken = error
        raise broken


def _is_lasting(node: Node) -> bool:
    """Tell whether a file is to stay; what is on its way is read first, before it goes."""
    return not (node.place and (node.place.role == "segment" or node.place.is_temporary))


def _parse_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Give the lines that look like entries of a ledger."""
    for line in content.splitlines():
        try:
            entry = json.loads(line)
            if (
                isinstance(entry["details"], dict)
                and isinstance(entry["time"], int)
                and isinstance(entry["event"], str)
            ):
                yield entry
        except (ValueError, KeyError, TypeError):
            continue
