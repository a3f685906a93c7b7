"""Import a log with anonproxy and with its peers, in one run. What counts is the ratio: machines differ.

Each program runs as its users run it, as a process of its own that reads the file and writes a file. Seconds are those
of the clock on the wall, so let the machine be quiet; memory is that of the largest process.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from bench_anonymize import SAMPLE, invent_lines, move_client, read_sample

DAYS: Final = 10
DAY_S: Final = 86_400

CONFIG: Final = """
[store]
path = "{store}"
[privacy]
time_zone = "UTC"
[[sites]]
name = "www"
hosts = ["*"]
upstream = "http://127.0.0.1:1"
sitemap = ""
"""


def main() -> None:
    """Compare anonip, GoAccess and anonproxy."""
    parser = argparse.ArgumentParser(prog="scripts/bench ingest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=2_000_000, help="length of the log (default: %(default)s)")
    parser.add_argument(
        "--flat", action="store_true", help="also import a log of ten times the days: memory must be the same"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anonproxy-bench-") as name:
        folder = Path(name)
        log = folder / "access.log"
        print(write_log(log, options.lines), flush=True)
        show([measure(program, log, options.lines, folder) for program in list_programs(log, folder)])
        if options.flat:
            print(write_log(log, options.lines * 10, DAYS * 10), flush=True)
            show([measure(ours(log, folder, jobs), log, options.lines * 10, folder) for jobs in (1, 2)])


# --- A log ------------------------------------------------------------------------------------------------------


def write_log(path: Path, count: int, days: int = DAYS) -> str:
    """Write a log of the last whole days, as many lines in each, and say what it was made of.

    A short log is repeated, by other people until there are ten times as many: all octets but the first are moved on.
    """
    source, lines = (
        ("the sample log", list(read_sample())) if SAMPLE.exists() else ("invented lines", list(invent_lines()))
    )
    first_s = (time.time() // DAY_S - days - 1) * DAY_S  # noqa: TID251 - a script may look at the clock
    with path.open("w", encoding="utf-8", errors="surrogateescape") as log:
        at, minute = "", -1
        for number in range(count):
            round_, index = divmod(number, len(lines))
            client, names, rest = lines[index]
            second = int(first_s + number * days * DAY_S / count)
            if second != minute:
                at, minute = datetime.fromtimestamp(second, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"), second
            log.write(f"{move_client(client, round_ % 10)} {names} [{at}] {rest}\n")
    return f"{count:,} lines of {days} days, {path.stat().st_size / 1e6:,.0f} MB, made of {source}"


# --- The programs -----------------------------------------------------------------------------------------------


class Program(NamedTuple):
    """A program, how it is called, and where its output lies."""

    name: str
    call: tuple[str, ...]
    output: Path
    reads_stdin: bool = False


def list_programs(log: Path, folder: Path) -> list[Program]:
    """List what there is to compare on this machine."""
    programs = [
        Program(
            "anonip",
            (sys.executable, "-m", "anonip", "--output", str(folder / "anonip.log")),
            folder / "anonip.log",
            True,
        )
    ]
    if goaccess := shutil.which("goaccess"):
        report = folder / "goaccess.json"
        call = (goaccess, str(log), "--log-format=COMBINED", "--anonymize-ip", "--no-global-config", "-o", str(report))
        programs.append(Program("GoAccess, totals only", call, report))
    return [*programs, ours(log, folder, 1), ours(log, folder, 2)]


def ours(log: Path, folder: Path, jobs: int) -> Program:
    """Call anonproxy with so many processes, on a new store."""
    store, config = folder / "store", folder / "anonproxy.toml"
    config.write_text(CONFIG.format(store=store))
    call = (sys.executable, "-m", "anonproxy", "ingest", "-c", str(config), "--jobs", str(jobs), str(log))
    return Program(f"anonproxy, {jobs} process{'es' * (jobs > 1)}", call, store)


class Measured(NamedTuple):
    """What a program took."""

    name: str
    lines: int
    elapsed_s: float
    cpu_s: float
    memory_mb: float
    output_bytes: int


def measure(program: Program, log: Path, lines: int, folder: Path) -> Measured:
    """Run a program, and say what it took."""
    shutil.rmtree(program.output, ignore_errors=True)
    source = log if program.reads_stdin else Path(os.devnull)
    with source.open("rb") as stdin, (folder / "said").open("wb") as said:
        began_s = time.perf_counter()
        process = subprocess.Popen(program.call, stdin=stdin, stdout=said, stderr=said, env=environment(folder))
        _, status, usage = os.wait4(process.pid, 0)
        elapsed_s = time.perf_counter() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{program.name} failed:\n{(folder / 'said').read_text(errors='replace')}")
    return Measured(
        program.name,
        lines,
        elapsed_s,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        weigh(program.output),
    )


def environment(folder: Path) -> dict[str, str]:
    """Give programs the surroundings that users give them: compiled modules, and no pandas, which loads for a second.

    Nothing of ours needs it, but pyarrow loads it wherever it is installed, as it is for the tests.
    """
    (folder / "pandas.py").write_text('raise ImportError("not installed")\n')
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": str(folder)}


def weigh(output: Path) -> int:
    """Count the bytes of what was written."""
    files = [output] if output.is_file() else [path for path in output.rglob("*.parquet") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def show(measured: Sequence[Measured]) -> None:
    """Print what was measured, beside the first of it."""
    print(f"{'':24} {'lines/s':>9} {'ratio':>6} {'of one core':>12} {'peak MB':>8} {'bytes a line':>13}")
    for each in measured:
        speed = each.lines / each.elapsed_s
        ratio = speed / (measured[0].lines / measured[0].elapsed_s)
        print(
            f"{each.name:24} {speed:9,.0f} {ratio:6.2f} {each.lines / each.cpu_s:12,.0f} {each.memory_mb:8,.0f} "
            f"{each.output_bytes / each.lines:13.2f}"
        )


if __name__ == "__main__":
    main()
