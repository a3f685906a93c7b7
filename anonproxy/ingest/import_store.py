"""A store that days are imported into: one that nothing records into just now, or one that a proxy keeps meanwhile.

A store has one writer. Where a proxy or a collector runs, its recorder is handed the days; else this process takes the
lock and the ledger for as long as it imports.
"""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from anonproxy.audit.ledger import Ledger
from anonproxy.clock import now, steady
from anonproxy.ingest.control import call, receive, send
from anonproxy.ingest.intake import SHREDDED, TALK, Objection, introduce, read_imported, send_day, write_or_explain
from anonproxy.ingest.recorder import digest_settings
from anonproxy.model.errors import StoreBusy, StoreError
from anonproxy.model.settings import Settings
from anonproxy.store.disk import inherit_owner
from anonproxy.store.imports import Made, Refusal, finish_days
from anonproxy.store.lock import StoreLock
from anonproxy.store.objects import open_objects
from anonproxy.store.publish import Publisher
from anonproxy.store.version import verify_version

# How long an import waits for a writer that has ended. After several ends a supervisor pauses for half a minute.
RESTARTED_WITHIN_S: Final = 60.0
# How long it waits for one that may just be starting: what holds the store may also be none that ever answers.
STARTED_WITHIN_S: Final = 10.0
RETRY_S: Final = 0.2
ATTEMPTS: Final = 3

REMEDIES: Final = {
    Objection.VERSION: "the anonproxy that records into this store is of another version. Restart it, as after any "
    "upgrade, and start the same import again",
    Objection.SETTINGS: "the anonproxy that records into this store has other settings than this import, and days of "
    "both don't fit together. Have it take the configuration with `anonproxy reload`; if it has, an ANONPROXY_… "
    "variable is set for only one of both",
    Objection.BUSY: "another import is under way. Wait for its end",
}


class ImportStore(Protocol):
    """A store that days can be written to."""

    is_running: bool  # whether something records into it meanwhile

    def write(self, made: Made, /) -> Refusal | None:
        """Write a day, or say why there is no room for it.

        Raises: StoreError, and then the day isn't imported
        """

    def tell_shredded(self, files: int, /) -> None:
        """Tell in the ledger that the originals are about to be deleted."""

    def publish(self) -> None:
        """Bring what was imported to the object store, if there is one."""

    def close(self) -> None:
        """Leave the store to others."""


class OwnStore:
    """A store that nothing records into: this process holds its lock and its ledger.

    Raises: StoreError when another process does
    """

    is_running = False

    def __init__(self, root: Path, settings: Settings) -> None:
        self._root = root
        self._settings = settings
        self._lock = StoreLock(root)
        try:
            verify_version(root)
            self._ledger = Ledger(root / "ledger", now())
            for path in (root / "ledger", *(root / "ledger").iterdir()):
                inherit_owner(path, root)
            with suppress(OSError):  # a full disk: the next to open it tries again
                finish_days(root, read_imported(root))
            digest = digest_settings(settings)
            if self._ledger.latest("configured").get("settings_sha256") != digest:
                self._journal("configured", {"settings_sha256": digest})
        except BaseException:
            self._lock.release()
            raise

    def write(self, made: Made) -> Refusal | None:
        """Write a day; the import has looked which of them there is room for, and nobody else writes."""
        write_or_explain(self._root, made, self._journal)
        return None

    def tell_shredded(self, files: int) -> None:
        """Tell in the ledger that the originals are about to be deleted."""
        self._journal(SHREDDED, {"files": files})

    def publish(self) -> None:
        """Bring what was imported to the object store, if there is one."""
        store = self._settings.store
        if store.is_published:
            Publisher(self._root, open_objects(store.path)).publish(int(now()), store, self._journal)

    def close(self) -> None:
        """Let others write."""
        self._lock.release()

    def _journal(self, event: str, details: Mapping[str, str | int]) -> None:
        self._ledger.append(event, details, now())


