"""Log files: found, opened whatever they are compressed with, put in order by time, and read in blocks of whole lines.

Nothing of them is ever written to a disk, unpacked or not.
"""

import bz2
import gzip
import heapq
import lzma
import math
import os
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import tzinfo
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.anonymize.rules import MAX_TIME_S
from anonproxy.ingest.formats import (
    MAX_LINE_BYTES,
    NO_PROXY,
    AsUtf8,
    LogFormat,
    detect_format,
    find_format,
    parse_lines,
)
from anonproxy.ingest.mistakes import without_text
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import ProxySettings

# Large enough that most of what a block says it says often; of each file that is being read one block waits.
BLOCK_BYTES: Final = 32 << 20
WAITING_BYTES: Final = 256 << 20
LEAST_BLOCK_BYTES: Final = 1 << 20

# What is read at once; of a damaged file at most that much is lost before the damage.
PIECE_BYTES: Final = 1 << 20

# What a format is detected by, and what tells two copies of one log.
HEAD_BYTES: Final = 64 << 10
TWIN_BYTES: Final = 4 << 10
# Lines at the beginning of a block that its time is read from; most have one that can be read in the first.
TIMED_LINES: Final = 50

STDIN: Final = Path("-")

Opener = Callable[[IO[bytes]], Any]
OPENERS: Final[dict[bytes, Opener]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"),
}
# What a damaged file makes the openers raise; their messages may quote it.
DAMAGE: Final = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, ValueError)


@dataclass(frozen=True, slots=True)
class Source:
    """A log file that can be read."""

    path: Path
    format: LogFormat
    size_bytes: int  # as it lies on the disk; 0 where nobody knows
    starts_at: float  # the first time in it
    is_compressed: bool = False
    names_hosts: bool = False


class Block(NamedTuple):
    """Whole lines of a log."""

    source: int
    data: bytes
    first_line: int
    format: LogFormat  # a log that names its fields may name others in its middle
    read_bytes: int  # of the file as it lies on the disk, for the progress
    is_damaged: bool = False  # the file can't be read any further


class TimedBlock(NamedTuple):
    """A block between the time that it begins with and the one that the next block of its file begins with."""

    block: Block
    from_s: float
    until_s: float


