"""Judge a library's policy clause by clause, by what the checks of an audit came to and what the settings say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any, Final, NamedTuple

from anonproxy.audit.check import Verdict
from anonproxy.audit.limits import RESOLUTIONS_S, Limits
from anonproxy.audit.run import Result
from anonproxy.model.policy import Clause, Demand, Policy, Relation, last_day, render_value
from anonproxy.model.settings import Settings


class Standing(StrEnum):
    """What can be said of a clause."""

    KEPT = "kept"  # every check that it names passed, and the settings are as it demands
    BROKEN = "broken"
    UNKNOWN = "can't tell"
    OUTSIDE = "outside"  # nothing that this software sees could show it


# What the checks compare the bytes with, by the setting that it comes from, and how it is made of the setting's value.
HELD: Final[Mapping[str, tuple[str, Callable[[Any], int]]]] = {
    "store.hot_hours": ("hot_hours", int),
    "store.hits_days": ("hits_days", int),
    "store.daily_months": ("daily_months", int),
    "privacy.k": ("k", int),
    "privacy.ipv4_prefix": ("ipv4_prefix", int),
    "privacy.ipv6_prefix": ("ipv6_prefix", int),
    "privacy.store_network": ("stores_network", bool),
    "privacy.time_resolution": ("resolution_s", RESOLUTIONS_S.__getitem__),
    "privacy.visit_max_h": ("visit_max_s", lambda hours: int(hours) * 3_600),
}

# The gravest first.
ORDER: Final = (Standing.BROKEN, Standing.UNKNOWN, Standing.OUTSIDE, Standing.KEPT)


class Reason(NamedTuple):
    """What a check or a setting says of a clause."""

    subject: str
    what: str

    def __str__(self) -> str:
        return f"{self.subject} {self.what}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One clause: what speaks for it, what against it, what could not be told."""

    clause: Clause
    shown: tuple[Reason, ...]
    against: tuple[Reason, ...]
    unknown: tuple[Reason, ...]

    @property
    def standing(self) -> Standing:
        """Return broken if anything speaks against it, kept only if a check looked and nothing stayed open."""
        if self.against:
            return Standing.BROKEN
        if self.unknown:
            return Standing.UNKNOWN
        return Standing.KEPT if self.clause.checks else Standing.OUTSIDE


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What an audit came to, in the words of a policy."""

    policy: Policy
    judgements: tuple[Judgement, ...]
    days_overdue: int

    @property
    def standing(self) -> Standing:
        """Return the gravest standing of any clause."""
        found = {judgement.standing for judgement in self.judgements}
        return next(standing for standing in ORDER if standing in found)

    @property
    def counts(self) -> Mapping[Standing, int]:
        """Count the clauses of each standing."""
        return {
            standing: sum(judgement.standing == standing for judgement in self.judgements)
            for standing in reversed(ORDER)
        }

    @property
    def review(self) -> str:
        """Say when the policy is to be reviewed, and how long that is overdue."""
        if self.policy.review_by is None:
            return "It names no date for its next review."
        due = render_date(self.policy.review_by)
        if not self.days_overdue:
            return f"Its next review is due by {due}."
        return f"Its review was due by {due} and is overdue by {render_span(self.days_overdue)}."


def hold_to(policy: Policy, limits: Limits) -> Limits:
    """Tighten what the checks compare with to what a policy demands, whatever a configuration says."""
    held: dict[str, Any] = {}
    for demand in (demand for _, demand in policy.demands if demand.setting in HELD):
        name, convert = HELD[demand.setting]
        held[name] = _tighter(demand.relation, held.get(name, getattr(limits, name)), convert(demand.value))
    return replace(limits, source=f"{limits.source}, held to the policy of {policy.library}", **held)


def _tighter(relation: Relation, have: int, want: int) -> int:
    match relation:
        case "<=":
            return min(have, want)
        case ">=":
            return max(have, want)
        case _:
            return want


def judge_policy(policy: Policy, results: Sequence[Result], settings: Settings | None, today: date) -> PolicyReport:
    """Judge each clause of a policy."""
    by_code = {result.check.code: result for result in results}
    return PolicyReport(
        policy,
        tuple(judge_clause(clause, by_code, settings) for clause in policy.clauses),
        policy.days_overdue(today),
    )


def judge_clause(clause: Clause, results: Mapping[str, Result], settings: Settings | None) -> Judgement:
    """Judge one clause."""
    told: dict[Standing, list[Reason]] = {Standing.KEPT: [], Standing.BROKEN: [], Standing.UNKNOWN: []}
    for demand in clause.demands:
        standing, what = _judge_demand(demand, settings)
        told[standing].append(Reason(demand.setting, what))
    for code in clause.checks:
        standing, what = _judge_check(results.get(code))
        told[standing].append(Reason(code, what))
    return Judgement(
        clause, *(tuple(told[standing]) for standing in (Standing.KEPT, Standing.BROKEN, Standing.UNKNOWN))
    )


def _judge_demand(demand: Demand, settings: Settings | None) -> tuple[Standing, str]:
    if settings is not None:
        value = demand.read(settings)
        standing = Standing.KEPT if demand.is_met_by(value) else Standing.BROKEN
        return standing, f"is {render_value(value)} (demanded: {demand.words})"
    if demand.setting in HELD:
        # Without a configuration, the checks hold the bytes to what the policy demands.
        return Standing.KEPT, f"{demand.words}, to which the files were held"
    if demand.is_always_met:
        return Standing.KEPT, f"{demand.words}, as in every configuration"
    return Standing.UNKNOWN, f"should be {demand.words}, but no configuration was given"


def _judge_check(result: Result | None) -> tuple[Standing, str]:
    if result is None:
        return Standing.UNKNOWN, "was not run: there is no check of this name"
    outcome = result.outcome
    match result.verdict:
        case Verdict.PASS:
            return Standing.KEPT, f"passed on {_render_counts(result)}"
        case Verdict.FAIL:
            count = len(outcome.findings)
            return Standing.BROKEN, f"failed: {outcome.findings[0]}{f' (and {count - 1:,} more)' if count > 1 else ''}"
        case Verdict.ERROR:
            return Standing.UNKNOWN, "failed its own test, so its answer is worth nothing"
        case _:
            return Standing.UNKNOWN, f"can't tell: {outcome.unknown[0]}"


def _render_counts(result: Result) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in result.outcome.looked_at.items())


def render_date(month: str) -> str:
    """Write a date as a sentence has it: `9 June 2020`, `September 2021`."""
    day = last_day(month)
    return f"{day:%d %B %Y}".lstrip("0") if len(month) > 7 else f"{day:%B %Y}"


def render_span(days: int) -> str:
    """Write a number of days as one says it."""
    years, rest = divmod(days, 365)
    amounts = ((years, "year"), (rest // 30, "month")) if days >= 60 else ((days, "day"),)
    return " and ".join(f"{amount} {unit}{'s' * (amount != 1)}" for amount, unit in amounts if amount)
