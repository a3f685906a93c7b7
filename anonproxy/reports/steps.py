"""Counts of days that go on, told in steps.

Whoever looks again and again sees what has come meanwhile, and that may be one visit: its page, its country and its
device each have one more than before. So a figure that was told is told anew once k visits more are behind it. (Where
visits are not known, 20 pages count as one.) And a value that was named stays named, also when a new one beside it, of
a single visit, would have it folded for company. The first look sees all as it is, and what settles is told as it is.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import NamedTuple

import pyarrow as pa

from anonproxy.model.vocabularies import OTHER
from anonproxy.reports.cells import PAGES_PER_VISIT
from anonproxy.reports.run import Counted, Requests
from anonproxy.store.count import Counts
from anonproxy.store.tables import SCHEMAS


class Place(NamedTuple):
    """What a row of `daily` is about."""

    date: date
    site: str
    dimension: str
    value: str


def step_daily(told: pa.Table | None, now: pa.Table, k: int) -> pa.Table:
    """Take the totals of hot days as far as they may be told; None when nothing was told before.

    Shape: the columns of `daily`
    """

    def has_grown(place: Place, before: Counts, after: Counts) -> bool:
        hits, pageviews, visits, *_ = (abs(a - b) for a, b in zip(after, before, strict=True))
        return max(visits, pageviews // PAGES_PER_VISIT, hits if place.dimension == "bot" else 0) >= k

    before, after = None if told is None else _by_place(told), _by_place(now)
    stepped = _step(before, after | _keep_named(before or {}, after), Counts(), has_grown)
    rows = [place._asdict() | figures._asdict() for place, figures in stepped.items()]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["daily"])


def _keep_named(told: Mapping[Place, Counts], now: Mapping[Place, Counts]) -> dict[Place, Counts]:
    """Take what was named out of `(other)` again, on days that are still hot."""
    kept: dict[Place, Counts] = {}
    for place in told.keys() - now.keys():
        rest = place._replace(value=OTHER)
        if place != rest and place._replace(dimension="total", value="") in now:
            kept[place] = told[place]
            left = zip(kept.get(rest, now.get(rest, Counts())), told[place], strict=True)
            kept[rest] = Counts(*(max(0, figure - taken) for figure, taken in left))
    return kept


def step_counts(told: Counted | None, now: Counted, k: int) -> Counted:
    """Take counts of hot days as far as they may be told; None when nothing was told before."""

    def has_grown(_: Requests, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
        return abs(after[0] - before[0]) >= k

    stepped = _step(None if told is None else _by_label(told), _by_label(now), (0,), has_grown)
    return Counted(now.columns, tuple(row._replace(figures=figures) for row, figures in stepped.items()))


def _step[Key, Value](
    told: Mapping[Key, Value] | None,
    now: Mapping[Key, Value],
    nothing: Value,
    has_grown: Callable[[Key, Value, Value], bool],
) -> dict[Key, Value]:
    if told is None:
        return dict(now)
    before = {key: told.get(key, nothing) for key in now}
    stepped = {key: value if has_grown(key, before[key], value) else before[key] for key, value in now.items()}
    return {key: value for key, value in stepped.items() if value != nothing}


def _by_place(table: pa.Table) -> dict[Place, Counts]:
    places, figures = (zip(*(table[name].to_pylist() for name in row._fields), strict=True) for row in (Place, Counts))
    return {Place(*place): Counts(*each) for place, each in zip(places, figures, strict=True)}


def _by_label(counted: Counted) -> dict[Requests, tuple[int, ...]]:
    return {row._replace(figures=()): row.figures for row in counted.rows}
