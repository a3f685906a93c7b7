"""Changes to the disk that are whole or not there, tell nothing of when they happened, and are nobody else's to read.

Whatever the umask, folders get mode 0700 and files 0600. The times of files and of the folders around them are set to
the hour that the rows belong to: when something was written exactly is nobody's business either. What root makes
belongs to whom the folder around it does.
"""

import os
from pathlib import Path
from typing import Final

from anonproxy.store.layout import HOUR_S, TEMPORARY

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


def publish(root: Path, path: Path, data: bytes, time_s: int) -> None:
    """Write a file that appears under its name whole or not at all, and survives a power cut from then on.

    Raises: OSError, and then nothing has changed
    """
    rename(root, write_temporary(root, path, data, time_s), path, time_s)


def write_temporary(root: Path, path: Path, data: bytes, time_s: int) -> Path:
    """Write a file down to the platter, under the temporary form of its name, which is returned.

    Raises: OSError, and then the space is free again
    """
    make_folder(root, path.parent)
    temporary = path.with_name(path.name + TEMPORARY)
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, FILE_MODE)
    try:
        os.fchmod(file, FILE_MODE)
        inherit_owner(file, path.parent)
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.utime(file, (time_s, time_s))
        os.fsync(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    return temporary


def rename(root: Path, source: Path, target: Path, time_s: int) -> None:
    """Give a file or folder another name in the same folder, for good."""
    os.replace(source, target)
    sync_folder(target.parent)
    hide_times(root, target.parent, time_s)


def remove(root: Path, path: Path, time_s: int) -> None:
    """Delete a file; it may be gone already."""
    path.unlink(missing_ok=True)
    hide_times(root, path.parent, time_s)


def remove_folder(root: Path, folder: Path, time_s: int) -> bool:
    """Delete a folder if it is empty; tell whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    sync_folder(folder.parent)
    hide_times(root, folder.parent, time_s)
    return True


def make_folder(root: Path, folder: Path) -> None:
    """Make a folder below the store's own, and those above it."""
    if folder != root and not folder.is_dir():
        make_folder(root, folder.parent)
        folder.mkdir(FOLDER_MODE)
        folder.chmod(FOLDER_MODE)
        inherit_owner(folder, folder.parent)
        sync_folder(folder.parent)


def inherit_owner(file: int | Path, folder: Path) -> None:
    """Give what root made in a folder to whom the folder belongs, who must be able to read and delete it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(file, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def hide_times(root: Path, folder: Path, time_s: int) -> None:
    """Set the times of a folder and of those above it, but for the store's own, which may belong to somebody else."""
    while folder != root:
        os.utime(folder, (time_s, time_s))
        folder = folder.parent


def hide_left_times(folder: Path) -> None:
    """Set the times of the folders below one that a crash left exact to the hour."""
    for name, _, _ in os.walk(folder):
        time_s = os.stat(name).st_mtime
        if time_s % HOUR_S:
            os.utime(name, (time_s // HOUR_S * HOUR_S,) * 2)
