"""Times are coarse, in rows, paths and the file system."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import SEALED, TODAY, change_rows
from anonproxy.audit.tables import Table
from anonproxy.audit.tree import DAY_S, HOUR_S, Node, Tier, day_start, watch_node

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot", "hits", "daily")

# A clock may be a little ahead; more than this is a row that would outlive its tier.
AHEAD_S: Final = HOUR_S

_HOUR_NS: Final = HOUR_S * 10**9


def look(evidence: Evidence) -> Outcome:
    """Look at the times of rows, and of the files and folders that hold them."""
    outcome = look_at_tables(evidence, TIERS_LOOKED_AT, lambda table: find(evidence, table), ("time", "date"))
    stamped = [node for node in evidence.nodes if _is_stamped(node)]
    findings, unknown = outcome.findings, outcome.unknown
    if evidence.is_copy:
        unknown = (*unknown, "this copy of the store lost the times of its files: copy with `cp -a` or `rsync -a`")
    else:
        findings += tuple(find_exact(evidence, stamped))
    return Outcome({**outcome.looked_at, "times on disk": len(stamped)}, findings, unknown)


def find(evidence: Evidence, table: Table) -> Iterator[Finding]:
    """Find times that are exact, outside the hour or day of their path, or still to come."""
    place, resolution_s = table.place, evidence.limits_on(table.place).resolution_s
    length_s = DAY_S if place.hour is None else HOUR_S
    if place.starts_at > evidence.now_s + AHEAD_S:
        yield Finding(table.path, "its time is still to come")
    for time_s, row in table.seconds("time").items():
        where = f"{table.path}, time of row {row + 1}"
        if time_s % resolution_s:
            yield Finding(where, f"finer than {resolution_s // 60} minutes")
        if not place.starts_at <= time_s < place.starts_at + length_s:
            yield Finding(where, "outside the hour or day that its path says")
    for (days,), row in table.distinct("date").items():
        if place.day and days != day_start(place.day) // DAY_S:
            yield Finding(f"{table.path}, date of row {row + 1}", "another day than its path says")


def find_exact(evidence: Evidence, nodes: list[Node]) -> Iterator[Finding]:
    """Find times of files and folders that say more than the hour; a write under way is given time to hide its own."""
    for node in nodes:
        if node.mtime_ns % _HOUR_NS and _stays_exact(evidence.root, node.path):
            yield Finding(
                node.shown, f"changed at {datetime.fromtimestamp(node.mtime_ns / 1e9, UTC):%M:%S} past the hour"
            )


def _is_stamped(node: Node) -> bool:
    """Tell whether the store hides the time of a node. The ledger's own says when the operator did something."""
    return node.place is not None and node.place.tier not in {None, "ledger"}


def _stays_exact(root: Path, path: str) -> bool:
    """Tell whether a time says more than the hour after the moment that a write takes, too, whatever is written on."""
    with suppress(OSError):
        return all(node.mtime_ns % _HOUR_NS for node in watch_node(root, path))
    return False


def sabotage(root: Path) -> None:
    """Store a request to the second."""
    exact = datetime.fromtimestamp(TODAY + 10 * HOUR_S + 754, UTC)
    change_rows(root, SEALED, lambda rows: rows[0].update(time=exact))


CHECK: Final = Check(
    code="time",
    claim="Times are too coarse to join with another log",
    how="Each distinct time is compared with the resolution and with the hour or day of its path; files and folders "
    "must carry the time of a full hour.",
    look=look,
    sabotage=sabotage,
)
