"""`anonproxy ingest`: what an operator sees, and what is there afterwards."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search
from anonproxy.cli import group
from anonproxy.cli import ingest as module
from anonproxy.config import read_settings
from anonproxy.ingest.jobs import read_here
from anonproxy.ingest.recorder import Recorder
from anonproxy.ingest.run_import import run_import
from anonproxy.proxy import quiet
from anonproxy.store.layout import days
from tests.ingest.recorders import World, entries
from tests.support.invented_logs import NOW_S, K, invent, write_log

CONFIG = f"""
[store]
path = "{{store}}"
[privacy]
time_zone = "UTC"
k = {K}
[[sites]]
name = "www"
upstream = "http://127.0.0.1:9"
sitemap = ""
"""


@pytest.fixture(autouse=True)
def in_november(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be eleven days after the log, and read in this process, which is faster than starting others."""
    monkeypatch.setattr(module, "now", lambda: float(NOW_S))
    monkeypatch.setattr(quiet, "harden", lambda: None)  # the process that runs the tests stays as it is
    monkeypatch.setattr(module, "read_in_processes", lambda _jobs, _guard: read_here)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the configuration of a library with one site."""
    path = tmp_path / "anonproxy.toml"
    path.write_text(CONFIG.format(store=tmp_path / "store"), encoding="utf-8")
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a log of two days, with a line that can't be read."""
    path = write_log(tmp_path / "access.log", invent(days=2))
    with path.open("a", encoding="utf-8") as file:
        file.write("jane.doe@example.org\n")
    return path


def ingest(config: Path, *arguments: object, status: int = 0, said: str | None = None) -> Result:
    """Run the verb."""
    result = CliRunner().invoke(
        group, ["ingest", "-c", str(config), *map(str, arguments)], input=said, catch_exceptions=True
    )
    assert result.exit_code == status, (result.output, result.exception)
    return result


def test_a_summary_says_what_became_of_every_line(config: Path, log: Path, tmp_path: Path) -> None:
    """Read, counted, not read and why, in which line; and which days are there."""
    said = " ".join(ingest(config, log).output.split())
    assert f"read as combined (combined of Apache and nginx, also called NCSA extended): {log}" in said
    assert "265 lines read 264 counted 1 not read: not in the file's format" in said
    assert f"{log}: not in the file's format, first in line 265" in said
    assert "2 days of www: 2026-11-10 to 2026-11-11" in said
    assert "jane" not in said
    assert [str(day.date) for day in days(tmp_path / "store", "daily")] == ["2026-11-10", "2026-11-11"]


def test_the_same_as_json(config: Path, log: Path) -> None:
    """Machines read the same, and nothing else on standard output."""
    told = json.loads(ingest(config, log, "--json").stdout)
    assert (told["read"], told["written"], told["dropped"], told["rejected"]) == (265, 264, {}, {"not_this_format": 1})
    assert told["rejected_lines"] == {str(log): {"not_this_format": [265]}}
    assert [each["date"] for each in told["days"]] == ["2026-11-10", "2026-11-11"]


def test_a_dry_run_writes_nothing(config: Path, log: Path, tmp_path: Path) -> None:
    """It says the same, and there isn't even a store afterwards."""
    said = ingest(config, log, "--dry-run").output
    assert "would be counted" in said
    assert "Nothing was written" in said
    assert not (tmp_path / "store").exists()


def test_twice_is_refused_and_replacing_is_not(config: Path, log: Path, tmp_path: Path) -> None:
    """A second time nothing is counted, and the way to make the days anew is named; it doubles nothing."""
    ingest(config, log)
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.parquet")}
    said = " ".join(ingest(config, log).output.split())
    assert "0 counted 264 of days that were imported before; --replace makes those days anew" in said
    assert "264 counted" in " ".join(ingest(config, log, "--replace").output.split())
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*.parquet")} == before


