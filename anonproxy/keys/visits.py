"""Visits: which requests belong together, and when that ends."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from anonproxy.keys.ring import KeyRing
from anonproxy.keys.tags import tag_session, tag_visit
from anonproxy.model.hit import VisitMark
from anonproxy.model.vocabularies import MAX_STEP

# About 60 MB. A library of a large city has a few thousand visits at one time; more is somebody who changes address or
# cookie with each request, and then the visits that were silent longest are cut short.
MAX_LIVE_VISITS: Final = 200_000


# Enough that two sessions of one epoch don't share one.
VISITOR_BYTES: Final = 8


@dataclass(slots=True)
class LiveVisit:
    """A visit that may go on. The exact times are nowhere but here."""

    number: int
    start_s: float
    last_s: float
    visitor: int
    step: int = 0
    heir: bytes | None = None  # the session that this visit will go on under


class Visits:
    """The visits that may go on, by session tag, the one that was silent longest first."""

    def __init__(self, ring: KeyRing, idle_s: float, max_s: float, max_live: int = MAX_LIVE_VISITS) -> None:
        self._ring = ring
        self.idle_s = idle_s
        self.max_s = max_s
        self._max_live = max_live
        self._live: OrderedDict[bytes, LiveVisit] = OrderedDict()
        self._heirs: dict[bytes, bytes] = {}  # from the session to come to the session that is

    def __repr__(self) -> str:
        return "Visits(…)"

    def __len__(self) -> int:
        return len(self._live)

    def mark(self, site: str, raw_parts: tuple[bytes, ...], time_s: float, is_pageview: bool) -> VisitMark | None:
        """Place a request in its visit, or return None when there is no key for its time.

        A page raises the step; what loads by itself carries the step of its page.

        Units:   time_s in unix seconds; elapsed_s in whole seconds, for the caller to make coarse
        """
        session = self.tag(site, raw_parts)
        return None if session is None else self.mark_tagged(session, time_s, is_pageview)

    def tag(self, site: str, raw_parts: tuple[bytes, ...]) -> bytes | None:
        """Hash a session, or return None when there is no key; a log is tagged once a session and not once a line."""
        return tag_session(self._ring.tag_key, (site.encode(), *raw_parts)) if self._ring.is_live else None

    def mark_tagged(self, session: bytes, time_s: float, is_pageview: bool) -> VisitMark | None:
        """Place a request of a tagged session in its visit, as `mark` does."""
        if not self._ring.is_live or time_s >= self._ring.destroy_after:
            return None
        visit = self._live.pop(session, None) or self._inherit(session)
        if visit is None or not self._goes_on(visit, time_s):
            self._disinherit(visit)
            visit = LiveVisit(self.number(session, time_s), time_s, time_s, self.visitor(session))
        visit.last_s = max(visit.last_s, time_s)
        visit.step = min(visit.step + is_pageview, MAX_STEP)
        self._sweep(time_s)
        self._live[session] = visit
        elapsed_s = max(0, int(time_s - visit.start_s))
        return VisitMark(visit.number, visit.step, elapsed_s, visit.visitor)

    def number(self, session: bytes, start_s: float) -> int:
        """Give the visit of a tagged session that begins at a time its number."""
        return tag_visit(self._ring.visit_key, session, start_s)

    def visitor(self, session: bytes) -> int:
        """Give all visits of a tagged session one number to be counted by."""
        return int.from_bytes(session[:VISITOR_BYTES])

    def hand_over(self, site: str, raw_parts: tuple[bytes, ...], raw_next_parts: tuple[bytes, ...]) -> None:
        """Let the visit of a session go on under another one, once that one shows up.

        A site that gives a cookie with its first page, or another one at the login, would else make two visits of one.
        The visit moves: whoever comes next from the same address without a cookie begins a new one.
        """
        if not self._ring.is_live:
            return
        session = tag_session(self._ring.tag_key, (site.encode(), *raw_parts))
        heir = tag_session(self._ring.tag_key, (site.encode(), *raw_next_parts))
        visit = self._live.get(session)
        if visit is not None and heir not in self._live:
            self._disinherit(visit)
            visit.heir = heir
            self._heirs[heir] = session

    def forget(self) -> None:
        """Forget every visit, as at the end of the epoch."""
        self._live.clear()
        self._heirs.clear()

    def _inherit(self, session: bytes) -> LiveVisit | None:
        """Take over the visit that was to go on under this session."""
        former = self._heirs.pop(session, None)
        visit = self._live.pop(former, None) if former else None
        if visit is not None:
            visit.heir = None
        return visit

    def _disinherit(self, visit: LiveVisit | None) -> None:
        if visit is not None and visit.heir is not None:
            self._heirs.pop(visit.heir, None)
            visit.heir = None

    def _goes_on(self, visit: LiveVisit, time_s: float) -> bool:
        # Requests may arrive a little out of order; one from long before is not part of this visit.
        return abs(time_s - visit.last_s) <= self.idle_s and time_s - visit.start_s < self.max_s

    def _sweep(self, time_s: float) -> None:
        """Forget visits that are over, and make room for one more."""
        while self._live:
            eldest = next(iter(self._live))
            if time_s - self._live[eldest].last_s <= self.idle_s and len(self._live) < self._max_live:
                return
            self._disinherit(self._live.pop(eldest))
