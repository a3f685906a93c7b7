"""The story that the demonstration tells: visits come in, something else is written, and here is the proof."""

import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search, search_bytes
from anonproxy.clock import now
from anonproxy.demo.plan import HOST, Plan, RawMark, Visit, plan_reading, plan_showcase, plan_visits
from anonproxy.demo.stage import POLL_S, Counts, Stage, fetch, host_of, set_stage
from anonproxy.demo.traffic import Outcome, send_visits
from anonproxy.model.errors import OperatorError
from anonproxy.store.read import open_store

SEED = 1125
WRITTEN_WITHIN_S = 60.0
PAGES_AT_MOST = 25
WATCH_S = 1.0
PLANTED = 24
DISGUISES: tuple[Callable[[str], str], ...] = (str, lambda text: text.encode().hex(), quote_plus)

type Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Script:
    """What is played: the visits, the scenes that are shown one by one, and the host that they ask for."""

    plan: Plan
    showcase: Plan
    site_host: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One request as it came in, and the row that was written for it."""

    visit: Visit
    arrived: datetime
    answer: Outcome
    stored: Row


def run_demo(
    console: Console, folder: Path | None, port: int | None, site_url: str | None, visits: int, stay: bool
) -> int:
    """Tell the story; return 0 if everything held, and 1 if the audit or the search found something.

    Raises: OperatorError when something can't be started, or doesn't come to its end
    """
    folder = make_folder(folder)
    console.print()
    console.print(Panel("What a library website's visitors send, and what is left of it", expand=False, padding=(0, 2)))
    with set_stage(folder, port, site_url) as stage:
        tell(console, "the site answers at", stage.site_url)
        tell(console, "anonproxy stands in front of it at", stage.proxy_url)
        script = write_script(stage, site_url, visits)
        outcome = play(console, stage, script)
        held = [outcome.unanswered == 0]
        show_scenes(console, stage, script)
        heading(console, 2, "What the webmaster sees")
        held.append(run_verb(console, stage, "report"))
        heading(console, 3, "What the auditor sees")
        # What only root is told, of processes and journals, would be "can't tell" for most who try this.
        held.append(run_verb(console, stage, "audit", "--store-only"))
        heading(console, 4, "Whether anything is left of the visitors")
        held.append(search_everything(console, stage, script, outcome))
        heading(console, 5, "Where it is, and what to try next")
        show_next(console, stage)
        if stay:
            watch(console, stage)
    if not all(held):
        console.print("[bold red]Something did not hold: see above.[/]")
    return 0 if all(held) else 1


def make_folder(folder: Path | None) -> Path:
    """Make the folder for everything that the demonstration writes.

    Raises: OperatorError when the one that was named has something in it
    """
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="anonproxy-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OperatorError(f"{folder} is not empty. Name a new folder, so that nothing of yours is mixed in")
    except OSError as error:
        raise OperatorError(f"{folder} can't be used ({error.strerror}). Name another folder") from None
    return folder.resolve()


def write_script(stage: Stage, site_url: str | None, visits: int) -> Script:
    """Plan the visits: the whole cast for the library, readers of public pages for a site of one's own."""
    if site_url is None:
        return Script(plan_visits(SEED, visits), plan_showcase(SEED), HOST)
    site_host = host_of(site_url)
    paths = find_paths(fetch(stage.proxy_port, "/", site_host), site_host)
    scenes = plan_reading(SEED + 1, 3, paths).visits
    return Script(plan_reading(SEED, visits, paths), Plan(tuple(scene.first() for scene in scenes)), site_host)


def find_paths(html: str, site_host: str) -> list[str]:
    """List the home page and the pages of the same site that it links to, without queries."""
    links = re.findall(rf'<a\s[^>]*?href="(?:https?://{re.escape(site_host)})?(/[^"?#/][^"?#]*)', html, re.IGNORECASE)
    return ["/", *dict.fromkeys(link for link in links if link.isascii() and link.isprintable())][:PAGES_AT_MOST]


# 0: the visits


