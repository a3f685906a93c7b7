"""Deleting the originals, as far as a file system lets anybody."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

CHUNK: Final = bytes(1 << 20)

# File systems that write elsewhere what is written over a file.
COPY_ON_WRITE: Final = frozenset({"btrfs", "zfs", "bcachefs", "overlay", "f2fs", "nilfs2"})
MOUNTS: Final = Path("/proc/self/mounts")


def shred(path: Path) -> None:
    """Overwrite a file with zeros where it lies, down to the disk, and delete it.

    Raises: OSError, and then the file is still there under its name, perhaps overwritten
    """
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        left = os.fstat(file).st_size
        while left > 0:
            left -= os.write(file, CHUNK[:left])
        os.fsync(file)
        os.ftruncate(file, 0)
    finally:
        os.close(file)
    path.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def find_copies_on_write(paths: Sequence[Path]) -> set[str]:
    """Name the file systems of these files on which overwriting leaves what was there."""
    kinds: dict[Path, str] = {}
    with contextlib.suppress(OSError):
        for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
            _, point, kind, *_ = line.split(" ")
            kinds[Path(point.replace("\\040", " "))] = kind
    found = set[str]()
    for path in paths:
        found.add(next((kinds[parent] for parent in path.absolute().parents if parent in kinds), ""))
    return found & COPY_ON_WRITE
