"""What happens just now, for the dashboard. It is counted in memory, told only of crowds, and never written.

Nothing is told of a site before k visits have been there within the last half hour. Then: how many visits are there
now, the pages shown in each minute, and the pages that at least k visits have opened, by tens of visits (by k), so that
nobody can watch one visit go from page to page.
"""

from collections import Counter, deque
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.model.hit import Hit
from anonproxy.model.vocabularies import PAGEVIEW_KINDS, PAGEVIEW_STATUSES

MINUTE_S: Final = 60
MINUTES: Final = 30
# A visit that has shown nothing for so long isn't there any more: most pages are read in less.
ACTIVE_S: Final = 5 * MINUTE_S
# About 10 MB. A site that shows more than 50 pages a second is told of for less than half an hour.
MAX_VIEWS: Final = 100_000
MAX_PAGES: Final = 10


class View(NamedTuple):
    """A page that a person was shown."""

    time_s: float
    site: str
    route: str
    visit: int | None


class Live:
    """The pages shown in the last half hour.

    Shape: bounded by MAX_VIEWS, the oldest first
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._views: deque[View] = deque(maxlen=MAX_VIEWS)

    def note(self, hit: Hit, time_s: float) -> None:
        """Take down a hit, if it is a page that a person was shown."""
        if not hit.bot and hit.method == "GET" and hit.kind in PAGEVIEW_KINDS and hit.status in PAGEVIEW_STATUSES:
            self._views.append(View(time_s, hit.site, hit.route, hit.visit))
        self._sweep(time_s)

    def note_table(self, hits: pa.Table, time_s: float) -> None:
        """Take down the hits of a table as `note` does."""
        is_page = pc.and_(pc.equal(hits["bot"], ""), pc.equal(hits["method"], "GET"))
        is_page = pc.and_(is_page, pc.is_in(hits["kind"], pa.array(sorted(PAGEVIEW_KINDS))))
        is_page = pc.and_(is_page, pc.is_in(hits["status"], pa.array(sorted(PAGEVIEW_STATUSES), hits["status"].type)))
        columns = (hits.filter(is_page)[name].to_pylist() for name in ("site", "route", "visit"))
        self._views.extend(View(time_s, *row) for row in zip(*columns, strict=True))
        self._sweep(time_s)

    def forget(self) -> None:
        """Forget everything, as at the end of the epoch."""
        self._views.clear()

    def copy(self) -> list[View]:
        """Return what is known, to be told of while more comes in."""
        return list(self._views)

    def tell(self, views: list[View], time_s: float, site: str | None) -> dict[str, Any]:
        """Tell what happens on a site, or on all.

        Shape:   visits, visits_now, minutes (pages shown in each, the latest last), pages (route and visits); None
                 for what fewer than k visits are behind
        Reveals: that at least k visits are there, and where at least k of them were
        """
        views = [view for view in views if time_s - MINUTES * MINUTE_S < view.time_s and site in (None, view.site)]
        visits = {view.visit for view in views if view.visit is not None}
        active = {view.visit for view in views if view.visit is not None and view.time_s > time_s - ACTIVE_S}
        if len(visits) < self._k:
            return {"k": self._k, "time": int(time_s), "visits": None, "visits_now": None, "minutes": None, "pages": []}
        minutes = Counter(int((time_s - view.time_s) // MINUTE_S) for view in views)
        seen = Counter(route for route, _ in {(view.route, view.visit) for view in views if view.visit is not None})
        pages = [(route, count // self._k * self._k) for route, count in seen.items() if not route.startswith("(")]
        return {
            "k": self._k,
            "time": int(time_s),
            "visits": len(visits),
            "visits_now": len(active) if len(active) >= self._k else None,
            "minutes": [minutes[minute] for minute in reversed(range(MINUTES))],
            "pages": sorted(((r, n) for r, n in pages if n), key=lambda page: (-page[1], page[0]))[:MAX_PAGES],
        }

    def _sweep(self, time_s: float) -> None:
        while self._views and self._views[0].time_s <= time_s - MINUTES * MINUTE_S:
            self._views.popleft()