def play(console: Console, stage: Stage, script: Script) -> Outcome:
    """Send all visits through the proxy, and wait until a row is written for each request."""
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    before = stage.read_counts()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{len(script.plan.visits)} visits", total=script.plan.requests)
        outcome = send(stage, script.plan, script, lambda: progress.advance(task))
    after = wait_until_written(stage, before.requests + outcome.answered)
    answers = ", ".join(f"{number:,} × {status}" for status, number in sorted(outcome.statuses.items()))
    tell(console, f"{len(script.plan.visits):,} visits made {script.plan.requests:,} requests:", answers)
    if outcome.unanswered:
        judge(console, False, f"{outcome.unanswered} requests", "had no answer")
    dropped = after.dropped - before.dropped
    judge(console, not dropped, f"{after.written - before.written:,} rows were written,", f"{dropped:,} dropped")
    return outcome


def send(stage: Stage, plan: Plan, script: Script, on_request: Callable[[], None] = lambda: None) -> Outcome:
    """Send the visits of a plan."""
    return asyncio.run(
        send_visits(plan.visits, "127.0.0.1", stage.proxy_port, site_host=script.site_host, on_request=on_request)
    )


def wait_until_written(stage: Stage, requests: int) -> Counts:
    """Wait until every request is either written or counted as dropped.

    Raises: OperatorError when that takes too long
    """
    deadline = time.monotonic() + WRITTEN_WITHIN_S
    while True:
        counts = stage.read_counts()
        if counts.written + counts.dropped >= requests:
            return counts
        if time.monotonic() > deadline:
            missing = requests - counts.written - counts.dropped
            raise OperatorError(
                f"{missing} of {requests} requests were neither written nor dropped. See {stage.folder}"
            )
        time.sleep(POLL_S)


# 1: as it came in, and what was written


def show_scenes(console: Console, stage: Stage, script: Script) -> None:
    """Send the showcase one by one and put each request beside its row."""
    heading(console, 1, "What came in, and what was written")
    console.print(
        "Each of these visitors came by alone, and the store was read before and after. [red]Red[/] is what can tell "
        "who it was. On the right stands everything that was kept.\n"
    )
    for visit in script.showcase.visits:
        console.print(render_scene(play_scene(stage, script, visit)))


def play_scene(stage: Stage, script: Script, visit: Visit) -> Scene:
    """Send one request, wait for its row, and find it: the one that wasn't there before.

    Raises: OperatorError when there isn't exactly one
    """
    before, counts = read_rows(stage), stage.read_counts()
    arrived = datetime.fromtimestamp(now(), UTC)
    answer = send(stage, Plan((visit,)), script)
    wait_until_written(stage, counts.requests + 1)
    new = list_new_rows(before, read_rows(stage))
    if len(new) != 1:
        raise OperatorError(f"one request gave {len(new)} rows. See {stage.folder}")
    return Scene(visit, arrived, answer, new[0])


def read_rows(stage: Stage) -> Counter[tuple[tuple[str, Any], ...]]:
    """Read all rows that the store has; equal rows are counted, since nothing tells them apart."""
    with open_store(stage.store).connect() as connection:
        result = connection.execute("SELECT * FROM hits")
        names = [column[0] for column in result.description]
        return Counter(tuple(zip(names, row, strict=True)) for row in result.fetchall())


def list_new_rows(
    before: Counter[tuple[tuple[str, Any], ...]], after: Counter[tuple[tuple[str, Any], ...]]
) -> list[Row]:
    """List the rows that came in between."""
    return [dict(row) for row in (after - before).elements()]


def render_scene(scene: Scene) -> Table:
    """Draw a request beside its row."""
    table = Table(box=box.ROUNDED, title=scene.visit.kind, title_style="bold", title_justify="left", expand=True)
    table.add_column("", style="dim", no_wrap=True)
    table.add_column("as it came in", ratio=6, overflow="fold")
    table.add_column("what was written", ratio=5, overflow="fold", style="green")
    for name, raw, stored in list_facts(scene):
        table.add_row(name, mark_red(raw, scene.visit.raw_marks), stored)
    return table


def mark_red(raw: str, raw_marks: Sequence[RawMark]) -> Text:
    """Colour what can identify somebody, however it is spelled."""
    text = Text(raw)
    forms = {form for mark in raw_marks for form in (mark.raw_value, quote_plus(mark.raw_value), quote(mark.raw_value))}
    text.highlight_words(sorted(forms, key=len, reverse=True), "red")
    return text


