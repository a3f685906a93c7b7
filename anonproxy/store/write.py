"""From hits to segments: rows collect in memory and are written every few seconds.

The values that the rows need are published first, so that no row ever stands on disk without its vocabulary. A segment
is written under a temporary name, synced and renamed: a crash loses what is in memory, and nothing else. What a full or
broken disk refuses stays in memory, up to a limit, and goes with the next flush.

`add` touches memory only; it may be called while `flush` is at work in another thread.
"""

import os
import threading
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa

from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.hit import Dropped, Hit
from anonproxy.model.vocabularies import ELAPSED_BUCKETS_S, MAX_STEP, DropReason, Origin
from anonproxy.model.vocabulary import Entry, Vocabulary
from anonproxy.store.disk import publish
from anonproxy.store.layout import HOUR_S, SUFFIX, Day, Hour, hour_at
from anonproxy.store.tables import SCHEMAS, BrokenFile, build_table, read_rows, render_parquet

# About 100 MB in memory: several minutes of a busy site, so that a disk that is full for a moment loses nothing.
MAX_PENDING: Final = 100_000

# The finest resolution of stored times; an exact time joins with other logs.
FINEST_TIME_S: Final = 900

_TYPES: Final = tuple(
    frozenset((str if column.type == pa.string() else int, *((type(None),) if column.nullable else ())))
    for column in HIT_COLUMNS
)
_STEPS: Final = frozenset((None, *range(MAX_STEP + 1)))
_ELAPSED: Final = frozenset((None, *ELAPSED_BUCKETS_S))
_MAX_VISIT: Final = 2**64
_MAX_TIME_S: Final = 2**33  # the year 2242; a later time is a mistake, and may not even have a date

_OUTSIDE: Final = Dropped(DropReason.OUTSIDE_VOCABULARY)
_NO_ROOM: Final = Dropped(DropReason.DISK)
_LATE: Final = Dropped(DropReason.LATE)

# Which column a dimension counts, where it isn't the one of its name.
_COLUMNS: Final = {"page": "route", "entry": "route", "exit": "route"}

_Entries = dict[tuple[str, str], Entry]


@dataclass(slots=True)
class _Batch:
    """Rows by site and hour, and the values that their sites could hold meanwhile."""

    rows: dict[tuple[str, int], list[Hit]] = field(default_factory=dict)
    entries: dict[str, _Entries] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    count: int = 0


