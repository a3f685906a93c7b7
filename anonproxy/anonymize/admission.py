"""Admission: an open value is written in clear once visits of k visitors have shown it, and not before.

Counted are visitors, not visits: one person who comes back ten times a day is no crowd. Whoever can't be recognised
(no cookie) counts by address and browser.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from anonproxy.model.vocabularies import Origin
from anonproxy.model.vocabulary import Entry, Vocabulary

# Values that are counted but not admitted yet, of one column of one site: about 12 MB of them when full. Who sends
# millions of paths pushes out those seen longest ago, which then start again from nothing: later, never sooner.
MAX_CANDIDATES: Final = 20_000

# Networks, referrers and campaigns of one site and epoch. The routes have a limit of their own in the settings.
MAX_ADMITTED: Final = 5_000

# No page, domain or campaign that k people share is longer; longer ones would make a full table expensive.
MAX_CHARACTERS: Final = 256


class Seen:
    """What the epoch has seen of one column of one site."""

    __slots__ = ("admitted", "candidates", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.admitted: set[str] = set()
        self.candidates: OrderedDict[str, set[int]] = OrderedDict()  # visitors by value, the one seen longest ago first


class Admission:
    """Exact counts of distinct visitors for each open value, in memory until the epoch ends.

    Shape:   bounded: MAX_CANDIDATES values of at most MAX_CHARACTERS and k visitors each, for each site and column
    """

    def __init__(self, k: int, max_routes: int, vocabulary: Vocabulary) -> None:
        self._k = k
        self._limits: Mapping[str, int] = {"route": max_routes}
        self._vocabulary = vocabulary
        self._seen: dict[tuple[str, str], Seen] = {}

    def find_shared(self, site: str, column: str, values: Sequence[str], visitor: int | None) -> list[str]:
        """Count a visitor for values, and list those that may be written in clear.

        A request without a visit counts for nothing, and profits from what others admitted.

        Reveals: whether at least k visits of this epoch have shown a value
        """
        if not values:
            return []
        seen = self._seen.get((site, column))
        if seen is None:
            seen = self._seen[site, column] = Seen(self._limits.get(column, MAX_ADMITTED))
        return [
            value
            for value in values
            if value in seen.admitted
            or (visitor is not None and self._count(seen, value, visitor) and self._admit(seen, site, column, value))
        ]

    def admit_counted(self, site: str, column: str, visitors: Mapping[str, int]) -> frozenset[str]:
        """Admit values whose visitors of the whole epoch are counted already, those with most of them first.

        Reveals: which values at least k visitors of this epoch have shown
        """
        seen = self._seen.setdefault((site, column), Seen(self._limits.get(column, MAX_ADMITTED)))
        shared = [value for value, count in visitors.items() if count >= self._k and len(value) <= MAX_CHARACTERS]
        for value in sorted(shared, key=lambda value: (-visitors[value], value))[: seen.limit]:
            self._admit(seen, site, column, value)
        return frozenset(seen.admitted)

    def _count(self, seen: Seen, value: str, visitor: int) -> bool:
        """Count a visitor for a value that is not admitted, and tell whether they are enough."""
        if len(value) > MAX_CHARACTERS or len(seen.admitted) >= seen.limit:
            return False
        visitors = seen.candidates.get(value)
        if visitors is None:
            if len(seen.candidates) >= MAX_CANDIDATES:
                seen.candidates.popitem(last=False)
            visitors = seen.candidates[value] = set()
        else:
            seen.candidates.move_to_end(value)
        visitors.add(visitor)
        return len(visitors) >= self._k

    def _admit(self, seen: Seen, site: str, column: str, value: str) -> bool:
        seen.candidates.pop(value, None)
        seen.admitted.add(value)
        self._vocabulary.add(Entry(site, column, value, Origin.ADMITTED, self._k))
        return True

    def forget(self) -> None:
        """Forget every count and forbid what was admitted, as at the end of the epoch.

        Reveals: nothing
        """
        for (site, column), seen in self._seen.items():
            for value in seen.admitted:
                self._vocabulary.remove(site, column, value)
        self._seen.clear()
