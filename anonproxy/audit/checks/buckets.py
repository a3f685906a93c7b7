"""Lengths and durations are buckets: exact ones name a search term."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, describe, look_at_tables, values
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import SEALED, change_rows
from anonproxy.audit.tables import Table
from anonproxy.audit.tree import Tier
from anonproxy.model.columns import HIT_COLUMNS

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot", "hits")
BUCKETS: Final = {column.name: column for column in HIT_COLUMNS if column.world == "bucket" and column.values}


def look(evidence: Evidence) -> Outcome:
    """Compare every number with the buckets of its column."""
    return look_at_tables(evidence, TIERS_LOOKED_AT, find, BUCKETS)


def find(table: Table) -> Iterator[Finding]:
    """Find numbers between the buckets."""
    for name, value, where in values(table, BUCKETS):
        column = BUCKETS[name]
        if value not in column.values and not (value is None and column.nullable):
            yield Finding(where, f"none of its {len(column.values)} buckets ({describe(value)})")


def sabotage(root: Path) -> None:
    """Store an exact length."""
    change_rows(root, SEALED, lambda rows: rows[0].update(size_bytes=5_417))


CHECK: Final = Check(
    code="buckets",
    claim="Lengths and durations are too coarse to name a page",
    how=f"Each distinct value of {', '.join(BUCKETS)} is looked up in the published buckets.",
    look=look,
    sabotage=sabotage,
)
