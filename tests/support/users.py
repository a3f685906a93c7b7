"""To act as another user for a while."""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

ROOT: Final = 0
NOBODY: Final = 65534


@contextlib.contextmanager
def acting_as_nobody() -> Iterator[None]:
    """Give up the rights of root; whoever has none of them has none over other people's folders either."""
    before = os.geteuid()
    if before == ROOT:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)
