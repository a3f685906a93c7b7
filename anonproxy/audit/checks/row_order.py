"""Rows are sorted by their content, so that their order tells nothing of their arrival."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import SEALED, Row, Style, change_rows
from anonproxy.audit.tables import Table
from anonproxy.audit.tree import Tier

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot", "hits", "daily", "vocabulary")


def look(evidence: Evidence) -> Outcome:
    """Compare each row with the one before it."""
    return look_at_tables(evidence, TIERS_LOOKED_AT, find)


def find(table: Table) -> Iterator[Finding]:
    """Find rows out of order and row groups, which show what was written together."""
    if table.first_unsorted_row is not None:
        yield Finding(f"{table.path}, row {table.first_unsorted_row + 1}", "smaller than the row before it")
    if len(table.file.row_groups) > 1:
        yield Finding(table.path, f"{len(table.file.row_groups)} row groups show which rows came together")


def sabotage(root: Path) -> None:
    """Keep rows in the order in which they came."""

    def shuffle(rows: list[Row]) -> None:
        rows[:] = rows[1::2] + rows[::2]

    change_rows(root, SEALED, shuffle, Style(is_sorted=False))


CHECK: Final = Check(
    code="row-order",
    claim="The order of rows tells nothing of their arrival",
    how="Each row is compared with the one before it, over all columns; a file has one row group.",
    look=look,
    sabotage=sabotage,
)
