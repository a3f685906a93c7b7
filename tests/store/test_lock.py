"""Tests of the lock."""

import subprocess
import sys
from pathlib import Path

import pytest

from anonproxy.model.errors import StoreError
from anonproxy.store import tables
from anonproxy.store.lock import StoreLock
from anonproxy.store.version import verify_version
from tests.store.examples import hit, write


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """Two writers on one store would merge each other's segments away."""
    first = StoreLock(tmp_path / "store")
    with pytest.raises(StoreError, match="another anonproxy"):
        StoreLock(tmp_path / "store")
    first.release()
    first.release()
    StoreLock(tmp_path / "store").release()


def test_a_lock_outlives_the_child_that_shared_it(tmp_path: Path) -> None:
    """A supervisor keeps the store between two writers, whether they let go of it or were killed."""
    held = StoreLock(tmp_path / "store")
    for end in ("lock.release()", "os.kill(os.getpid(), signal.SIGKILL)"):
        code = f"from anonproxy.store.lock import StoreLock; lock = StoreLock.inherit({held.fd})"
        subprocess.run(
            [sys.executable, "-c", f"import os, signal; {code}; {end}"], pass_fds=[held.fd], timeout=60, check=False
        )
        with pytest.raises(StoreError, match="another anonproxy"):
            StoreLock(tmp_path / "store")
    held.release()
    StoreLock(tmp_path / "store").release()


def test_the_store_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """A new store's folder has mode 0700, and the lock leaves no file in it."""
    StoreLock(tmp_path / "store").release()
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda root: root.write_text("x"), "Name a folder"),
        (lambda root: (root.mkdir(), (root / "thesis.doc").touch()), "is no store"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, prepare: object, message: str) -> None:
    """A slip in store.path doesn't fill somebody's folder, and the message says what to do."""
    assert callable(prepare)
    prepare(tmp_path / "store")
    for _ in range(2):  # and the failed attempt leaves no lock behind
        with pytest.raises(StoreError, match=message):
            StoreLock(tmp_path / "store")


def test_a_missing_parent_is_refused(tmp_path: Path) -> None:
    """A disk that isn't mounted doesn't become a folder on the system's."""
    with pytest.raises(StoreError, match="Make the folder that it stands in"):
        StoreLock(tmp_path / "disk" / "store")


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older software doesn't write into what it may not understand."""
    with monkeypatch.context() as newer:
        newer.setattr(tables, "SCHEMA_VERSION", 2)
        write(tmp_path, [hit()])
    with pytest.raises(StoreError, match=r"newer anonproxy.*Upgrade"):
        verify_version(tmp_path)


def test_a_truncated_file_doesnt_stop_the_store(tmp_path: Path) -> None:
    """One broken file is dealt with where it is read, not by refusing to serve."""
    write(tmp_path, [hit()])
    next(tmp_path.glob("hot/*/*/*/*.parquet")).write_bytes(b"PAR1")
    verify_version(tmp_path)
