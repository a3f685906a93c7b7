"""Who is logged in: in memory, for as long as the site runs."""

import secrets
from dataclasses import dataclass, field

from anonproxy.demo.library import FIRST_RECORD

SESSION_COOKIE = "CGISESSID"
"""The name that Koha gives its session cookie."""

SESSIONS_AT_MOST = 2_000
"""A demonstration must not grow without bound; the oldest session is ended first."""

LOANS = ((FIRST_RECORD + 10, 3), (FIRST_RECORD + 20, 9), (FIRST_RECORD + 45, 16))


@dataclass(slots=True)
class Patron:
    """A reader with a card. The site keeps the last four digits for the greeting, and nothing else."""

    card_ending: str
    loans: tuple[tuple[int, int], ...] = LOANS
    holds: list[int] = field(default_factory=list)

    def place_hold(self, number: int) -> None:
        if number not in self.holds:
            self.holds.append(number)


class Sessions:
    """Session ids and the patrons behind them."""

    def __init__(self) -> None:
        self._patrons: dict[str, Patron] = {}

    def open(self, patron: Patron) -> str:
        """Remember a patron and return the new session id."""
        while len(self._patrons) >= SESSIONS_AT_MOST:
            del self._patrons[next(iter(self._patrons))]
        session_id = secrets.token_hex(16)
        self._patrons[session_id] = patron
        return session_id

    def find(self, session_id: str | None) -> Patron | None:
        return self._patrons.get(session_id or "")

    def close(self, session_id: str | None) -> None:
        self._patrons.pop(session_id or "", None)


def is_card(barcode: str, pin: str) -> bool:
    """Tell whether this could be a card of ours: 14 digits that start with 2, and a PIN of 4 to 8 digits."""
    digits = barcode.replace(" ", "")
    return digits.isdecimal() and len(digits) == 14 and digits[0] == "2" and pin.isdecimal() and 4 <= len(pin) <= 8