def find_logs(names: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """List the files that were named, and those in folders that were named; each once.

    Raises: OperatorError for what isn't there, and for what gives its beginning only once, like a pipe: to tell its
            format that has to be read before the rest
    """
    named, found = [], []
    for name in names:
        if name.is_dir():
            found += sorted(path for path in name.rglob("*") if path.is_file())
        elif name == STDIN or name.is_file():
            named.append(name)
        elif name.exists():
            raise OperatorError(
                f"{name}: no file. What comes through a pipe is read as -, like: … | anonproxy ingest -"
            )
        else:
            raise OperatorError(f"{name}: no such file or folder")
    seen = set[object]()

    def is_new(path: Path) -> bool:
        key = path if path == STDIN else (path.stat().st_dev, path.stat().st_ino)
        return key not in seen and not seen.add(key)  # type: ignore[func-returns-value]  # set.add returns None

    return [path for path in named if is_new(path)], [path for path in found if is_new(path)]


def open_sources(
    named: Iterable[Path],
    found: Iterable[Path],
    format_name: str | None,
    zone: tzinfo,
    proxy: ProxySettings = NO_PROXY,
) -> tuple[list[Source], list[Path]]:
    """Find the format and the first time of each file, in the order of these; and list those that are no logs.

    The servers that wrote them stood behind the proxies that are given.

    Raises: OperatorError for a file that was named and can't be read, and for the same log twice
    """
    known = find_format(format_name) if format_name else None
    sources, others = [], []
    heads: dict[bytes, Path] = {}
    likely: dict[LogFormat, None] = {}  # most logs of a library are of one kind
    for path, is_named in (*((path, True) for path in named), *((path, False) for path in found)):
        head = _read_head(path, is_named=is_named)
        with without_text():
            source = _recognise(path, head, known, likely, zone) if head else None
        if source:
            head = head[:TWIN_BYTES]
            twin = next((heads[each] for each in heads if each.startswith(head) or head.startswith(each)), None)
            if twin:
                raise OperatorError(f"{path} begins as {twin} does: is it the same log twice? Leave one of them out")
            heads[head] = path
            likely[source.format] = None
            sources.append(replace(source, format=source.format.behind(proxy)))
        elif head and is_named:
            raise OperatorError(
                f"{path}: no format fits its first lines. Name one with --format, or give the line of the server's "
                "configuration that sets it"
            )
        elif head is None or head:
            others.append(path)
    return sorted(sources, key=lambda source: (source.starts_at, source.path)), others


def _read_head(path: Path, *, is_named: bool) -> bytes:
    try:
        if path == STDIN:
            return read_stdin().head
        with open_log(path) as log:
            return b"".join(_read_pieces(log.text, HEAD_BYTES)[0])
    except DAMAGE as error:
        if not is_named:
            return b""
        raise OperatorError(describe_damage(path, error)) from None


def describe_damage(path: Path, error: Exception) -> str:
    """Say why a file can't be read, in the system's words; others may quote it."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is damaged"
    return f"{path}: can't be read, {reason}"


def _recognise(
    path: Path, head: bytes, known: LogFormat | None, likely: Iterable[LogFormat], zone: tzinfo
) -> Source | None:
    format_ = known or detect_format(head, likely)
    starts_at = find_time(head, format_, zone) if format_ else None
    if format_ is None or (known is None and starts_at is None):
        return None
    requests = parse_lines(first_lines(head), format_, zone=zone).requests
    names_hosts = "raw_host" in requests.column_names or has_urls(requests)
    if path == STDIN:
        return Source(path, format_, 0, starts_at or 0.0, names_hosts=names_hosts)
    with path.open("rb") as raw:
        is_compressed = _find_opener(raw) is not None
    return Source(path, format_, path.stat().st_size, starts_at or 0.0, is_compressed, names_hosts)


def has_urls(requests: pa.Table) -> bool:
    """Tell whether whole URLs were asked for, which name their hosts."""
    targets = requests["raw_target"] if "raw_target" in requests.column_names else pa.chunked_array([], pa.binary())
    return bool(pc.any(pc.starts_with(targets, b"http"), min_count=0).as_py())


class OpenLog(NamedTuple):
    """A log that is being read: the file as it lies on the disk, and its text."""

    raw: IO[bytes]
    text: Any


class Piped:
    """Standard input, of which the beginning has been looked at."""

    def __init__(self, text: AsUtf8) -> None:
        self._text = text
        self.head = self._waiting = b"".join(_read_pieces(text, HEAD_BYTES)[0])

    def read1(self, size: int) -> bytes:
        """Read on, from the beginning at first."""
        waiting, self._waiting = self._waiting, b""
        return waiting or self._text.read1(size)


@cache
def read_stdin() -> Piped:
    """Open standard input once, whatever it is compressed with."""
    return Piped(_open_text(BufferedReader(cast(Any, sys.stdin.buffer))))  # which can be looked into


@contextmanager
def open_log(path: Path) -> Iterator[OpenLog]:
    """Open a log, whatever it is compressed with: its first bytes tell.

    Raises: one of DAMAGE
    """
    if path == STDIN:
        yield OpenLog(sys.stdin.buffer, read_stdin())
        return
    with path.open("rb") as raw:
        yield OpenLog(raw, _open_text(raw))


def _open_text(raw: BufferedReader) -> AsUtf8:
    opener = _find_opener(raw)
    return AsUtf8(opener(raw) if opener else raw)


def _find_opener(raw: BufferedReader) -> Opener | None:
    start = raw.peek(8)
    return next((opener for magic, opener in OPENERS.items() if start.startswith(magic)), None)


def first_lines(text: bytes) -> bytes:
    """Give the first whole lines of a text."""
    return b"".join(text[:HEAD_BYTES].splitlines(keepends=True)[:TIMED_LINES])


def find_time(lines: bytes, format_: LogFormat, zone: tzinfo) -> float | None:
    """Read the earliest time of the first lines; None when none of them can be read."""
    found: float | None = pc.min(read_times(first_lines(lines), format_, zone)).as_py()
    return found


def read_times(lines: bytes, format_: LogFormat, zone: tzinfo) -> pa.ChunkedArray:
    """Read the times of lines, but those that can't be: no date could be told of them."""
    times_s = parse_lines(lines, format_, zone=zone).requests["time_s"]
    return times_s.filter(pc.and_(pc.greater_equal(times_s, 0), pc.less(times_s, MAX_TIME_S)))


def find_last_time(source: Source, zone: tzinfo) -> float:
    """Read the latest time of the last lines of a log, or its first one when none of them can be read.

    A compressed log has to be unpacked for that, in memory; and one that names its fields to be read, since it may name
    others later.
    """
    is_read_whole = source.is_compressed or source.format.has_header
    ends = _read_last_blocks(source) if is_read_whole else [(_read_tail(source), source.format)]
    times_s: list[float | None] = [pc.max(read_times(data, format_, zone)).as_py() for data, format_ in ends]
    return max([source.starts_at, *(time_s for time_s in times_s if time_s is not None)])


def _read_last_blocks(source: Source) -> list[tuple[bytes, LogFormat]]:
    """Read a log through, but keep no more than its end: two blocks, as the last may be no whole line."""
    blocks = deque(read_blocks(0, source, LEAST_BLOCK_BYTES), maxlen=2)
    return [(block.data, block.format) for block in blocks]


def _read_tail(source: Source) -> bytes:
    try:
        with open_log(source.path) as log:
            log.raw.seek(max(0, source.size_bytes - HEAD_BYTES))
            return b"".join(_read_pieces(log.text, HEAD_BYTES)[0])
    except DAMAGE:
        return b""


def read_blocks(number: int, source: Source, block_bytes: int) -> Iterator[Block]:
    """Read a log in blocks of whole lines; a file that turns out to be damaged ends there, and its last block says so.

    What goes on for longer than any line, without an end, is cut off there and the rest of it is passed over.

    Raises: OperatorError for a file that was there before and can't be opened any more
    """
    format_ = source.format
    with _open_again(source.path) as log:
        rest, first_line, position, is_cut = b"", 1, 0, False
        while True:
            pieces, is_damaged = _read_pieces(log.text, block_bytes)
            if is_cut and pieces:
                _, is_found, chunk = b"".join(pieces).partition(b"\n")
                if not is_found:
                    continue
                pieces, is_cut = [chunk], False
            is_last = is_damaged or not pieces
            whole, rest = (b"".join([rest, *pieces]), b"") if is_last else join_lines([rest, *pieces])
            if not whole and len(rest) > MAX_LINE_BYTES:
                whole, rest, is_cut = rest[: MAX_LINE_BYTES + 1] + b"\n", b"", True
            read_to = log.raw.tell() if source.size_bytes else 0
            if whole or is_damaged:
                yield Block(number, whole, first_line, format_, read_to - position, is_damaged)
                first_line, position = first_line + whole.count(b"\n"), read_to
                format_ = format_.after(whole)
            if is_last:
                return


@contextmanager
def _open_again(path: Path) -> Iterator[OpenLog]:
    with ExitStack() as stack:
        try:
            log = stack.enter_context(open_log(path))
        except DAMAGE as error:
            raise OperatorError(describe_damage(path, error)) from None
        yield log


def join_lines(pieces: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Join pieces up to the last end of a line, and those behind it: copied once, since they are large."""
    for number in reversed(range(len(pieces))):
        if end := pieces[number].rfind(b"\n") + 1:
            before, behind = pieces[number][:end], pieces[number][end:]
            return b"".join([*pieces[:number], before]), b"".join([behind, *pieces[number + 1 :]])
    return b"", b"".join(pieces)


def _read_pieces(text: Any, size: int) -> tuple[list[bytes], bool]:
    """Read so many bytes, or what there is of them before the end or the damage; tell whether it was that."""
    pieces: list[bytes] = []
    try:
        while size > 0 and (piece := text.read1(min(size, PIECE_BYTES))):
            pieces.append(piece)
            size -= len(piece)
    except DAMAGE:
        return pieces, True
    return pieces, False


def read_in_order(sources: Sequence[Source], zone: tzinfo) -> Iterator[TimedBlock]:
    """Read several logs block by block, always from the one that is furthest behind."""
    block_bytes = max(LEAST_BLOCK_BYTES, min(BLOCK_BYTES, WAITING_BYTES // max(1, len(sources))))
    waiting: list[tuple[float, int, Block | None, Iterator[Block]]] = [
        (source.starts_at, number, None, read_blocks(number, source, block_bytes))
        for number, source in enumerate(sources)
    ]
    heapq.heapify(waiting)
    while waiting:
        from_s, number, block, blocks = heapq.heappop(waiting)
        block = block or next(blocks, None)
        if block is None:
            continue
        following = next(blocks, None)
        until_s = math.inf
        if following:
            found = find_time(following.data, following.format, zone)
            until_s = from_s if found is None else found
            heapq.heappush(waiting, (until_s, number, following, blocks))
        yield TimedBlock(block, from_s, until_s)
