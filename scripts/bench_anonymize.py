"""Measure anonproxy, and its peers on the same data in the same run. What counts is the ratio: machines differ.

Times are processor seconds of one thread, so that whatever else the machine does meanwhile counts little.
"""

import argparse
import gc
import gzip
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import anonip
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from anonproxy.anonymize.context import Context
from anonproxy.anonymize.place import CountryLookup, load_bundled_country
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.ingest.batch import anonymize_batch
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.settings import Settings
from anonproxy.store.tables import render_parquet

SAMPLE: Final = Path(__file__).parents[2] / "shared" / "data" / "combined_apache_10k.log.gz"
COUNTRIES: Final = CountryLookup(load_bundled_country())
COLD: Final = 5_000  # requests that find little in the caches
ROUNDS: Final = 3  # the best of them counts: nothing makes a program faster by accident

SETTINGS: Final = Settings.model_validate(
    {
        "store": {"path": "unused"},
        "privacy": {"time_zone": "UTC", "epoch_cut": "00:00"},
        "sites": [{"name": "www", "hosts": ["*"], "upstream": "http://127.0.0.1:1"}],
    }
)


def main() -> None:
    """Compare one by one, in bulk, and anonip."""
    parser = argparse.ArgumentParser(prog="scripts/bench anonymize", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=300_000, help="length of the log (default: %(default)s)")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    show(bench_anonymize(options.lines))


# --- A log ------------------------------------------------------------------------------------------------------

DAY: Final = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
LINE: Final = re.compile(r"(\S+) (\S+ \S+) \[[^\]]+\] (.*)")
AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_{n} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.{n} "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101 Firefox/{n}.0",
    "Mozilla/5.0 (Linux; Android 15; Pixel {n}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile "
    "Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.{n}; +http://www.google.com/bot.html)",
)
REFERRERS: Final = ("-", "https://www.google.com/", "https://library.example.org/", "https://news{n}.example.org/story")
PAGES: Final = ("/", "/events/{n}", "/catalog/record/{n}", "/search?q=term{n}", "/about/{n}", "/images/{n}.png")


def write_log(path: Path, count: int) -> str:
    """Write a day's log, and say what it was made of.

    A short log is repeated, by other people until there are ten times as many: all octets but the first are moved on.
    """
    source, lines = (
        ("the sample log", list(read_sample())) if SAMPLE.exists() else ("invented lines", list(invent_lines()))
    )
    with path.open("w", encoding="utf-8", errors="surrogateescape") as log:
        for number in range(count):
            round_, index = divmod(number, len(lines))
            client, names, rest = lines[index]
            at = datetime.fromtimestamp(DAY + number * 86_400 / count, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
            log.write(f"{move_client(client, round_ % 10)} {names} [{at}] {rest}\n")
    return f"{count:,} lines, {path.stat().st_size / 1e6:.0f} MB, made of {source}"


def read_sample() -> Iterator[tuple[str, ...]]:
    """Yield client, names, and what stands behind the time, of each line that has them."""
    with gzip.open(SAMPLE, "rt", encoding="utf-8", errors="surrogateescape") as log:
        yield from (found.groups() for found in map(LINE.match, log) if found)


def invent_lines() -> Iterator[tuple[str, ...]]:
    """Yield the same for invented lines: a few pages, addresses and browsers often, many others seldom."""
    chance = random.Random(1)  # noqa: S311 - what it invents need not be hard to guess

    def rank(most: int) -> int:
        return min(int(chance.paretovariate(0.7)), most)

    for _ in range(10_000):
        person = rank(5_000)
        client = f"{20 + person % 180}.{person // 251 % 251}.{person % 251}.{person * 7 % 251}"
        page, referrer = chance.choice(PAGES).format(n=rank(3_000)), chance.choice(REFERRERS).format(n=rank(500))
        agent = AGENTS[person % len(AGENTS)].format(n=100 + person % 45)
        status, size = chance.choice((200, 200, 200, 304, 404)), rank(500_000)
        yield client, "- -", f'"GET {page} HTTP/1.1" {status} {size} "{referrer}" "{agent}"'


def move_client(client: str, steps: int) -> str:
    """Make another address of one; the first time it stays itself."""
    first, *others = client.split(".")
    return ".".join([first, *(str((int(other) + steps * 37) % 256) for other in others)])


CSV_COLUMNS: Final = ("client", "ident", "user", "day", "zone", "request", "status", "size", "referrer", "agent")


def read_log(path: Path) -> pa.Table:
    """Read the log into raw columns, as simply and quickly as pyarrow can."""
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=CSV_COLUMNS, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(delimiter=" ", escape_char="\\", invalid_row_handler=lambda row: "skip"),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.binary() for name in CSV_COLUMNS} | {"status": pa.int64(), "size": pa.int64()},
            null_values=["-"],
        ),
    ).combine_chunks()
    request = table["request"].chunk(0).dictionary_encode()
    words = pc.extract_regex(request.dictionary, r"^(?P<method>\S*) ?(?P<target>\S*)")
    day = table["day"].chunk(0).dictionary_encode()
    times = pc.strptime(day.dictionary.cast(pa.string()), "[%d/%b/%Y:%H:%M:%S", "s").cast(pa.int64())
    return pa.table(
        {
            "time_s": times.cast(pa.float64()).take(day.indices),
            "raw_client": table["client"],
            "raw_method": pc.struct_field(words, "method").take(request.indices),
            "raw_target": pc.struct_field(words, "target").take(request.indices),
            "status": table["status"],
            "size_bytes": table["size"].fill_null(0),
            "raw_user_agent": table["agent"].fill_null(b""),
            "raw_referrer": pc.if_else(pc.equal(table["referrer"], b"-"), b"", table["referrer"]),
        }
    )


