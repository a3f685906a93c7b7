"""The recorder: from raw requests to rows on disk. It lives in the writer process, owning keys and store.

Three threads use it, and two of its own answer `anonproxy keys` and take the days of an import. One calls `record` for
each request and touches memory only, so that a slow disk never makes it wait. One calls `tick` a few times a second,
which writes what was recorded. One calls `keep_house` a few times an hour, which seals, settles, purges and publishes,
and may take its time.
"""

import contextlib
import functools
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import pyarrow as pa

from anonproxy import __version__
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.audit.ledger import Details, Ledger
from anonproxy.clock import Clock, now, steady
from anonproxy.ingest.batch import anonymize_batch
from anonproxy.ingest.clock_watch import DOUBTED, ClockWatch, is_plausible
from anonproxy.ingest.control import Answer, Control
from anonproxy.ingest.countries import open_countries
from anonproxy.ingest.intake import TALK, Intake, read_imported
from anonproxy.ingest.live import Live
from anonproxy.ingest.lost import LOST, find_lost
from anonproxy.ingest.sitemap import fetch_sitemap_paths
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.errors import StoreError
from anonproxy.model.hit import Dropped, Hit
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import DropReason
from anonproxy.model.vocabulary import Entry
from anonproxy.store.imports import finish_days
from anonproxy.store.layout import DAY_S
from anonproxy.store.lock import StoreLock
from anonproxy.store.objects import open_objects
from anonproxy.store.publish import Publisher
from anonproxy.store.purge import purge
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from anonproxy.store.version import verify_version
from anonproxy.store.write import Announce, SegmentWriter

WRITTEN: Final = "written"
RECEIVED: Final = "received"
# A server that logs tens of thousands of requests a second fills what may be pending before the flush window is over.
FLUSH_ROWS: Final = 25_000
NONE_REJECTED: Final[Mapping[DropReason, int]] = {}
PENDING: Final = "pending"

# On a full disk deleting makes room for the entry that tells of it, and keeping visit numbers is the greater harm.
CANT_WAIT: Final = frozenset({"purged", "settle_failed"})


