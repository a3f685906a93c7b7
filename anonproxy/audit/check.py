"""What a check is: a claim, a way of looking, and a sabotage that it must notice."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from anonproxy.audit.evidence import Evidence
from anonproxy.audit.tables import Table, Value
from anonproxy.audit.tree import Tier


class Verdict(StrEnum):
    """What a check came to."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNKNOWN = "can't tell"  # there was nothing to look at, or it could not be read: never counted as a pass
    ERROR = "error"  # the check did not notice its own sabotage: its other answers are worth nothing


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence against a claim: where it stands and what it is, without repeating a secret."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A share that was measured, what to aim at, and what to change where it isn't reached; no verdict follows."""

    what: str
    share: float
    aim: float | None = None  # at most so much; None where no setting helps
    advice: str = ""

    @property
    def is_met(self) -> bool:
        """Tell whether it is as it should be, as far as anybody can do something about it."""
        return self.aim is None or self.share <= self.aim

    def __str__(self) -> str:
        aim = "" if self.aim is None else f" (to aim at: at most {render_share(self.aim)})"
        return f"{self.what}: {render_share(self.share)}{aim}{f'. {self.advice}' if self.advice else ''}"


def render_share(share: float) -> str:
    """Write a share as a percentage."""
    return f"{100 * share:.1f}\u00a0%"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look brought: how much was looked at, what was found, what could not be told, what was measured."""

    looked_at: Mapping[str, int]  # how many of what, like {"files": 3, "rows": 120}
    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    figures: tuple[str | Figure, ...] = ()  # to be weighed by whoever reads them; no verdict follows from them

    @property
    def verdict(self) -> Verdict:
        """Return fail if anything was found, else can't tell if anything stayed open, else pass."""
        if self.findings:
            return Verdict.FAIL
        return Verdict.UNKNOWN if self.unknown else Verdict.PASS


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about the store and the way to test it."""

    code: str
    claim: str
    how: str
    look: Callable[[Evidence], Outcome]
    sabotage: Callable[[Path], None]  # plants into a clean specimen of a store what `look` must find


# A claim about tables that are not there holds, and says so: a young store has no settled days.
NOTHING_YET: Final = "nothing of this kind is kept yet"


def look_at_tables(
    evidence: Evidence,
    tiers: Collection[Tier],
    find: Callable[[Table], Iterable[Finding]],
    columns: Collection[str] | None = None,
) -> Outcome:
    """Look at every table of some tiers, and count what was there: all columns, or those that the check is about."""
    looked_at = Counter({"files": 0, "rows": 0, "pages": 0, "values": 0})
    findings: list[Finding] = []
    for table in evidence.tables(*tiers):
        found = [column for name, column in table.columns.items() if columns is None or name in columns]
        looked_at["files"] += 1
        looked_at["rows"] += table.row_count
        looked_at["pages"] += sum(column.pages for column in found)
        looked_at["values"] += sum(len(column.distinct) + len(column.unused) for column in found)
        findings += find(table)
    figures = () if looked_at["files"] else (NOTHING_YET,)
    return Outcome(looked_at, tuple(findings), tuple(evidence.unread(*tiers)), figures=figures)


def values(table: Table, columns: Iterable[str]) -> Iterator[tuple[str, Value, str]]:
    """Give the distinct values of some columns with their places, those that only a dictionary page holds included."""
    for name in columns:
        if column := table.columns.get(name):
            for value in column.distinct:
                yield name, value, f"{table.path}, {name} of row {column.first_row(value) + 1}"
            for value in column.unused:
                yield name, value, f"{table.path}, dictionary page of {name}"


def describe(value: Value) -> str:
    """Say how long a value is or what kind of number, and not what it is."""
    match value:
        case None:
            return "empty"
        case str() | bytes():
            return f"{len(value)} characters"
        case _:
            return f"a number of {len(str(abs(value)))} digits"
