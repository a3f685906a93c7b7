"""What is read of a block of lines, and which lines could not be."""

from enum import StrEnum
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

# Longer than any line that a server writes of a request it has answered; what goes on without an end is no log.
MAX_LINE_BYTES: Final = 1_048_576


class Rejection(StrEnum):
    """Why a line could not be read."""

    NOT_THIS_FORMAT = "not_this_format"
    BAD_TIME = "bad_time"
    TOO_LONG = "too_long"
    TRUNCATED = "truncated"  # the end of a file that stops in the middle of a line


Rejected = dict[Rejection, list[int]]


class Parsed(NamedTuple):
    """What became of a block: requests, rejected and ignored lines together are all its lines.

    Shape:   requests in columns of ingest.batch.RAW_SCHEMA without nulls, those that the log has, in the order of the
             lines; rejected as the numbers of lines in the block, from 1 and in their order
    """

    requests: pa.Table
    rejected: Rejected
    ignored: int  # empty lines, comments, header lines
    lines: int

    def __repr__(self) -> str:
        return "Parsed(…)"


class Lines:
    """Lines that can still be read, what is left of each, and the numbers of those that can't."""

    def __init__(self, rest: pa.Array, *, is_cut_off: bool = False) -> None:
        self.rest = rest
        self.is_cut_off = is_cut_off
        self.total = len(rest)
        self.numbers = pa.arange(1, self.total + 1)
        self.columns: dict[object, pa.Array] = {}  # by name; on the way there by a field of a line, or several
        self.rejected: Rejected = {}
        self.ignored = 0

    @classmethod
    def of(cls, block: bytes) -> "Lines":
        """Split a block; its last line may lack its end."""
        lines = pc.split_pattern(pa.array([block], pa.binary()), b"\n").flatten()
        is_cut_off = bool(block) and not block.endswith(b"\n")
        return cls(lines if is_cut_off else lines.slice(0, len(lines) - 1), is_cut_off=is_cut_off)

    def ignore(self, is_ignored: pa.Array) -> None:
        """Leave lines out that hold no request."""
        self.ignored += is_ignored.true_count
        self._filter(pc.invert(is_ignored))

    def reject(self, is_bad: pa.Array, reason: Rejection) -> None:
        """Leave lines out that can't be read."""
        if not is_bad.true_count:
            return
        numbers = self.numbers.filter(is_bad).to_pylist()
        if self.is_cut_off and numbers[-1] == self.total:
            self.rejected[Rejection.TRUNCATED] = [numbers.pop()]
        if numbers:
            self.rejected.setdefault(reason, []).extend(numbers)
        self._filter(pc.invert(is_bad))

    def _filter(self, mask: pa.Array) -> None:
        if mask.true_count == len(mask):
            return
        self.rest, self.numbers = self.rest.filter(mask), self.numbers.filter(mask)
        self.columns = {name: column.filter(mask) for name, column in self.columns.items()}
