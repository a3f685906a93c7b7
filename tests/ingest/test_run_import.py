"""The store's side of an import: whole days, each once, whatever interrupts it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from anonproxy.audit.check import Verdict
from anonproxy.audit.run import run_audit
from anonproxy.clock import now
from anonproxy.ingest import import_store
from anonproxy.ingest.import_store import open_for_import
from anonproxy.ingest.intake import read_imported
from anonproxy.ingest.jobs import Message, plan_cuts, read_here, read_in_processes
from anonproxy.ingest.pipeline import Task
from anonproxy.ingest.run_import import Tally, Unreadable, run_import
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.model.settings import Settings
from anonproxy.store import tables
from anonproxy.store.imports import Made, Refusal, find_taken
from tests.ingest.recorders import entries
from tests.store.kill import deaths, killed_after
from tests.support.invented_logs import K, day, invent, plan, settings, write_log

NOBODY = 65_534


def nothing(tally: Tally) -> None:
    """Show no progress."""


def do_nothing() -> None:
    """Begin a reader; the command line makes it silent here."""


def run(root: Path, config: Settings, *paths: Path, engine: object = read_here, strict: bool = False) -> Tally:
    """Import as the verb does."""
    with open_for_import(root, config) as store:
        task = plan(config, *paths, taken=find_taken(root, read_imported(root)))
        return run_import(task, engine, store.write, nothing, is_strict=strict)  # type: ignore[arg-type]


def contents(root: Path) -> dict[str, bytes]:
    """Return everything in a store but its ledger."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "ledger" not in path.parts
    }


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a log of four days."""
    return write_log(tmp_path / "access.log", invent(days=4))


@pytest.fixture
def whole(tmp_path: Path, log: Path) -> dict[str, bytes]:
    """Return what an import that nobody interrupts leaves."""
    run(tmp_path / "whole", settings(tmp_path / "whole"), log)
    return contents(tmp_path / "whole")


def test_an_import_passes_the_audit(tmp_path: Path, log: Path) -> None:
    """Every file has its entry, every value its word, and no visit number was ever written."""
    root = tmp_path / "store"
    tally = run(root, settings(root), log)
    assert (len(tally.days), tally.unaccounted) == (4, 0)
    assert not (root / "hot").exists()
    imported = [entry.details for entry in entries(root) if entry.event == "imported"]
    assert [(each["site"], each["date"], each["rows"]) for each in imported] == [
        (site, str(when), rows) for site, when, rows in tally.days
    ]
    report = run_audit(root, now(), settings(root))
    assert [(result.check.code, result.outcome.findings) for result in report.results if result.outcome.findings] == []
    assert report.verdict in {Verdict.PASS, Verdict.UNKNOWN}


def test_a_day_is_imported_once(tmp_path: Path, log: Path) -> None:
    """The same log again adds nothing and says why; it needs no digest for that, only the days that are there."""
    root = tmp_path / "store"
    first = run(root, settings(root), log)
    before = contents(root)
    again = run(root, settings(root), log)
    assert (again.written, again.lost) == (0, {Refusal.IMPORTED: first.read})
    assert contents(root) == before


def test_other_settings_are_told_before_the_days_that_they_made(tmp_path: Path, log: Path) -> None:
    """Which settings a day was made under is proven by the entry before it."""
    root = tmp_path / "store"
    run(root, settings(root), write_log(tmp_path / "early.log", invent(days=1)))
    run(root, settings(root), write_log(tmp_path / "early.log", invent(days=1)))
    run(root, settings(root, sites=[{"name": "www", "upstream": "http://127.0.0.1:9", "sitemap": ""}]), log)
    told = [entry.event for entry in entries(root)]
    assert told == ["configured", "imported", "configured", "imported", "imported", "imported"]


def test_a_store_of_a_newer_version_takes_no_days(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older software doesn't write into what it may not understand."""
    root = tmp_path / "store"
    with monkeypatch.context() as newer:
        newer.setattr(tables, "SCHEMA_VERSION", 2)
        run(root, settings(root), write_log(tmp_path / "early.log", invent(days=1)))
    before = contents(root)
    with pytest.raises(StoreError, match=r"newer anonproxy.*Upgrade"):
        run(root, settings(root), log)
    assert contents(root) == before


def test_processes_make_the_same_store(tmp_path: Path, log: Path, whole: dict[str, bytes]) -> None:
    """Two processes with keys of their own leave what one leaves."""
    root = tmp_path / "store"
    config = settings(root)
    assert len(plan_cuts(plan(config, log), 2)) == 1
    tally = run(root, config, log, engine=read_in_processes(2, do_nothing))
    assert tally.unaccounted == 0
    assert contents(root) == whole


