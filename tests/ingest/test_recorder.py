"""Tests of the recorder: what it writes, what it tells, what it does when the clock lies."""

import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pytest

from anonproxy.anonymize.request import RawRequest
from anonproxy.audit.check import Verdict
from anonproxy.audit.checks.ledger import CHECK as LEDGER_CHECK
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.ledger import Ledger
from anonproxy.ingest.batch import RAW_SCHEMA, TEXTS
from anonproxy.ingest.clock_watch import CONFIRM_S
from anonproxy.ingest.control import ask
from anonproxy.ingest.recorder import FLUSH_ROWS, Recorder
from anonproxy.model.errors import StoreError
from anonproxy.model.vocabularies import DropReason
from tests.ingest.recorders import (
    DAY_S,
    HOUR_S,
    MIDDAY,
    World,
    count_events,
    entries,
    events,
    recording,
    request,
    rows,
    settings,
    values,
)
from tests.support.servers import wait_until

PROJECT = Path(__file__).parents[2]
YEAR_S = 365 * DAY_S


def record(recorder: Recorder, world: World, count: int = 20) -> None:
    """Record requests of several visitors, and write them."""
    for number in range(count):
        recorder.record(request(world.time_s, f"198.51.100.{number + 1}"))
    world.wait(60)
    recorder.tick()


# The ledger -----------------------------------------------------------------------------------------------------------


def test_what_was_done_stands_in_the_ledger(tmp_path: Path) -> None:
    """Start, settings, keys, hours, days, deletions and the stop, in order."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
        for _ in range(92 * 2):
            world.wait(12 * HOUR_S)
            recorder.tick()
            recorder.keep_house()
    told = events(tmp_path)
    assert told[:4] == ["started", "configured", "rotated", "sealed"]
    assert [event for event in told if event not in {"rotated", "started", "configured"}] == [
        "sealed",
        "settled",
        "purged",
        "stopped",
    ]


def test_settings_are_told_when_they_changed(tmp_path: Path) -> None:
    """The same settings are told once; others at the next start."""
    for hits_days in (90, 90, 30, 30, 90):
        with recording(tmp_path, hits_days=hits_days):
            pass
    assert count_events(tmp_path) == {"started": 5, "configured": 3, "stopped": 5}
    assert len({entry.details["settings_sha256"] for entry in entries(tmp_path) if entry.event == "configured"}) == 2


def test_a_start_that_fails_releases_the_store(tmp_path: Path) -> None:
    """Whoever mends the ledger can start again without ending this process."""
    with recording(tmp_path):
        pass
    key = tmp_path / "ledger" / "signing-key.pem"
    content = key.read_bytes()
    key.write_text("none")
    with pytest.raises(StoreError, match="Ed25519"):
        Recorder(settings(tmp_path))
    key.write_bytes(content)
    with recording(tmp_path):
        pass


# Keys -----------------------------------------------------------------------------------------------------------------


def test_the_key_is_described_and_rotated_on_request(tmp_path: Path) -> None:
    """`anonproxy keys` learns its age, its end and how many visits go on, and can end it now."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
        assert ask(tmp_path, "status") == {
            "made_at": MIDDAY,
            "destroyed_at": MIDDAY + 16 * HOUR_S,
            "now": MIDDAY + 60,
            "live_visits": 20,
            "clock_believed": True,
        }
        assert ask(tmp_path, "rotate")["live_visits"] == 0
        assert ask(tmp_path, "status")["made_at"] == MIDDAY + 60
        assert entries(tmp_path)[-1].details == {"requested": 1}
        with pytest.raises(StoreError, match="no answer"):
            ask(tmp_path, "shutdown")
    with pytest.raises(StoreError, match="nothing records"):
        ask(tmp_path, "status")


def test_every_hour_is_sealed_on_request(tmp_path: Path) -> None:
    """Told to seal, it writes what is pending and leaves no segment, not even of this hour; no row is lost."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
        before = rows(tmp_path)
        recorder.record(request(world.time_s))
        assert ask(tmp_path, "seal") == {"sealed": True}
        assert rows(tmp_path) == before + 1
        assert [path.parent.suffix for path in tmp_path.rglob("hot/**/*.parquet")] == [""]
        assert ask(tmp_path, "seal") == {"sealed": True}
        recorder.record(request(world.time_s))
        ask(tmp_path, "seal")
        assert rows(tmp_path) == before + 2
        assert count_events(tmp_path)["sealed"] == 2


ASK = """
import os, socket, sys
from pathlib import Path
from anonproxy.ingest.control import socket_name
name = socket_name(Path(sys.argv[1]))
os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
    connection.connect(name)
    connection.send(b"status")
    print(connection.recv(4096))