def test_old_lines_are_counted_and_the_setting_is_named(config: Path, tmp_path: Path) -> None:
    """What retention doesn't allow isn't written, and the summary says what to raise."""
    first = datetime(2022, 3, 1, tzinfo=UTC).date()
    said = ingest(config, write_log(tmp_path / "old.log", invent(days=1, first=first))).output
    said = " ".join(said.split())
    assert "132 older than daily_months = 25 keeps; raise [store] daily_months, 120 at most, to import them" in said
    recent = first + timedelta(days=365 * 4 + 1)
    assert "132 counted" in " ".join(
        ingest(config, write_log(tmp_path / "b", invent(days=1, first=recent))).output.split()
    )
    assert not days(tmp_path / "store", "hits")


def test_strict_stops_with_the_number_of_the_line(config: Path, log: Path) -> None:
    """For whoever wants all or nothing; the text of the line is not shown."""
    result = ingest(config, log, "--strict", status=1)
    assert "line 265: not this format" in result.output
    assert "jane" not in result.output


def test_shredding_asks_audits_tells_and_notes(config: Path, log: Path, tmp_path: Path) -> None:
    """No leaves everything; yes deletes after a passed audit, says what it can't reach, and is in the ledger."""
    ingest(config, log, "--shred", said="n\n", status=1)
    assert log.exists()
    result = ingest(config, log, "--shred", "--replace", said="y\n")
    assert "It passes" in result.output
    assert "backups, snapshots, and what an SSD has put elsewhere" in " ".join(result.output.split())
    assert not log.exists()
    shredded = [entry.details for entry in entries(tmp_path / "store") if entry.event == "shredded"]
    assert shredded == [{"files": 1}]
    assert log.name not in (tmp_path / "store" / "ledger" / "ledger.jsonl").read_text()