def list_facts(scene: Scene) -> Iterator[tuple[str, str, str]]:
    """Pair what a request says with the columns that are made of it; each of the row's columns comes once."""
    [request], headers, row = scene.visit.requests, dict(scene.visit.raw_headers), scene.stored
    yield "time", f"{scene.arrived:%Y-%m-%d %H:%M:%S.%f}"[:-3], say(f"{row['time']:%Y-%m-%d %H:%M} UTC", row["site"])
    yield (
        "address",
        headers["X-Forwarded-For"],
        say(row["network"] or "no network", row["network_class"], row["country"]),
    )
    yield "page", f"{request.method} {request.raw_target}", say(f"{row['method']} {row['route']}", row["kind"])
    if request.raw_body:
        yield "sent", request.raw_body.decode(), "–"
    yield "from", request.raw_referer or "–", say(row["referrer"], row["channel"], row["campaign"])
    yield "program", headers["User-Agent"], say_program(row)
    yield "language", headers.get("Accept-Language", "–"), row["language"]
    yield "session", say_session(headers), say_visit(row)
    yield (
        "answer",
        say_answer(scene.answer),
        say(row["status"], f"≥ {row['size_bytes']:,} B", f"≥ {row['duration_ms']} ms"),
    )


def say(*words: object) -> str:
    """Join what there is."""
    return " · ".join(str(word) for word in words if word not in (None, ""))


def say_program(row: Row) -> str:
    """Name what a person used, or what sort of robot it was."""
    robot = f"robot ({row['bot']})" if row["bot"] else ""
    return say(robot, row["browser"], row["os"], row["device"])


def say_session(headers: dict[str, str]) -> str:
    """Name what would tie the requests of one visitor together."""
    wish = "Sec-GPC: 1, don't follow me" if "Sec-GPC" in headers else ""
    return wish or headers.get("Cookie", "address and program")


def say_visit(row: Row) -> str:
    """Name the visit, if its number was stored."""
    if row["visit"] is None:
        return "not followed"
    return f"visit {name_visit(row)}, after {row['elapsed_s']} s; known for 48 hours"


def name_visit(row: Row) -> str:
    """Shorten the number of a visit to what the eye can compare, and say which page of it this is."""
    return f"{row['visit'] % 10**6:06d}…" + (f", page {row['step']}" if row["step"] else "")


def say_answer(answer: Outcome) -> str:
    """Give status and exact length."""
    return say(*answer.statuses, f"{answer.size_bytes:,} B")


# 2, 3: the other verbs


def run_verb(console: Console, stage: Stage, verb: str, *options: str) -> bool:
    """Run a verb of anonproxy as anybody would, with its output going where ours goes; tell whether it was content."""
    arguments = [verb, *options, "--config", str(stage.config)]
    console.print(f"[dim]$ anonproxy {' '.join(arguments)}[/]\n", soft_wrap=True)
    console.file.flush()
    return subprocess.run([sys.executable, "-m", "anonproxy", *arguments]).returncode == 0


# 4: the search


