"""The only calls to the system's clocks; everyone else is handed the time."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def now() -> float:
    """Return the present time.

    Units: unix seconds, UTC
    """
    return time.time()


def steady() -> float:
    """Return the time since the machine started, sleep included. Nobody can set it.

    Units: seconds
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
