"""The only call to the system's clock; everyone else is handed the time."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def now() -> float:
    """Return the present time.

    Units: unix seconds, UTC
    """
    return time.time()
