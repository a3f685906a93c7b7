"""From hits to segments: rows collect in memory and are written every few seconds.

The values that the rows need are published first, so that no row ever stands on disk without its vocabulary. A segment
is written under a temporary name, synced and renamed: a crash loses what is in memory, and nothing else. What a full or
broken disk refuses stays in memory, up to a limit, and goes with the next flush.

`add` and `add_table` touch memory only; they may be called while `flush` is at work in another thread.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.model.coded import code_texts, encode
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.hit import Dropped, Hit
from anonproxy.model.vocabularies import ELAPSED_BUCKETS_S, MAX_STEP, DropReason, Origin
from anonproxy.model.vocabulary import GUARDED_COLUMNS, Entry, Vocabulary
from anonproxy.store.disk import publish
from anonproxy.store.layout import HOUR_S, SUFFIX, Day, Hour, hour_at
from anonproxy.store.tables import SCHEMAS, BrokenFile, build_table, read_rows, render_parquet

# About 100 MB in memory: several minutes of a busy site, so that a disk that is full for a moment loses nothing.
MAX_PENDING: Final = 100_000

# The finest resolution of stored times; an exact time joins with other logs.
FINEST_TIME_S: Final = 900

_CODED: Final = code_texts(SCHEMAS["hot"])
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
COUNTED_COLUMNS: Final = {
    **dict.fromkeys(("page", "entry", "exit", "search", "item", "download", "failing"), "route"),
    "broken": "referrer",
}

Entries = dict[tuple[str, str], Entry]
# Surrounds the writing of a segment, whose name and number of rows it is told.
Announce = Callable[[str, int], AbstractContextManager[None]]


@dataclass(slots=True)
class _Rows:
    """Rows of one hour, as they came: one by one or in tables."""

    hits: list[Hit] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.hits) + sum(len(table) for table in self.tables)

    def build(self) -> pa.Table:
        """Make one table of all."""
        return pa.concat_tables([*([build_table(self.hits)] if self.hits else []), *self.tables])

    def extend(self, newer: "_Rows") -> None:
        """Take the rows that came later."""
        self.hits += newer.hits
        self.tables += newer.tables


@dataclass(slots=True)
class _Batch:
    """Rows by site and hour, and the values that their sites could hold meanwhile."""

    rows: dict[tuple[str, int], _Rows] = field(default_factory=dict)
    entries: dict[str, Entries] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    count: int = 0


class SegmentWriter:
    """The only way into the store: it takes hits, and only those whose every value is in the vocabulary."""

    def __init__(
        self, root: Path, vocabulary: Vocabulary, announce: Announce = lambda _name, _rows: nullcontext()
    ) -> None:
        self._announce = announce
        self._root = root
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._batch = _Batch()
        self._writing = 0
        self._late = 0
        self.refused = 0  # rows that the disk refused at the last flush
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
            self._take(hit.site, hit.time // HOUR_S, 1).hits.append(hit)
        return None

    def add_table(self, hits: pa.Table) -> Counter[DropReason]:
        """Take hits for the next flush, and count by reason those that are not taken.

        Shape:   columns as in the hot tier
        """
        allowed = pass_gate(hits, self._vocabulary)
        dropped = Counter({_OUTSIDE.reason: hits.num_rows - allowed.num_rows})
        for (site, hours), rows in split_hours(allowed):
            with self._lock:
                room = max(0, MAX_PENDING - self.pending)
                if self._settled and (site, hour_at(self._root, site, hours * HOUR_S).day.date) in self._settled:
                    dropped[_LATE.reason] += rows.num_rows
                elif taken := min(room, rows.num_rows):
                    self._take(site, hours, taken).tables.append(rows.slice(0, taken))
                    dropped[_NO_ROOM.reason] += rows.num_rows - taken
                else:
                    dropped[_NO_ROOM.reason] += rows.num_rows
        return +dropped

    def _take(self, site: str, hours: int, count: int) -> _Rows:
        """Count rows as pending, keep the words that they may need, and say where they go."""
        batch = self._batch
        batch.count += count
        if batch.versions.get(site) != self._vocabulary.version:
            # Kept now: a value may leave the vocabulary, with its epoch, before the row is on disk.
            batch.versions[site] = self._vocabulary.version
            batch.entries.setdefault(site, {}).update(list_entries(self._vocabulary, site))
        return batch.rows.setdefault((site, hours), _Rows())

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

    def _write_segment(self, hour: Hour, rows: _Rows, entries: Entries) -> None:
        if not self._published.get(hour.day, frozenset()) >= entries.keys():
            self._published[hour.day] = publish_vocabulary(hour.day, entries)
        name, data = os.urandom(8).hex(), render_parquet(rows.build(), "hot")
        with self._announce(name, len(rows)):
            publish(self._root, hour.open / f"{name}{SUFFIX}", data, hour.starts_at)

    def _refuse(self, day: Day, count: int) -> None:
        with self._lock:
            self._settled.add((day.site, day.date))
            self._published.pop(day, None)
            self._late += count

    def _put_back(self, batch: _Batch) -> None:
        """Make what couldn't be written pending again."""
        with self._lock:
            self._writing, self.refused = 0, batch.count
            newer = self._batch
            for key, rows in batch.rows.items():
                rows.extend(newer.rows.get(key, _Rows()))
                newer.rows[key] = rows
                newer.entries[key[0]] = batch.entries[key[0]] | newer.entries.get(key[0], {})
            newer.count += batch.count


