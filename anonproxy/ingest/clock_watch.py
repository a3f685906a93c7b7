"""Whether the clock may be believed: what is deleted because of a date can't be brought back.

A clock that was set wrong, or whose battery died, may be years off. Rows are written all the same and the key ends at
once, but nothing settles and nothing is purged on its word. It is believed again once it has gone on evenly for an
hour, measured by the kernel's steady clock, which nobody can set: time enough for a time service, or a person, to put
it right. At a start it is believed at once when it is not before the ledger's newest entry and at most three days
after it. Doubt is an entry of the ledger, so that a restart doesn't end it.
"""

from typing import Final

from anonproxy.audit.ledger import Ledger
from anonproxy.keys.ring import CLOCK_JUMP_S

# A time service corrects a clock within minutes of having a network.
CONFIRM_S: Final = 3_600.0
# A machine that is off over a long weekend; a wrong clock is rarely wrong by so little, and costs little then.
PLAUSIBLE_GAP_S: Final = 3 * 86_400.0

DOUBTED: Final = "clock_doubted"
BELIEVED: Final = "clock_believed"


class ClockWatch:
    """Compares the clock with the steady one."""

    def __init__(self, time_s: float, steady_s: float, *, is_believed: bool) -> None:
        self._offset_s = time_s - steady_s
        self._believed_from_s = steady_s if is_believed else steady_s + CONFIRM_S
        self.is_believed = is_believed

    def look(self, time_s: float, steady_s: float) -> str | None:
        """Look at both clocks; return the event if the clock is doubted, or believed, from now on."""
        offset_s = time_s - steady_s
        jumped = abs(offset_s - self._offset_s) > CLOCK_JUMP_S
        self._offset_s = offset_s
        if jumped:
            self._believed_from_s = steady_s + CONFIRM_S
        before, self.is_believed = self.is_believed, steady_s >= self._believed_from_s
        return {(True, False): DOUBTED, (False, True): BELIEVED}.get((before, self.is_believed))


def is_plausible(ledger: Ledger, time_s: float) -> bool:
    """Tell whether the clock fits what the ledger knows of the time."""
    if ledger.last_s is None:
        return True
    is_doubted = ledger.newest({DOUBTED, BELIEVED}) == DOUBTED
    return not is_doubted and -CLOCK_JUMP_S <= time_s - ledger.last_s <= PLAUSIBLE_GAP_S