"""


def test_another_user_gets_no_answer(tmp_path: Path) -> None:
    """The kernel says who asks; only root and the recorder's own user are answered."""
    with recording(tmp_path):
        answers = [
            subprocess.run([sys.executable, "-c", ASK, tmp_path, user], cwd=PROJECT, stdout=subprocess.PIPE).stdout
            for user in ("0", "65534")
        ]
    assert b"live_visits" in answers[0]
    assert b"live_visits" not in answers[1]


@pytest.mark.slow
def test_rotation_under_load_loses_and_links_nothing(tmp_path: Path) -> None:
    """Each request is a row, and a visit never goes on into the next epoch.

    One visitor asks without a pause while the key is rotated again and again. In each epoch it is one visit, whose
    steps are numbered from 1 without a gap; there are as many visits as epochs.
    """
    rotations, ended, sent = 25, threading.Event(), [0] * 3
    recorder = Recorder(settings(tmp_path))

    def load(worker: int) -> None:
        while not ended.is_set():
            recorder.record(request(recorder._clock()))
            sent[worker] += 1
            ended.wait(0.002)

    def tick() -> None:
        while not ended.wait(0.1):
            recorder.tick()

    def has_visit() -> bool:
        return bool(ask(tmp_path, "status")["live_visits"] == 1)

    threads = [*(threading.Thread(target=load, args=(worker,)) for worker in range(3)), threading.Thread(target=tick)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(rotations):
            wait_until(has_visit, 10, "a visit in this epoch")
            ask(tmp_path, "rotate")
        wait_until(has_visit, 10, "a visit in the last epoch")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        recorder.close()
    steps = defaultdict(list)
    for visit, step in values(tmp_path, "visit, step"):
        steps[visit].append(step)
    assert sum(map(len, steps.values())) == sum(sent) == recorder.counts["written"]
    assert len(steps) == rotations + 1
    assert all(sorted(each) == list(range(1, len(each) + 1)) for each in steps.values() if len(each) < 255)
    assert count_events(tmp_path)["rotated"] == rotations


# The clock ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_leaps_ahead_deletes_nothing(tmp_path: Path) -> None:
    """Ten years on and back within the hour, everything is still there; the key ended each time."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
        world.set_clock(world.time_s + 10 * YEAR_S)
        for _ in range(10):
            record(recorder, world, 1)
            recorder.keep_house()
        world.set_clock(world.time_s - 10 * YEAR_S)
        for _ in range(10):
            record(recorder, world, 1)
            recorder.keep_house()
        told = count_events(tmp_path)
        assert (told["settled"], told["purged"], told["rotated"], told["clock_doubted"]) == (0, 0, 2, 1)
        assert rows(tmp_path) == 40
        assert all(visit for (visit,) in values(tmp_path, "visit", ("hot",)))
        world.wait(CONFIRM_S)
        recorder.keep_house()
    assert count_events(tmp_path)["clock_believed"] == 1
    # What was recorded in the year to come belongs to no visit from now on, and is still counted.
    assert {tier: rows_ for tier in ("hot", "hits") if (rows_ := len(values(tmp_path, "1", (tier,))))} == {
        "hot": 30,
        "hits": 10,
    }


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_a_start_with_a_wrong_date_deletes_nothing(tmp_path: Path, ahead_s: float) -> None:
    """Nor do many such starts, though each leaves entries of the wrong date."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
    for _ in range(3):
        wrong = World(MIDDAY + ahead_s, 0.0)
        with recording(tmp_path, wrong) as recorder:
            recorder.tick()
            wrong.wait(CONFIRM_S - 10)
            recorder.tick()
            recorder.keep_house()
    told = count_events(tmp_path)
    assert (told["settled"], told["purged"], told["clock_doubted"]) == (0, 0, 3)
    assert rows(tmp_path) == 20


def test_a_machine_that_was_off_for_long_catches_up_after_an_hour(tmp_path: Path) -> None:
    """The date is right, and the steady clock confirms it."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
    later = World(MIDDAY + 100 * DAY_S, 0.0)
    with recording(tmp_path, later) as recorder:
        recorder.keep_house()
        assert count_events(tmp_path)["settled"] == 0
        later.wait(CONFIRM_S)
        recorder.keep_house()
    told = events(tmp_path)
    assert told[told.index("clock_doubted") :] == [
        *("clock_doubted", "started", "sealed", "clock_believed", "settled", "purged", "stopped"),
    ]


def test_rows_for_a_settled_date_are_counted_as_late(tmp_path: Path) -> None:
    """A clock that steps back over midnight writes nothing into a day that was released."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
        for _ in range(20):
            world.wait(2 * HOUR_S)
            recorder.tick()
            recorder.keep_house()
        assert count_events(tmp_path)["settled"] == 1
        world.set_clock(MIDDAY)
        record(recorder, world)
        assert recorder.counts["late"] == 20
        assert recorder.counts["written"] == 20
        assert recorder.counts["pending"] == 0
    assert rows(tmp_path) == 20


def test_hours_that_are_gone_without_a_word_are_told_as_lost(tmp_path: Path) -> None:
    """A restored backup has no hours: after their two days the ledger says so, once, and the audit passes again."""
    world = World()
    with recording(tmp_path, world) as recorder:
        record(recorder, world)
        world.wait(2 * HOUR_S)
        recorder.keep_house()
        (hour,) = tmp_path.glob("hot/*/*/*.parquet")
        hour.unlink()
        for _ in range(3 * 12):
            world.wait(2 * HOUR_S)
            recorder.tick()
            recorder.keep_house()
            is_over = world.time_s >= MIDDAY + 1.5 * DAY_S
            assert count_events(tmp_path)["lost"] <= is_over
    (lost,) = (entry.details for entry in entries(tmp_path) if entry.event == "lost")
    assert lost == {"file": hour.relative_to(tmp_path).as_posix()}
    assert LEDGER_CHECK.look(Evidence(tmp_path, world.time_s)).verdict == Verdict.PASS


def test_a_restless_clock_never_revives_a_key(tmp_path: Path) -> None:
    """Each step of more than a few minutes ends the key, wherever the clock goes; nothing is lost."""
    world = World()
    with recording(tmp_path, world) as recorder:
        for number in range(20):
            world.set_clock(MIDDAY + (number % 2) * 1000)
            recorder.record(request(world.time_s))
        world.wait(60)
        recorder.tick()
        assert recorder.counts["written"] == 20
    assert len({visit for (visit,) in values(tmp_path, "visit")}) == 20
    assert count_events(tmp_path)["rotated"] == 19


def test_the_ledger_is_to_the_minute(tmp_path: Path) -> None:
    """An entry's time can't be joined with anybody's click."""
    Ledger(tmp_path / "ledger", MIDDAY).append("started", {}, MIDDAY + 61.5)
    assert entries(tmp_path)[0].time_s == MIDDAY + 60


# Requests in bulk -----------------------------------------------------------------------------------------------------


def table_of(requests: list[RawRequest]) -> pa.Table:
    """Put requests side by side, as a reader of logs does."""
    columns = {field.name: [getattr(request, field.name) for request in requests] for field in RAW_SCHEMA}
    return pa.table(
        {
            name: [v.encode("utf-8", "surrogateescape") for v in c] if name in TEXTS else c
            for name, c in columns.items()
        },
        schema=RAW_SCHEMA,
    )


def test_requests_in_bulk_are_the_same_rows(tmp_path: Path) -> None:
    """A table of requests becomes the rows that the requests become one by one, and each is counted."""
    requests = [request(MIDDAY + n, f"198.51.100.{n % 7}", raw_target=f"/events?q={n}") for n in range(50)]
    requests += [request(MIDDAY, "no address"), request(-1.0), request(MIDDAY, raw_target="/" + "x" * 70_000)]
    found = []
    for name in ("each", "bulk"):
        world = World()
        with recording(tmp_path / name, world) as recorder:
            if name == "bulk":
                recorder.record_table(table_of(requests))
            else:
                for one in requests:
                    recorder.record(one)
            recorder.tick()
            world.wait(60)
            recorder.tick()
            counts = {reason: number for reason, number in recorder.counts.items() if number}
        columns = "route, kind, status, network, country, step, elapsed_s, visit IS NULL"
        found.append((sorted(values(tmp_path / name, columns), key=str), counts))
    assert found[0] == found[1]
    assert found[0][1] == {"received": 53, "written": 50, "bad_address": 1, "bad_time": 1, "oversized": 1}


def test_lines_without_a_request_are_counted(tmp_path: Path) -> None:
    """Received are requests and the lines that none came of: all of them are written, pending or dropped."""
    with recording(tmp_path) as recorder:
        recorder.record_table(table_of([request()]), {DropReason.UNREADABLE: 3, DropReason.BAD_TIME: 1})
        counts = recorder.counts
        assert (counts["received"], counts["pending"], counts["unreadable"], counts["bad_time"]) == (5, 1, 3, 1)


def test_broken_table_is_dropped_whole_and_silently(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What bulk work can't handle is counted, and its error is not told: it may quote a request."""
    with recording(tmp_path) as recorder:
        recorder.record_table(pa.table({"raw_client": ["canary-198.51.100.7"], "time_s": ["canary"]}))
        assert recorder.counts["internal_error"] == 1
    assert "canary" not in "".join(capfd.readouterr())


def test_busy_minutes_are_written_before_there_is_no_room(tmp_path: Path) -> None:
    """Rows that fill what may be pending are written at the next tick, and not only when the flush window is over."""
    with recording(tmp_path, flush_s=60) as recorder:
        recorder.tick()
        recorder.record_table(table_of([request()] * FLUSH_ROWS))
        recorder.tick()
        assert (recorder.counts["written"], recorder.counts["pending"]) == (FLUSH_ROWS, 0)
