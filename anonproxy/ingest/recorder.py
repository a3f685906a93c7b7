"""The recorder: from raw requests to rows on disk. It lives in the writer process, owning keys and store.

Three threads use it. One calls `record` for each request and touches memory only, so that a slow disk never
makes it wait. One calls `tick` a few times a second, which writes what was recorded. One calls `keep_house` a
few times an hour, which seals, settles and purges, and may take its time.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from anonproxy import __version__
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.audit.ledger import Ledger
from anonproxy.clock import Clock, now
from anonproxy.ingest.countries import open_countries
from anonproxy.ingest.sitemap import fetch_sitemap_paths
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.hit import Dropped
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import DropReason
from anonproxy.store.lock import StoreLock
from anonproxy.store.purge import purge
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from anonproxy.store.write import SegmentWriter

WRITTEN: Final = "written"
RECEIVED: Final = "received"
PENDING: Final = "pending"


class Recorder:
    """Anonymise requests and keep the store.

    Raises: StoreError when the store is locked by another writer or newer than this software
    """

    def __init__(self, settings: Settings, clock: Clock = now) -> None:
        self._settings = settings
        self._clock = clock
        self._root = Path(settings.store.path)
        self._lock = StoreLock(self._root)
        self._ledger = Ledger(self._root / "ledger", clock())
        self._ring = KeyRing(settings.privacy, clock())
        self._visits = Visits(self._ring, settings.privacy.visit_idle_min * 60, settings.privacy.visit_max_h * 3600)
        self._context = build_context(settings, self._visits, open_countries(settings.country))
        self._writer = SegmentWriter(self._root, self._context.vocabulary)
        self._memory = threading.Lock()  # keys, visits, admission, pending rows and counts change together
        self._disk = threading.Lock()  # a segment never lands in an hour that is being sealed
        self._journalling = threading.Lock()
        self._unwritten: list[tuple[str, Mapping[str, str | int]]] = []  # ledger entries that a full disk refused
        self._counts: Counter[str] = Counter()
        self._next_flush_s = clock()
        self._journal("started", {"version": __version__, "settings_sha256": digest_settings(settings)})

    @property
    def counts(self) -> Mapping[str, int]:
        """Return what became of every request: received = written + pending + the sum of all drop reasons."""
        with self._memory:
            return {**self._counts, PENDING: self._writer.pending}

    def record(self, request: RawRequest) -> None:
        """Anonymise a request and keep the hit until the next flush, or count why not. Never raises."""
        with self._memory:
            self._counts[RECEIVED] += 1
            try:
                self._rotate_when_due()
                outcome = anonymize(request, self._context)
                dropped = outcome if isinstance(outcome, Dropped) else self._writer.add(outcome)
            except Exception:  # whatever it is, its text may hold the request: count it and forget it
                dropped = Dropped(DropReason.INTERNAL_ERROR)
            if dropped:
                self._counts[dropped.reason] += 1

    def tick(self) -> None:
        """Write what was recorded once the flush window is over; rotate the key once its epoch is. Never raises."""
        with self._memory:
            self._rotate_when_due()
        time_s, window_s = self._clock(), self._settings.store.flush_s
        stepped_back = time_s < self._next_flush_s - window_s
        if time_s >= self._next_flush_s or stepped_back:
            self._next_flush_s = time_s + window_s
            self._attempt("flush_failed", self._flush)
        self._write_notes()

    def keep_house(self) -> None:
        """Seal closed hours, settle days whose time is over, purge what is too old. Never raises."""
        self._attempt("seal_failed", self._seal)
        self._attempt("settle_failed", self._settle)
        self._attempt("purge_failed", self._purge)

    def learn_sitemaps(self) -> None:
        """Ask each site for its sitemap and admit the pages that it publishes. Never raises."""
        for site in self._settings.sites:
            paths = fetch_sitemap_paths(site)
            with self._memory:
                self._context.learn_routes(site.name, paths)

    def close(self) -> None:
        """Write what is pending, destroy the key and release the store. Never raises."""
        self._attempt("flush_failed", self._flush)
        with self._memory:
            self._counts[DropReason.DISK] += self._writer.drop_pending()
            self._context.forget()
            self._visits.forget()
            self._ring.wipe()
        self._journal("stopped", {})
        self._lock.release()

    def _rotate_when_due(self) -> None:
        if self._ring.rotate_when_due(self._clock()):
            self._visits.forget()
            self._context.forget()
            self._note("rotated", {})

    def _flush(self) -> None:
        with self._disk:
            written = self._writer.flush()
        with self._memory:
            self._counts[WRITTEN] += written
            self._counts[DropReason.LATE] += self._writer.take_late()

    def _seal(self) -> None:
        with self._disk:
            seal(self._root, int(self._clock()), self._journal)

    def _settle(self) -> None:
        with self._disk:
            settle(self._root, int(self._clock()), self._settings.store, self._settings.privacy.k, self._journal)

    def _purge(self) -> None:
        with self._disk:
            purge(self._root, int(self._clock()), self._settings.store, self._settings.privacy.k, self._journal)

    def _attempt(self, failure: str, act: Callable[[], None]) -> None:
        """Do something that a broken disk may prevent; it is counted, and tried again the next time."""
        try:
            act()
        except Exception:
            with self._memory:
                self._counts[failure] += 1

    def _note(self, event: str, details: Mapping[str, str | int]) -> None:
        """Keep a ledger entry for the next tick; this doesn't touch the disk."""
        with self._journalling:
            self._unwritten.append((event, details))

    def _journal(self, event: str, details: Mapping[str, str | int]) -> None:
        """Write a ledger entry before going on."""
        self._note(event, details)
        self._write_notes()

    def _write_notes(self) -> None:
        """Write the ledger entries that wait, in order; what the disk refuses waits on."""
        with self._journalling:
            while self._unwritten:
                try:
                    self._ledger.append(*self._unwritten[0], self._clock())
                except OSError:
                    return
                del self._unwritten[0]


def digest_settings(settings: Settings) -> str:
    """Return the SHA-256 of the settings, so that the ledger shows when they changed."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
