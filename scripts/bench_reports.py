"""Measure the reports over a year of traffic: each one cold and warm, the dashboard's pages, and GoAccess beside them.

The traffic is synthetic: a few days are invented row by row and folded as the store folds them, and the year repeats
them under its own dates. Rows go straight into hits/ and daily/, through the store's own rendering.
"""

import argparse
import asyncio
import datetime
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from starlette.applications import Starlette
from starlette.types import Message, Scope

from anonproxy.model.settings import WebSettings
from anonproxy.model.vocabularies import DURATION_BUCKETS_MS, ELAPSED_BUCKETS_S, SIZE_BUCKETS_BYTES
from anonproxy.reports import session as sessions
from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, definitions
from anonproxy.reports.session import Session
from anonproxy.store.disk import publish
from anonproxy.store.layout import HOUR_S, Day, Hour
from anonproxy.store.settle import fold_day
from anonproxy.store.sql import add_date
from anonproxy.store.tables import SCHEMAS, render_parquet
from anonproxy.web.app import build_app

FIRST: Final = datetime.date(2025, 12, 1)
DAYS: Final = 365
INVENTED_DAYS: Final = 14
K: Final = 10
VISIT_ROWS: Final = 4
CHANCE: Final = np.random.default_rng(1)

ROUTES: Final = np.array(["/", "/events", "/hours", "/search", "/record/{id}", *(f"/page/{n}" for n in range(400))])
KINDS: Final = np.array(["page", "page", "page", "search", "item", *(["page"] * 400)])
WEIGHTS: Final[dict[str, dict[Any, int]]] = {  # how often each value comes
    "country": {"US": 90, "CA": 4, "MX": 2, "DE": 1, "GB": 1, "IN": 1, "??": 1},
    "network_class": {"remote": 80, "in-library": 18, "staff": 2},
    "browser": {"Chrome": 50, "Safari": 30, "Firefox": 10, "Edge": 9, "Other": 1},
    "os": {"Windows": 40, "iOS": 28, "Android": 15, "macOS": 14, "Linux": 3},
    "device": {"desktop": 55, "phone": 40, "tablet": 5},
    "language": {"en": 85, "es": 10, "pl": 2, "zh": 2, "other": 1},
    "referrer": {"(direct)": 50, "google.com": 35, "bing.com": 6, "facebook.com": 5, "(other)": 4},
    "status": {200: 90, 304: 5, 404: 4, 500: 1},
}


