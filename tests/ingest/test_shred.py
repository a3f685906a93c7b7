"""Deleting originals: overwritten before they go, and nothing but them."""

import os
from pathlib import Path

import pytest

from anonproxy.ingest import shred as module
from anonproxy.ingest.shred import find_copies_on_write, shred


def test_a_file_is_overwritten_where_it_lies_and_deleted(tmp_path: Path) -> None:
    """Who still has it open finds nothing; its neighbours are untouched."""
    path, other = tmp_path / "a.log", tmp_path / "b.log"
    path.write_bytes(b"secret" * 500_000)
    other.write_bytes(b"kept")
    seen = []
    truncate = os.ftruncate

    def look(file: int, length: int) -> None:
        seen.append(path.read_bytes().strip(b"\0"))
        truncate(file, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "ftruncate", look)
        shred(path)
    assert seen == [b""]
    assert [each.name for each in tmp_path.iterdir()] == ["b.log"]
    assert other.read_bytes() == b"kept"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """What a link points to may be anybody's."""
    (tmp_path / "a.log").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("a.log")
    with pytest.raises(OSError, match="symbolic links"):
        shred(tmp_path / "link")
    assert (tmp_path / "a.log").read_bytes() == b"kept"


def test_file_systems_that_write_elsewhere_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The innermost mount counts, and its name may hold a space."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\npool /srv/old\\040logs zfs rw 0 0\n/dev/b /srv btrfs rw 0 0\n")
    monkeypatch.setattr(module, "MOUNTS", mounts)
    assert find_copies_on_write([Path("/var/log/a.log")]) == set()
    assert find_copies_on_write([Path("/srv/old logs/a.log"), Path("/var/log/a.log")]) == {"zfs"}
    assert find_copies_on_write([Path("/srv/a.log")]) == {"btrfs"}
