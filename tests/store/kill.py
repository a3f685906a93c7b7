"""Death at a chosen step: the interpreter announces each change to the disk before it happens, and here it ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

_CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.utime", "os.chmod"})


class Killed(BaseException):
    """What kill -9 would be: nothing in the program under test catches it."""


@dataclass
class Fate:
    """How many changes to the disk are left to live, and whether that was enough."""

    left: int
    came: bool = False


_fate: Fate | None = None


def _is_change(event: str, args: tuple[object, ...]) -> bool:
    flags = args[2] if event == "open" and len(args) > 2 else 0
    return event in _CHANGES or bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR))


def _hook(event: str, args: tuple[object, ...]) -> None:
    if _fate is not None and _is_change(event, args):
        _fate.left -= 1
        if _fate.left < 0:  # nor does any later change happen: no handler tidies up after a kill
            _fate.came = True
            raise Killed


sys.addaudithook(_hook)


@contextmanager
def killed_after(changes: int) -> Iterator[Fate]:
    """Let the block make some changes to the disk and die at the next one."""
    global _fate
    _fate = fate = Fate(changes)
    try:
        yield fate
    except Killed:
        assert fate.came
    finally:
        _fate = None


def deaths() -> Iterator[int]:
    """Count up; the loop ends by itself once it lived."""
    yield from count()