def test_what_is_interrupted_goes_on(tmp_path: Path, log: Path, whole: dict[str, bytes]) -> None:
    """Stopped after a day, the same import makes the other days, and the first isn't made twice."""
    root = tmp_path / "store"

    def read_one(task: Task) -> Generator[Message]:
        for message in read_here(task):
            yield message
            if isinstance(message, Made):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, settings(root), log, engine=read_one)
    assert {path for path in whole if str(day(0)) in path} == contents(root).keys()
    tally = run(root, settings(root), log)
    assert [when for _, when, _ in tally.days] == [day(1), day(2), day(3)]
    assert contents(root) == whole


def test_killed_at_any_step_no_day_is_half_there(tmp_path: Path) -> None:
    """Whichever write to the disk is the last, a day that the ledger tells of is whole as soon as the store is opened
    again, and the next import ends as if nothing had happened.
    """
    log = write_log(tmp_path / "access.log", invent(days=1, people=K))
    made = [message for message in read_here(plan(settings(tmp_path), log)) if isinstance(message, Made)]

    def read_what_is_free(task: Task) -> Generator[Message]:
        yield from (each for each in made if not task.shelf.refuse(each.site, each.date))

    run(tmp_path / "whole", settings(tmp_path / "whole"), log, engine=read_what_is_free)
    expected = contents(tmp_path / "whole")
    for step in deaths():
        root = tmp_path / str(step)
        with killed_after(step) as fate:
            run(root, settings(root), log, engine=read_what_is_free)
        with open_for_import(root, settings(root)):
            assert contents(root) == expected or not read_imported(root), step
        run(root, settings(root), log, engine=read_what_is_free)
        assert contents(root) == expected, step
        if not fate.came:
            break
    assert step > 5


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, log: Path, whole: dict[str, bytes]
) -> None:
    """The real command, killed at random moments, leaves no reader behind, and at last the same days."""
    root, chance = tmp_path / "store", random.Random(3)
    config = tmp_path / "anonproxy.toml"
    config.write_text(
        f'[store]\npath = "{root}"\n[privacy]\ntime_zone = "America/New_York"\nk = {K}\n[[sites]]\nname = "www"\n'
        'upstream = "http://127.0.0.1:9"\nsitemap = ""\nroutes = [{path = "/events"}]\n',
        encoding="utf-8",
    )
    call = [sys.executable, "-m", "anonproxy", "ingest", "-c", str(config), "--jobs", "2", str(log)]
    for _ in range(4):
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(chance.uniform(0.5, 6))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        deadline = time.monotonic() + 30
        while _is_group_alive(process.pid):
            assert time.monotonic() < deadline, "a reader outlives its parent"
            time.sleep(0.05)
    subprocess.run(call, check=True, capture_output=True, timeout=120)
    assert contents(root) == whole


def _is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_import_at_a_time(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else writes to the store who takes no days, nothing is imported, and what helps is said."""
    monkeypatch.setattr(import_store, "STARTED_WITHIN_S", 0.5)
    root = tmp_path / "store"
    with open_for_import(root, settings(root)), pytest.raises(StoreError, match="another import, wait for its end"):
        run(root, settings(root), log)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can import for somebody else")
def test_what_root_imports_is_the_owners(tmp_path: Path, log: Path) -> None:
    """Root can read any log; the service's own user goes on with the store, its ledger included."""
    root = tmp_path / "store"
    root.mkdir()
    os.chown(root, NOBODY, NOBODY)
    run(root, settings(root), log)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in root.rglob("*")} == {(NOBODY, NOBODY)}


def test_strict_stops_at_the_first_line_that_cant_be_read(tmp_path: Path, log: Path) -> None:
    """Its number and the reason are told, never its text."""
    with log.open("a", encoding="utf-8") as file:
        file.write("jane.doe@example.org\n")
    with pytest.raises(Unreadable) as told:
        run(tmp_path / "store", settings(tmp_path / "store"), log, strict=True)
    assert f"line {len(log.read_text().splitlines())}: not this format" in str(told.value)
    assert "jane" not in str(told.value)


def test_a_mistake_in_a_reader_quotes_nothing(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong is told by its kind and place; the exception's text, which may hold a line, is dropped."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError("203.0.113.7 GET /secret")

    monkeypatch.setattr("anonproxy.ingest.pipeline.parse_lines", fail)
    task = plan(settings(tmp_path / "store"), log)
    with pytest.raises(OperatorError, match="ValueError in fail") as told:
        list(read_here(task))
    assert "203" not in str(told.value)
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


def test_a_reader_that_is_killed_is_told_of(tmp_path: Path, log: Path) -> None:
    """Without memory the kernel kills a reader: the import ends with words, not with a day missing unseen."""
    with pytest.raises(OperatorError, match="ended with status -9"):
        run(tmp_path / "store", settings(tmp_path / "store"), log, engine=read_in_processes(1, _die))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
