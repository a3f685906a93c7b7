"""Admission: an open value is written in clear once visits of k visitors have shown it, and not before.

Counted are visitors, not visits: one person who comes back ten times a day is no crowd. Whoever can't be recognised
(no cookie) counts by address and browser.
"""

from collections import OrderedDict
from collections.abc import Mapping
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


class Admission:
    """Exact counts of distinct visitors for each open value, in memory until the epoch ends.

    Shape:   bounded: MAX_CANDIDATES values of at most MAX_CHARACTERS and k visitors each, for each site and column
    """

    def __init__(self, k: int, max_routes: int, vocabulary: Vocabulary) -> None:
        self._k = k
        self._limits: Mapping[str, int] = {"route": max_routes}
        self._vocabulary = vocabulary
        self._admitted: dict[tuple[str, str], set[str]] = {}
        self._candidates: dict[tuple[str, str], OrderedDict[str, set[int]]] = {}

    def observe(self, site: str, column: str, value: str, visitor: int | None) -> bool:
        """Count a visitor for a value and tell whether the value may be written in clear.

        A request without a visit counts for nothing, and profits from what others admitted.

        Reveals: whether visits of at least k visitors of this epoch have shown the value
        """
        admitted = self._admitted.setdefault((site, column), set())
        if value in admitted:
            return True
        if visitor is None or len(value) > MAX_CHARACTERS or len(admitted) >= self._limits.get(column, MAX_ADMITTED):
            return False
        candidates = self._candidates.setdefault((site, column), OrderedDict())
        visitors = candidates.pop(value, None) or set()
        visitors.add(visitor)
        if len(visitors) < self._k:
            if len(candidates) >= MAX_CANDIDATES:
                candidates.popitem(last=False)
            candidates[value] = visitors
            return False
        admitted.add(value)
        self._vocabulary.add(Entry(site, column, value, Origin.ADMITTED, self._k))
        return True

    def forget(self) -> None:
        """Forget every count and forbid what was admitted, as at the end of the epoch.

        Reveals: nothing
        """
        for (site, column), values in self._admitted.items():
            for value in values:
                self._vocabulary.remove(site, column, value)
        self._admitted.clear()
        self._candidates.clear()
