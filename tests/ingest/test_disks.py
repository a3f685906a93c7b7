"""What the recorder does on a disk that is full, read-only, stuck or taken away: real ones, mounted for the test."""

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anonproxy.ingest.recorder import Recorder
from anonproxy.model.errors import StoreError
from tests.ingest.recorders import HOUR_S, MIDDAY, World, count_events, entries, recording, request, rows, settings

NOBODY = 65534
SIZE = "size=512k,mode=700"


@contextmanager
def mounted(folder: Path, options: str = SIZE) -> Iterator[Path]:
    """Mount a disk in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Give a store on a small disk of its own."""
    with mounted(tmp_path / "store") as folder:
        yield folder


def remount(root: Path, options: str) -> None:
    """Change how a disk may be used."""
    subprocess.run(["mount", "-o", f"remount,{options}", root], check=True)


def fill(root: Path) -> Path:
    """Take up all the room, and return the file to delete."""
    filler = root / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return filler


def record(recorder: Recorder, world: World, count: int) -> None:
    """Record requests, and try to write them."""
    for _ in range(count):
        recorder.record(request(world.time_s))
    world.wait(60)
    recorder.tick()


def test_a_full_disk_costs_nothing_once_there_is_room(root: Path) -> None:
    """Rows and ledger entries wait in memory, an hour can't be sealed, and all comes right by itself."""
    world = World()
    with recording(root, world) as recorder:
        record(recorder, world, 5)
        filler = fill(root)
        record(recorder, world, 7)
        world.wait(2 * HOUR_S)
        recorder.keep_house()
        assert (recorder.counts["written"], recorder.counts["pending"]) == (5, 7)
        assert recorder.counts["seal_failed"] == 1
        assert rows(root) == 5
        filler.unlink()
        record(recorder, world, 1)
        recorder.keep_house()
        assert (recorder.counts["written"], recorder.counts["pending"], rows(root)) == (13, 0, 13)
    assert count_events(root)["sealed"] >= 1


def test_a_full_disk_keeps_no_visit_number_longer(root: Path) -> None:
    """What is overdue goes although neither its totals nor the entry can be written; the entry follows."""
    world = World()
    with recording(root, world) as recorder:
        record(recorder, world, 5)
        filler = fill(root)
        for _ in range(60):
            world.wait(HOUR_S)
            recorder.tick()
        recorder.keep_house()
        assert not list((root / "hot").rglob("*.parquet"))
        filler.unlink()
        recorder.tick()
    assert count_events(root)["settle_failed"] == count_events(root)["purged"] == 1


def test_a_start_on_a_full_disk_serves(root: Path) -> None:
    """A store that is there already records into memory until there is room."""
    world = World()
    with recording(root, world) as recorder:
        record(recorder, world, 5)
    filler = fill(root)
    with recording(root, world) as recorder:
        record(recorder, world, 7)
        assert recorder.counts["pending"] == 7
        filler.unlink()
        record(recorder, world, 0)
        assert recorder.counts["pending"] == 0
    assert rows(root) == 12
    assert count_events(root)["started"] == 2


def test_a_new_store_on_a_full_disk_is_refused(root: Path) -> None:
    """It would have no key to sign with; the message says why."""
    fill(root).rename(root / "lost+found")
    with pytest.raises(StoreError, match="No space left"):
        Recorder(settings(root))


def test_a_disk_that_becomes_read_only_costs_nothing_once_it_can_be_written(root: Path) -> None:
    """As kernels do after an error of the disk."""
    world = World()
    with recording(root, world) as recorder:
        record(recorder, world, 5)
        remount(root, "ro")
        record(recorder, world, 7)
        recorder.keep_house()
        assert (recorder.counts["pending"], rows(root)) == (7, 5)
        with pytest.raises(StoreError, match="disk that can be written"):
            Recorder(settings(root))
        remount(root, "rw")
        record(recorder, world, 0)
        assert recorder.counts["pending"] == 0
    assert rows(root) == 12


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user without rights for a while."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def give(root: Path, user: int) -> None:
    """Give a store to a user, and to nobody else."""
    for path in (root, *root.rglob("*")):
        os.chown(path, user, user)


def test_a_permission_that_is_lost_costs_nothing_once_it_is_back() -> None:
    """Somebody gives the store to another user, and back."""
    world = World()
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        root = Path(folder)
        give(root, NOBODY)
        with as_nobody(), recording(root, world) as recorder:
            record(recorder, world, 5)
            os.seteuid(0)
            give(root, 0)
            os.seteuid(NOBODY)
            record(recorder, world, 7)
            assert (recorder.counts["written"], recorder.counts["pending"]) == (5, 7)
            with pytest.raises(StoreError, match="chown"):
                Recorder(settings(root))
            os.seteuid(0)
            give(root, NOBODY)
            os.seteuid(NOBODY)
            record(recorder, world, 0)
            assert recorder.counts["pending"] == 0
        assert rows(root) == 12


def test_a_stuck_disk_holds_up_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a flush waits for the platter, requests are recorded, and are written after it."""
    world, is_stuck, goes_on = World(), threading.Event(), threading.Event()
    really = os.fsync

    def fsync(file: int) -> None:
        is_stuck.set()
        assert goes_on.wait(20)
        really(file)

    with recording(tmp_path / "store", world) as recorder:
        monkeypatch.setattr(os, "fsync", fsync)
        recorder.record(request())
        flushing = threading.Thread(target=recorder.tick)
        flushing.start()
        assert is_stuck.wait(20)
        for _ in range(100):
            recorder.record(request())
        assert recorder.counts["pending"] == 101
        goes_on.set()
        flushing.join()
        record(recorder, world, 0)
        assert recorder.counts["written"] == 101
    assert rows(tmp_path / "store") == 101


def test_foreign_and_broken_files_stop_nothing(root: Path) -> None:
    """They are left alone, or set aside by name; the rest is sealed, settled, purged."""
    world = World()
    with recording(root, world) as recorder:
        record(recorder, world, 5)
        segment = next(root.glob("hot/*/*/*.open/*.parquet"))
        truncated = segment.with_name("0123456789abcdef.parquet")
        truncated.write_bytes(segment.read_bytes()[:-7])
        (segment.parent / "thesis.doc").write_text("mine")
        for _ in range(100 * 4):
            world.wait(6 * HOUR_S)
            recorder.tick()
            recorder.keep_house()
        assert {name: recorder.counts.get(f"{name}_failed", 0) for name in ("seal", "settle", "purge")} == {
            "seal": 0,
            "settle": 0,
            "purge": 0,
        }
    assert next(root.rglob("thesis.doc")).read_text() == "mine"
    told = count_events(root)
    assert (told["set_aside"], told["settled"]) == (1, 1)
    purged = [str(entry.details["tier"]) for entry in entries(root) if entry.event == "purged"]
    assert purged == ["hot", "hits"]
    assert not list(root.rglob("*.broken"))
    assert entries(root)[-1].time_s > MIDDAY
