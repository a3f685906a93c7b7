"""The store to read from: as SQL, the views of a DuckDB in memory that can do nothing else; or as pyarrow datasets.

    hits        every row there is, settled or hot; visit, step and elapsed_s are null in settled ones.
                Beside the columns of the table: `date`, by which whole files are passed over, and in SQL `is_pageview`.
                Rows of hours with few visits stand at 00:00 once they are settled: count hours in `daily`.
    daily       the totals of settled days, and those of the days that are still hot, counted in the same way
    vocabulary  what open columns may hold, by date

Settled files are read when a query needs them. Hot ones change all the time and are read when connecting.
A published store (`publish`) has no hot rows, and goes by its manifest.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, Literal, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem, LocalFileSystem

from anonproxy.model.errors import StoreError
from anonproxy.model.settings import PrivacySettings
from anonproxy.store import sql
from anonproxy.store.fold import count_days
from anonproxy.store.layout import Day, Kind, days
from anonproxy.store.manifest import MANIFEST, parse_manifest
from anonproxy.store.objects import Objects, is_address, open_objects
from anonproxy.store.tables import SCHEMAS, BrokenFile, read_rows, verify_footer

DEFAULT_K: Final[int] = PrivacySettings().k

# A merge takes milliseconds and happens a few times an hour. Those of several sites follow each other, and a busy
# machine reads slowly, so a few in a row are no surprise; so many are no accident.
_ATTEMPTS: Final = 50

_DATE: Final = pa.field("date", pa.date32())
# Settled rows have the columns of hot ones too, all null.
_SCHEMAS: Final[dict[Kind, pa.Schema]] = {
    "hits": SCHEMAS["hot"].append(_DATE),
    "daily": SCHEMAS["daily"],
    "vocabulary": SCHEMAS["vocabulary"].append(_DATE),
}

type View = Literal["hits", "daily", "vocabulary"]
type Identity = tuple[int, int, int]


class Contents(NamedTuple):
    """What a store holds at one time."""

    hot: pa.Table
    settled: dict[Kind, ds.Dataset]


class Version(NamedTuple):
    """What is another once the store has changed: `settled` about once a day, `hot` with every request."""

    settled: Hashable
    hot: Hashable
    first_hot: date  # Days before it hold settled rows only.


@dataclass(slots=True)
class Store(ABC):
    """A store to read from. It may be written to meanwhile."""

    k: int
    unreadable: set[Path] = field(default_factory=set, init=False)  # files that were left out, being broken

    def connect(self, memory_mb: int | None = None) -> duckdb.DuckDBPyConnection:
        """Open the views, as the store is now, for queries that may need so much memory, or most of the machine's.

        Raises: StoreError when it was written by a newer version, or can't be read
        """
        return _open_views(self._read(), self.k, memory_mb)

    def renew(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Read hot rows again into open views. Their settled days stay those of `connect`.

        Raises: StoreError when they can't be read
        """
        _view_hot(connection, self._read_hot_alone(), self.k)

    def dataset(self, name: View) -> ds.Dataset:
        """Open one view as a pyarrow dataset, as the store is now.

        Raises: StoreError when it was written by a newer version, or can't be read
        """
        hot, settled = self._read()
        if name == "daily":
            hot = count_days(hot, self.k)
        recent = {"hits": hot, "daily": hot, "vocabulary": _SCHEMAS["vocabulary"].empty_table()}[name]
        return ds.dataset([settled[name], ds.dataset(recent.cast(_SCHEMAS[name]))])

    @abstractmethod
    def version(self) -> Version:
        """Return what is another once the store has changed.

        Raises: StoreError when it can't be read
        """

    @abstractmethod
    def _read(self) -> Contents: ...

    @abstractmethod
    def _read_hot_alone(self) -> pa.Table: ...


@dataclass(slots=True)
class FolderStore(Store):
    """A store in a folder."""

    root: Path
    _verified: dict[Path, Identity] = field(default_factory=dict, init=False)

    def version(self) -> Version:
        """Return the files of all days."""
        kinds: tuple[Kind, ...] = ("hits", "daily")
        for _ in range(_ATTEMPTS):
            try:
                files = [day.file(kind) for kind in kinds for day in days(self.root, kind)]
                settled = tuple((path, _identify_if_any(path)) for path in files)
                hot = read_snapshot(self.root)
            except FileNotFoundError:
                continue
            except PermissionError:
                raise self._no_right() from None
            first_hot = min((day.date for day in hot.live), default=date.max)
            return Version((settled, hot.live), (hot.merged, hot.segments), first_hot)
        return Version(object(), object(), date.min)  # another than any before or after

    def _read(self) -> Contents:
        for _ in range(_ATTEMPTS):
            self.unreadable.clear()
            try:
                before = read_snapshot(self.root)
                hot = self._read_hot(before.hot)
                settled: dict[Kind, ds.Dataset] = {
                    "hits": self._open_settled("hits", days(self.root, "hits")),
                    "daily": self._open_settled("daily", [d for d in days(self.root, "daily") if d not in before.live]),
                    "vocabulary": self._open_settled("vocabulary", days(self.root, "vocabulary")),
                }
                if before.still_holds(read_snapshot(self.root)):
                    return Contents(hot, settled)
            except FileNotFoundError:
                continue
            except PermissionError:
                raise self._no_right() from None
        raise StoreError(f"{self.root}: changes faster than it can be read. Try again")

    def _no_right(self) -> StoreError:
        return StoreError(f"{self.root}: no right to read. Read as the user that runs anonproxy")

    def _read_hot_alone(self) -> pa.Table:
        for _ in range(_ATTEMPTS):
            try:
                before = read_snapshot(self.root)
                hot = self._read_hot(before.hot)
                if before.still_holds(read_snapshot(self.root)):
                    return hot
            except FileNotFoundError:
                continue
        raise StoreError(f"{self.root}: changes faster than it can be read. Try again")

    def _read_hot(self, files: list[tuple[Day, Path]]) -> pa.Table:
        tables = [_no_hot_rows()]
        for day, path in files:
            try:
                tables.append(sql.add_date(read_rows(path, "hot"), day.date))
            except BrokenFile:
                self.unreadable.add(path)
        return pa.concat_tables(tables)

    def _open_settled(self, kind: Kind, candidates: list[Day]) -> ds.Dataset:
        found = [(day, str(day.file(kind))) for day in candidates if self._is_readable(day.file(kind))]
        return _open_files(kind, found, LocalFileSystem())

    def _is_readable(self, path: Path) -> bool:
        """Tell whether a file is whole and ours; each file is looked at once."""
        try:
            identity = identify(path)
            if self._verified.get(path) != identity:
                verify_footer(path)
                self._verified[path] = identity
        except FileNotFoundError:  # its day was purged a moment ago
            return False
        except BrokenFile:
            self.unreadable.add(path)
            return False
        return True


