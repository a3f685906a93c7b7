"""An epoch of an old log: its rows are gathered, whatever their order, and become hits once all of them are there.

What `batch` walks row by row is counted here over the whole epoch. The rows of a session in the order of their times
are cut where a visit ends; and a value is in clear from the first row on once k visitors of the epoch have shown it.
So the hits are those of the same requests one by one in the order of their times, when all have been counted before,
whatever the order of the lines and of the files.

Gathered is what the rules made of the requests: numbers of values, and those values of which the epoch itself is to
decide. They stand in memory until the epoch is over, together with its key.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.anonymize.context import Context
from anonproxy.anonymize.rules import Offer
from anonproxy.ingest.batch import (
    HOT_SCHEMA,
    OPEN_COLUMNS,
    Session,
    apply_rules,
    bucket_all_elapsed,
    walk_visits,
)
from anonproxy.ingest.coded import join
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.settings import PrivacySettings
from anonproxy.model.vocabularies import MAX_STEP, DropReason

MARK_TYPES: Final = {"visit": pa.uint64(), "step": pa.uint8(), "elapsed_s": pa.int64(), "visitor": pa.uint64()}
CLOSED_COLUMNS: Final = tuple(name for name in HOT_SCHEMA.names if name not in {*MARK_TYPES, *OPEN_COLUMNS})
NUMBERED: Final = (*CLOSED_COLUMNS, *OPEN_COLUMNS, "session", "next_session")


class Prepared(NamedTuple):
    """Requests after the rules. Nothing of it is ever written: it holds what sessions are tagged by.

    Shape: `rows` with the number of a value in each column of NUMBERED, and the columns time_s and is_pageview
    """

    rows: pa.Table
    values: Mapping[str, tuple[Any, ...]]
    dropped: Mapping[DropReason, int]

    def filter(self, mask: pa.Array) -> "Prepared":
        """Keep some rows; who was dropped is counted once, by whoever prepared them."""
        return Prepared(self.rows.filter(mask), self.values, {})


def prepare(requests: pa.Table, context: Context) -> Prepared:
    """Apply the rules to requests of any time.

    Shape: requests in columns of RAW_SCHEMA without nulls, those that a log doesn't have left out
    """
    done = apply_rules(requests, context)
    columns = {name: done.columns[name] for name in (*CLOSED_COLUMNS, "session", "next_session")}
    columns |= {name: join([done.columns["site"], done.columns[name]]) for name in OPEN_COLUMNS}
    rows = {name: columns[name].codes.cast(pa.int32()) for name in NUMBERED}
    rows["time_s"] = done.time_s.values
    rows["is_pageview"] = done.columns["is_pageview"].gather(pa.bool_())
    return Prepared(pa.table(rows), {name: tuple(columns[name].values) for name in NUMBERED}, done.dropped)


class Epoch:
    """The rows of one epoch, and the key that it has for itself.

    `close` destroys the key and forgets the rows.
    """

    def __init__(self, privacy: PrivacySettings, starts_in_s: float) -> None:
        self._ring = KeyRing(privacy, starts_in_s)
        self._visits = Visits(self._ring, privacy.visit_idle_min * 60, privacy.visit_max_h * 3600)
        self._numbers: dict[str, dict[Hashable, int]] = {name: {} for name in NUMBERED}
        self._tables: list[pa.Table] = []

    def __repr__(self) -> str:
        return "Epoch(…)"

    def add(self, prepared: Prepared) -> None:
        """Gather rows."""
        columns = {}
        for name in NUMBERED:
            numbers = self._numbers[name]
            renumbered = [numbers.setdefault(value, len(numbers)) for value in prepared.values[name]]
            columns[name] = pa.chunked_array([pa.array(renumbered, pa.int32())]).take(prepared.rows[name])
        self._tables.append(pa.table({**columns, **{name: prepared.rows[name] for name in ("time_s", "is_pageview")}}))

    def close(self, context: Context) -> pa.Table:
        """Make hits of all rows, in their order, and destroy the key.

        What the epoch admitted stays in the context's vocabulary until that forgets it.
        """
        try:
            rows = pa.concat_tables(self._tables).combine_chunks()
            rows = rows.append_column("place", pa.array(range(rows.num_rows), pa.int64()))
            values = {name: tuple(numbers) for name, numbers in self._numbers.items()}
            return self._make_hits(rows, values, context)
        finally:
            self._tables.clear()
            self._numbers.clear()
            self._visits.forget()
            self._ring.wipe()

    def _make_hits(self, rows: pa.Table, values: Mapping[str, tuple[Any, ...]], context: Context) -> pa.Table:
        has_heirs = any(values["next_session"])
        marks = (self._walk_visits if has_heirs else self._cut_visits)(rows, values)
        arrays = {
            "visit": marks["visit"],
            "step": marks["step"],
            "elapsed_s": bucket_all_elapsed(marks["elapsed_s"]),
            **{name: admit_all(name, rows[name], values[name], marks["visitor"], context) for name in OPEN_COLUMNS},
        }
        for name in CLOSED_COLUMNS:
            type_ = HOT_SCHEMA.field(name).type
            arrays[name] = pa.chunked_array([pa.array(values[name], type_)]).take(rows[name])
        return pa.table([arrays[name] for name in HOT_SCHEMA.names], schema=HOT_SCHEMA)

    def _walk_visits(self, rows: pa.Table, values: Mapping[str, tuple[Any, ...]]) -> dict[str, pa.Array]:
        """Place rows in visits one by one, since a visit may go on under another session."""
        rows = rows.sort_by([("time_s", "ascending"), ("place", "ascending")])
        sessions, next_sessions = (
            map(values[name].__getitem__, rows[name].to_pylist()) for name in ("session", "next_session")
        )
        times_s, are_pages = rows["time_s"].to_pylist(), rows["is_pageview"].to_pylist()
        marks, _ = walk_visits(sessions, next_sessions, times_s, are_pages, self._visits)
        return put_back({name: pa.array(getattr(marks, name), type_) for name, type_ in MARK_TYPES.items()}, rows, rows)

    def _cut_visits(self, rows: pa.Table, values: Mapping[str, tuple[Any, ...]]) -> dict[str, pa.Array]:
        """Place rows in visits all at once: sorted by session and time, a visit is a piece."""
        sessions: tuple[Session | None, ...] = values["session"]
        tags = [session and self._visits.tag(*session) for session in sessions]
        has_visit = pa.chunked_array([pa.array([tag is not None for tag in tags], pa.bool_())]).take(rows["session"])
        placed = rows.select(["session", "time_s", "is_pageview", "place"]).filter(has_visit)
        placed = placed.sort_by([("session", "ascending"), ("time_s", "ascending"), ("place", "ascending")])
        session, time_s, is_page = (placed[name].combine_chunks() for name in ("session", "time_s", "is_pageview"))
        starts = cut(session, time_s, self._visits.idle_s, self._visits.max_s)
        piece = number_pieces(starts)
        start_s = time_s.filter(starts)
        numbers = [
            self._visits.number(tags[number], first_s)
            for number, first_s in zip(session.filter(starts).to_pylist(), start_s.to_pylist(), strict=True)
        ]
        pages = pc.cumulative_sum(is_page.cast(pa.int64()))
        before = pc.subtract(pages.filter(starts), is_page.filter(starts).cast(pa.int64()))
        step = pc.min_element_wise(pc.subtract(pages, before.take(piece)), MAX_STEP)
        visitors = pa.array([tag and self._visits.visitor(tag) for tag in tags], pa.uint64())
        marks = {
            "visit": pa.array(numbers, pa.uint64()).take(piece),
            "step": step.cast(pa.uint8()),
            "elapsed_s": pc.floor(pc.subtract(time_s, start_s.take(piece))).cast(pa.int64()),
            "visitor": visitors.take(session),
        }
        return put_back(marks, placed, rows)


def put_back(marks: Mapping[str, pa.Array], placed: pa.Table, rows: pa.Table) -> dict[str, pa.Array]:
    """Bring what belongs to some rows into the order of all rows; the others get nothing."""
    back = pc.inverse_permutation(placed["place"].combine_chunks(), max_index=rows.num_rows - 1)
    return {name: column.take(back) for name, column in marks.items()}


def cut(session: pa.Array, time_s: pa.Array, idle_s: float, max_s: float) -> pa.Array:
    """Tell of rows that are sorted by session and time which of them begin a visit."""
    if not len(session):
        return pa.array([], pa.bool_())
    is_first = pc.fill_null(pc.not_equal(pc.pairwise_diff(session), 0), True)
    starts = pc.or_(is_first, pc.fill_null(pc.greater(pc.pairwise_diff(time_s), idle_s), True))
    while True:  # once for each time that a visit may be followed by another one without a pause
        start_s = time_s.filter(starts).take(number_pieces(starts))
        is_over = pc.greater_equal(pc.subtract(time_s, start_s), max_s)
        if not pc.any(is_over).as_py():
            return starts
        was_over = pa.concat_arrays([pa.array([False]), is_over[:-1]])
        starts = pc.or_(starts, pc.and_not(is_over, was_over))


def number_pieces(starts: pa.Array) -> pa.Array:
    """Give the rows of a piece its number; a piece begins where it says so."""
    return pc.subtract(pc.cumulative_sum(starts.cast(pa.int64())), 1)


def admit_all(
    column: str, codes: pa.ChunkedArray, offered: tuple[tuple[str, Offer], ...], visitors: pa.Array, context: Context
) -> pa.Array:
    """Choose what is stored of an open column, after all visitors of the epoch have been counted."""
    counts = count_visitors(codes, offered, visitors)
    shared = {
        site: context.admission.admit_counted(site, column, of_site) for site, of_site in group_by_site(counts).items()
    }
    stored = [
        offer.choose([value for value in offer.candidates if value in shared.get(site, ())]) for site, offer in offered
    ]
    return pa.chunked_array([pa.array(stored, pa.string())]).take(codes)


def count_visitors(
    codes: pa.ChunkedArray, offered: tuple[tuple[str, Offer], ...], visitors: pa.Array
) -> dict[tuple[str, str], int]:
    """Count the distinct visitors of each value that is offered, by site and value."""
    numbers: dict[tuple[str, str], int] = {}
    candidates = [
        [numbers.setdefault((site, value), len(numbers)) for value in offer.candidates] for site, offer in offered
    ]
    shown = pa.table({"offer": codes, "visitor": visitors}).filter(pc.is_valid(visitors))
    shown = shown.group_by(["offer", "visitor"]).aggregate([])
    lists = pa.array(candidates, pa.list_(pa.int32())).take(shown["offer"].combine_chunks())
    pairs = pa.table(
        {
            "value": pc.list_flatten(lists),
            "visitor": shown["visitor"].combine_chunks().take(pc.list_parent_indices(lists)),
        }
    )
    counted = pairs.group_by("value").aggregate([("visitor", "count_distinct")])
    names = tuple(numbers)
    return {
        names[value]: count
        for value, count in zip(
            counted["value"].to_pylist(), counted["visitor_count_distinct"].to_pylist(), strict=True
        )
    }


def group_by_site(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Give each site its own counts."""
    grouped: dict[str, dict[str, int]] = {}
    for (site, value), count in counts.items():
        grouped.setdefault(site, {})[value] = count
    return grouped
