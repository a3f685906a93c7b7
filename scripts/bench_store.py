"""Measure the store: bytes a row, rows written a second, and what it costs to settle a day of a million rows."""

import argparse
import datetime
import gzip
import random
import re
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from anonproxy.anonymize.place import CountryLookup, load_bundled_country
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.hit import Hit
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import ELAPSED_BUCKETS_S
from anonproxy.store.disk import publish
from anonproxy.store.layout import DAY_S, HOUR_S, Day, Hour, days
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle, settle_day
from anonproxy.store.tables import SCHEMAS, build_table, render_parquet
from anonproxy.store.write import SegmentWriter

SAMPLE: Final = Path(__file__).parents[2] / "shared" / "data" / "combined_apache_10k.log.gz"
LINE: Final = re.compile(r'(\S+) \S+ \S+ \[([^\]]+)\] "(\S+) (\S+) [^"]*" (\d+) (\S+) "([^"]*)" "([^"]*)')
SETTINGS: Final = Settings.model_validate(
    {
        "store": {"path": "unused"},
        "privacy": {"time_zone": "UTC", "epoch_cut": "00:00"},
        "sites": [{"name": "www", "upstream": "http://127.0.0.1:1", "presets": ["wordpress"]}],
    }
)
CHANCE: Final = random.Random(1)  # noqa: S311 - nothing here is secret
FLUSH_ROWS: Final = 500  # a hundred requests a second, at the default flush window
VISIT_ROWS: Final = 5


def main() -> None:
    """Measure everything, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the day to settle (default: %(default)s)")
    options = parser.parse_args()
    if not SAMPLE.exists():
        raise SystemExit(f"the sample log is not here: {SAMPLE.name}, expected beside the project in shared/data")
    with tempfile.TemporaryDirectory(prefix="anonproxy-bench-") as folder:
        hits = bench_sample(Path(folder, "sample"))
        bench_settle(Path(folder, "million"), hits, options.rows)


def bench_sample(root: Path) -> list[Hit]:
    """Write, seal and settle the sample log; return its hits."""
    text = gzip.decompress(SAMPLE.read_bytes())
    visits = Visits(KeyRing(SETTINGS.privacy, time.time()), 1800, 14400)  # noqa: TID251 - a bench may ask for the time
    context = build_context(SETTINGS, visits, CountryLookup(load_bundled_country()))
    outcomes = [anonymize(request, context) for request in read_log(text.decode("utf-8", "surrogateescape"))]
    hits = [outcome for outcome in outcomes if isinstance(outcome, Hit)]
    show("sample log", f"{text.count(b'\n'):,} lines, {len(hits):,} hits, {SAMPLE.stat().st_size:,} bytes as gzip")
    root.mkdir()
    writer, began = SegmentWriter(root, context.vocabulary), time.perf_counter()
    for number, hit in enumerate(hits, 1):
        if writer.add(hit):
            raise SystemExit("a hit was refused")
        if number % FLUSH_ROWS == 0:
            writer.flush()
    writer.flush()
    show("written", f"{len(hits) / (time.perf_counter() - began):,.0f} rows/s, synced, {FLUSH_ROWS} a flush")
    now = max(hit.time for hit in hits) + 3 * DAY_S
    seal(root, now, lambda *_: None)
    show_size("hot, sealed", root / "hot", len(hits))
    settle(root, now, SETTINGS.store, SETTINGS.privacy.k, lambda *_: None)
    show_size("hits, settled", root / "hits", len(hits))
    show_size("daily", root / "daily", len(hits))
    show_size("vocabulary", root / "vocabulary", len(hits))
    return hits


def bench_settle(root: Path, hits: list[Hit], count: int) -> None:
    """Settle a day of many rows like those of the sample."""
    root.mkdir()
    day = Day(root, "www", datetime.date(2026, 3, 2))
    for hour in range(24):
        rows = multiply(hits, count // 24, day.starts_at + hour * HOUR_S)
        target = Hour(day, hour)
        publish(root, target.sealed, render_parquet(rows, "hot"), target.starts_at)
    show_size(f"a day of {count:,} rows, hot", root / "hot", count)
    before_bytes = peak_bytes()
    began, began_cpu = time.perf_counter(), time.process_time()
    settle_day(day, SETTINGS.privacy.k, lambda *_: None)
    took_s, took_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    show("settled in", f"{took_s:.1f} s, {took_cpu_s:.1f} s of processor time")
    show("peak memory", f"{peak_bytes() / 2**20:,.0f} MB, {before_bytes / 2**20:,.0f} MB before")
    show_size("hits, settled", root / "hits", count)
    if not days(root, "hits"):
        raise SystemExit("nothing was settled")


def multiply(hits: list[Hit], count: int, time_s: int) -> pa.Table:
    """Make rows of one hour out of the sample's: visits of a few pages each, with numbers of their own."""
    chosen = CHANCE.choices(hits, k=count)
    table = build_table([hit._replace(time=time_s) for hit in chosen])
    numbers = [CHANCE.getrandbits(64) for _ in range(count // VISIT_ROWS + 1)]
    columns = {
        "visit": [None if hit.visit is None else numbers[index // VISIT_ROWS] for index, hit in enumerate(chosen)],
        "step": [None if hit.visit is None else index % VISIT_ROWS + 1 for index, hit in enumerate(chosen)],
        "elapsed_s": [
            None if hit.visit is None else ELAPSED_BUCKETS_S[index % VISIT_ROWS] for index, hit in enumerate(chosen)
        ],
    }
    for name, values in columns.items():
        field = SCHEMAS["hot"].field(name)
        table = table.set_column(SCHEMAS["hot"].get_field_index(name), field, pa.array(values, field.type))
    return table


def read_log(text: str) -> list[RawRequest]:
    """Read a combined log."""
    return [make_request(match) for match in map(LINE.match, text.splitlines()) if match]


def make_request(match: re.Match[str]) -> RawRequest:
    """Make a request of a line."""
    client, moment, method, target, status, size, referrer, agent = match.groups()
    time_s = datetime.datetime.strptime(moment, "%d/%b/%Y:%H:%M:%S %z").timestamp()
    return RawRequest(
        time_s,
        client,
        raw_method=method,
        raw_target=target,
        status=int(status),
        size_bytes=int(size) if size.isdecimal() else 0,
        raw_referrer=referrer,
        raw_user_agent=agent,
    )


def show_size(what: str, folder: Path, rows: int) -> None:
    """Print what the files below a folder take up."""
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    ratio = SAMPLE.stat().st_size / 10_000 * rows / size
    show(what, f"{size:,} bytes, {size / rows:.2f} a row, 1/{ratio:.1f} of the log as gzip")


def show(what: str, result: Any) -> None:
    """Print a line."""
    print(f"{what:30} {result}", flush=True)


def peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
