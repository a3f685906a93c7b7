"""Days of an import in the hands of a recorder that runs: written as its own, and in nobody's way."""

import threading
import time
from pathlib import Path
from queue import Queue

import pytest

from anonproxy.ingest import control, intake
from anonproxy.ingest import import_store as module
from anonproxy.ingest.control import Control, ask, call, receive, send
from anonproxy.ingest.import_store import OwnStore, RunningStore, open_for_import
from anonproxy.ingest.intake import TALK, introduce
from anonproxy.ingest.jobs import read_here
from anonproxy.ingest.recorder import Recorder, digest_settings
from anonproxy.ingest.run_import import run_import
from anonproxy.model.errors import StoreBusy, StoreError
from anonproxy.model.settings import Settings
from anonproxy.store.disk import write_temporary
from anonproxy.store.imports import Made, Refusal
from anonproxy.store.layout import Day
from anonproxy.store.lock import StoreLock
from tests.ingest.recorders import World, count_events, entries, request, rows
from tests.ingest.test_disks import fill, mounted
from tests.ingest.test_run_import import contents, run
from tests.support.invented_logs import NOW_S, day, invent, plan, settings, write_log
from tests.support.servers import wait_until

WITHIN_S = 20.0


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    """Return the settings of a library."""
    return settings(tmp_path / "store")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a log of three days."""
    return write_log(tmp_path / "access.log", invent(days=3))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Make the days of the log."""
    folder = tmp_path_factory.mktemp("made")
    log = write_log(folder / "access.log", invent(days=3))
    return [message for message in read_here(plan(settings(folder), log)) if isinstance(message, Made)]


def start(config: Settings, now_s: float = NOW_S, lock: StoreLock | None = None) -> Recorder:
    """Start a recorder eleven days after the log."""
    world = World(now_s)
    return Recorder(config, world.clock, world.steady, lock=lock)


def hand_over(root: Path, config: Settings, *days: Made, replaces: bool = False) -> list[Refusal | None]:
    """Hand days to the recorder that runs."""
    with open_for_import(root, config, replaces=replaces) as store:
        assert store.is_running
        return [store.write(each) for each in days]


def test_the_recorder_writes_what_an_import_would(tmp_path: Path, config: Settings, log: Path) -> None:
    """The days are those of an import into a store of its own, to the byte; rows are recorded before and after."""
    root, recorder = tmp_path / "store", start(config)
    recorder.record(request(NOW_S))
    recorder.tick()
    tally = run(root, config, log)
    recorder.record(request(NOW_S))
    recorder.close()
    assert rows(root) == tally.written + 2
    run(tmp_path / "own", settings(tmp_path / "own"), log)
    imported = {path: data for path, data in contents(root).items() if str(day(11)) not in path}
    assert imported == contents(tmp_path / "own")
    assert count_events(root) == {"started": 1, "configured": 1, "imported": 3, "stopped": 1}
    of_import = [
        [each.details for each in entries(tmp_path / name) if each.event == "imported"] for name in ("store", "own")
    ]
    assert of_import[0] == of_import[1]