def search_everything(console: Console, stage: Stage, script: Script, outcome: Outcome) -> bool:
    """Search every file of the demonstration for what the visitors brought, and tell whether none was found."""
    given = {RawMark("session id", value) for value in outcome.raw_session_ids}
    marks = sorted({*script.plan.marks(), *script.showcase.marks(), *given})
    needles = [Mark(mark.sort, mark.raw_value) for mark in marks]
    with console.status(f"Searching for {len(marks)} secrets in every form …"):
        result = search([stage.folder], needles)
        planted, noticed = try_search(marks[:: max(1, len(marks) // PLANTED)])
    hits = Counter(hit.label for hit in result.hits)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("what visitors brought", no_wrap=True)
    table.add_column("how many", justify="right")
    table.add_column("for example", overflow="ellipsis", no_wrap=True, style="red", max_width=34)
    table.add_column("found", justify="right")
    for sort, number in sorted(Counter(mark.sort for mark in marks).items()):
        example = next(mark.raw_value for mark in marks if mark.sort == sort)
        table.add_row(sort, f"{number:,}", Text(example), f"[red bold]{hits[sort]}[/]" if hits[sort] else "[green]0[/]")
    console.print(table)
    console.print(
        f"Searched {result.files} files, {result.size_bytes / 1e6:.1f} MB as stored and as unpacked, "
        f"{result.pages:,} pages of Parquet with their dictionaries and statistics: for each secret as text, hex, "
        "percent-encoding, base64, UTF-16 and digest; for addresses in every notation and as bytes."
    )
    for unopened in result.unopened:
        judge(console, False, f"not searched: {unopened.path}", unopened.reason)
    places = len({(hit.label, hit.path, hit.place) for hit in result.hits})
    console.print()
    judge(console, not places, f"{len(marks):,} secrets were looked for,", f"{places or 'none'} found")
    judge(console, noticed == planted, "planted in a file for comparison:", f"{noticed} of {planted} found")
    return result.is_clean and noticed == planted


def try_search(marks: Sequence[RawMark]) -> tuple[int, int]:
    """Plant secrets in disguise and search for them: a search that finds nothing must first show that it can.

    Shape: how many were planted, how many were found
    """
    planted = "\n".join(disguise(mark.raw_value) for mark, disguise in zip(marks, cycle(DISGUISES), strict=False))
    hits = search_bytes(planted.encode(), [Mark(str(number), mark.raw_value) for number, mark in enumerate(marks)]).hits
    return len(marks), len({hit.label for hit in hits})


# 5: what is next


def show_next(console: Console, stage: Stage) -> None:
    """Say where everything is, and what to do with it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in {
        "program": Path(sys.executable).with_name("anonproxy"),
        "folder": stage.folder,
        "in it": "anonproxy.toml; store, of Parquet that any tool can read; proxy.log and site.log",
        "": "",
        "go there": f"cd {stage.folder}",
        "ask more": "anonproxy report list; anonproxy report pages",
        "as pages": "anonproxy web, then open http://127.0.0.1:9902",
        "one request": "anonproxy explain --help",
        "your own site": "anonproxy demo --site http://127.0.0.1:8000",
        "for good": "anonproxy init; anonproxy check; anonproxy run",
        "clean up": f"rm -r {stage.folder}",
    }.items():
        table.add_row(name, str(text))
    console.print(table)


def watch(console: Console, stage: Stage) -> None:
    """Invite to a visit, and print each row as it is written, until Ctrl-C."""
    # Before anybody is invited: what is written later is new, and counted later than it is read it would be missed.
    written, rows = stage.read_counts().written, read_rows(stage)
    console.print(
        f"\n[bold]Your turn:[/] open [bold]{stage.proxy_url}[/], search for something, log in, come back here.\n"
        "What is written about you appears below, in no particular order (style sheets left out). Ctrl-C ends it.\n"
    )
    try:
        while True:
            time.sleep(WATCH_S)
            counts = stage.read_counts()
            if counts.written == written:
                continue
            before, rows, written = rows, read_rows(stage), counts.written
            for row in list_new_rows(before, rows):
                if row["kind"] != "asset":
                    console.print(render_row(row))
    except KeyboardInterrupt:
        console.print("\nStopping …")
    except OSError:
        raise OperatorError(
            f"anonproxy has ended by itself. Its last words are in {stage.folder / 'proxy.log'}"
        ) from None


def render_row(row: Row) -> Text:
    """Write a row in one line."""
    visit = "" if row["visit"] is None else f"visit {name_visit(row)}"
    text = Text(f"{row['time']:%H:%M}  ", style="dim")
    text.append(f"{row['method']} {row['route']}", style="bold green")
    place = say(row["network"], row["network_class"], row["country"])
    return text.append(f"  {say(row['kind'], row['status'], visit, row['referrer'], say_program(row), place)}")


def heading(console: Console, number: int, text: str) -> None:
    """Begin a part."""
    console.print()
    console.rule(f"[bold]{number}  {text}", align="left")
    console.print()


def tell(console: Console, fact: str, value: str) -> None:
    """Say that something went well."""
    judge(console, True, fact, value)


def judge(console: Console, good: bool, fact: str, value: str) -> None:
    """Say whether something went well."""
    console.print(f"  {'[green]✓[/]' if good else '[red]✗[/]'} {fact} [bold]{value}[/]", soft_wrap=True)
