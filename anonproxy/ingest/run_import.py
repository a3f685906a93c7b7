"""An import from end to end: days are brought to the store, and every line is counted.

Lines are read by other processes, which never write to the store; what they hand over are days as they will lie there.
Each is committed whole, with an entry in the ledger, as soon as it is made: an import that is interrupted goes on with
the days that are missing.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from anonproxy.ingest.jobs import Engine
from anonproxy.ingest.pipeline import SHOWN_LINES, BlockRead, Lost, Task
from anonproxy.ingest.sources import Source
from anonproxy.model.errors import OperatorError
from anonproxy.store.imports import Made, Refusal


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


def run_import(
    task: Task,
    engine: Engine,
    write: Callable[[Made], Refusal | None],
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
            tally.add(_write(message, write) if isinstance(message, Made) else message)
            if is_strict and tally.rejected:
                path, reasons = next(iter(tally.rejected_lines.items()))
                reason, numbers = min(reasons.items(), key=lambda item: item[1][0])
                raise Unreadable(
                    f"{path}, line {numbers[0]}: {reason.replace('_', ' ')}. Days before it may be imported already; "
                    "of its own nothing is. Mend it, or leave --strict out to count it and go on"
                )
            progress(tally)
    return tally


def _write(made: Made, write: Callable[[Made], Refusal | None]) -> Made | Lost:
    """Write a day; where there is no room for it by now, its lines are lost."""
    refusal = write(made)
    return Lost(Counter({str(refusal): made.rows})) if refusal else made
