"""Nothing is older than its tier allows, and visit numbers are in the hot tier only."""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.limits import Limits
from anonproxy.audit.specimen import TODAY, write_hour
from anonproxy.audit.tree import DAY_S, HOUR_S, Node, Tier, day_start
from anonproxy.model.columns import HIT_COLUMNS

HOT_ONLY: Final = frozenset(column.name for column in HIT_COLUMNS if column.hot_only)

# What old logs are made into has no such columns, and is put there unfinished however old the day is.
UNLINKED: Final[tuple[Tier, ...]] = ("hits", "daily", "vocabulary")

# Housekeeping comes round a few times an hour.
GRACE_S: Final = HOUR_S


def look(evidence: Evidence) -> Outcome:
    """Compare the day of every file with the time of its tier."""
    findings: list[Finding] = []
    looked_at: Counter[str] = Counter({"files": 0})
    unlinked = {
        table.path
        for table in evidence.tables(*UNLINKED)
        if evidence.is_imported(table.place) and not HOT_ONLY & table.columns.keys()
    }
    for node in evidence.nodes:
        if node.kind == "file" and node.place and node.place.day:
            looked_at["files"] += 1
            findings += find_overdue(node, node.place.day, evidence, is_unlinked=node.path in unlinked)
            if node.names > 1:
                findings.append(Finding(node.path, "has a second name elsewhere: deleting it here won't delete it"))
    for table in evidence.tables("hits", "daily"):
        findings += (
            Finding(table.path, f"has the column {name}, which only the hot tier may have")
            for name in sorted(HOT_ONLY & table.columns.keys())
        )
    return Outcome(looked_at, tuple(findings))


def find_overdue(node: Node, day: date, evidence: Evidence, *, is_unlinked: bool) -> Iterator[Finding]:
    """Find a file that is older than its tier allows. What is unfinished may hold hot rows, whatever its name."""
    place = node.place
    is_unsure = place is not None and place.is_temporary and not is_unlinked
    tier = "hot" if is_unsure else str(place.tier if place else "")
    overdue_s = evidence.now_s - expires_at(day, tier, evidence.limits)
    if overdue_s > GRACE_S:
        span = f"{overdue_s / HOUR_S:.0f} hours" if overdue_s < 2 * DAY_S else f"{overdue_s / DAY_S:.0f} days"
        yield Finding(node.path, f"should have been deleted {span} ago")


def expires_at(day: date, tier: str, limits: Limits) -> int:
    """Give the time from which a day may not be in a tier.

    Units: unix seconds
    """
    match tier:
        case "hot":
            return day_start(day) + limits.hot_hours * HOUR_S
        case "hits":
            return day_start(day) + limits.hits_days * DAY_S
        case _:
            months = day.year * 12 + day.month - 1 + limits.daily_months
            first = date(months // 12, months % 12 + 1, 1)
            return day_start(first + timedelta(days=day.day - 1))


def sabotage(root: Path) -> None:
    """Forget to delete visit numbers three days old."""
    write_hour(root, TODAY - 3 * DAY_S + 10 * HOUR_S)


CHECK: Final = Check(
    code="retention",
    claim="Nothing is older than its tier allows",
    how="The day of each file, unfinished ones included, is compared with the time that its tier allows; visit "
    "numbers may be in the hot tier only.",
    look=look,
    sabotage=sabotage,
)
