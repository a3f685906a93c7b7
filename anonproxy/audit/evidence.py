"""The evidence: one look at a store's tree, and its files read page by page, for every check to share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from anonproxy.audit.limits import Limits
from anonproxy.audit.parquet_pages import BrokenParquet
from anonproxy.audit.tables import Table, Value, parse_table
from anonproxy.audit.tree import HOUR_S, Node, Tier, walk
from anonproxy.model.errors import StoreError
from anonproxy.model.settings import Settings

# A proxy at work renames files while we look: a look in which something went away is thrown away.
TRIES = 10

# About 25 bytes a row: 200 MB. What is beyond is read again by each check.
MAX_KEPT_ROWS = 8_000_000

Progress = Callable[[str, int, int], None]


def ignore_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


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
        self, root: Path, now_s: float, settings: Settings | None = None, progress: Progress = ignore_progress
    ) -> None:
        self.root = root
        self.now_s = now_s
        self.limits = Limits.configured(settings) if settings else Limits.loosest()
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
        """Read a file whole; None where there is none.

        Raises: OSError
        """
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None

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
        for attempt in range(TRIES):
            self._kept, self._kept_rows, self._unreadable = {}, 0, {}
            try:
                self.nodes = tuple(walk(self.root))
                moving = self._table_nodes("hot", "hits", "daily", "vocabulary")
                for done, node in enumerate(moving):
                    progress("reading", done, len(moving))
                    self._read(node)
                return self.nodes
            except FileNotFoundError:
                if not self.root.exists() or attempt == TRIES - 1:
                    break
            except OSError as error:
                raise StoreError(f"{self.root} can't be read ({error.strerror}). Run as the store's owner") from None
        if not self.root.exists():
            raise StoreError(f"{self.root}: there is no such folder. Name the store with --store or --config")
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
            table = parse_table(node, node.place, (self.root / node.path).read_bytes())
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
