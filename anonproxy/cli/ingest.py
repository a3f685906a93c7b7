"""`anonproxy ingest`: bring old logs into the store, and nothing of them that identifies anyone."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from anonproxy.audit.check import Verdict
from anonproxy.audit.run import run_audit
from anonproxy.cli import EXIT_WRONG, options
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.ingest.import_store import ImportStore, open_for_import
from anonproxy.ingest.intake import read_imported
from anonproxy.ingest.jobs import Engine, read_here, read_in_processes
from anonproxy.ingest.pipeline import Skip, Task, find_home, find_zone
from anonproxy.ingest.run_import import Tally, Unreadable, run_import
from anonproxy.ingest.shred import find_copies_on_write, shred
from anonproxy.ingest.sitemap import fetch_sitemap_paths
from anonproxy.ingest.sources import STDIN, Source, find_logs, open_sources
from anonproxy.ingest.spark import read_on_spark
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import MAX_DAILY_MONTHS, Settings
from anonproxy.model.vocabularies import DropReason
from anonproxy.proxy import quiet
from anonproxy.store.imports import Made, Refusal, Shelf, find_taken

# Files and reasons that the terminal shows; --json has them all.
SHOWN_FILES: Final = 12

# How much of a processor readers leave to a proxy that is busy: a tenth is theirs (sched(7)).
STANDING_BACK: Final = 10

DATE = click.DateTime(["%Y-%m-%d"])

# What became of lines that are in no day, in words, and what helps.
REASONS: Final[dict[str, str]] = {
    Refusal.TOO_OLD: "older than daily_months = {daily_months} keeps; "
    "raise [store] daily_months, {most} at most, to import them",
    Refusal.NOT_OVER: "of days that are not over, or have visits that may go on; import them tomorrow",
    Refusal.IMPORTED: "of days that were imported before; --replace makes those days anew",
    Refusal.RECORDED: "of days that the proxy has recorded itself, which can't be added to",
    Skip.NOT_ASKED: "outside --since and --until",
    Skip.OUT_OF_ORDER: "more than an hour behind the lines around them; give the parts of the log as single files",
    DropReason.UNKNOWN_SITE: "of hosts that no site names; add them to hosts, or say whose they are with --site",
    DropReason.BAD_ADDRESS: "without an address that can be read",
    DropReason.BAD_TIME: "with a time that can't be",
    DropReason.OVERSIZED: "with a value longer than any server takes",
    DropReason.OUTSIDE_VOCABULARY: "an error of anonproxy's own; dropped to be safe. Report it",
    DropReason.INTERNAL_ERROR: "an error of anonproxy's own; dropped to be safe. Report it",
}
REJECTIONS: Final[dict[str, str]] = {
    "not_this_format": "not in the file's format",
    "bad_time": "a time that can't be read",
    "too_long": "longer than any line of a log",
    "truncated": "cut off at the end of the file",
    Skip.DAMAGED: "from here on the file is damaged",
}


@click.command("ingest", context_settings={"max_content_width": 100})
@click.argument("names", nargs=-1, required=True, metavar="FILES...", type=click.Path(path_type=Path, allow_dash=True))
@options.config
@click.option(
    "--into",
    "into",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Store to import into. Default: the one that the configuration names.",
)
@click.option("--site", metavar="NAME", help="The site of all lines. Default: by the host that a line names.")
@click.option(
    "--format",
    "format_name",
    metavar="FORMAT",
    help="A format's name, or its definition as it stands in the server's configuration. Default: detected.",
)
@click.option("--since", type=DATE, metavar="DATE", help="First day to import (UTC).")
@click.option("--until", type=DATE, metavar="DATE", help="Last day to import (UTC).")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that read.")
@click.option(
    "--engine",
    type=click.Choice(["processes", "spark"]),
    default="processes",
    show_default=True,
    help="Who reads: processes of this machine, or the workers of a Spark cluster (extra `spark`).",
)
@click.option(
    "--master", metavar="URL", default="local[*]", show_default=True, help="The cluster, like spark://head:7077."
)
@click.option("--replace", is_flag=True, help="Make days anew that were imported before.")
@click.option("--strict", is_flag=True, help="Stop at the first line that can't be read.")
@click.option("--dry-run", is_flag=True, help="Read everything, say what would be written, and write nothing.")
@click.option(
    "--shred",
    "is_shredding",
    is_flag=True,
    help="Afterwards audit the store, and if it passes, offer to overwrite and delete the files.",
)
@click.option("--yes", is_flag=True, help="Shred without asking.")
@click.option("--json", "as_json", is_flag=True, help="Write the summary as JSON, for machines.")
@click.pass_context
def command(
    ctx: click.Context,
    names: tuple[Path, ...],
    config_path: Path | None,
    into: Path | None,
    site: str | None,
    format_name: str | None,
    since: datetime | None,
    until: datetime | None,
    jobs: int,
    engine: str,
    master: str,
    replace: bool,
    strict: bool,
    dry_run: bool,
    is_shredding: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Bring old logs into the store, and nothing of them that identifies anyone.

    FILES are logs, plain or compressed (gzip, bzip2, xz, zstd), folders of them, or - for a pipe. Give all logs of a
    period at once, in any order, also those of several servers: a day is imported once, whole, and closed. Lines are
    read in memory, and so are visits numbered; no hash of a session and no number of a visit ever reaches the disk:
    each day is settled at once, and kept as long as the configuration says. A proxy or a collector that runs goes on:
    it is handed each day, and writes it.

    What can't be read is counted by reason and line number; its text is never shown. Interrupted, the same command goes
    on with the days that are missing.

    \b
    anonproxy ingest /var/log/nginx --dry-run
    anonproxy ingest /var/log/apache2/access.log* --site www --jobs 2
    anonproxy ingest ezproxy.log --format '%h %l %u %t "%r" %s %b' --site databases
    ssh old-server cat access.log.gz | gunzip | anonproxy ingest -

    Exit status: 0 imported; 1 with --strict, a line can't be read; with --shred, something is left; 2 usage or
    environment.
    """
    quiet.harden()  # of each log the first lines are looked at here, to tell its format
    settings = read_settings(options.find_config(config_path))
    if into:
        settings = settings.model_copy(
            update={"store": settings.store.model_copy(update={"path": str(into), "work_path": ""})}
        )
    root = Path(settings.store.folder)
    plan = make_plan(settings, root, names, site, format_name, replace=replace)
    task = plan.task._replace(since=since.date() if since else date.min, until=until.date() if until else date.max)
    reader = choose_engine(task, jobs, engine, master)
    console = Console(highlight=False, stderr=as_json)
    print_plan(console, plan, root)
    with nullcontext(None) if dry_run else open_for_import(root, settings, replaces=replace) as store:
        if store:  # no other import writes from now on
            if store.is_running:
                stand_back(console)
            task = task._replace(shelf=find_shelf(settings, root, replace=replace))
        try:
            with _progress(console, task, is_shown=not as_json) as progress:
                tally = run_import(task, reader, store.write if store else _forget, progress, is_strict=strict)
        except Unreadable as error:
            click.echo(f"anonproxy: {error}", err=True)
            ctx.exit(EXIT_WRONG)
        except KeyboardInterrupt:
            raise OperatorError(
                "stopped. The days that are whole are imported; the same command goes on with those that are missing"
            ) from None
        if as_json:
            click.echo(json.dumps(render_json(tally, dry_run=dry_run), indent=2))
        else:
            print_summary(console, tally, settings, dry_run=dry_run)
        if is_shredding and store and not offer_to_shred(console, tally, root, settings, store, yes=yes):
            ctx.exit(EXIT_WRONG)


