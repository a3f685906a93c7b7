"""Errors that an operator can mend."""

from dataclasses import dataclass


class OperatorError(Exception):
    """Something the person at the keyboard can put right; the message says how, and never quotes traffic."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration: where it stands, what is wrong, how to mend it."""

    field: str
    line: int | None
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else "not in the file"
        return f"{self.field} ({where}): {self.message}. {self.remedy}"


class SettingsError(OperatorError):
    """A configuration that is refused whole, with every mistake in it."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        noun = "mistake" if len(problems) == 1 else "mistakes"
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{source}: {len(problems)} {noun}, nothing was started\n{lines}")


class StoreError(OperatorError):
    """A store that can't be used: locked, newer than this software, or not a store."""


class StoreBusy(StoreError):
    """A store that another process writes to just now."""
