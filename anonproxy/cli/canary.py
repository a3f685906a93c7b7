"""`anonproxy canary`: send marked requests through the running proxy and search for them."""

import json
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from anonproxy.audit.canary import Canary, parse_target, run_canary
from anonproxy.audit.check import Outcome, Verdict
from anonproxy.audit.processes import look_around
from anonproxy.cli import EXIT_WRONG, options
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.ingest.control import ask

# Findings at one place that the terminal shows; --json has them all.
SHOWN_FINDINGS: Final = 12

_SIGNS: Final = {
    Verdict.PASS: ("✓", "green"),
    Verdict.FAIL: ("✗", "bold red"),
    Verdict.UNKNOWN: ("?", "yellow"),
}
_CLOSINGS: Final = {
    Verdict.PASS: "In plain words: the proxy took all of it down, and nothing in what it wrote tells what was sent.",
    Verdict.FAIL: "In plain words: this set-up does not keep what it promises. What is wrong stands above.",
    Verdict.UNKNOWN: "In plain words: nothing was found, but not everything could be searched, so this is no proof.",
}


@click.command("canary", context_settings={"max_content_width": 100})
@click.argument("url")
@options.config
@options.store
@click.option("--host", metavar="NAME", help="Host to ask for. Default: the URL's, else the configuration's first.")
@click.option(
    "--look-in",
    "look_in",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="File or folder to search beside those of the configuration, like the site's own logs. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON, for machines.")
@click.pass_context
def command(
    ctx: click.Context,
    url: str,
    config_path: Path | None,
    store_path: Path | None,
    host: str | None,
    look_in: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Send marked requests through the running proxy and search for them.

    Some 75 requests of all kinds go to URL, ordinary ones and broken ones. Each carries secrets made up for it: in
    addresses, paths, searches, cookies, passwords, forms and so on. Once their rows are written, the proxy is told to
    seal the hour and to destroy its key. Then every byte of the store is searched for every secret in every encoding,
    and with it what [audit] look_in and --look-in name, what the proxy's processes print, their journal, and what they
    left in temporary folders. Run it on the proxy's machine, as root, who may see all that.

    It is safe in production, once a day or so. It sends what visitors send, though the site gets an odd POST to its
    home page. It leaves some 65 rows that count as a few dozen visits: they can be counted, and not be told from other
    rows. Visits that go on meanwhile are counted anew, since their key is gone. The secrets are never written or
    shown; what is found goes by its label, like "search term".

    Exit status: 0 nothing was found; 1 a secret was found, rows are missing, or something could not be searched; 2 the
    proxy or the store can't be reached.

    \b
    anonproxy canary http://127.0.0.1:8080 --look-in /var/log/nginx
    anonproxy canary https://library.example.org
    """
    settings = None
    if config_path or not store_path:
        settings = read_settings(options.find_config(config_path))
    target, root = parse_target(url, settings, host), options.find_store(store_path, config_path)
    configured = [path for path in map(Path, settings.audit.look_in if settings else ()) if path.exists()]
    with _progress(is_shown=not as_json) as bar:
        task = bar.add_task("")
        canary = run_canary(
            target,
            root,
            now(),
            partial(ask, root),
            settings,
            (*configured, *look_in),
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            look_around(root),
        )
    if as_json:
        click.echo(json.dumps(render_json(canary), indent=2, ensure_ascii=False))
    else:
        print_canary(Console(highlight=False), canary)
    if canary.verdict != Verdict.PASS:
        ctx.exit(EXIT_WRONG)


def render_json(canary: Canary) -> dict[str, Any]:
    """Render a run with all its evidence."""
    return {
        "url": canary.url,
        "requests": canary.requests,
        "rows": canary.rows,
        "account": canary.account,
        "places": list(canary.places),
        "verdict": canary.verdict,
        "answers": [
            {
                "claim": answer.claim,
                "verdict": answer.verdict,
                "looked_at": dict(answer.outcome.looked_at),
                "findings": [{"where": finding.where, "what": finding.what} for finding in answer.outcome.findings],
                "unknown": list(answer.outcome.unknown),
            }
            for answer in canary.answers
        ],
    }


def print_canary(console: Console, canary: Canary) -> None:
    """Print a line for each claim, what was found below it, and what it all means."""
    console.print(f"[bold]Canary at {canary.url}[/]")
    console.print(f"{canary.account}.\nSearched: {', '.join(canary.places)}.\n", style="dim", soft_wrap=True)
    for answer in canary.answers:
        sign, style = _SIGNS[answer.verdict]
        counts = ", ".join(f"{count:,} {what}" for what, count in answer.outcome.looked_at.items())
        console.print(Text.assemble((sign, style), f" {answer.claim}\n  ", (counts, "dim")))
        for note in _render_notes(answer.outcome):
            console.print(Padding(note, (0, 0, 0, 4)))
    console.print(f"\n{_CLOSINGS[canary.verdict]}")


def _render_notes(outcome: Outcome) -> Iterator[Text]:
    """Write each place once, with what was found there."""
    for where, group in groupby(outcome.findings, lambda finding: finding.where):
        found = [finding.what for finding in group]
        more = f"; and {len(found) - SHOWN_FINDINGS} more, --json lists them all" * (len(found) > SHOWN_FINDINGS)
        yield Text.assemble((where, "red"), f": {'; '.join(found[:SHOWN_FINDINGS])}", (more, "dim"))
    yield from (Text(what, style="yellow") for what in outcome.unknown)


def _progress(*, is_shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not (is_shown and console.is_terminal),
    )