def _forget(made: Made) -> None:
    """Write nothing, on a dry run."""


def stand_back(console: Console) -> None:
    """Let a proxy that runs on this machine go first, for as long as this process and those that it starts live."""
    os.nice(STANDING_BACK)
    console.print("anonproxy goes on recording into this store, and writes each day as it comes.\n")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be read, and what was found and is none of it."""

    task: Task
    others: tuple[Path, ...]


def make_plan(
    settings: Settings, root: Path, names: tuple[Path, ...], site: str | None, format_name: str | None, *, replace: bool
) -> Plan:
    """Find out what there is to read, and for which sites.

    Raises: OperatorError
    """
    if site and site not in {each.name for each in settings.sites}:
        raise OperatorError(f"no such site; there are: {', '.join(each.name for each in settings.sites)}")
    sources, others = open_sources(*find_logs(names), format_name, find_zone(settings.privacy), settings.proxy)
    if not sources:
        raise OperatorError("no log among these files")
    homeless = next((source for source in sources if not source.names_hosts), None)
    if homeless and find_home(settings, site) is None:
        raise OperatorError(f"{homeless.path} names no hosts, and there are several sites. Say whose it is with --site")
    learned = {each.name: fetch_sitemap_paths(each) for each in settings.sites if site in {None, each.name}}
    shelf = find_shelf(settings, root, replace=replace)
    return Plan(Task(settings, tuple(sources), shelf, site, learned=learned), tuple(others))


def find_shelf(settings: Settings, root: Path, *, replace: bool) -> Shelf:
    """Find out which days there is room for."""
    taken = find_taken(root, read_imported(root))
    if replace:
        taken = {day: refusal for day, refusal in taken.items() if refusal != Refusal.IMPORTED}
    return Shelf(int(now()), settings.store, taken)


def choose_engine(task: Task, jobs: int, engine: str, master: str) -> Engine:
    """Choose who reads: what comes from a pipe can be read here only."""
    if engine == "spark":
        return read_on_spark(master, _guard_task)
    if any(source.path == STDIN for source in task.sources):
        return read_here
    return read_in_processes(jobs, partial(_guard, os.getpid()))


def _guard_task() -> None:
    """Begin a task on a cluster likewise."""
    quiet.silence()
    quiet.harden()


def _guard(parent: int) -> None:
    """Begin a process that holds raw lines and keys: silent, without core dumps, gone when its parent is."""
    _guard_task()
    quiet.follow_parent(parent)


@contextmanager
def _progress(console: Console, task: Task, *, is_shown: bool) -> Iterator[Callable[[Tally], None]]:
    """Show how far it is, on a terminal only."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (is_shown and console.is_terminal),
    )
    reading = bar.add_task("reading", total=sum(source.size_bytes for source in task.sources) or None, speed="")

    def show(tally: Tally) -> None:
        elapsed_s = bar.tasks[reading].elapsed or 0
        speed = f"{tally.read / elapsed_s:,.0f} lines/s" if elapsed_s else ""
        bar.update(reading, completed=tally.read_bytes, speed=speed, description=f"{len(tally.days):,} days")

    with bar:
        yield show