@dataclass(slots=True)
class PublishedStore(Store):
    """A store in an object store, as its manifest has it. Objects are whole by nature, so none is opened beforehand."""

    objects: Objects

    def version(self) -> Version:
        """Return the manifest."""
        return Version(self._read_manifest(), None, date.max)

    def _read(self) -> Contents:
        manifest = parse_manifest(self._read_manifest())
        kinds: tuple[Kind, ...] = ("hits", "daily", "vocabulary")
        return Contents(_no_hot_rows(), {kind: self._open_settled(kind, manifest.days(kind)) for kind in kinds})

    def _read_hot_alone(self) -> pa.Table:
        return _no_hot_rows()

    def _read_manifest(self) -> bytes:
        try:
            return self.objects.read(MANIFEST)
        except FileNotFoundError:
            raise StoreError(
                f"{self.objects.prefix}: nothing published there yet. `anonproxy run` does it; or correct the address"
            ) from None
        except OSError:
            raise StoreError(
                f"{self.objects.prefix}: the object store doesn't answer, or not to these credentials. "
                "Check endpoint_override and the AWS_ variables"
            ) from None

    def _open_settled(self, kind: Kind, found: list[tuple[Day, str]]) -> ds.Dataset:
        files = [(day, self.objects.locate(name)) for day, name in found]
        return _open_files(kind, files, self.objects.filesystem)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which files held the hot rows at one time."""

    live: frozenset[Day]
    hot: list[tuple[Day, Path]]
    merged: frozenset[tuple[Path, Identity]]
    segments: frozenset[Path]

    def still_holds(self, later: "Snapshot") -> bool:
        """Tell whether nothing was merged or settled since; new segments don't matter."""
        return (self.live, self.merged) == (later.live, later.merged) and self.segments <= later.segments


def open_store(path: Path | str, k: int = DEFAULT_K) -> Store:
    """Open a store to read from. Days that are still hot are counted with k, like those that are settled.

    Raises: StoreError when there is none
    """
    if is_address(path):
        return PublishedStore(k, open_objects(str(path)))
    if not Path(path).is_dir():
        raise StoreError(f"{path}: nothing there yet. `anonproxy run` makes it; or correct the path")
    return FolderStore(k, Path(path))


def read_snapshot(root: Path) -> Snapshot:
    """List the files that hold hot rows.

    Raises: FileNotFoundError when one goes away meanwhile
    """
    live = [day for day in days(root, "hot") if day.is_live]
    hot = [(day, path) for day in live for hour in day.hours() for path in hour.files()]
    merged = frozenset((path, identify(path)) for day, path in hot if path.parent == day.folder("hot"))
    segments = frozenset(path for day, path in hot if path.parent != day.folder("hot"))
    return Snapshot(frozenset(live), hot, merged, segments)


def identify(path: Path) -> Identity:
    """Return what changes when a file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_ctime_ns


def _identify_if_any(path: Path) -> Identity | None:
    try:
        return identify(path)
    except FileNotFoundError:
        return None


def _no_hot_rows() -> pa.Table:
    return sql.add_date(SCHEMAS["hot"].empty_table(), date.min)


def _open_files(kind: Kind, files: list[tuple[Day, str]], filesystem: FileSystem) -> ds.Dataset:
    """Open files as one dataset that knows site and date of each by its place, so that most needn't be opened."""
    return ds.FileSystemDataset.from_paths(
        [path for _, path in files],
        schema=_SCHEMAS[kind],
        format=ds.ParquetFileFormat(),
        filesystem=filesystem,
        partitions=[
            (ds.field("date") == pa.scalar(day.date, pa.date32())) & (ds.field("site") == day.site) for day, _ in files
        ],
    )


def _view_hot(connection: duckdb.DuckDBPyConnection, hot: pa.Table, k: int) -> None:
    connection.register("hot_rows", hot)
    connection.register("hot_daily", count_days(hot, k))


def _open_views(contents: Contents, k: int, memory_mb: int | None) -> duckdb.DuckDBPyConnection:
    connection = sql.connect(contents.hot)
    for kind, dataset in contents.settled.items():
        connection.register(f"settled_{kind}", dataset)
    _view_hot(connection, contents.hot, k)
    connection.execute(sql.read_sql("read_views"))
    sql.lock(connection, memory_mb)
    return connection
