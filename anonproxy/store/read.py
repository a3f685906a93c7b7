"""The store as SQL: the views `hits`, `daily` and `vocabulary` of a DuckDB in memory that can do nothing but read them.

    hits        every row there is, settled or hot; visit, step and elapsed_s are null in settled ones.
                Beside the columns of the table: `date`, by which whole files are passed over, and `is_pageview`.
                Rows of hours with few visits stand at 00:00 once they are settled: count hours in `daily`.
    daily       the totals of settled days, and those of the days that are still hot, made by the same SQL
    vocabulary  what open columns may hold, by date

Settled files are read when a query needs them. Hot ones change all the time and are read when connecting.
"""

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from anonproxy.model.errors import StoreError
from anonproxy.model.settings import PrivacySettings
from anonproxy.store import sql
from anonproxy.store.layout import Day, Kind, days
from anonproxy.store.tables import SCHEMAS, BrokenFile, read_rows, verify_footer

DEFAULT_K: Final[int] = PrivacySettings().k

# A merge takes milliseconds and happens a few times an hour; to meet one five times in a row is no accident.
_ATTEMPTS: Final = 5

type Identity = tuple[int, int, int]


@dataclass(slots=True)
class Store:
    """A store to read from. It may be written to meanwhile."""

    root: Path
    k: int
    unreadable: set[Path] = field(default_factory=set)  # files that were left out, being broken
    _verified: dict[Path, Identity] = field(default_factory=dict)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open the views, as the store is now.

        Raises: StoreError when it was written by a newer version, or can't be read
        """
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
                    return _open_views(hot, settled, self.k)
            except FileNotFoundError:
                continue
            except PermissionError:
                raise StoreError(f"{self.root}: no right to read. Read as the user that runs anonproxy") from None
        raise StoreError(f"{self.root}: changes faster than it can be read. Try again")

    def _read_hot(self, files: list[tuple[Day, Path]]) -> pa.Table:
        tables = [sql.add_date(SCHEMAS["hot"].empty_table(), date.min)]
        for day, path in files:
            try:
                tables.append(sql.add_date(read_rows(path, "hot"), day.date))
            except BrokenFile:
                self.unreadable.add(path)
        return pa.concat_tables(tables)

    def _open_settled(self, kind: Kind, candidates: list[Day]) -> ds.Dataset:
        """Open files as one dataset that knows site and date of each by its place, so that most needn't be opened."""
        found = [day for day in candidates if self._is_readable(day.file(kind))]
        return ds.FileSystemDataset.from_paths(
            [str(day.file(kind)) for day in found],
            schema=SCHEMAS[kind] if kind == "daily" else SCHEMAS[kind].append(pa.field("date", pa.date32())),
            format=ds.ParquetFileFormat(),
            filesystem=LocalFileSystem(),
            partitions=[
                (ds.field("date") == pa.scalar(day.date, pa.date32())) & (ds.field("site") == day.site) for day in found
            ],
        )

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


def open_store(root: Path | str, k: int = DEFAULT_K) -> Store:
    """Open a store to read from. Days that are still hot are counted with k, like those that are settled.

    Raises: StoreError when there is none
    """
    if not Path(root).is_dir():
        raise StoreError(f"{root}: nothing there yet. `anonproxy run` makes it; or correct the path")
    return Store(Path(root), k)


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


def _open_views(hot: pa.Table, settled: dict[Kind, ds.Dataset], k: int) -> duckdb.DuckDBPyConnection:
    connection = sql.connect(hot)
    for kind, dataset in settled.items():
        connection.register(f"settled_{kind}", dataset)
    connection.sql(sql.read_sql("marginals"), params={"k": k}).create_view("hot_daily")
    connection.execute(sql.read_sql("read_views"))
    sql.lock(connection)
    return connection