def print_plan(console: Console, plan: Plan, root: Path) -> None:
    """Say what is read as what, and what isn't."""
    by_format: dict[str, list[Source]] = {}
    for source in plan.task.sources:
        by_format.setdefault(f"{source.format.name} ({source.format.title})", []).append(source)
    console.print(f"[bold]Import into {root}[/]")
    for name, sources in by_format.items():
        _print_files(console, f"read as {name}", [source.path for source in sources])
    if plan.others:
        _print_files(console, "not read, since no format fits", plan.others)
    console.print()


def _print_files(console: Console, what: str, paths: Sequence[Path]) -> None:
    shown = ", ".join(map(str, paths[:SHOWN_FILES]))
    more = f" and {len(paths) - SHOWN_FILES:,} more" * (len(paths) > SHOWN_FILES)
    console.print(Text.assemble((f"{what}: ", "dim"), shown, more), soft_wrap=True)


def print_summary(console: Console, tally: Tally, settings: Settings, *, dry_run: bool) -> None:
    """Say what became of every line, and which days are there now."""
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_row(f"{tally.read:,}", "lines read")
    if tally.ignored:
        table.add_row(f"{tally.ignored:,}", "headers, comments and empty lines")
    table.add_row(f"{tally.written:,}", "would be counted" if dry_run else "counted", style="green")
    words = {"daily_months": settings.store.daily_months, "most": MAX_DAILY_MONTHS}
    for reason, count in tally.lost.most_common():
        table.add_row(f"{count:,}", Text(REASONS.get(reason, reason).format(**words)), style="yellow")
    for reason, count in tally.rejected.most_common():
        table.add_row(f"{count:,}", f"not read: {REJECTIONS.get(reason, reason)}", style="yellow")
    console.print(table)
    for path, reasons in list(tally.rejected_lines.items())[:SHOWN_FILES]:
        for reason, numbers in reasons.items():
            lines = ", ".join(f"{number:,}" for number in numbers)
            console.print(
                f"  {path}: {REJECTIONS.get(reason, reason)}, first in line {lines}", style="dim", soft_wrap=True
            )
    if tally.days:
        dates = sorted(when for _, when, _ in tally.days)
        sites = ", ".join(sorted({site for site, _, _ in tally.days}))
        count = len(set(dates))
        span = f"{dates[0]}" if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        console.print(f"\n{count:,} day{'s' * (count > 1)} of {sites}: {span}")
    if dry_run:
        console.print("Nothing was written: this was a dry run.")


