"""Draw an audit as one page of HTML, to print and sign: no script, nothing that it would load."""

import re
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from anonproxy import __version__
from anonproxy.audit.check import Verdict
from anonproxy.audit.clauses import PolicyReport, Standing, render_date
from anonproxy.audit.limits import Limits
from anonproxy.audit.published import Published
from anonproxy.audit.run import NOTHING, Report

# A word and a sign for each answer: colour alone tells nothing on paper, or to whoever can't see it.
VERDICTS: Final = {
    Verdict.PASS: ("✓", "pass", "good"),
    Verdict.FAIL: ("✗", "fail", "bad"),
    Verdict.UNKNOWN: ("?", "can’t tell", "open"),
    Verdict.ERROR: ("!", "error", "bad"),
}
STANDINGS: Final = {
    Standing.KEPT: ("✓", "kept", "good"),
    Standing.BROKEN: ("✗", "broken", "bad"),
    Standing.UNKNOWN: ("?", "can’t tell", "open"),
    Standing.OUTSIDE: ("–", "outside", "aside"),
}
HEADLINES: Final = {
    Verdict.PASS: "Every check passed",
    Verdict.FAIL: "Something is wrong",
    Verdict.UNKNOWN: "Not everything could be told",
    Verdict.ERROR: "The auditor failed its own test",
}

SUMMARIES: Final = {
    Verdict.PASS: (
        "Every file of this store was read to its last byte, and nothing in it says who visited, or when exactly. "
        "Which pages belong to one nameless visit is known for two days at most."
    ),
    Verdict.FAIL: "This store does not keep what it promises. What is wrong, and where, stands below.",
    Verdict.UNKNOWN: "Nothing wrong was found, but not everything could be told, so this is no proof.",
    Verdict.ERROR: "A check missed the leak that was planted for it on this machine, so its answer proves nothing.",
}

# What is said instead where the files are fine and the policy asks for more.
POLICY_HEADLINES: Final = {
    Standing.BROKEN: "Every check passed, but the policy is not kept",
    Standing.UNKNOWN: "Every check passed; not every clause of the policy could be told",
    Standing.OUTSIDE: "Every check passed; for some clauses of the policy somebody else has to answer",
}

# Findings of one check that go on paper; --json lists them all.
SHOWN: Final = 40

_CODE: Final = re.compile(r"(`[^`]+`|(?<!\S)--[a-z-]+)")
_SET_CODE: Final = Markup('<code class="word">{}</code>')


def render_page(
    report: Report,
    now_s: float,
    judged: PolicyReport | None = None,
    published: Published | None = None,
) -> str:
    """Render a report with all that somebody who signs it must have seen."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["set_code"] = set_code
    template = environment.from_string(files(__package__).joinpath("audit_page.html").read_text(encoding="utf-8"))
    headline, tone = HEADLINES[report.verdict], VERDICTS[report.verdict][2]
    if judged and report.verdict == Verdict.PASS and judged.standing != Standing.KEPT:
        headline, tone = POLICY_HEADLINES[judged.standing], STANDINGS[judged.standing][2]
    counts = {verdict: sum(result.verdict == verdict for result in report.results) for verdict in Verdict}
    return template.render(
        report=report,
        when=f"{datetime.fromtimestamp(now_s, UTC):%d %B %Y, %H:%M} UTC".lstrip("0"),
        version=__version__,
        summary=SUMMARIES[report.verdict],
        headline=headline,
        tone=tone,
        told=", ".join(f"{count} {VERDICTS[verdict][1]}" for verdict, count in counts.items() if count),
        proven=sum(result.control.is_passed for result in report.results),
        verdicts=VERDICTS,
        limits=list_limits(report.limits_in_force),
        judged=judged,
        standings=STANDINGS,
        published=published,
        nothing=NOTHING,
        shown=SHOWN,
        render_date=render_date,
    )


def set_code(text: object) -> Markup:
    """Set commands and options apart, which the terminal writes in backticks."""
    pieces = enumerate(_CODE.split(str(text)))
    return Markup().join(_SET_CODE.format(piece.strip("`")) if number % 2 else piece for number, piece in pieces)


def list_limits(limits: Limits) -> list[tuple[str, str]]:
    """Say what the files were held to, in words."""
    network = f"at most /{limits.ipv4_prefix} (IPv4) and /{limits.ipv6_prefix} (IPv6)"
    return [
        ("Visits that must share a value before it is written in clear", f"{limits.k}"),
        ("Networks of visitors", network if limits.stores_network else "none stored"),
        ("Times", f"no finer than {_render_span(limits.resolution_s)}"),
        ("Longest visit", _render_span(limits.visit_max_s)),
        ("Visit numbers are kept for", f"at most {limits.hot_hours} hours"),
        ("Single, unlinked rows are kept for", f"at most {limits.hits_days} days"),
        ("Daily totals are kept for", f"at most {limits.daily_months} months"),
    ]


def _render_span(seconds: int) -> str:
    units = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
    size, unit = next((unit for unit in units if seconds % unit[0] == 0), (1, "second"))
    return f"{seconds // size} {unit}{'s' * (seconds != size)}"