class Recorder:
    """Anonymise requests and keep the store.

    Raises: StoreError when the store is locked by another writer or newer than this software
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock = now,
        steady: Clock = steady,
        announce: Announce = lambda _name, _rows: nullcontext(),
        lock: StoreLock | None = None,
    ) -> None:
        self._settings = settings
        self._announce = announce
        self._clock = clock
        self._steady = steady
        self._root = Path(settings.store.folder)
        self._lock = lock or StoreLock(self._root)
        try:
            verify_version(self._root)
            self._begin()
        except OSError as error:
            self._lock.release()
            raise StoreError(f"{self._root}: the ledger can't be begun. {os.strerror(error.errno or 0)}") from None
        except BaseException:
            self._lock.release()
            raise

    def _begin(self) -> None:
        settings, time_s = self._settings, self._clock()
        self._ledger = Ledger(self._root / "ledger", time_s)
        self._watch = ClockWatch(time_s, self._steady(), is_believed=is_plausible(self._ledger, time_s))
        self._ring = KeyRing(settings.privacy, time_s)
        self._visits = Visits(self._ring, settings.privacy.visit_idle_min * 60, settings.privacy.visit_max_h * 3600)
        self._context = build_context(settings, self._visits, open_countries(settings.country))
        self._writer = SegmentWriter(self._root, self._context.vocabulary, self._announce)
        self._live = Live(settings.privacy.k)
        self._memory = threading.Lock()  # keys, visits, admission, pending rows and counts change together
        self._disk = threading.Lock()  # a segment never lands in an hour that is being sealed
        self._publishing = threading.Lock()  # what is published stays as it is meanwhile
        self._journalling = threading.Lock()
        self._is_closed = False
        self._unwritten: list[tuple[str, Details]] = []  # ledger entries that a full disk refused
        self._counts: Counter[str] = Counter()
        self._next_flush_s = self._next_look_s = time_s
        if not self._watch.is_believed:  # told first: what follows bears the doubted time
            self._note(DOUBTED, {})
        self._note("started", {"version": __version__})
        digest = digest_settings(settings)
        if self._ledger.latest("configured").get("settings_sha256") != digest:
            self._note("configured", {"settings_sha256": digest})
        self._write_notes()
        with contextlib.suppress(OSError):  # a full disk: the next start tries again
            finish_days(self._root, read_imported(self._root))
        store = settings.store
        self._publisher = Publisher(self._root, open_objects(store.path)) if store.is_published else None
        commands = {"status": self._describe_key, "rotate": self._rotate_now, "seal": self._seal_now}
        live = {f"live {site.name}": functools.partial(self._tell_live, site.name) for site in settings.sites}
        intake = Intake(settings, digest, self._clock, self._journal, self._list_words, self._alone)
        self._control = Control(
            self._root, commands | live | {"live": functools.partial(self._tell_live, None)}, {TALK: intake.talk}
        )

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
            elif isinstance(outcome, Hit):
                with contextlib.suppress(Exception):  # the row is counted, whatever becomes of this
                    self._live.note(outcome, self._clock())

    def record_table(self, requests: pa.Table, rejected: Mapping[DropReason, int] = NONE_REJECTED) -> None:
        """Anonymise requests as `record` does, in bulk, and count the lines that none came of. Never raises.

        Shape:   requests in columns of ingest.batch.RAW_SCHEMA
        """
        with self._memory:
            self._counts[RECEIVED] += requests.num_rows + sum(rejected.values())
            self._counts.update(rejected)
            try:
                self._rotate_when_due()
                batch = anonymize_batch(requests, self._context, self._visits)
                dropped = batch.dropped + self._writer.add_table(batch.hits)
            except Exception:  # whatever it is, its text may hold a request: count them and forget them
                self._counts[DropReason.INTERNAL_ERROR] += requests.num_rows
                return
            self._counts.update(dropped)
            with contextlib.suppress(Exception):  # the rows are counted, whatever becomes of this
                self._live.note_table(batch.hits, self._clock())

    def tick(self) -> None:
        """Write what was recorded once the flush window is over; rotate the key once its epoch is. Never raises."""
        with self._memory:
            self._rotate_when_due()
        time_s, window_s = self._clock(), self._settings.store.flush_s
        stepped_back = time_s < self._next_flush_s - window_s
        if time_s >= self._next_flush_s or stepped_back or self._writer.pending >= FLUSH_ROWS:
            self._next_flush_s = time_s + window_s
            self._attempt("flush_failed", self._flush)
        self._write_notes()

    def keep_house(self) -> None:
        """Seal closed hours; if the clock is believed, settle days and purge what is too old. Never raises."""
        self._attempt("seal_failed", self._seal)
        with self._memory:
            self._watch_clock()
        if self._watch.is_believed:
            self._attempt("settle_failed", self._settle)
            self._attempt("purge_failed", self._purge)
            self._attempt("publish_failed", self._publish)

    def learn_sitemaps(self) -> None:
        """Ask each site for its sitemap and admit the pages that it publishes. Never raises."""
        for site in self._settings.sites:
            paths = fetch_sitemap_paths(site)
            with self._memory:
                self._context.learn_routes(site.name, paths)

    def close(self) -> None:
        """Write what is pending, destroy the key and release the store. Never raises."""
        self._control.close()
        with self._disk:  # a day that is being imported is whole
            self._is_closed = True
        self._attempt("flush_failed", self._flush)
        with self._memory:
            self._counts[DropReason.DISK] += self._writer.drop_pending()
            self._context.forget()
            self._visits.forget()
            self._live.forget()
            self._ring.wipe()
        self._note("stopped", {})
        self._write_notes()
        self._lock.release()

    def _rotate_when_due(self) -> None:
        self._watch_clock()
        if self._ring.rotate_when_due(self._clock()):
            self._begin_epoch({})

    def _rotate_now(self) -> Answer:
        """Destroy the key because somebody wants it."""
        with self._memory:
            self._ring.rotate(self._clock())
            self._begin_epoch({"requested": 1})
        self._write_notes()
        return self._describe_key()

    def _begin_epoch(self, details: Details) -> None:
        """Forget what the last key knew."""
        self._visits.forget()
        self._context.forget()
        self._live.forget()
        self._note("rotated", details)

    def _describe_key(self) -> Answer:
        """Tell how old the key is, when it ends and how many visits it numbers just now."""
        with self._memory:
            return {
                "made_at": int(self._ring.made_at),
                "destroyed_at": int(self._ring.destroy_after),
                "now": int(self._clock()),
                "live_visits": len(self._visits),
                "clock_believed": self._watch.is_believed,
            }

    def _tell_live(self, site: str | None) -> Answer:
        """Tell what happens on a site just now."""
        with self._memory:
            views = self._live.copy()
        return self._live.tell(views, self._clock(), site)

    def _watch_clock(self) -> None:
        told = self._watch.look(self._clock(), self._steady())
        if told:
            self._note(told, {})

    def _flush(self) -> None:
        with self._disk:
            written = self._writer.flush()
        with self._memory:
            self._counts[WRITTEN] += written
            self._counts[DropReason.LATE] += self._writer.take_late()
            self._counts["flush_failed"] += self._writer.refused > 0

    def _seal(self, *, every_hour: bool = False) -> None:
        with self._disk:
            seal(self._root, int(self._clock()), self._journal, every_hour=every_hour)

    def _seal_now(self) -> Answer:
        """Write what is pending and merge the segments of every hour, because somebody wants to look at the result."""
        failed = self._count_failures()
        self._attempt("flush_failed", self._flush)
        self._attempt("seal_failed", functools.partial(self._seal, every_hour=True))
        return {"sealed": self._count_failures() == failed}

    def _count_failures(self) -> int:
        with self._memory:
            return self._counts["flush_failed"] + self._counts["seal_failed"]

    def _settle(self) -> None:
        with self._disk:
            settle(self._root, int(self._clock()), self._settings.store, self._settings.privacy.k, self._journal)

    def _purge(self) -> None:
        with self._disk:
            purge(self._root, int(self._clock()), self._settings.store, self._settings.privacy.k, self._journal)
            self._tell_lost()

    def _tell_lost(self) -> None:
        """Tell the ledger once a day which hours are gone without a word."""
        now = int(self._clock())
        if now >= self._next_look_s:
            for path in find_lost(self._root, now, self._settings.store):
                self._journal(LOST, {"file": path})
            self._next_look_s = now + DAY_S

    def _publish(self) -> None:
        """Bring what is settled to the object store; rows are written meanwhile, and the days of an import wait."""
        if self._publisher:
            with self._publishing:
                self._publisher.publish(int(self._clock()), self._settings.store, self._journal)

    def _list_words(self) -> Mapping[str, list[Entry]]:
        """List the words that the rows of each site may hold just now."""
        with self._memory:
            return {site.name: self._context.vocabulary.entries(site.name) for site in self._settings.sites}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let an import change what is settled.

        Raises: EOFError once the store is somebody else's
        """
        with self._publishing, self._disk:
            if self._is_closed:
                raise EOFError
            yield

    def _attempt(self, failure: str, act: Callable[[], None]) -> None:
        """Do something that a broken disk may prevent; it is counted, and tried again the next time."""
        try:
            act()
        except Exception:
            with self._memory:
                self._counts[failure] += 1

    def _note(self, event: str, details: Details) -> None:
        """Keep a ledger entry for the next tick; this doesn't touch the disk."""
        with self._journalling:
            self._unwritten.append((event, details))

    def _write_notes(self) -> None:
        """Write the ledger entries that wait; what the disk refuses waits on."""
        with self._journalling, contextlib.suppress(OSError):
            self._write_unwritten()

    def _journal(self, event: str, details: Details) -> None:
        """Write a ledger entry before its act: what can't be told isn't done, but for what can't wait.

        Raises: OSError
        """
        with self._journalling:
            self._unwritten.append((event, details))
            try:
                self._write_unwritten()
            except OSError:
                if event not in CANT_WAIT:
                    self._unwritten.pop()
                    raise

    def _write_unwritten(self) -> None:
        while self._unwritten:
            self._ledger.append(*self._unwritten[0], self._clock())
            del self._unwritten[0]


def digest_settings(settings: Settings) -> str:
    """Return the SHA-256 of the settings, so that the ledger shows when they changed."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