class RunningStore:
    """A store that a proxy or a collector records into: its recorder is handed each day, and writes it.

    Raises: StoreError when it takes none; OSError when nothing answers; EOFError when it hangs up
    """

    is_running = True

    def __init__(self, root: Path, settings: Settings, *, replaces: bool) -> None:
        self._root = root
        self._introduced = introduce(digest_settings(settings), replaces=replaces)
        self._connection = self._introduce()

    def write(self, made: Made) -> Refusal | None:
        """Hand a day over. If the recorder ends before it has answered, the next one is handed the same day."""
        for attempt in range(ATTEMPTS):
            try:
                refusal = self._hand_over(made)
            except (OSError, EOFError):
                self._reconnect()
            else:
                is_ours = attempt > 0 and refusal == Refusal.IMPORTED  # written just before it ended
                return None if is_ours else refusal
        raise StoreError(
            f"{self._root}: the anonproxy that records into this store hung up {ATTEMPTS} times on {made.date} of "
            f"{made.site}. Look why its writer ends. The days before are imported"
        )

    def tell_shredded(self, files: int) -> None:
        """Tell in the ledger that the originals are about to be deleted.

        Raises: StoreError, and then the ledger doesn't tell
        """
        try:
            send(self._connection, {SHREDDED: files})
            receive(self._connection)
        except (OSError, EOFError):
            raise StoreError(
                f"{self._root}: the anonproxy that records into this store has ended, so its ledger can't tell what "
                "is deleted. Nothing is; start the same again"
            ) from None

    def publish(self) -> None:
        """Leave it to the recorder, which publishes what is settled whenever it keeps house."""

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _hand_over(self, made: Made) -> Refusal | None:
        send_day(self._connection, made)
        answer = receive(self._connection)
        if "failure" in answer:
            raise StoreError(answer["failure"])
        if "flaw" in answer:
            raise StoreError(
                f"{self._root}: the anonproxy that records into this store doesn't take {made.date} of {made.site}, "
                f"{answer['flaw']}. That is a mistake of this software: report it. The days before it are imported"
            )
        return Refusal(answer["refusal"]) if answer["refusal"] else None

    def _introduce(self) -> socket.socket:
        """Begin to talk.

        Raises: OSError when nothing answers; EOFError when it hangs up; StoreError when it takes no days
        """
        connection = call(self._root, TALK)
        try:
            send(connection, self._introduced)
            objection = receive(connection)["objection"]
            if objection:
                raise StoreError(f"{self._root}: {REMEDIES[objection]}")
            connection.settimeout(None)  # it may be publishing; if it ends, the kernel says so at once
        except ConnectionError:
            connection.close()
            raise EOFError from None
        except BaseException:
            connection.close()
            raise
        return connection

    def _reconnect(self) -> None:
        """Wait for the next recorder, which a supervisor starts within a second or two."""
        self._connection.close()
        deadline_s = steady() + RESTARTED_WITHIN_S
        while steady() < deadline_s:
            try:
                self._connection = self._introduce()
            except (OSError, EOFError):
                time.sleep(RETRY_S)
            else:
                return
        raise StoreError(
            f"{self._root}: the anonproxy that recorded into this store has ended. The days before are imported; start "
            "the same import again, whether it runs again or not: it goes on with those that are missing"
        )


@contextmanager
def open_for_import(root: Path, settings: Settings, *, replaces: bool = False) -> Iterator[ImportStore]:
    """Open a store to write days to, whether or not a proxy or a collector records into it meanwhile.

    Raises: StoreError when somebody else holds it who takes no days
    """
    with closing(_open_soon(root, settings, replaces=replaces)) as store:
        yield store
        store.publish()


def _open_soon(root: Path, settings: Settings, *, replaces: bool) -> ImportStore:
    """Open a store; whoever holds it without an answer may be starting just now, or have ended in a moment."""
    deadline_s = steady() + STARTED_WITHIN_S
    while True:
        try:
            return OwnStore(root, settings)
        except StoreBusy as error:
            busy = error
        try:
            return RunningStore(root, settings, replaces=replaces)
        except EOFError:  # one that knows nothing of imports
            failure = StoreError(f"{root}: {REMEDIES[Objection.VERSION]}")
        except OSError:
            failure = StoreBusy(f"{busy}; if it is another import, wait for its end")
        if steady() > deadline_s:
            raise failure
        time.sleep(RETRY_S)
