"""An import from end to end: the part that owns the store.

Lines are read by other processes, which never write to the store; what they hand over are days as they will lie there.
Each is committed whole, with an entry in the ledger, as soon as it is made: an import that is interrupted goes on with
the days that are missing.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from anonproxy.audit.ledger import FILE, Ledger
from anonproxy.clock import now
from anonproxy.ingest.jobs import Engine
from anonproxy.ingest.pipeline import SHOWN_LINES, BlockRead, Lost, Task
from anonproxy.ingest.recorder import digest_settings
from anonproxy.ingest.sources import Source
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.model.settings import Settings
from anonproxy.store.imports import IMPORTED, TIERS, Made, write_day
from anonproxy.store.layout import Kind
from anonproxy.store.lock import StoreLock
from anonproxy.store.objects import open_objects
from anonproxy.store.publish import Publisher
from anonproxy.store.seal import Journal


class Unreadable(OperatorError):
    """A line that can't be read, where that was to end the import."""


@dataclass(slots=True)
class Tally:
    """What became of all lines: read = written + ignored + rejected + lost."""

    sources: tuple[Source, ...]
    read: int = 0
    ignored: int = 0
    read_bytes: int = 0
    written: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    rejected_lines: dict[Path, dict[str, list[int]]] = field(default_factory=dict)
    days: list[tuple[str, date, int]] = field(default_factory=list)

    @property
    def unaccounted(self) -> int:
        """Count the lines that are neither written nor accounted for: none, once the import is done."""
        return self.read - self.ignored - self.written - self.rejected.total() - self.lost.total()

    def add(self, message: BlockRead | Lost | Made) -> None:
        """Count what a process says it has done."""
        match message:
            case BlockRead():
                self.read += message.lines
                self.ignored += message.ignored
                self.read_bytes += message.read_bytes
                self.rejected.update(message.rejected)
                self._keep_numbers(self.sources[message.source].path, message.rejected_lines)
            case Lost():
                self.lost.update(message.counts)
            case Made():
                self.written += message.rows
                self.days.append((message.site, message.date, message.rows))

    def _keep_numbers(self, path: Path, lines: Mapping[str, tuple[int, ...]]) -> None:
        for reason, numbers in lines.items():
            kept = self.rejected_lines.setdefault(path, {}).setdefault(reason, [])
            kept[:] = sorted([*kept, *numbers])[:SHOWN_LINES]


Progress = Callable[[Tally], None]


@contextmanager
def open_journal(root: Path, settings: Settings) -> Iterator[Journal]:
    """Hold the store and its ledger while days are imported.

    Raises: StoreError when another process writes to this store
    """
    try:
        lock = StoreLock(root)
    except StoreError as error:
        raise StoreError(
            f"{error}; or import into a folder of its own with --into FOLDER, which `anonproxy report --store FOLDER` "
            "reads"
            if "another anonproxy" in str(error)
            else str(error)
        ) from None
    try:
        ledger = Ledger(root / "ledger", now())

        def journal(event: str, details: Mapping[str, str | int]) -> None:
            ledger.append(event, details, now())

        digest = digest_settings(settings)
        if ledger.latest("configured").get("settings_sha256") != digest:
            journal("configured", {"settings_sha256": digest})
        yield journal
        if settings.store.is_published:
            Publisher(root, open_objects(settings.store.path)).publish(int(now()), settings.store, journal)
    finally:
        lock.release()


def run_import(
    task: Task,
    engine: Engine,
    write: Callable[[Made], None],
    progress: Progress,
    *,
    is_strict: bool = False,
) -> Tally:
    """Import logs, and count what became of every line.

    Raises: Unreadable where it is to be strict; OperatorError when a process ended before its time
    """
    tally = Tally(task.sources)
    with closing(engine(task)) as messages:
        for message in messages:
            if isinstance(message, Made):
                write(message)
            tally.add(message)
            if is_strict and tally.rejected:
                path, reasons = next(iter(tally.rejected_lines.items()))
                reason, numbers = min(reasons.items(), key=lambda item: item[1][0])
                raise Unreadable(
                    f"{path}, line {numbers[0]}: {reason.replace('_', ' ')}. Days before it may be imported already; "
                    "of its own nothing is. Mend it, or leave --strict out to count it and go on"
                )
            progress(tally)
    return tally


def write_to(root: Path, journal: Journal) -> Callable[[Made], None]:
    """Give what writes days to a store."""

    def write(made: Made) -> None:
        try:
            write_day(root, made, journal)
        except OSError as error:
            raise StoreError(
                f"{root}: a day can't be written ({error.strerror}). Make room or mend it, and start the same import "
                "again: it goes on with the days that are missing"
            ) from None

    return write


def read_imported(root: Path) -> dict[tuple[str, date], Kind]:
    """Read from the ledger which days were imported, with the tier that was to be written last."""
    imported: dict[tuple[str, date], Kind] = {}
    try:
        lines = (root / "ledger" / FILE).read_bytes().splitlines()
    except OSError:
        return {}
    for line in lines:
        if b'"imported"' in line:
            details = _read_details(line)
            written = [kind for kind in TIERS if f"{kind}_sha256" in details]
            if written:
                imported[details["site"], date.fromisoformat(details["date"])] = written[-1]
    return imported


def _read_details(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:  # torn by a crash; opening the ledger mends it
        return {}
    return entry["details"] if entry["event"] == IMPORTED else {}
