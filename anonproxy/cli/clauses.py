"""Draw a policy, judged clause by clause, on a terminal or as JSON."""

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from anonproxy.audit.clauses import Judgement, PolicyReport, Standing, render_date

_SIGNS: Final = {
    Standing.KEPT: ("✓", "green"),
    Standing.BROKEN: ("✗", "bold red"),
    Standing.UNKNOWN: ("?", "yellow"),
    Standing.OUTSIDE: ("–", "cyan"),
}
_WORDS: Final = {Standing.OUTSIDE: "outside what this software can see"}
_CLOSINGS: Final = {
    Standing.KEPT: "In plain words: every clause is kept, and what shows it stands beside it.",
    Standing.OUTSIDE: (
        "In plain words: every clause that these files can show is kept. For those marked – somebody else has to "
        "answer; who, stands beside them."
    ),
    Standing.UNKNOWN: "In plain words: no clause was found broken, but for some of them there is no proof.",
    Standing.BROKEN: "In plain words: this policy is not kept. Which clauses, and why, stands above.",
}
_INDENT: Final = 6


def print_policy(console: Console, report: PolicyReport) -> None:
    """Print each clause with its standing, what shows it, and what remains outside."""
    policy = report.policy
    amended = f", amended {render_date(policy.amended)}" if policy.amended else ""
    console.print(f"\n[bold]{policy.library}[/]: {policy.title}")
    console.print(f"Approved {render_date(policy.approved)}{amended}. ", style="dim", end="")
    console.print(report.review, style="bold yellow" if report.days_overdue else "dim")
    console.print()
    for section in dict.fromkeys(judgement.clause.section for judgement in report.judgements):
        console.print(Text(section, style="italic"))
        for judgement in report.judgements:
            if judgement.clause.section == section:
                _print_judgement(console, judgement)
    told = ", ".join(f"{count} {_WORDS.get(standing, standing)}" for standing, count in report.counts.items() if count)
    console.print(Text(f"\n{len(report.judgements)} clauses: {told}", style=_SIGNS[report.standing][1]))
    console.print(_CLOSINGS[report.standing])


def render_policy(report: PolicyReport) -> dict[str, Any]:
    """Render a judged policy for machines."""
    policy = report.policy
    return {
        "name": policy.name,
        "library": policy.library,
        "title": policy.title,
        "approved": policy.approved,
        "amended": policy.amended,
        "review_by": policy.review_by,
        "days_overdue": report.days_overdue,
        "standing": report.standing,
        "counts": dict(report.counts),
        "clauses": [
            {
                "id": judgement.clause.id,
                "section": judgement.clause.section,
                "summary": judgement.clause.summary,
                "how": judgement.clause.how,
                "standing": judgement.standing,
                "shown": [str(reason) for reason in judgement.shown],
                "against": [str(reason) for reason in judgement.against],
                "unknown": [str(reason) for reason in judgement.unknown],
                "outside": judgement.clause.outside,
            }
            for judgement in report.judgements
        ],
    }


def _print_judgement(console: Console, judgement: Judgement) -> None:
    clause = judgement.clause
    sign, style = _SIGNS[judgement.standing]
    console.print(
        Padding(
            Text.assemble((sign, style), " ", (clause.id, "bold"), f"  {clause.summary}"), (0, 0, 0, 2), expand=False
        )
    )
    for line in _render_reasons(judgement):
        console.print(Padding(line, (0, 0, 0, _INDENT), expand=False))


def _render_reasons(judgement: Judgement) -> Iterator[Text]:
    clause = judgement.clause
    for reason in judgement.against:
        yield Text.assemble(("broken: ", "red"), str(reason))
    for reason in judgement.unknown:
        yield Text.assemble(("can't tell: ", "yellow"), str(reason))
    if clause.how and not judgement.against:
        yield Text(clause.how)
    if judgement.shown:
        yield Text(f"shown by {_render_shown(judgement)}", style="dim")
    if clause.outside:
        yield Text.assemble(("outside: ", "cyan"), clause.outside)


def _render_shown(judgement: Judgement) -> str:
    """Name the checks, whose figures stand in the table of the audit, and tell the settings."""
    codes = [reason.subject for reason in judgement.shown if reason.subject in judgement.clause.checks]
    settings = [str(reason) for reason in judgement.shown if reason.subject not in codes]
    return "; ".join(([f"check{'s' * (len(codes) > 1)} {', '.join(codes)}"] if codes else []) + settings)
