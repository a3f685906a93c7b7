"""Log lines as servers send them: taken out of a stream, and the syslog headers off them. Bytes in, bytes out.

Source: RFC 3164 section 4.1, RFC 5424 section 6, RFC 6587 section 3.4
"""

import re
from collections.abc import Iterator
from typing import Final

# Longer than any server sends: a request line and the headers of a record have 64 KiB each at most.
MAX_LINE_BYTES: Final = 128 * 1024

# What stands in the place of a longer line, and of one that could not be sent: it is counted as one that can't be read.
TOO_LONG: Final = b"(too long)\n"
LOST: Final = b"(lost)\n"

# <PRI>, then what RFC 5424 wants, or the habits that RFC 3164 describes: nginx and HAProxy leave the host name out when
# they are told to, or always. It starts with the end of the line before, which is quick to find.
HEADER: Final = re.compile(
    rb"\n<\d{1,3}>(?:"
    rb"1 \S+ \S+ \S+ \S+ \S+ (?:-|(?:\[(?:[^\]\\]|\\.)*\])+) ?(?:\xef\xbb\xbf)?"
    rb"|(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) (?:[\w.-]+ )?[\w./-]+(?:\[\d*\])?: ?"
    rb")"
)
# What a frame begins with whose length is counted: the length, and then the message.
COUNTED: Final = re.compile(rb"([1-9]\d{0,6}) (?=<)")
UNDECIDED: Final = re.compile(rb"(?:[1-9]\d{0,6} ?)?")


class BrokenStream(ValueError):
    """A stream doesn't go on as it began; where its next line begins can't be known."""


def strip_headers(block: bytes) -> bytes:
    """Take the syslog header off each line that has one.

    Shape:   whole lines in, whole lines out, as many
    """
    return HEADER.sub(b"\n", b"\n" + block)[1:]


class LineReader:
    """Puts the lines of one connection together, whether each ends with a newline or begins with its length."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_counted: bool | None = None
        self._is_skipping = False

    def feed(self, piece: bytes) -> bytes:
        """Take the next bytes, and return the lines that are whole now, each with a newline.

        Raises: BrokenStream
        """
        self._rest += piece
        if self._is_counted is None and not UNDECIDED.fullmatch(self._rest):
            self._is_counted = COUNTED.match(self._rest) is not None
        if self._is_counted is None:
            return b""
        return b"".join(self._read_counted()) if self._is_counted else self._read_lines()

    def end(self) -> bytes:
        """Return the last line, if it has no newline because nothing follows it."""
        rest, self._rest = self._rest, b""
        return b"" if self._is_counted or self._is_skipping or not rest else rest + b"\n"

    def _read_lines(self) -> bytes:
        lines, newline, self._rest = self._rest.rpartition(b"\n")
        if newline and self._is_skipping:
            _, newline, lines = (lines + newline).partition(b"\n")
            self._is_skipping, newline = False, b""
        found = lines + newline
        if len(self._rest) > MAX_LINE_BYTES:
            found += b"" if self._is_skipping else TOO_LONG
            self._rest, self._is_skipping = b"", True
        return found

    def _read_counted(self) -> Iterator[bytes]:
        start = 0
        while found := COUNTED.match(self._rest, start):
            end = found.end() + int(found[1])
            if end - found.end() > MAX_LINE_BYTES:
                raise BrokenStream("a frame that is too long")
            if end > len(self._rest):
                break
            yield self._rest[found.end() : end].rstrip(b"\n").replace(b"\n", b" ") + b"\n"
            start = end
        self._rest = self._rest[start:]
        if not found and not UNDECIDED.fullmatch(self._rest):
            raise BrokenStream("no frame where one should begin")
