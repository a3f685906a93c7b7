"""What is kept for long tells only what at least k visits shared."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import DAILY, change_rows
from anonproxy.audit.tables import Table
from anonproxy.audit.tree import DAY_S, Tier
from anonproxy.model.vocabularies import OTHER

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hits", "daily")

# The total of a site is always told; what is folded into (other) can't be folded further.
ALWAYS_TOLD: Final = "total"


def look(evidence: Evidence) -> Outcome:
    """Look for cells of the totals, and hours of a page, that fewer than k visits can have shared."""

    def find(table: Table) -> Iterator[Finding]:
        k = evidence.limits_on(table.place).k
        yield from find_in_totals(table, k) if table.place.tier == "daily" else find_in_hours(table, k)

    return look_at_tables(
        evidence, TIERS_LOOKED_AT, find, ("dimension", "value", "hits", "visits", "time", "route", "bot")
    )


def find_in_totals(table: Table, k: int) -> Iterator[Finding]:
    """Find cells of fewer than k visits. Robots have no visits, so their requests count."""
    cells = table.distinct("dimension", "value", "hits", "visits")
    for (dimension, value, hits, visits), row in cells.items():
        size = hits if dimension == "bot" else visits
        is_told = dimension != ALWAYS_TOLD and value != OTHER
        if is_told and not (isinstance(size, int) and size >= k):
            yield Finding(f"{table.path}, row {row + 1}", f"a cell of fewer than {k} visits stands by itself")


def find_in_hours(table: Table, k: int) -> Iterator[Finding]:
    """Find a page with its hour in fewer than k rows, which fewer than k visits must have made."""
    if not {"time", "route", "bot"} <= table.columns.keys():
        return
    days = {time_s for time_s in table.seconds("time") if time_s % DAY_S == 0}
    columns = [table.columns[name] for name in ("time", "route", "bot")]
    per_s = {row: time_s for time_s, row in table.seconds("time").items()}
    times = {columns[0].codes[row]: time_s for row, time_s in per_s.items()}
    people = [value == "" for value in columns[2].distinct]
    sizes = Counter(
        (time, route, people[bot]) for time, route, bot in zip(*(column.codes for column in columns), strict=True)
    )
    for (time, route, _), size in sizes.items():
        if size < k and times.get(time) not in days:
            row = columns[1].codes.index(route)
            yield Finding(f"{table.path}, route of row {row + 1}", f"keeps an hour that fewer than {k} visits shared")


def sabotage(root: Path) -> None:
    """Tell what three visits did."""
    change_rows(root, DAILY, lambda rows: rows[-1].update(dimension="language", value="other", visits=3))


CHECK: Final = Check(
    code="crowds",
    claim="What is kept for long was shared by at least k visits",
    how="Each cell of the daily totals must count k visits (robots: requests) or be folded; each hour of a page in the "
    "settled hits must have k rows, or the day instead.",
    look=look,
    sabotage=sabotage,
)
