"""An epoch of an old log: its rows are gathered, whatever their order, and become hits once all of them are there.

What `batch` walks row by row is counted here over the whole epoch. The rows of a session in the order of their times
are cut where a visit ends; and a value is in clear from the first row on once k visitors of the epoch have shown it.
So the hits are those of the same requests one by one in the order of their times, when all have been counted before,
whatever the order of the lines and of the files.

Gathered is what the rules made of the requests: numbers of values, and those values of which the epoch itself is to
decide. They stand in memory until the epoch is over. Sessions and visits are numbered by their places, so there is no
hash of a session and no key; but where visits go on under other sessions they are walked with a key of the epoch's own,
random and destroyed at once. Neither kind of number leaves the process.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.anonymize.context import Context
from anonproxy.anonymize.rules import Offer
from anonproxy.ingest.batch import (
    HOT_SCHEMA,
    OPEN_COLUMNS,
    VISIT_COLUMNS,
    Session,
    apply_rules,
    bucket_all_elapsed,
    walk_visits,
)
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.coded import CODED_TEXT, Coded, code_texts, join
from anonproxy.model.settings import PrivacySettings
from anonproxy.model.vocabularies import MAX_STEP, DropReason

MARK_TYPES: Final = {"visit": pa.uint64(), "step": pa.uint8(), "elapsed_s": pa.int64(), "visitor": pa.uint64()}
CODED_SCHEMA: Final = code_texts(HOT_SCHEMA)
CLOSED_COLUMNS: Final = tuple(name for name in HOT_SCHEMA.names if name not in {*MARK_TYPES, *OPEN_COLUMNS})
NUMBERED: Final = (*OPEN_COLUMNS, "session", "next_session")


class Prepared(NamedTuple):
    """Requests after the rules. Nothing of it is ever written: it holds what sessions are known by.

    Shape: `rows` with the closed columns of the hot tier, the number of a value in each column of NUMBERED, and the
           columns time_s and is_pageview
    """

    rows: pa.Table
    values: Mapping[str, Sequence[Any]]
    dropped: Mapping[DropReason, int]

    def filter(self, mask: pa.Array) -> "Prepared":
        """Keep some rows, and the values that are left; who was dropped is counted by whoever prepared them."""
        rows, values = self.rows.filter(mask), {}
        for name in NUMBERED:
            left = rows[name].combine_chunks().dictionary_encode()
            rows = rows.set_column(rows.column_names.index(name), name, left.indices)
            values[name] = [self.values[name][number] for number in left.dictionary.to_pylist()]
        return Prepared(rows, values, {})


def prepare(requests: pa.Table, context: Context) -> Prepared:
    """Apply the rules to requests of any time.

    Shape: requests in columns of RAW_SCHEMA without nulls, those that a log doesn't have left out
    """
    done = apply_rules(requests, context)
    numbered = {name: join([done.columns["site"], done.columns[name]]).narrow() for name in OPEN_COLUMNS}
    numbered |= {name: done.columns[name].narrow() for name in ("session", "next_session")}
    rows = {name: done.columns[name].gather(CODED_SCHEMA.field(name).type) for name in CLOSED_COLUMNS}
    rows |= {name: column.codes.cast(pa.int32()) for name, column in numbered.items()}
    rows["time_s"] = done.time_s
    rows["is_pageview"] = done.columns["is_pageview"].gather(pa.bool_())
    return Prepared(pa.table(rows), {name: column.values for name, column in numbered.items()}, done.dropped)


class Epoch:
    """The rows of one epoch. `close` makes hits of them and forgets them."""

    def __init__(self, privacy: PrivacySettings, starts_in_s: float) -> None:
        self._privacy = privacy
        self._starts_in_s = starts_in_s
        self._numbers: dict[str, dict[Hashable, int]] = {name: {} for name in NUMBERED}
        self._tables: list[pa.Table] = []

    def __repr__(self) -> str:
        return "Epoch(…)"

    def add(self, prepared: Prepared) -> None:
        """Gather rows."""
        rows = prepared.rows
        for name in NUMBERED:
            numbers = self._numbers[name]
            renumbered = [numbers.setdefault(value, len(numbers)) for value in prepared.values[name]]
            column = pa.chunked_array([pa.array(renumbered, pa.int32())]).take(rows[name])
            rows = rows.set_column(rows.column_names.index(name), name, column)
        self._tables.append(rows)

    def close(self, context: Context, first_visit: int = 0) -> pa.Table:
        """Make hits of all rows, in their order. Their visits have numbers that begin with a given one.

        What the epoch admitted stays in the context's vocabulary until that forgets it.

        Shape: columns of the hot tier, texts coded
        """
        try:
            rows = pa.concat_tables(self._tables).unify_dictionaries().combine_chunks()
            values = {name: tuple(numbers) for name, numbers in self._numbers.items()}
            return self._make_hits(rows, values, context, first_visit)
        finally:
            self._tables.clear()
            self._numbers.clear()

    def _make_hits(
        self, rows: pa.Table, values: Mapping[str, tuple[Any, ...]], context: Context, first_visit: int
    ) -> pa.Table:
        order = sort_by_time(rows["time_s"].combine_chunks())
        if any(values["next_session"]):
            marks = self._walk_visits(rows, order, values)
        else:
            marks = self._cut_visits(rows, order, values["session"], first_visit)
        columns = {
            "visit": marks["visit"],
            "step": marks["step"],
            "elapsed_s": bucket_all_elapsed(marks["elapsed_s"]),
            **{name: admit_all(name, rows[name], values[name], marks["visitor"], context) for name in OPEN_COLUMNS},
        }
        arrays = [columns[name] if name in columns else rows[name] for name in CODED_SCHEMA.names]
        return pa.table(arrays, schema=CODED_SCHEMA)

    def _walk_visits(
        self, rows: pa.Table, order: pa.Array, values: Mapping[str, tuple[Any, ...]]
    ) -> dict[str, pa.Array]:
        """Place rows in visits one by one, since a visit may go on under another session."""
        ring = KeyRing(self._privacy, self._starts_in_s)
        visits = Visits(ring, self._privacy.visit_idle_min * 60, self._privacy.visit_max_h * 3600)
        try:
            sorted_ = {name: rows[name].take(order).to_pylist() for name in (*VISIT_COLUMNS, "time_s")}
            sessions, next_sessions = (map(values[name].__getitem__, sorted_[name]) for name in VISIT_COLUMNS[:2])
            marks, _ = walk_visits(sessions, next_sessions, sorted_["time_s"], sorted_["is_pageview"], visits)
        finally:
            visits.forget()
            ring.wipe()
        return put_back({name: pa.array(getattr(marks, name), type_) for name, type_ in MARK_TYPES.items()}, order)

    def _cut_visits(
        self, rows: pa.Table, order: pa.Array, sessions: tuple[Session | None, ...], first_visit: int
    ) -> dict[str, pa.Array]:
        """Place rows in visits all at once: sorted by session and time, a visit is a piece."""
        idle_s, max_s = self._privacy.visit_idle_min * 60, self._privacy.visit_max_h * 3600
        has_visit = pa.array([session is not None for session in sessions], pa.bool_())
        session = rows["session"].combine_chunks()
        order = order.filter(has_visit.take(session).take(order))
        order = order.take(pc.array_sort_indices(session.take(order)))  # which leaves equal ones in their order
        session, time_s, is_page = (
            rows[name].combine_chunks().take(order) for name in ("session", "time_s", "is_pageview")
        )
        starts = cut(session, time_s, idle_s, max_s)
        piece = number_pieces(starts)
        pages = pc.cumulative_sum(is_page.cast(pa.int64()))
        before = pc.subtract(pages.filter(starts), is_page.filter(starts).cast(pa.int64()))
        marks = {
            "visit": pc.add(piece, first_visit).cast(MARK_TYPES["visit"]),
            "step": pc.min_element_wise(pc.subtract(pages, before.take(piece)), MAX_STEP).cast(MARK_TYPES["step"]),
            "elapsed_s": pc.floor(pc.subtract(time_s, time_s.filter(starts).take(piece))).cast(MARK_TYPES["elapsed_s"]),
            "visitor": session.cast(MARK_TYPES["visitor"]),
        }
        return put_back(marks, order, rows.num_rows)


def sort_by_time(time_s: pa.Array) -> pa.Array:
    """Find the order of times; equal ones stay in theirs."""
    if pc.all(pc.greater_equal(pc.pairwise_diff(time_s), 0.0), min_count=0).as_py():
        return pa.array(range(len(time_s)), pa.int64())
    return pc.array_sort_indices(time_s).cast(pa.int64())


def put_back(marks: Mapping[str, pa.Array], order: pa.Array, count: int | None = None) -> dict[str, pa.Array]:
    """Bring what belongs to some rows, in some order, into the order of all rows; the others get nothing."""
    back = pc.inverse_permutation(order, max_index=(count or len(order)) - 1)
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
    return Coded(codes.combine_chunks().cast(pa.int64()), stored).gather(CODED_TEXT)


def count_visitors(
    codes: pa.ChunkedArray, offered: tuple[tuple[str, Offer], ...], visitors: pa.Array
) -> dict[tuple[str, str], int]:
    """Count the distinct visitors of each value that is offered, by site and value."""
    numbers: dict[tuple[str, str], int] = {}
    candidates = [
        [numbers.setdefault((site, value), len(numbers)) for value in offer.candidates] for site, offer in offered
    ]
    has_candidates = pa.array([bool(offer.candidates) for _, offer in offered], pa.bool_())
    is_shown = pc.and_(pc.is_valid(visitors), has_candidates.take(codes.combine_chunks()))
    shown = pa.table({"offer": codes, "visitor": visitors}).filter(is_shown)
    shown = shown.group_by(["offer", "visitor"], use_threads=False).aggregate([])
    lists = pa.array(candidates, pa.list_(pa.int32())).take(shown["offer"].combine_chunks())
    pairs = pa.table(
        {
            "value": pc.list_flatten(lists),
            "visitor": shown["visitor"].combine_chunks().take(pc.list_parent_indices(lists)),
        }
    )
    counted = pairs.group_by("value", use_threads=False).aggregate([("visitor", "count_distinct")])
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