def main() -> None:
    """Make a year, ask everything, and let GoAccess read a log of it."""
    parser = argparse.ArgumentParser(prog="scripts/bench reports", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hits", type=int, default=10_000_000, help="requests of the year (default: %(default)s)")
    parser.add_argument("--log-lines", type=int, default=2_000_000, help="lines for GoAccess (default: %(default)s)")
    parser.add_argument("--store", type=Path, help="keep the store here, and take it if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anonproxy-bench-") as folder:
        root = options.store or Path(folder, "store")
        if not root.exists():
            took("a year made", lambda: make_year(root, options.hits))
        show_size(root, options.hits)
        bench_reports(root)
        bench_pages(root)
        bench_live(root, options.hits)
        bench_goaccess(Path(folder, "access.log"), options.log_lines, options.hits)


# --- A year -----------------------------------------------------------------------------------------------------


def make_year(root: Path, count: int) -> None:
    """Write a settled year."""
    root.mkdir(parents=True)
    invented = [fold(root, count // DAYS) for _ in range(INVENTED_DAYS)]
    for number in range(DAYS):
        day = Day(root, "www", FIRST + datetime.timedelta(days=number))
        for kind, table in invented[number % INVENTED_DAYS].items():
            publish(root, day.file(kind), render_parquet(move(table, day), kind), day.starts_at)


def fold(root: Path, count: int) -> dict[Any, pa.Table]:
    """Invent a day and fold it as the store does."""
    day = Day(root, "www", FIRST)
    return dict(fold_day(day, add_date(invent(day, count), day.date), None, K))


def invent(day: Day, count: int) -> pa.Table:
    """Invent a day of visits of a few pages each, more of them in the afternoon; every tenth request is a robot's."""
    visits = count // VISIT_ROWS + 1
    of = np.repeat(np.arange(visits), VISIT_ROWS)[:count]
    step = np.tile(np.arange(1, VISIT_ROWS + 1), visits)[:count]
    is_robot = (CHANCE.random(visits) < 0.1)[of]
    hour = np.clip(CHANCE.normal(14, 4, visits), 0, 23).astype(int)[of]
    route = np.minimum(CHANCE.zipf(1.4, count) - 1, len(ROUTES) - 1)
    chosen = {name: pick(weights, visits)[of] for name, weights in WEIGHTS.items() if name != "status"}
    status = pick(WEIGHTS["status"], count)
    first = step == 1
    referrer = np.where(first, chosen["referrer"], "(internal)")
    columns: dict[str, Any] = {
        **chosen,
        "time": day.starts_at + hour * HOUR_S,
        "site": np.full(count, "www"),
        "method": np.full(count, "GET"),
        "route": np.where(status == 404, "(unmatched)", ROUTES[route]),
        "kind": KINDS[route],
        "status": status,
        "size_bytes": np.array(SIZE_BUCKETS_BYTES)[CHANCE.integers(1, 10, count)],
        "duration_ms": np.array(DURATION_BUCKETS_MS)[np.minimum(CHANCE.poisson(3, count), 11)],
        "visit": pa.array(np.arange(1, visits + 1, dtype=np.uint64)[of], pa.uint64(), mask=is_robot),
        "step": pa.array(step.astype(np.uint8), pa.uint8(), mask=is_robot),
        "elapsed_s": pa.array(np.array(ELAPSED_BUCKETS_S)[step].astype(np.int32), pa.int32(), mask=is_robot),
        "network": pa.nulls(count, pa.string()),
        "referrer": referrer,
        "channel": np.where(referrer == "(internal)", "internal", np.where(referrer == "(direct)", "direct", "search")),
        "campaign": pa.nulls(count, pa.string()),
        "bot": np.where(is_robot, pick({"search": 50, "ai": 40, "monitor": 10}, count), ""),
    }
    schema = SCHEMAS["hot"]
    arrays = [columns[f.name] if isinstance(columns[f.name], pa.Array) else pa.array(columns[f.name]) for f in schema]
    return pa.table([array.cast(f.type) for array, f in zip(arrays, schema, strict=True)], schema=schema)


def pick(weights: dict[Any, int], count: int) -> Any:
    """Draw values by their weights."""
    shares = np.array(list(weights.values())) / sum(weights.values())
    return CHANCE.choice(np.array(list(weights)), count, p=shares)


def move(table: pa.Table, day: Day) -> pa.Table:
    """Give a day's rows another date."""
    if "date" in table.column_names:
        at = table.schema.get_field_index("date")
        return table.set_column(at, table.schema.field(at), pa.repeat(pa.scalar(day.date, pa.date32()), len(table)))
    at = table.schema.get_field_index("time")
    shift = day.starts_at - Day(day.root, day.site, FIRST).starts_at
    moved = pa.array(table["time"].cast(pa.int64()).to_numpy() + shift).cast(table.schema.field(at).type)
    return table.set_column(at, table.schema.field(at), moved)


# --- What is measured -------------------------------------------------------------------------------------------


def bench_reports(root: Path) -> None:
    """Answer every report for the whole year: first of all, again, for other days, and of a part of the visits."""
    year = Query(Period(FIRST, FIRST + datetime.timedelta(days=DAYS - 1)))
    names = [definition.name for definition in definitions()]
    opened = Session(root, K)
    took("overview of the year, cold", lambda: opened.run("overview", year))
    took("overview of other days, warm", partial(opened.run, "overview", other(year)))
    took("overview of the year again", partial(opened.run, "overview", year))
    fresh = Session(root, K)
    took(f"all {len(names)} reports of the year, cold", lambda: [fresh.run(name, year) for name in names])
    took("the same again", lambda: [fresh.run(name, year) for name in names])
    slowest = sorted((timed(partial(fresh.run, name, other(year))), name) for name in names)[-5:]
    show("slowest, other days", ", ".join(f"{name} {1000 * s:.0f} ms" for s, name in reversed(slowest)))
    phones = Query(year.period, None, (("device", "phone"),))
    took("overview of phones, first of this filter", lambda: fresh.run("overview", phones))
    took("all reports of phones after it", lambda: [fresh.run(name, phones) for name in names])


def other(year: Query) -> Query:
    """Ask for other days."""
    return Query(Period(year.period.since + datetime.timedelta(days=31), year.period.until))


def bench_pages(root: Path) -> None:
    """Fetch each of the dashboard's pages over the year, the first time and again."""
    end = datetime.datetime.combine(FIRST + datetime.timedelta(days=DAYS), datetime.time(), datetime.UTC).timestamp()
    app = build_app(Session(root, K), WebSettings(), datetime.UTC, clock=lambda: end)
    period = f"since={FIRST}&until={FIRST + datetime.timedelta(days=DAYS - 1)}"
    pages = ["/", "/hidden", "/api", "/live", *(f"/report/{definition.name}" for definition in definitions())]
    took("dashboard of the year, first", partial(fetch, app, "/", period))
    took("dashboard of the year, again", partial(fetch, app, "/", period))
    took("dashboard of the last 30 days, first", partial(fetch, app, "/", ""))
    for page in pages:
        fetch(app, page, period)
    slowest = sorted((timed(partial(fetch, app, page, period)), page) for page in pages)[-3:]
    show(f"slowest of {len(pages)} pages, again", ", ".join(f"{p} {1000 * s:.0f} ms" for s, p in reversed(slowest)))


def bench_live(root: Path, hits: int) -> None:
    """Fetch pages over the last twelve months while a segment is added and seen before each."""
    today = Day(root, "www", FIRST + datetime.timedelta(days=DAYS))
    end = today.starts_at + 12 * HOUR_S
    app = build_app(Session(root, K), WebSettings(), datetime.UTC, clock=lambda: end)
    pages = ["/", *(f"/report/{definition.name}" for definition in definitions())]
    period = f"since={FIRST + datetime.timedelta(days=1)}&until={today.date}"
    try:
        with patch.object(sessions, "steady") as clock:
            clock.return_value = 0.0
            for query in (period, f"{period}&where=device=phone"):
                add_segment(today, hits // DAYS, 0)
                clock.return_value += sessions.FRESH_S
                for page in pages:
                    fetch(app, page, query)
                seconds = []
                for number, page in enumerate(pages, 1):
                    add_segment(today, 100, number)
                    clock.return_value += sessions.FRESH_S
                    seconds.append((timed(partial(fetch, app, page, query)), page))
                slowest = ", ".join(f"{page} {1000 * s:.0f} ms" for s, page in sorted(seconds, reverse=True)[:4])
                show(f"{len(pages)} pages, a new segment before each", f"/ {1000 * seconds[0][0]:.0f} ms; {slowest}")
                shutil.rmtree(today.folder("hot"))
    finally:
        shutil.rmtree(today.folder("hot"), ignore_errors=True)


def add_segment(day: Day, count: int, number: int) -> None:
    """Add requests to a hot day."""
    path = Hour(day, 12).open / f"{number:016x}.parquet"
    publish(day.root, path, render_parquet(invent(day, count), "hot"), day.starts_at)


def fetch(app: Starlette, path: str, query: str) -> None:
    """Ask the application for a page, as a server would."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"host", b"127.0.0.1:9902")]
    scope: Scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path, "root_path": "",
        "raw_path": path.encode(), "query_string": query.encode(), "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 9902),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    if statuses != [200]:
        raise SystemExit(f"{path} answered {statuses}")


def bench_goaccess(log: Path, lines: int, hits: int) -> None:
    """Let GoAccess read a log with as many different things in it."""
    program = shutil.which("goaccess")
    if not program or not lines:
        show("GoAccess", "not here")
        return
    write_log(log, lines)
    command = [program, str(log), "--log-format=COMBINED", "--no-progress", "-o", str(log.with_suffix(".html"))]
    seconds = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    show("GoAccess, its report", f"{seconds:.1f} s for {lines:,} lines: {seconds * hits / lines:.0f} s for {hits:,}")


def write_log(path: Path, count: int) -> None:
    """Write a combined log like the rows of the year."""
    chance = random.Random(1)  # noqa: S311 - what it invents need not be hard to guess
    routes = [str(route) for route in ROUTES]
    weights = [1 / (rank + 1) ** 1.4 for rank in range(len(routes))]
    paths = chance.choices(routes, weights, k=10_000)
    agents = [f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/{n}.0.0.0 Safari/537.36" for n in range(99)]
    with path.open("w", encoding="ascii") as log:
        for number in range(count):
            day, second = divmod(number * DAYS * 86_400 // count, 86_400)
            moment = datetime.datetime(2025, 12, 1) + datetime.timedelta(days=day, seconds=second)  # noqa: DTZ001
            client = f"{20 + number % 180}.{number // 251 % 251}.{number % 251}.{number * 7 % 251}"
            target = paths[number % 10_000].replace("{id}", str(number % 5_000))
            log.write(
                f'{client} - - [{moment:%d/%b/%Y:%H:%M:%S} +0000] "GET {target} HTTP/1.1" 200 {number % 50_000} '
                f'"-" "{agents[number % 99]}"\n'
            )


def timed(act: Callable[[], object]) -> float:
    """Return how long something takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def took(what: str, act: Callable[[], object]) -> None:
    """Print how long something takes."""
    began = time.process_time()
    seconds = timed(act)
    show(what, f"{1000 * seconds:8,.0f} ms, {1000 * (time.process_time() - began):8,.0f} ms of processor time")


def show_size(root: Path, hits: int) -> None:
    """Print what the store takes up."""
    size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
    show("store", f"{hits:,} requests, {size / 1e6:,.0f} MB")


def show(what: str, result: str) -> None:
    """Print a line."""
    print(f"{what:42} {result}", flush=True)


if __name__ == "__main__":
    main()
