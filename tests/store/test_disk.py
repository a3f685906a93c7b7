"""Tests of changes to the disk."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonproxy.store.disk import publish
from anonproxy.store.seal import seal
from tests.store.examples import DAY_S, MIDNIGHT, Notes, hit, write
from tests.store.kill import deaths, killed_after


@pytest.fixture(params=[0o000, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set a umask for the test."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_nobody_else_may_read_whatever_the_umask(tmp_path: Path, umask: None) -> None:
    """Folders are 0700 and files 0600."""
    root = tmp_path.parent / f"{tmp_path.name}-store"
    root.mkdir()
    root.chmod(0o700)
    write(root, [hit()])
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in root.rglob("*")}
    assert modes == {True: 0o700, False: 0o600}


def test_times_tell_only_the_hour_that_the_rows_tell(tmp_path: Path) -> None:
    """No file or folder of the store is dated by the moment at which it was written."""
    write(tmp_path, [hit(7 * 3600 + 900), hit(3600)])
    times = {path.stat().st_mtime for path in tmp_path.rglob("*")}
    assert all(time % 3600 == 0 and MIDNIGHT <= time < MIDNIGHT + DAY_S for time in times)


def test_a_time_that_a_crash_left_exact_is_hidden_later(tmp_path: Path) -> None:
    """Killed between a change and the hiding of its time, the next seal hides it; full hours stay as they are."""
    for step in deaths():
        root = tmp_path / str(step)
        root.mkdir()
        with killed_after(step) as fate:
            write(root, [hit(7 * 3600)])
        seal(root, MIDNIGHT, Notes())
        assert {path.stat().st_mtime % 3600 for path in root.rglob("*") if path.is_dir()} <= {0}
        if not fate.came:
            break
    assert step > 10


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """Killed at any step, a file has its old bytes or its new ones, and the next try succeeds."""
    for step in deaths():
        path = tmp_path / str(step) / "sub" / "file.parquet"
        path.parent.parent.mkdir()
        with killed_after(step) as fate:
            publish(tmp_path, path, b"old", MIDNIGHT)
        assert not path.exists() or path.read_bytes() == b"old"
        publish(tmp_path, path, b"new", MIDNIGHT)
        assert path.read_bytes() == b"new"
        if not fate.came:
            break
    assert step > 4


def test_a_file_that_has_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the disk refuses, the error is raised, the old file stands, and no part of the new one takes up space."""
    path = tmp_path / "file.parquet"
    publish(tmp_path, path, b"old", MIDNIGHT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            publish(tmp_path, path, b"x" * 10_000, MIDNIGHT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [each.name for each in tmp_path.iterdir()] == ["file.parquet"]
    assert path.read_bytes() == b"old"
