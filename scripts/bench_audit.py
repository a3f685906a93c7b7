"""Measure the audit: seconds and memory for a store of a million hits, and what each check takes of it."""

import argparse
import datetime
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from bench_store import SETTINGS, bench_sample, multiply, show

from anonproxy.audit.check import Verdict
from anonproxy.audit.checks import CHECKS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.ledger import Ledger
from anonproxy.audit.run import run_audit
from anonproxy.model.hit import Hit
from anonproxy.store.disk import publish
from anonproxy.store.layout import DAY_S, HOUR_S, Day, Hour
from anonproxy.store.settle import settle
from anonproxy.store.tables import render_parquet

FIRST_DAY: Final = datetime.date(2026, 3, 2)
HOT_DAYS: Final = 2


def main() -> None:
    """Write a store, audit it in one go, then time each check by itself."""
    parser = argparse.ArgumentParser(prog="scripts/bench audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the store (default: %(default)s)")
    parser.add_argument("--days", type=int, default=30, help="days that they are spread over (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anonproxy-bench-") as folder:
        root = Path(folder, "store")
        now_s = write_store(root, bench_sample(Path(folder, "sample")), options.rows, options.days)
        for bench in (bench_audit, bench_checks):
            apart(bench, root, now_s)


def write_store(root: Path, hits: list[Hit], rows: int, days: int) -> int:
    """Write a store of so many rows and days, settled but for the last two, and return the time that it is then."""
    root.mkdir(0o700)
    ledger = Ledger(root / "ledger", 0)
    words = sorted((root.parent / "sample" / "vocabulary").rglob("*.parquet"))[-1].read_bytes()
    for number in range(days):
        day = Day(root, "www", FIRST_DAY + datetime.timedelta(days=number))
        publish(root, day.file("vocabulary"), words, day.starts_at)
        for hour in range(24):
            target = Hour(day, hour)
            content = render_parquet(multiply(hits, rows // days // 24, target.starts_at), "hot")
            name = target.sealed.relative_to(root).as_posix()
            ledger.append("sealed", {"file": name, "sha256": sha256(content).hexdigest()}, target.starts_at)
            publish(root, target.sealed, content, target.starts_at)
        if number >= HOT_DAYS:
            now_s = day.starts_at + DAY_S
            journal = partial(_append, ledger, now_s)
            settle(root, now_s, SETTINGS.store, SETTINGS.privacy.k, journal)
    return day.starts_at + DAY_S - HOUR_S


def apart(bench: Callable[[Path, int], None], root: Path, now_s: int) -> None:
    """Run in a process of its own, whose memory nothing else has used."""
    process = multiprocessing.get_context("spawn").Process(target=bench, args=(root, now_s))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the audit ended with an error")


def _append(ledger: Ledger, now_s: int, event: str, details: Mapping[str, str | int]) -> None:
    ledger.append(event, details, now_s)


def bench_audit(root: Path, now_s: int) -> None:
    """Audit the store as the command does."""
    before_bytes, began_s, began_cpu_s = peak_bytes(), time.perf_counter(), time.process_time()
    report = run_audit(root, now_s, SETTINGS)
    took_s, took_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    show("audited", f"{report.row_count:,} rows in {report.file_count:,} files: {report.verdict}")
    show("in", f"{took_s:.1f} s, {took_cpu_s:.1f} s of processor time, {report.row_count / took_s:,.0f} rows/s")
    show("peak memory", f"{peak_bytes() / 2**20:,.0f} MiB, {before_bytes / 2**20:,.0f} MiB before")
    for result in report.results:
        if result.verdict != Verdict.PASS:
            notes = [*map(str, result.outcome.findings), *result.outcome.unknown]
            show(f"  {result.check.code}", f"{result.verdict}: {notes[0]}")


def peak_bytes() -> int:
    """Return the most memory that this process itself has had; getrusage(2) counts its parent's too."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))[0]) * 1024


def bench_checks(root: Path, now_s: int) -> None:
    """Time each check by itself, on evidence that is gathered once."""
    began_s = time.perf_counter()
    evidence = Evidence(root, now_s, SETTINGS)
    show("  reading every page", f"{time.perf_counter() - began_s:.2f} s")
    for check in CHECKS:
        began_s = time.perf_counter()
        check.look(evidence)
        show(f"  {check.code}", f"{time.perf_counter() - began_s:.2f} s")


if __name__ == "__main__":
    main()