def build_requests(table: pa.Table) -> list[RawRequest]:
    """Make a request of each row."""
    return [RawRequest(**{name: decode(value) for name, value in row.items()}) for row in table.to_pylist()]


def decode(value: Any) -> Any:
    """Decode a text as requests want it, and leave a number as it is."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


# --- Time -------------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What something costs."""

    name: str
    lines: int
    cpu_s: float

    @property
    def lines_per_s(self) -> float:
        """Return how many lines one thread does in a second."""
        return self.lines / self.cpu_s


def measure(name: str, lines: int, prepare: Callable[[], Any], work: Callable[[Any], object]) -> Measured:
    """Time some work, each round on something fresh, and keep the best."""
    times = []
    for _ in range(ROUNDS):
        fresh = prepare()
        gc.collect()
        gc.freeze()  # what the bench itself holds is not what the work should be slowed down by
        began = time.process_time()
        work(fresh)
        times.append(time.process_time() - began)
    return Measured(name, lines, min(times))


# --- The benches ------------------------------------------------------------------------------------------------


class Epoch(NamedTuple):
    """What requests meet in one epoch."""

    context: Context
    visits: Visits


def new_epoch() -> Epoch:
    """Return an epoch that has seen nothing, with empty caches."""
    visits = Visits(KeyRing(SETTINGS.privacy, DAY), 1800, 14400)
    context = build_context(SETTINGS, visits, COUNTRIES)
    context.forget()  # empties what modules remember, too
    return Epoch(context, visits)


def anonymize_each(epoch: Epoch, requests: list[RawRequest]) -> Epoch:
    """Anonymise requests one by one."""
    for request in requests:
        anonymize(request, epoch.context)
    return epoch


def anonymize_all(epoch: Epoch, table: pa.Table) -> pa.Table:
    """Anonymise a table."""
    batch = anonymize_batch(table, *epoch)
    if batch.hits.num_rows + batch.dropped.total() != table.num_rows:
        raise SystemExit("rows were lost")
    return batch.hits


def run_anonip(log: Path) -> None:
    """Do what anonip's command does: truncate the address of each line, and pass on everything else."""
    target = log.with_suffix(".anonip")
    with (
        log.open(encoding="utf-8", errors="surrogateescape") as lines,
        target.open("w", encoding="utf-8", errors="surrogateescape") as kept,
    ):
        for line in anonip.Anonip().run(lines):
            kept.write(f"{line}\n")


def bench_anonymize(lines: int) -> list[Measured]:
    """Compare one by one, in bulk, and anonip."""
    with tempfile.TemporaryDirectory(prefix="anonproxy-bench-") as folder:
        log = Path(folder, "access.log")
        print(write_log(log, lines), flush=True)
        table = read_log(log)
        count = table.num_rows
        some = count // 3
        first, others = build_requests(table[:some]), build_requests(table[some:])
        return [
            measure("anonip 1.1: text to text", count, lambda: log, run_anonip),
            measure("one by one, cold caches", COLD, new_epoch, lambda epoch: anonymize_each(epoch, first[:COLD])),
            measure(
                "one by one, warm caches",
                len(others),
                lambda: anonymize_each(new_epoch(), first),
                lambda epoch: anonymize_each(epoch, others),
            ),
            measure("in bulk, columns to hits", count, new_epoch, lambda epoch: anonymize_all(epoch, table)),
            measure("in bulk, log to hits", count, new_epoch, lambda epoch: anonymize_all(epoch, read_log(log))),
            measure(
                "in bulk, log to Parquet",
                count,
                new_epoch,
                lambda epoch: render_parquet(anonymize_all(epoch, read_log(log)), "hot"),
            ),
        ]


def show(measured: list[Measured]) -> None:
    """Print what was measured, beside the first of it."""
    print(f"{'':26} {'µs a line':>10} {'lines/s':>10} {'ratio':>7}")
    for each in measured:
        ratio = each.lines_per_s / measured[0].lines_per_s
        print(f"{each.name:26} {1e6 / each.lines_per_s:10.1f} {each.lines_per_s:10,.0f} {ratio:7.2f}")


if __name__ == "__main__":
    main()
