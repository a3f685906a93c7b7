"""One writer at a time: a lock on the store's folder itself, which the kernel releases however its holders end."""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final, Self

from anonproxy.model.errors import StoreBusy, StoreError
from anonproxy.store.disk import FOLDER_MODE
from anonproxy.store.layout import KINDS, NEIGHBOURS

_REMEDIES: Final = {
    errno.EACCES: "Run this as root or as its owner; or give it to the user that runs anonproxy: chown -R",
    errno.EPERM: "Run this as root or as its owner; or give it to the user that runs anonproxy: chown -R",
    errno.ENOENT: "Make the folder that it stands in first, or correct store.path",
    errno.ENOTDIR: "Name a folder in store.path, not a file",
    errno.EROFS: "Name a folder on a disk that can be written",
    errno.ENOSPC: "Make room on the disk",
}


class StoreLock:
    """The right to change a store. Taken when made; a new store's folder is made with it.

    It belongs to an open file and not to a process: a supervisor holds it for its writers, so that nobody else takes
    the store between the end of one and the start of the next.

    Raises: StoreBusy when somebody else has it; StoreError when the folder can't be used or isn't a store
    """

    def __init__(self, root: Path) -> None:
        try:
            if not root.exists():
                root.mkdir(FOLDER_MODE)
                root.chmod(FOLDER_MODE)
            self._file = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            if not os.access(root, os.W_OK | os.X_OK):
                os.close(self._file)
                is_read_only = os.statvfs(root).f_flag & os.ST_RDONLY
                raise OSError(errno.EROFS if is_read_only else errno.EACCES, "no access")
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, f"The system says: {os.strerror(error.errno or 0)}")
            raise StoreError(f"{root}: can't be used as a store. {remedy}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            verify_names(root)
        except BlockingIOError:
            os.close(self._file)
            raise StoreBusy(
                f"{root}: another anonproxy is writing to this store, and seals, settles and purges it. Stop it first"
            ) from None
        except BaseException:
            os.close(self._file)
            raise

    @classmethod
    def inherit(cls, fd: int) -> Self:
        """Share a lock that a parent holds, and handed over as an open file."""
        lock = cls.__new__(cls)
        lock._file = fd
        return lock

    @property
    def fd(self) -> int:
        """Return the open file that a child inherits."""
        return self._file

    def release(self) -> None:
        """Let others write, once nobody who shares it holds it any more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def verify_names(root: Path) -> None:
    """Check that a folder is empty or a store.

    Raises: StoreError
    """
    names = set(os.listdir(root))
    if names and not names & NEIGHBOURS.union(KINDS):
        raise StoreError(f"{root}: holds other files and is no store. Name an empty or a new folder in store.path")