def list_entries(vocabulary: Vocabulary, site: str) -> Entries:
    """List the values that a site's rows may hold just now."""
    return {_key(entry): entry for entry in vocabulary.entries(site)}


def publish_vocabulary(day: Day, entries: Entries) -> frozenset[tuple[str, str]]:
    """Write the values that a day's rows may hold, and return them with those published before.

    A value that comes again keeps its first origin.

    Raises: OSError
    """
    path = day.file("vocabulary")
    published = read_vocabulary(path)
    merged = entries | published
    if len(merged) > len(published):
        publish(day.root, path, render_vocabulary(merged), day.starts_at)
    return frozenset(merged)


def read_vocabulary(path: Path) -> Entries:
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
        totals = read_rows(day.file("daily"), "daily")
    except (FileNotFoundError, BrokenFile):
        return
    kept = trim_entries(entries, totals)
    if len(kept) < len(entries):
        publish(day.root, day.file("vocabulary"), render_vocabulary(kept), day.starts_at)


def trim_entries(entries: Entries, totals: pa.Table) -> Entries:
    """Keep the values that a day's totals hold."""
    pairs = zip(totals["dimension"].to_pylist(), totals["value"].to_pylist(), strict=True)
    held = {(COUNTED_COLUMNS.get(dimension, dimension), value) for dimension, value in pairs}
    return {key: entry for key, entry in entries.items() if key in held}


def render_vocabulary(entries: Entries) -> bytes:
    """Render the values that a day's rows may hold as the bytes of a file."""
    table = pa.Table.from_pylist([entry._asdict() for entry in entries.values()], schema=SCHEMAS["vocabulary"])
    return render_parquet(table, "vocabulary")


def _key(entry: Entry) -> tuple[str, str]:
    return entry.column, entry.value


def pass_gate(hits: pa.Table, vocabulary: Vocabulary) -> pa.Table:
    """Keep the rows of which every value may be stored, as `SegmentWriter.add` does one by one.

    Shape:   columns as in the hot tier, texts as such or coded; of a table with others nothing may be stored
    """
    if not any(map(hits.schema.equals, (SCHEMAS["hot"], _CODED))):
        return SCHEMAS["hot"].empty_table()
    try:
        hits.validate(full=True)  # no text that isn't UTF-8
    except pa.ArrowInvalid:
        return hits.schema.empty_table()
    hits = _keep(hits, hits["time"].cast(pa.int64()), lambda time: time is not None and _is_time(time))
    gated = []
    for site, rows in _split(hits, hits["site"]):
        for name in GUARDED_COLUMNS:
            rows = _keep(rows, rows[name], partial(vocabulary.holds, site, name))
        gated.append(rows)
    return pa.concat_tables(gated) if gated else hits


def split_hours(hits: pa.Table) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Give the rows of each site and hour since 1970."""
    for hours, rows in _split(hits, pc.divide(hits["time"].cast(pa.int64()), HOUR_S)):
        for site, rows_of_site in _split(rows, rows["site"]):
            yield (site, hours), rows_of_site


def _split(rows: pa.Table, column: pa.ChunkedArray) -> Iterator[tuple[Any, pa.Table]]:
    coded = encode(column)
    for number, value in enumerate(coded.values):
        yield value, rows.filter(pc.equal(coded.codes, number)) if len(coded.values) > 1 else rows


def _keep(rows: pa.Table, column: pa.ChunkedArray, is_allowed: Callable[[Any], bool]) -> pa.Table:
    """Keep the rows whose value in a column is allowed; mostly that is all rows."""
    coded = encode(column)
    return rows if all(map(is_allowed, coded.values)) else rows.filter(coded.where(is_allowed))


def _is_storable(hit: Hit) -> bool:
    """Tell whether the columns that no vocabulary guards hold what they may."""
    return (
        all(type(value) in types for value, types in zip(hit, _TYPES, strict=True))
        and _is_time(hit.time)
        and hit.step in _STEPS
        and hit.elapsed_s in _ELAPSED
        and (hit.visit is None or 0 <= hit.visit < _MAX_VISIT)
        and _is_text("".join(value for value in hit if isinstance(value, str)))
    )


def _is_time(time_s: int) -> bool:
    return 0 <= time_s < _MAX_TIME_S and time_s % FINEST_TIME_S == 0


def _is_text(text: str) -> bool:
    """Tell whether a text can be written as UTF-8: surrogates stand for bytes that weren't."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