class SegmentWriter:
    """The only way into the store: it takes hits, and only those whose every value is in the vocabulary."""

    def __init__(self, root: Path, vocabulary: Vocabulary) -> None:
        self._root = root
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._batch = _Batch()
        self._writing = 0
        self._late = 0
        self._settled: set[tuple[str, date]] = set()
        self._published: dict[Day, frozenset[tuple[str, str]]] = {}

    @property
    def pending(self) -> int:
        """Count the rows that are not on disk yet."""
        return self._batch.count + self._writing

    def add(self, hit: Hit) -> Dropped | None:
        """Take a hit for the next flush, or say why not."""
        if not _is_storable(hit) or not self._vocabulary.allows(hit):
            return _OUTSIDE
        with self._lock:
            if self.pending >= MAX_PENDING:
                return _NO_ROOM
            if self._settled and (hit.site, hour_at(self._root, hit.site, hit.time).day.date) in self._settled:
                return _LATE
            batch = self._batch
            batch.rows.setdefault((hit.site, hit.time // HOUR_S), []).append(hit)
            batch.count += 1
            if batch.versions.get(hit.site) != self._vocabulary.version:
                # Kept now: a value may leave the vocabulary, with its epoch, before the row is on disk.
                batch.versions[hit.site] = self._vocabulary.version
                entries = batch.entries.setdefault(hit.site, {})
                entries.update((_key(entry), entry) for entry in self._vocabulary.entries(hit.site))
        return None

    def flush(self) -> int:
        """Write what is pending, a segment for each site and hour, and return how many rows are on disk now.

        Rows that the disk refuses stay pending. Those whose day is settled meanwhile are counted as late.
        """
        with self._lock:
            batch, self._batch = self._batch, _Batch()
            self._writing = batch.count
        written = 0
        for (site, hours), rows in list(batch.rows.items()):
            hour = hour_at(self._root, site, hours * HOUR_S)
            try:
                if hour.day.is_settled:
                    self._refuse(hour.day, len(rows))
                else:
                    self._write_segment(hour, rows, batch.entries[site])
                    written += len(rows)
            except (OSError, MemoryError, pa.ArrowException):
                continue
            del batch.rows[site, hours]
            batch.count -= len(rows)
            self._writing -= len(rows)
        self._put_back(batch)
        return written

    def take_late(self) -> int:
        """Return how many rows were late at a flush since the last call; the caller counts them."""
        with self._lock:
            late, self._late = self._late, 0
        return late

    def drop_pending(self) -> int:
        """Forget what couldn't be written, and return how many rows it was."""
        with self._lock:
            count, self._batch = self._batch.count, _Batch()
        return count

    def _write_segment(self, hour: Hour, rows: list[Hit], entries: _Entries) -> None:
        if not self._published.get(hour.day, frozenset()) >= entries.keys():
            self._published[hour.day] = publish_vocabulary(hour.day, entries)
        segment = hour.open / f"{os.urandom(8).hex()}{SUFFIX}"
        publish(self._root, segment, render_parquet(build_table(rows), "hot"), hour.starts_at)

    def _refuse(self, day: Day, count: int) -> None:
        with self._lock:
            self._settled.add((day.site, day.date))
            self._published.pop(day, None)
            self._late += count

    def _put_back(self, batch: _Batch) -> None:
        """Make what couldn't be written pending again."""
        with self._lock:
            self._writing = 0
            newer = self._batch
            for key, rows in batch.rows.items():
                newer.rows[key] = rows + newer.rows.get(key, [])
                newer.entries[key[0]] = batch.entries[key[0]] | newer.entries.get(key[0], {})
            newer.count += batch.count


def publish_vocabulary(day: Day, entries: _Entries) -> frozenset[tuple[str, str]]:
    """Write the values that a day's rows may hold, and return them with those published before.

    A value that comes again keeps its first origin.

    Raises: OSError
    """
    path = day.file("vocabulary")
    published = read_vocabulary(path)
    merged = entries | published
    if len(merged) > len(published):
        publish(day.root, path, render_parquet(_vocabulary_table(merged), "vocabulary"), day.starts_at)
    return frozenset(merged)


def read_vocabulary(path: Path) -> _Entries:
    """Read a day's vocabulary; one that is missing or broken is empty.

    Raises: OSError
    """
    try:
        rows = read_rows(path, "vocabulary").to_pylist()
    except (FileNotFoundError, BrokenFile):
        return {}
    entries = (Entry(r["site"], r["column"], r["value"], Origin(r["origin"]), r["visits"]) for r in rows)
    return {_key(entry): entry for entry in entries}


def trim_vocabulary(day: Day) -> None:
    """Forget the values that only single rows of a day could hold: its totals are all that is left of it.

    Raises: OSError
    """
    entries = read_vocabulary(day.file("vocabulary"))
    try:
        totals = read_rows(day.file("daily"), "daily").to_pylist()
    except (FileNotFoundError, BrokenFile):
        return
    held = {(_COLUMNS.get(row["dimension"], row["dimension"]), row["value"]) for row in totals}
    kept = {key: entry for key, entry in entries.items() if key in held}
    if len(kept) < len(entries):
        publish(day.root, day.file("vocabulary"), render_parquet(_vocabulary_table(kept), "vocabulary"), day.starts_at)


def _vocabulary_table(entries: _Entries) -> pa.Table:
    return pa.Table.from_pylist([entry._asdict() for entry in entries.values()], schema=SCHEMAS["vocabulary"])


def _key(entry: Entry) -> tuple[str, str]:
    return entry.column, entry.value


def _is_storable(hit: Hit) -> bool:
    """Tell whether the columns that no vocabulary guards hold what they may."""
    return (
        all(type(value) in types for value, types in zip(hit, _TYPES, strict=True))
        and 0 <= hit.time < _MAX_TIME_S
        and hit.time % FINEST_TIME_S == 0
        and hit.step in _STEPS
        and hit.elapsed_s in _ELAPSED
        and (hit.visit is None or 0 <= hit.visit < _MAX_VISIT)
        and _is_text("".join(value for value in hit if isinstance(value, str)))
    )


def _is_text(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: surrogates stand for bytes that weren't."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
