"""Days of an import, handed over to the recorder that runs: one writer and one ledger, whoever makes the days.

    import    says who it is: its version, its settings by their digest, whether it replaces days
    recorder  has no objection, or says which
    import    tells of a day: its site, date, rows and the length of each file; then come the files
    recorder  has written it, refuses it for a reason that the import counts, or says what is wrong
    …
    import    says that it deletes the originals, which the ledger tells

Only the recorder writes, as it writes its own days. What it is handed is in memory until it has passed the gate: an
import that is killed leaves nothing, and a recorder that is killed leaves a day as any crash does. Requests are
recorded meanwhile; their rows wait for the disk while a day is put there.
"""

import json
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from anonproxy import __version__
from anonproxy.audit.ledger import FILE
from anonproxy.clock import Clock
from anonproxy.ingest.control import PATIENCE_S, Answer, receive, receive_bytes, send, send_bytes
from anonproxy.ingest.gate import Gate, Unfit, keep_tiers
from anonproxy.model.errors import StoreError
from anonproxy.model.settings import Settings
from anonproxy.model.vocabulary import Entry
from anonproxy.store.imports import IMPORTED, TIERS, Made, Refusal, Shelf, refuse_taken, write_day
from anonproxy.store.layout import Day, Kind
from anonproxy.store.seal import Journal

# The days that were imported, with the digests of their tiers.
ImportedDays = dict[tuple[str, date], dict[Kind, str]]

TALK: Final = "import"
SHREDDED: Final = "shredded"

# One that has just ended may not be gone yet.
TURN_S: Final = 2.0
# A day of a hundred million requests is smaller; what is larger is none.
MAX_DAY_BYTES: Final = 1 << 28


class Objection(StrEnum):
    """Why the recorder takes no days of an import."""

    VERSION = "version"
    SETTINGS = "settings"
    BUSY = "busy"


class Intake:
    """The recorder's end of the line.

    Shape: the settings' digest; known, which lists the words that each site may hold just now; alone, in which nothing
           else touches what is settled, and which raises EOFError once the recorder ends
    """

    def __init__(
        self,
        settings: Settings,
        digest: str,
        clock: Clock,
        journal: Journal,
        known: Callable[[], Mapping[str, Collection[Entry]]],
        alone: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._settings = settings
        self._digest = digest
        self._root = Path(settings.store.folder)
        self._clock = clock
        self._journal = journal
        self._known = known
        self._alone = alone
        self._turn = threading.Lock()  # one import at a time

    def talk(self, connection: socket.socket) -> None:
        """Take days until the import ends.

        Raises: EOFError when it does; OSError
        """
        introduced = receive(connection)
        if not self._turn.acquire(timeout=TURN_S):
            send(connection, {"objection": Objection.BUSY})
            return
        try:
            objection = self._object_to(introduced)
            send(connection, {"objection": objection})
            if objection is None:
                self._take_days(connection, replaces=introduced["replaces"])
        finally:
            self._turn.release()

    def _object_to(self, introduced: Mapping[str, Any]) -> Objection | None:
        mine = introduce(self._digest, replaces=introduced["replaces"])
        differing = [objection for key, objection in OBJECTIONS.items() if introduced[key] != mine[key]]
        return differing[0] if differing else None

    def _take_days(self, connection: socket.socket, *, replaces: bool) -> None:
        gate = Gate(self._settings, self._known())
        imported = read_imported(self._root)
        while True:
            connection.settimeout(None)  # it may read for an hour until it has a day
            told = receive(connection)
            connection.settimeout(PATIENCE_S)
            if SHREDDED in told:
                send(connection, self._note_shredded(int(told[SHREDDED])))
            else:
                made = receive_day(connection, told)
                send(connection, self._take_or_explain(made, gate, imported, replaces=replaces))

    def _note_shredded(self, files: int) -> Answer:
        with self._alone():
            self._journal(SHREDDED, {"files": files})
        return {}

    def _take_or_explain(self, made: Made, gate: Gate, imported: ImportedDays, *, replaces: bool) -> Answer:
        try:
            return {"refusal": self._take(made, gate, imported, replaces=replaces)}
        except StoreError as error:
            return {"failure": str(error)}
        except Unfit as error:
            return {"flaw": str(error)}

    def _take(self, made: Made, gate: Gate, imported: ImportedDays, *, replaces: bool) -> Refusal | None:
        """Write a day if it is fit and there is room for it; say why there is none."""
        gate.verify(made)
        with self._alone():
            shelf = Shelf(int(self._clock()), self._settings.store, {})
            taken = refuse_taken(Day(self._root, made.site, made.date), imported)
            refusal = shelf.refuse_date(made.date) or (None if replaces and taken == Refusal.IMPORTED else taken)
            if refusal is None:
                kept = keep_tiers(made, shelf.tiers(made.date))
                imported[made.site, made.date] = write_or_explain(self._root, kept, self._journal)
            return refusal


def introduce(digest: str, *, replaces: bool) -> dict[str, Any]:
    """Say who it is that imports, by the version and the digest of the settings."""
    return {"version": __version__, "settings_sha256": digest, "replaces": replaces}


OBJECTIONS: Final = {"version": Objection.VERSION, "settings_sha256": Objection.SETTINGS}


def send_day(connection: socket.socket, made: Made) -> None:
    """Send a day.

    Raises: OSError
    """
    lengths = {kind: len(data) for kind, data in made.files.items()}
    send(connection, {"site": made.site, "date": str(made.date), "rows": made.rows, "lengths": lengths})
    for data in made.files.values():
        send_bytes(connection, data)


def receive_day(connection: socket.socket, told: Mapping[str, Any]) -> Made:
    """Receive a day of which was told.

    Raises: EOFError when it ends before; OSError; ValueError for what is no day
    """
    lengths: dict[Kind, int] = told["lengths"]
    if sum(lengths.values()) > MAX_DAY_BYTES:
        raise ValueError
    files = {kind: receive_bytes(connection, length) for kind, length in lengths.items()}
    return Made(told["site"], date.fromisoformat(told["date"]), told["rows"], files)


def write_or_explain(root: Path, made: Made, journal: Journal) -> dict[Kind, str]:
    """Write a day, and return the digests of its tiers.

    Raises: StoreError, and then the day isn't imported
    """
    try:
        return write_day(root, made, journal)
    except OSError as error:
        raise StoreError(
            f"{root}: a day can't be written ({error.strerror}). Make room or mend it, and start the same import "
            "again: it goes on with the days that are missing"
        ) from None


def read_imported(root: Path) -> ImportedDays:
    """Read from the ledger which days were imported, with the digests of their tiers."""
    imported: ImportedDays = {}
    try:
        lines = (root / "ledger" / FILE).read_bytes().splitlines()
    except OSError:
        return {}
    for line in lines:
        if b'"imported"' in line:
            details = _read_details(line)
            written = {kind: details[f"{kind}_sha256"] for kind in TIERS if f"{kind}_sha256" in details}
            if written:
                imported[details["site"], date.fromisoformat(details["date"])] = written
    return imported


def _read_details(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:  # torn by a crash; opening the ledger mends it
        return {}
    return entry["details"] if entry["event"] == IMPORTED else {}