def render_json(tally: Tally, *, dry_run: bool) -> dict[str, Any]:
    """Render what became of every line."""
    return {
        "dry_run": dry_run,
        "files": {str(source.path): source.format.name for source in tally.sources},
        "read": tally.read,
        "ignored": tally.ignored,
        "written": tally.written,
        "dropped": dict(tally.lost),
        "rejected": dict(tally.rejected),
        "rejected_lines": {str(path): reasons for path, reasons in tally.rejected_lines.items()},
        "days": [{"site": site, "date": str(when), "rows": rows} for site, when, rows in sorted(tally.days)],
    }


# Lines that another import could still bring in: their files are not shredded.
STILL_NEEDED: Final = (Refusal.NOT_OVER, Skip.NOT_ASKED, DropReason.UNKNOWN_SITE)


def offer_to_shred(
    console: Console, tally: Tally, root: Path, settings: Settings, store: ImportStore, *, yes: bool
) -> bool:
    """Delete the originals if the store passes its audit and the operator agrees; tell whether they are gone."""
    files = [source for source in tally.sources if source.path != STDIN]
    paths = [source.path for source in files]
    if grown := [source.path for source in files if source.path.stat().st_size != source.size_bytes]:
        console.print(f"\nNothing is shredded: {grown[0]} has changed while it was read. Shred it once it is rotated.")
        return False
    if needed := [reason for reason in STILL_NEEDED if tally.lost[reason]]:
        console.print(f"\nNothing is shredded: the files hold lines {REASONS[needed[0]]}.")
        return False
    console.print("\nAudit of the store, before anything is deleted…")
    report = run_audit(root, now(), settings)
    if report.verdict != Verdict.PASS:
        console.print("Nothing is shredded: the audit doesn't pass. `anonproxy audit` says why.", style="bold red")
        return False
    lost = tally.lost.total() + tally.rejected.total()
    console.print(f"It passes. {len(paths):,} files are to be deleted; {lost:,} of their lines are counted in no day.")
    copies = find_copies_on_write(paths)
    console.print(
        "They are overwritten where they lie. That doesn't reach copies: backups, snapshots, and what an SSD has put "
        "elsewhere."
        + f" This file system ({', '.join(copies)}) writes elsewhere itself, so only deletion counts."
        * bool(copies)
    )
    if not yes and not click.confirm("Shred them?", err=True):
        return False
    store.tell_shredded(len(paths))  # no length: it would confirm a guess of what they held
    left = []
    for path in paths:
        try:
            shred(path)
        except OSError as error:
            left.append(path)
            console.print(f"{path}: can't be shredded ({error.strerror}). Delete it by hand", style="bold red")
    console.print(f"{len(paths) - len(left):,} files are gone.")
    return not left