def test_nothing_is_shredded_that_may_still_be_needed(config: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a day that isn't over, or that were left out on purpose, are in no other place."""
    monkeypatch.setattr(module, "now", lambda: float(NOW_S - 10 * 86_400))
    said = ingest(config, log, "--shred", "--yes", status=1).output
    assert "Nothing is shredded: the files hold lines of days that are not over" in " ".join(said.split())
    assert log.exists()


def test_a_log_that_grows_meanwhile_is_kept(config: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written behind the lines that were read is in no day."""

    def grow(*args: Any, **options: Any) -> Any:
        tally = run_import(*args, **options)
        with log.open("ab") as file:
            file.write(b"one more line\n")
        return tally

    monkeypatch.setattr(module, "run_import", grow)
    said = ingest(config, log, "--shred", "--yes", status=1).output
    assert "has changed while it was read" in " ".join(said.split())
    assert log.exists()


def test_an_audit_that_doesnt_pass_keeps_the_files(config: Path, log: Path, tmp_path: Path) -> None:
    """Whoever has doubts about the copy keeps the original."""
    ingest(config, log)
    (tmp_path / "store" / "notes.txt").write_text("203.0.113.7")
    said = ingest(config, log, "--replace", "--shred", "--yes", status=1).output
    assert "the audit doesn't pass" in " ".join(said.split())
    assert log.exists()


@pytest.fixture
def recorder(config: Path) -> Iterator[Recorder]:
    """Let something record into the store, as `anonproxy run` does."""
    recorder = Recorder(read_settings(config), World(NOW_S).clock)
    yield recorder
    recorder.close()


@pytest.fixture
def niceness(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give what is asked of the kernel; the process that runs the tests stays as it is."""
    asked: list[int] = []
    monkeypatch.setattr(os, "nice", asked.append)
    return asked


def test_beside_a_proxy_that_runs(
    config: Path, log: Path, tmp_path: Path, recorder: Recorder, niceness: list[int]
) -> None:
    """It is said, the import stands back, and everything else is as ever, shredding included."""
    ingest(config, log, "--dry-run")
    assert niceness == []
    said = " ".join(ingest(config, log).output.split())
    assert "anonproxy goes on recording into this store, and writes each day as it comes." in said
    assert "264 counted" in said
    assert niceness == [10]
    assert "264 of days that were imported before" in " ".join(ingest(config, log).output.split())
    assert "It passes" in ingest(config, log, "--replace", "--shred", "--yes").output
    assert not log.exists()
    events = [entry.event for entry in entries(tmp_path / "store")]
    assert events == ["started", "configured", *["imported"] * 4, "shredded"]


def test_a_proxy_with_other_settings_is_told_of(config: Path, log: Path, recorder: Recorder) -> None:
    """Who has edited the configuration learns that the proxy doesn't know it yet."""
    config.write_text(config.read_text().replace(f"k = {K}", f"k = {K + 1}"))
    result = ingest(config, log, status=1)
    assert "other settings than this import" in str(result.exception)
    assert "anonproxy reload" in str(result.exception)


ERRORS = [
    (("missing.log",), "no such file or folder"),
    (("--site", "nobody"), "no such site; there are: www"),
    (("--format", "nonsense"), "there are vhost_combined"),
]


@pytest.mark.parametrize(("arguments", "expected"), ERRORS)
def test_errors_say_how_to_mend_them(config: Path, log: Path, arguments: tuple[str, ...], expected: str) -> None:
    """What an operator got wrong is told in a sentence."""
    result = ingest(config, log, *arguments, status=1)
    assert expected in str(result.exception)


def test_several_sites_need_a_name(config: Path, log: Path) -> None:
    """Lines that name no host could be anybody's."""
    config.write_text(
        config.read_text().replace('name = "www"', 'name = "www"\nhosts = ["www.example.org"]')
        + '[[sites]]\nname = "kids"\nhosts = ["kids.example.org"]\nupstream = "http://127.0.0.1:9"\nsitemap = ""\n'
    )
    assert "Say whose it is with --site" in str(ingest(config, log, status=1).exception)
    assert "2 days of kids" in ingest(config, log, "--site", "kids").output


@pytest.mark.slow
def test_a_pipe_is_read_by_the_real_command(config: Path, tmp_path: Path) -> None:
    """`-` reads standard input; on a pipe there is no progress bar and no colour."""
    text = "".join(f"{line.text}\n" for line in invent(days=2)).encode()
    call = [sys.executable, "-m", "anonproxy", "ingest", "-c", str(config), "-"]
    done = subprocess.run(call, input=text, capture_output=True, timeout=120, check=True)
    assert b"264  lines read" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr
    assert len(days(tmp_path / "store", "daily")) == 2


def find_children(pid: int) -> list[int]:
    """List the processes that a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_closed(pid: int) -> bool:
    """Tell whether a process may leave no core; one that is not dumpable has limits that nobody raises."""
    try:
        limits = Path(f"/proc/{pid}/limits").read_text()
    except OSError:
        return False
    return any(line.split()[-3:-1] == ["0", "0"] for line in limits.splitlines() if line.startswith("Max core"))


@pytest.mark.slow
def test_no_process_leaves_a_core(config: Path, tmp_path: Path) -> None:
    """Neither the command nor a reader leaves a core: they hold raw lines and keys."""
    log = write_log(tmp_path / "access.log", invent(days=2, people=250))
    call = [sys.executable, "-m", "anonproxy", "ingest", "-c", str(config), "--jobs", "2", str(log)]
    process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    seen: set[int] = set()
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        seen |= {pid for pid in (process.pid, *find_children(process.pid)) if is_closed(pid)}
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert process.pid in seen
    assert len(seen) >= 3


@pytest.mark.parametrize("is_trusted", [True, False])
def test_who_came_through_a_load_balancer_is_told_apart(config: Path, tmp_path: Path, is_trusted: bool) -> None:
    """A log with both addresses gives the visits of the persons, if the balancer is one of the trusted proxies."""
    log = tmp_path / "access.log"
    lines = (
        f'10.0.0.1{line.text.removeprefix(f"203.0.113.{line.person}")} "198.51.100.{line.person}"'
        for line in invent(days=1)
        if line.person
    )
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    with config.open("a", encoding="utf-8") as file:
        file.write(f"[proxy]\ntrusted_proxies = {['10.0.0.0/8'] * is_trusted}\n")
    ingest(config, log)
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT sum(visits) FROM '{tmp_path}/store/daily/**/*.parquet' WHERE dimension = 'total'"
        ).fetchone()
    assert found
    assert (found[0] >= 30) is is_trusted
    addresses = [Mark("client address", f"198.51.100.{person}") for person in range(1, 31)]
    assert search([tmp_path / "store"], addresses).hits == []
    assert search([log], addresses).hits