def test_days_that_have_no_room_are_counted(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """The recorder looks itself, by its own clock: its word counts, whatever the import thinks."""
    root, recorder = tmp_path / "store", start(config)
    first, second, third = made
    (root / "hot" / "site=www" / f"date={second.date}").mkdir(parents=True)
    assert hand_over(root, config, first, first, second, third) == [None, Refusal.IMPORTED, Refusal.RECORDED, None]
    assert hand_over(root, config, first, second, replaces=True) == [None, Refusal.RECORDED]
    recorder.close()
    early = start(config, Day(root, "www", third.date).starts_at)
    assert hand_over(root, config, third) == [Refusal.NOT_OVER]
    early.close()
    late = start(config, NOW_S + 3 * 365 * 86_400)
    assert hand_over(root, config, third) == [Refusal.TOO_OLD]
    late.close()


def test_what_is_refused_is_counted_as_lost(tmp_path: Path, config: Settings, log: Path) -> None:
    """Of two imports that began with the same store, the second says that its days are there already."""
    root, recorder = tmp_path / "store", start(config)
    run(root, config, log)
    with open_for_import(root, config) as store:
        tally = run_import(plan(config, log), read_here, store.write, lambda _tally: None)
    recorder.close()
    assert (tally.written, tally.unaccounted, tally.lost) == (0, 0, {Refusal.IMPORTED: tally.read})


def test_what_is_too_old_by_now_is_left_out(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """A day that was made before midnight and written after it has no tier that it may not have any more."""
    root, recorder = tmp_path / "store", start(config, NOW_S + 100 * 86_400)
    assert hand_over(root, config, made[0]) == [None]
    recorder.close()
    assert [path.partition("/")[0] for path in contents(root)] == ["daily", "vocabulary"]


OBJECTIONS = {
    "another version": ({"version": "0.0.1"}, "Restart it, as after any upgrade"),
    "other settings": ({"settings_sha256": "0" * 64}, "`anonproxy reload`"),
}


@pytest.mark.parametrize(("change", "remedy"), OBJECTIONS.values(), ids=OBJECTIONS.keys())
def test_an_import_that_doesnt_fit_is_refused(
    tmp_path: Path, config: Settings, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], remedy: str
) -> None:
    """It is told how to mend that, before a line is read."""
    recorder = start(config)
    monkeypatch.setattr(module, "introduce", lambda digest, replaces: introduce(digest, replaces=replaces) | change)
    with pytest.raises(StoreError, match=remedy), open_for_import(tmp_path / "store", config):
        pass
    recorder.close()


def test_an_import_waits_for_a_recorder_that_is_starting(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """Between two writers a supervisor holds the store, and nobody answers for it."""
    root, begun = tmp_path / "store", Queue[Recorder]()
    lock = StoreLock(root)
    starting = threading.Timer(1.0, lambda: begun.put(start(config, lock=lock)))
    starting.start()
    assert hand_over(root, config, made[0]) == [None]
    begun.get(timeout=WITHIN_S).close()
    assert count_events(root)["imported"] == 1


def test_a_store_that_nobody_answers_for_is_busy(
    tmp_path: Path, config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be another import's: one waits for a moment, then one is told."""
    monkeypatch.setattr(module, "STARTED_WITHIN_S", 0.5)
    lock = StoreLock(tmp_path / "store")
    with pytest.raises(StoreBusy, match="wait for its end"), open_for_import(tmp_path / "store", config):
        pass
    lock.release()
    with open_for_import(tmp_path / "store", config) as store:
        assert not store.is_running


def test_a_recorder_of_an_older_version_is_told_of(
    tmp_path: Path, config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows nothing of imports, and hangs up."""
    monkeypatch.setattr(module, "STARTED_WITHIN_S", 0.5)
    own = OwnStore(tmp_path / "store", config)
    old = Control(tmp_path / "store", {}, {})
    with pytest.raises(StoreError, match="another version"), open_for_import(tmp_path / "store", config):
        pass
    old.close()
    own.close()


def test_one_import_at_a_time(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """The second is told to wait; the first goes on, and so do questions to the recorder."""
    root, recorder = tmp_path / "store", start(config)
    with open_for_import(root, config) as store:
        with pytest.raises(StoreError, match="another import is under way"), open_for_import(root, config):
            pass
        assert ask(root, "status")["live_visits"] == 0
        assert store.write(made[0]) is None
    wait_until(lambda: hand_over(root, config) == [], WITHIN_S, "the end of the first")
    recorder.close()


def test_an_import_may_take_its_time(
    tmp_path: Path, config: Settings, made: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two days it may read for an hour; one that stops within a day is in nobody's way for long."""
    for each in (control, intake):
        monkeypatch.setattr(each, "PATIENCE_S", 1.0)
    root, recorder = tmp_path / "store", start(config)
    with open_for_import(root, config) as store:
        time.sleep(1.5)
        store.tell_shredded(1)  # over the same connection: what is told of files is never told twice
    with call(root, TALK) as connection:
        send(connection, introduce(digest_settings(config), replaces=False))
        assert receive(connection) == {"objection": None}
        lengths = {kind: len(data) for kind, data in made[0].files.items()}
        send(connection, {"site": "www", "date": str(made[0].date), "rows": made[0].rows, "lengths": lengths})
        assert hand_over(root, config, made[0]) == [None]
    recorder.close()
    assert (count_events(root)["shredded"], count_events(root)["imported"]) == (1, 1)


def test_an_import_that_dies_leaves_nothing(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """A day of which half has come is nowhere, and the next import brings it."""
    root, recorder = tmp_path / "store", start(config)
    before = contents(root)
    with call(root, TALK) as connection:
        send(connection, introduce(digest_settings(config), replaces=False))
        assert receive(connection) == {"objection": None}
        lengths = {kind: len(data) for kind, data in made[0].files.items()}
        send(connection, {"site": "www", "date": str(made[0].date), "rows": made[0].rows, "lengths": lengths})
        connection.send(made[0].files["vocabulary"][:100])
    assert contents(root) == before
    wait_until(lambda: _is_taken(root, config, made[0]), WITHIN_S, "the next import")
    recorder.close()
    assert count_events(root)["imported"] == 1


def _is_taken(root: Path, config: Settings, made: Made) -> bool:
    try:
        return hand_over(root, config, made) == [None]
    except StoreError:
        return False


GARBAGE = (
    b"",
    b"{",
    b"[]",
    b"{}",
    b'{"site": "www"}',
    b'{"lengths": {"hits": 1e9}}',
    b'{"lengths": {"hits": 99999999999}}',
)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_who_speaks_otherwise_is_hung_up_on(tmp_path: Path, config: Settings, garbage: bytes) -> None:
    """Nothing is written, and the recorder answers the next one."""
    root, recorder = tmp_path / "store", start(config)
    with call(root, TALK) as connection:
        send(connection, introduce(digest_settings(config), replaces=False))
        receive(connection)
        connection.send(garbage)
        with pytest.raises((EOFError, ConnectionResetError)):
            receive(connection)
    assert ask(root, "status")
    recorder.close()
    assert contents(root) == {}


def test_a_day_that_is_unfit_is_not_written(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """The import ends with the kind of flaw; the recorder goes on, and so may the import."""
    root, recorder = tmp_path / "store", start(config)
    unfit = made[0]._replace(files={**made[0].files, "daily": b"203.0.113.7 GET /secret"})
    with open_for_import(root, config) as store:
        with pytest.raises(StoreError, match=r"bytes that this version wouldn't write\. That is a mistake") as told:
            store.write(unfit)
        assert store.write(made[0]) is None
    recorder.close()
    assert "203" not in str(told.value)


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, made: list[Made]) -> None:
    """No part of a day stays; with room again the same import goes on."""
    with mounted(tmp_path / "disk") as root:
        config = settings(root)
        recorder = start(config)
        filler = fill(root)
        with pytest.raises(StoreError, match=r"a day can't be written .* start the same import again"):
            hand_over(root, config, made[0])
        assert not [path for path in root.rglob("*.parquet*") if path.is_file()]
        filler.unlink()
        wait_until(lambda: _is_taken(root, config, made[0]), WITHIN_S, "room")
        recorder.close()
        assert count_events(root)["imported"] == 1


def test_a_day_goes_to_the_next_recorder(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """The import waits for it, and hands it the same day; one that was written just before isn't written twice."""
    root, first = tmp_path / "store", start(config)
    with open_for_import(root, config) as store:
        assert store.write(made[0]) is None
        first.close()
        second = start(config)
        assert store.write(made[0]) is None  # as if the answer had been lost
        assert store.write(made[1]) is None
        second.close()
    assert count_events(root)["imported"] == 2


def test_an_import_whose_recorder_has_gone_says_so(
    tmp_path: Path, config: Settings, made: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with what to do; nothing is written behind the recorder's back, nor told in its ledger."""
    monkeypatch.setattr(module, "RESTARTED_WITHIN_S", 0.5)
    root, recorder = tmp_path / "store", start(config)
    with open_for_import(root, config) as store:
        store.tell_shredded(1)
        recorder.close()
        with pytest.raises(StoreError, match="start the same import again"):
            store.write(made[0])
        with pytest.raises(StoreError, match="Nothing is"):
            store.tell_shredded(2)
    assert count_events(root) == {"started": 1, "configured": 1, "shredded": 1, "stopped": 1}
    assert [entry.details for entry in entries(root) if entry.event == "shredded"] == [{"files": 1}]
    assert contents(root) == {}


def test_a_recorder_that_ends_finishes_the_day(
    tmp_path: Path, config: Settings, made: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It doesn't release the store before the day is whole, and no other is begun."""
    root, recorder = tmp_path / "store", start(config)
    writing, may_end = threading.Event(), threading.Event()

    def write_slowly(*arguments: object) -> Path:
        writing.set()
        may_end.wait(WITHIN_S)
        return write_temporary(*arguments)  # type: ignore[arg-type]  # whatever it is called with

    monkeypatch.setattr("anonproxy.store.imports.write_temporary", write_slowly)
    store = RunningStore(root, config, replaces=False)
    importing = threading.Thread(target=_write_whatever_comes, args=(store, made[0]))
    importing.start()
    assert writing.wait(WITHIN_S)
    closing = threading.Thread(target=recorder.close)
    closing.start()
    with pytest.raises(StoreError, match="another anonproxy"):
        OwnStore(root, config)
    may_end.set()
    closing.join(WITHIN_S)
    OwnStore(root, config).close()
    assert count_events(root)["imported"] == 1
    assert [path.partition("/")[0] for path in contents(root)] == ["daily", "hits", "vocabulary"]
    importing.join(WITHIN_S)


def _write_whatever_comes(store: RunningStore, made: Made) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RESTARTED_WITHIN_S", 0.0)
        with pytest.raises(StoreError):
            store.write(made)


def test_requests_never_wait_for_an_import(tmp_path: Path, config: Settings, made: list[Made]) -> None:
    """While a day waits for what is being published, requests are recorded and written."""
    root, recorder = tmp_path / "store", start(config)
    with recorder._publishing:
        importing = threading.Thread(target=hand_over, args=(root, config, made[0]))
        importing.start()
        for _ in range(20):
            recorder.record(request(NOW_S))
        recorder._flush()
        assert rows(root) == 20
        assert importing.is_alive()
    importing.join(WITHIN_S)
    assert not importing.is_alive()
    recorder.close()
    assert count_events(root)["imported"] == 1
