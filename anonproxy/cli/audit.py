"""`anonproxy audit`: prove from the bytes on disk that nothing identifying was kept."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from anonproxy.audit.bucket import SCHEME, Bucket, fetch
from anonproxy.audit.check import Figure, Verdict
from anonproxy.audit.clauses import PolicyReport, Standing, hold_to, judge_policy
from anonproxy.audit.evidence import NO_ANCHOR, Anchor
from anonproxy.audit.limits import Limits
from anonproxy.audit.processes import Machine, look_around
from anonproxy.audit.published import Published, verify_published
from anonproxy.audit.run import NOTHING, Report, Result, run_audit
from anonproxy.cli import EXIT_WRONG, options
from anonproxy.cli.audit_page import render_page
from anonproxy.cli.clauses import print_policy, render_policy
from anonproxy.clock import now
from anonproxy.config import read_policy, read_settings
from anonproxy.model.errors import OperatorError
from anonproxy.model.policy import Policy
from anonproxy.model.settings import Settings

# Findings and open questions of one check that the terminal shows; --json has them all.
SHOWN_NOTES: Final = 8

# What is said where nobody asked for the machine.
LEFT_OUT: Final = Machine(hidden="logs, temporary folders and processes were left out on request")

# Claims and counts stand side by side from this width on.
WIDE: Final = 128
CLAIM_CHARS: Final = 62

_SIGNS: Final = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.UNKNOWN: "?", Verdict.ERROR: "!"}
_STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.UNKNOWN: "yellow",
    Verdict.ERROR: "bold magenta",
}
_CLOSINGS: Final = {
    Verdict.PASS: (
        "In plain words: every file of this store was read to its last byte, and nothing in it says who visited, or "
        "when exactly. Which pages belong to one nameless visit is known for two days at most."
    ),
    Verdict.FAIL: "In plain words: this store does not keep what it promises. What is wrong, and where, stands above.",
    Verdict.UNKNOWN: "In plain words: nothing wrong was found, but not everything could be told, so this is no proof.",
    Verdict.ERROR: "In plain words: the auditor failed its own test on this machine, so its answers prove nothing.",
}


@click.command("audit")
@options.config
@options.published_store
@click.option(
    "--policy", "policy_name", metavar="NAME", help="Judge a library's policy. Default: the one of the configuration."
)
@click.option(
    "--public-key",
    "key_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The ledger's public key as it was published. Default: the one in the store.",
)
@click.option("--head", metavar="HASH", help="An earlier head of the ledger, as it was published or written down.")
@click.option(
    "--look-in",
    "look_in",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="Log or folder to look in beside those of the configuration. Can be given several times.",
)
@click.option("--store-only", is_flag=True, help="Leave out logs, temporary folders and the processes that serve.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON, for machines.")
@click.option(
    "--html",
    "page_path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a page of HTML, to print and sign.",
)
@click.pass_context
def command(
    ctx: click.Context,
    config_path: Path | None,
    store_path: str | None,
    policy_name: str | None,
    key_path: Path | None,
    head: str | None,
    look_in: tuple[Path, ...],
    store_only: bool,
    as_json: bool,
    page_path: Path | None,
) -> None:
    """Prove from the bytes on disk that nothing identifying was kept.

    Every check first has to find a leak that is planted for it in a specimen. With --store alone it works on a copy of
    a store (`cp -a`), or on a published one (s3://BUCKET/PREFIX), without its configuration, and holds it to the
    loosest that any may set. With a policy it says clause by clause what is kept, what is broken, and what lies outside
    what this software can see.

    On the proxy's machine it also looks at the processes that serve the store, at what they print, at their journal and
    temporary files, and at the logs that [audit] look_in names. Run it as root there: nobody else is told all of that.

    Bring the public key as it was published, and a head of the ledger that was written down at an earlier audit: what
    lies in the store was written by whom you audit.

    Exit status: 0 all proven; 1 something is wrong or could not be told; 2 there is no store to look at.

    \b
    sudo anonproxy audit
    anonproxy audit --policy greenwich --store-only
    sudo anonproxy audit --look-in /var/log/nginx --look-in /tmp
    anonproxy audit --store /mnt/copy-of-the-store --public-key library.pem --head 5d1f0c2a... --html audit.html
    """
    settings = None
    if config_path or not store_path:
        settings = read_settings(options.find_config(config_path))
    policy = _find_policy(policy_name, settings, config_path)
    limits = Limits.configured(settings) if settings else Limits.loosest()
    anchor = Anchor(key_path.read_bytes() if key_path else None, head.strip().lower() if head else None)
    began_s = time.perf_counter()
    with _progress(is_shown=not as_json) as bar, _open(store_path, config_path) as (root, bucket):
        task = bar.add_task("")
        report = run_audit(
            root,
            now(),
            settings,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            limits=hold_to(policy, limits) if policy else limits,
            anchor=anchor,
            look_in=() if store_only else (*map(Path, settings.audit.look_in if settings else ()), *look_in),
            machine=LEFT_OUT if store_only else look_around(root),
            bucket=bucket,
        )
        published = verify_published(root, anchor.public_key, anchor.head) if anchor != NO_ANCHOR else None
    if bucket:
        report = replace(report, root=str(store_path).partition("?")[0])
    elapsed_s = time.perf_counter() - began_s
    today = datetime.fromtimestamp(now(), UTC).date()
    judged = judge_policy(policy, report.results, settings, today) if policy else None
    if as_json:
        click.echo(json.dumps(render_json(report, elapsed_s, judged, published), indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False)
        print_report(console, report, elapsed_s)
        if published:
            sign = Verdict.FAIL if published.broken else Verdict.PASS
            console.print(Text.assemble((_SIGNS[sign], _STYLES[sign]), f" {published}."))
        if judged:
            print_policy(console, judged)
    if page_path:
        _write_page(page_path, render_page(report, now(), judged, published))
    is_policy_kept = judged is None or judged.standing in {Standing.KEPT, Standing.OUTSIDE}
    if report.verdict != Verdict.PASS or not is_policy_kept or (published and published.broken):
        ctx.exit(EXIT_WRONG)


@contextmanager
def _open(store: str | None, config_path: Path | None) -> Iterator[tuple[Path, Bucket | None]]:
    """Give the folder of a store, or of a copy of what was published to a bucket, which is deleted afterwards."""
    if store and store.startswith(SCHEME):
        with fetch(store) as fetched:
            yield fetched
    else:
        yield options.find_store(Path(store) if store else None, config_path), None


def _write_page(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path} can't be written ({error.strerror}). Name another file with --html") from None


def _find_policy(name: str | None, settings: Settings | None, config_path: Path | None) -> Policy | None:
    """Find the policy that was named, or the one of the configuration, beside which it lies."""
    if name:
        return read_policy(name)
    return read_policy(settings.policy, options.find_config(config_path)) if settings and settings.policy else None


def render_json(
    report: Report, elapsed_s: float, judged: PolicyReport | None = None, published: Published | None = None
) -> dict[str, Any]:
    """Render a report with all its evidence, the policy judged by it, and what a comparison with the published gave."""
    return {
        "store": str(report.root),
        "limits": report.limits,
        "files": report.file_count,
        "rows": report.row_count,
        "seconds": round(elapsed_s, 2),
        "verdict": report.verdict,
        "checks": [
            {
                "code": result.check.code,
                "claim": result.check.claim,
                "how": result.check.how,
                "looked_at": dict(result.outcome.looked_at),
                "verdict": result.verdict,
                "control": {
                    "passed": result.control.is_passed,
                    "clean": result.control.clean,
                    "sabotaged": result.control.sabotaged,
                },
                "findings": [{"where": f.where, "what": f.what} for f in result.outcome.findings],
                "unknown": list(result.outcome.unknown),
                "figures": [str(figure) for figure in result.outcome.figures],
                "measured": [
                    {**asdict(figure), "is_met": figure.is_met}
                    for figure in result.outcome.figures
                    if isinstance(figure, Figure)
                ],
            }
            for result in report.results
        ],
        "head": report.head,
        "unproven": list(report.unproven),
        "unseen": list(report.unseen),
        "published": asdict(published) if published else None,
        "policy": render_policy(judged) if judged else None,
    }


def print_report(console: Console, report: Report, elapsed_s: float) -> None:
    """Print a line for each check, its findings below, and what it all means."""
    console.print(f"[bold]Audit of {report.root}[/]")
    console.print(f"{report.file_count:,} files, {report.row_count:,} rows; limits: {report.limits}\n", style="dim")
    for result in report.results:
        _print_result(console, result)
    console.print()
    if not report.row_count:
        console.print(f"{NOTHING[0].upper()}{NOTHING[1:]}.", style="yellow")
    console.print(_render_controls(report), style="dim")
    for limit in (*report.unproven, *report.unseen):
        console.print(f"{limit}.", style="dim")
    if report.head:
        console.print(f"Head of the ledger, for the next audit: {report.head}", style="dim", soft_wrap=True)
    counts = {verdict: sum(result.verdict == verdict for result in report.results) for verdict in Verdict}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    console.print(Text.assemble((told, _STYLES[report.verdict]), f" in {elapsed_s:.1f} s"))
    console.print(_CLOSINGS[report.verdict])


def _print_result(console: Console, result: Result) -> None:
    counts = ", ".join(f"{count:,} {what}" for what, count in result.outcome.looked_at.items())
    sign = Text(_SIGNS[result.verdict], style=_STYLES[result.verdict])
    gap = " " if console.width >= WIDE else "\n  "
    claim = result.check.claim.ljust(CLAIM_CHARS) if console.width >= WIDE else result.check.claim
    console.print(sign, Text.assemble(claim, gap, (counts, "dim")))
    for line in _render_notes(result):
        console.print(Padding(line, (0, 0, 0, 4), expand=False))


def _render_notes(result: Result) -> Iterator[Text]:
    findings, unknown = result.outcome.findings, result.outcome.unknown
    if result.verdict == Verdict.ERROR:
        yield Text("did not find its own planted leak, or found one in a clean specimen", style="magenta")
    for finding in findings[:SHOWN_NOTES]:
        yield Text.assemble((finding.where, "red"), f": {finding.what}")
    if len(findings) > SHOWN_NOTES:
        yield Text(f"and {len(findings) - SHOWN_NOTES:,} more; --json lists them all", style="dim")
    for what in unknown[:SHOWN_NOTES]:
        if what != NOTHING:  # said once for all
            yield Text(what, style="yellow")
    if len(unknown) > SHOWN_NOTES:
        yield Text(f"and {len(unknown) - SHOWN_NOTES:,} more; --json lists them all", style="dim")
    for figure in result.outcome.figures:
        yield Text(str(figure), style="dim" if isinstance(figure, str) or figure.is_met else "yellow")


def _render_controls(report: Report) -> str:
    proven = sum(result.control.is_passed for result in report.results)
    blind = sum(result.is_blind for result in report.results)
    if proven + blind < len(report.results):
        return f"Only {proven} of the {len(report.results)} checks found the leak that was planted for them."
    others = f" {blind} more can see nothing as this user, and their planted leak as little." if blind else ""
    return f"Each of the {proven} checks found its own planted leak first, and passed a clean specimen.{others}"


def _progress(*, is_shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        BarColumn(24),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not (is_shown and console.is_terminal),
    )
