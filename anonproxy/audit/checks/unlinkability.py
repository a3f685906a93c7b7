"""A visit number lives as long as a visit, and those who want none have none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import SEALED, SEGMENT, change_rows, read_rows
from anonproxy.audit.tables import Table, Value
from anonproxy.audit.tree import DAY_S, HOUR_S, Tier
from anonproxy.model.settings import SiteSettings

# An epoch lasts 24 h at most and a visit that began in it 4 h more: whatever is further apart had another key.
EPOCHS_APART_S: Final = 28 * HOUR_S

# A keyed hash has 64 bits: that some numbers are all below 2^48 is chance once in 2^16 for each of them.
SMALL_NUMBER: Final = 1 << 48
ENOUGH_NUMBERS: Final = 4

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot",)
VISIT: Final = ("visit", "step", "elapsed_s")


@dataclass(slots=True)
class Span:
    """Where and when a visit number was first and last seen."""

    site: Value
    path: str
    first_s: float
    last_s: float


def look(evidence: Evidence) -> Outcome:
    """Follow each visit number through the whole hot tier."""
    spans: dict[Value, Span] = {}
    foreign: list[Finding] = []
    resolution_s = _resolution(evidence)
    places = {table.place for table in evidence.tables(*TIERS_LOOKED_AT)}

    def find(table: Table) -> Iterator[Finding]:
        yield from find_refused(table, evidence.limits_on(table.place).sites)
        foreign.extend(_follow(table, spans))

    outcome = look_at_tables(evidence, TIERS_LOOKED_AT, find, (*VISIT, "time", "bot", "route"))
    visit_max_s = max((evidence.limits_on(place).visit_max_s for place in places), default=evidence.limits.visit_max_s)
    longest_s = -(-visit_max_s // resolution_s) * resolution_s
    findings = (*outcome.findings, *foreign, *_find_long(spans, longest_s), *_find_small(spans))
    return Outcome({**outcome.looked_at, "visits": len(spans)}, findings, outcome.unknown)


def find_refused(table: Table, sites: tuple[SiteSettings, ...] | None) -> Iterator[Finding]:
    """Find robots, children's and sensitive pages with a visit number, and rows with half of one."""
    for (bot, route, visit, step, elapsed_s), row in table.distinct("bot", "route", *VISIT).items():
        where = f"{table.path}, visit of row {row + 1}"
        if (visit is None) != (step is None) or (visit is None) != (elapsed_s is None):
            yield Finding(where, "has a number without a place in the visit, or a place without a number")
        if visit is None:
            continue
        if bot:
            yield Finding(where, "a robot has one")
        site = next((site for site in sites or () if site.name == table.place.site), None)
        patterns = (*site.children, *site.sensitive) if site else ()
        if any(is_below(str(route), pattern) for pattern in patterns):
            yield Finding(where, "a page of a children's or sensitive class has one")


def is_below(route: str, pattern: str) -> bool:
    """Tell whether a route is covered by a pattern of the configuration."""
    parts, wanted = route.lower().strip("/").split("/"), pattern.lower().strip("/").split("/")
    has_rest = wanted[-1] == "**"
    wanted = wanted[:-1] if has_rest else wanted
    if len(parts) < len(wanted) or (len(parts) > len(wanted) and not has_rest):
        return False
    return all(part == want or (want[:1] == "{" and part != "**") for part, want in zip(parts, wanted, strict=False))


def _follow(table: Table, spans: dict[Value, Span]) -> Iterator[Finding]:
    units = {row: time_s for time_s, row in table.seconds("time").items()}
    times = {value: units[row] for (value,), row in table.distinct("time").items() if row in units}
    for (visit, time, site), row in table.distinct("visit", "time", "site").items():
        if visit is None or time not in times:
            continue
        time_s = times[time]
        span = spans.setdefault(visit, Span(site, table.path, time_s, time_s))
        span.first_s, span.last_s = min(span.first_s, time_s), max(span.last_s, time_s)
        if span.site != site:
            yield Finding(f"{table.path}, visit of row {row + 1}", "the same number at another site")


def _find_long(spans: dict[Value, Span], longest_s: int) -> Iterator[Finding]:
    for span in spans.values():
        lasted_s = span.last_s - span.first_s
        if lasted_s > EPOCHS_APART_S:
            yield Finding(span.path, f"a visit number came again {lasted_s / HOUR_S:.0f} h later, under another key")
        elif lasted_s > longest_s:
            yield Finding(span.path, f"a visit number lasted {lasted_s / HOUR_S:.0f} h or more")


def _find_small(spans: dict[Value, Span]) -> Iterator[Finding]:
    numbers = [number for number in spans if isinstance(number, int)]
    if len(numbers) >= ENOUGH_NUMBERS and max(numbers) < SMALL_NUMBER:
        yield Finding(
            next(iter(spans.values())).path, f"all {len(numbers)} visit numbers are small: counted, not hashed"
        )


def _resolution(evidence: Evidence) -> int:
    """Give the resolution of the hot times: a visit may seem longer by that much."""
    times = [time_s for table in evidence.tables("hot") for time_s in table.seconds("time")]
    coarser = (step_s for step_s in (DAY_S, HOUR_S) if all(time_s % step_s == 0 for time_s in times))
    return max(next(coarser, evidence.limits.resolution_s), evidence.limits.resolution_s)


def sabotage(root: Path) -> None:
    """Let one number live on from the morning to the afternoon, longer than any visit may last."""
    visit = next(row["visit"] for row in read_rows(root, SEALED) if row["visit"])
    change_rows(root, SEGMENT, lambda rows: rows[0].update(visit=visit, step=1, elapsed_s=0))


CHECK: Final = Check(
    code="unlinkability",
    claim="No number outlives its visit; who wants none has none",
    how="Each visit number is followed through all hot files: one site, no longer than a visit may last, never under "
    "two keys; robots, children's and sensitive pages carry none.",
    look=look,
    sabotage=sabotage,
)
