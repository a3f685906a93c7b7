"""Search everything that was written for marks: file names, bytes, and what containers hold.

The question is "does any of these secrets stand anywhere in here, in any form", so nothing may be silently fine:
what couldn't be opened is listed beside what was found, and a result says how much it looked at.

Each file is read raw, in overlapping windows. What is a container (gzip, bzip2, xz, zstd, zip, tar, Parquet) is
opened as well, one in the other, within bounds. Of a Parquet file every page is read decompressed and decoded,
dictionaries, statistics and metadata included. Text with escapes in it (`%41`, `\\u0041`, `\\x41`, `&#65;`, `=41`)
is searched a second time without them, so that a form which escapes only some characters doesn't hide.

How thousands of patterns are found at once, without a compiled extension: an occurrence of a pattern of at least
2n - 1 bytes covers at least one whole block of n bytes at an offset divisible by n. So a window is read as an array
of 8-byte (and, for shorter patterns, 4-byte) integers, and intersected with the set of all blocks that patterns
contain, at C speed. Only patterns of which a block was seen are then looked for: some 20 MB/s with 7,500 patterns,
where one alternation in `re` does 0.1 MB/s, `bytes.find` in a loop 0.7, and RE2 between 1 and 700, by content.

A hit names the mark by its label. Names of files and members that contain a mark are withheld.
"""

import base64
import binascii
import bz2
import errno
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, cast

import pyarrow as pa

from anonproxy.audit.marks import SHORT_BYTES, WHOLE_NUMBERS, Mark, encodings, integers
from anonproxy.audit.parquet_pages import (
    BrokenParquet,
    ColumnChunk,
    ParquetFile,
    Statistics,
    Value,
    parse_parquet,
)

# What is read at a time. Larger windows save little, smaller ones repeat the overlap more often.
WINDOW_BYTES = 1 << 20
READ_BYTES = 1 << 16
# A container in a container in a container: a zipped backup of rotated logs has three.
MAX_DEPTH = 4
# What one file may unpack to, all its containers together, before it counts as a bomb.
MAX_UNPACKED_BYTES = 1 << 30
# A container inside a compressed stream needs random access, so it is held in memory.
MAX_INNER_BYTES = 1 << 28
# Escapes of escapes of escapes: as many rounds as the anonymiser's own percent-decoding.
UNESCAPE_ROUNDS = 3
# Enough to recognise every container: tar's magic stands at byte 257.
HEAD_BYTES = 512
# General purpose bit 0 (APPNOTE.TXT section 4.4.4).
ZIP_ENCRYPTED = 1

WITHHELD = "(name withheld)"

# Containers by their first bytes. Those without an opener below may hide a text: they are recognised so that nobody
# takes them for searched.
MAGICS = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"PK\x03\x04", "zip"),
    (257, b"ustar", "tar"),
    (0, b"PAR1", "Parquet"),
    (0, b"PARE", "Parquet"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"\x04\x22\x4d\x18", "LZ4"),
    (0, b"\xff\x06\x00\x00sNaPpY", "Snappy"),
    (0, b"\x1f\x9d", "compress"),
    (0, b"LZIP", "lzip"),
    (0, b"ARROW1", "Arrow IPC"),
    (0, b"ORC", "ORC"),
    (0, b"Obj\x01", "Avro"),
    (0, b"%PDF-", "PDF"),
    (0, b"Salted__", "OpenSSL"),
    (0, b"age-encryption.org", "age"),
    (0, b"LPKSHHRH", "systemd journal"),
    (8, b"DUCK", "DuckDB"),
)

READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A mark was found: in which file, where in it (nothing if in the plain bytes), in which form; and its label."""

    path: str
    place: str
    encoding: str
    label: str


@dataclass(frozen=True, slots=True)
class Unopened:
    """Something that wasn't searched, or not all of it, and why."""

    path: str
    place: str
    reason: str


@dataclass(slots=True)
class SearchResult:
    """What was found, and how much was looked at.

    Units: bytes as read plus bytes as unpacked; pages of Parquet
    """

    hits: list[Hit] = field(default_factory=list)
    unopened: list[Unopened] = field(default_factory=list)
    skipped: list[Unopened] = field(default_factory=list)
    files: int = 0
    size_bytes: int = 0
    pages: int = 0

    @property
    def is_clean(self) -> bool:
        """Tell whether everything could be searched, and nothing was found."""
        return self.files > 0 and not self.hits and not self.unopened


def search(roots: Iterable[Path], marks: Sequence[Mark]) -> SearchResult:
    """Search files, and directories with all they hold, for every form of every mark.

    Symbolic links are not followed, except where a root is one. Links, sockets, pipes, devices and files that vanish
    meanwhile are listed as skipped.
    """
    searcher = _Searcher(_Needles(marks))
    for root in roots:
        searcher.search_root(root)
    return searcher.result


def search_bytes(data: bytes, marks: Sequence[Mark], name: str = "(memory)") -> SearchResult:
    """Search some bytes, such as what a process printed, as if they were a file of that name."""
    searcher = _Searcher(_Needles(marks))
    searcher.search_file(io.BytesIO(data), name)
    return searcher.result


# --- Patterns -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Needle:
    label: str
    encoding: str
    pattern: bytes

    def stands_at(self, start: int, folded: bytes) -> bool:
        if start < 0 or not folded.startswith(self.pattern, start):
            return False
        end = start + len(self.pattern)
        neighbours = folded[max(0, start - 1) : start] + folded[end : end + 1]
        return self.encoding not in WHOLE_NUMBERS or HEX_DIGITS.isdisjoint(neighbours)


HEX_DIGITS = frozenset(b"0123456789abcdef")
# A slice with a known block in it is looked through once more, so it shouldn't be long.
SLICE_BLOCKS = 1 << 12


class _Blocks:
    """Patterns by the blocks of `width` bytes that a look at every `stride`-th offset must meet."""

    def __init__(self, needles: Iterable[_Needle], width: int, stride: int) -> None:
        self.width, self.stride = width, stride
        self.code: Literal["I", "Q"] = "Q" if width == 8 else "I"
        self.needles: dict[int, list[tuple[_Needle, int]]] = defaultdict(list)
        for needle in needles:
            first = _most_telling_part(needle.pattern, width + stride - 1)
            for offset in range(first, first + stride):
                (block,) = memoryview(needle.pattern)[offset : offset + width].cast(self.code)
                self.needles[block].append((needle, offset))
        self.known = frozenset(self.needles)

    def find(self, folded: bytes) -> Iterator[_Needle]:
        for first in range(0, min(self.width, len(folded)), self.stride):
            end = first + (len(folded) - first) // self.width * self.width
            blocks = memoryview(folded)[first:end].cast(self.code)
            for start in range(0, len(blocks), SLICE_BLOCKS):
                part = blocks[start : start + SLICE_BLOCKS]
                # Where a block stands is only asked where one does.
                if seen := self.known.intersection(part):
                    for index, block in enumerate(part, start):
                        if block in seen:
                            yield from self._verified(block, first + self.width * index, folded)

    def _verified(self, block: int, place: int, folded: bytes) -> Iterator[_Needle]:
        return (needle for needle, offset in self.needles[block] if needle.stands_at(place - offset, folded))


def _most_telling_part(pattern: bytes, length: int) -> int:
    """Choose where the part begins that other data is least likely to share: zeros and `%25%25` are everywhere."""
    return max(range(len(pattern) - length + 1), key=lambda start: len(set(pattern[start : start + length])))


class _Needles:
    """All patterns of all marks, arranged for finding them together."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        needles = [
            _Needle(mark.label, encoding, pattern.lower())
            for mark in marks
            for encoding, pattern in encodings(mark).items()
        ]
        long = [needle for needle in needles if len(needle.pattern) >= 11]
        middle = [needle for needle in needles if SHORT_BYTES <= len(needle.pattern) < 11]
        self.short = [needle for needle in needles if len(needle.pattern) < SHORT_BYTES]
        self.blocks = (_Blocks(long, width=8, stride=4), _Blocks(middle, width=4, stride=2))
        # One byte more, so that a whole number at a window's edge shows its neighbour.
        self.overlap = 1 + max((len(needle.pattern) for needle in needles), default=0)
        self.integers: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for mark in marks:
            for encoding, number in integers(mark).items():
                self.integers[number].append((mark.label, encoding))
        self.numbers = frozenset(self.integers)

    def find(self, data: bytes) -> set[tuple[str, str]]:
        """Find the patterns that stand in `data`: pairs of label and encoding."""
        folded = data.lower()
        found = self._find(folded)
        for escape in ESCAPES:
            plain = folded
            for _ in range(UNESCAPE_ROUNDS):
                if not (plain := unescape(plain, escape, self.overlap)):
                    break
                labels = {label for label, _ in found}
                found |= {(label, f"{name}, escaped") for label, name in self._find(plain) if label not in labels}
        return found

    def _find(self, folded: bytes) -> set[tuple[str, str]]:
        return {(needle.label, needle.encoding) for blocks in self.blocks for needle in blocks.find(folded)}

    def find_short(self, values: Iterable[bytes]) -> set[tuple[str, str]]:
        """Find the patterns that are too short for a search of arbitrary bytes."""
        folded = b"\n".join(values).lower()
        return {(needle.label, needle.encoding) for needle in self.short if needle.pattern in folded}

    def find_numbers(self, numbers: Iterable[int]) -> set[tuple[str, str]]:
        return {pair for number in self.numbers.intersection(numbers) for pair in self.integers[number]}


# The ways to write any byte with other characters; the input is in lower case. Quoted-printable stands apart, since
# the beginning of `q=cafe` looks like one of its escapes.
ESCAPES = (
    re.compile(
        rb"%([0-9a-f]{2})|\\x([0-9a-f]{2})|\\u00([0-9a-f]{2})|&#x0*([0-9a-f]{1,2});|&#0*([0-9]{1,3});"
        rb"|\\([0-3][0-7]{2})|\\([\"/\\])"
    ),
    re.compile(rb"=([0-9a-f]{2})|=\r?\n"),
)
ESCAPE_BASES = (16, 16, 16, 16, 10, 8)


def unescape(folded: bytes, escape: re.Pattern[bytes], margin: int) -> bytes:
    """Resolve one round of escapes, in text whose case is folded.

    Shape:  the text around the escapes, `margin` bytes before and after, folded; nothing if there are no escapes
    """
    regions: list[list[int]] = []
    for match in escape.finditer(folded):
        start, end = max(0, match.start() - margin), match.end() + margin
        if regions and start <= regions[-1][1]:
            regions[-1][1] = end
        else:
            regions.append([start, end])
    return b"\n".join(escape.sub(_unescaped, folded[start:end]) for start, end in regions).lower()


def _unescaped(match: re.Match[bytes]) -> bytes:
    for text, base in zip(match.groups(), ESCAPE_BASES, strict=False):
        if text is not None:
            return bytes([int(text, base) & 0xFF])
    # An escaped quote, slash or backslash stands for itself; a soft line break for nothing.
    return match[match.lastindex] if match.lastindex else b""


# --- Files and streams --------------------------------------------------------------------------------------


class _Unsearchable(ValueError):
    """Something is not searched, or not to the end; the message is ours and holds no content."""


class _Bomb(Exception):
    """A file unpacks to more than anyone wants to read: what is left of it is given up."""


class _Searcher:
    """Walks what it is given, and collects the result."""

    def __init__(self, needles: _Needles) -> None:
        self.needles = needles
        self.result = SearchResult()
        self.seen: set[Hit] = set()
        self.path = ""
        self.unpacked = 0

    # -- the tree

    def search_root(self, root: Path) -> None:
        """Search a file or a directory; a link is followed here, and only here."""
        self._try(lambda path: self._walk(path.resolve(strict=True)), root)

    def _try(self, walk: Callable[[Path], None], path: Path) -> None:
        try:
            walk(path)
        except OSError as error:
            self.path = self._shown(path)
            self._give_up("", error)

    def _walk(self, path: Path) -> None:
        self.path = self._shown(path)
        self._search_piece(os.fsencode(path.name), "file name")
        mode = path.lstat().st_mode
        self._search_attributes(path)
        if stat.S_ISDIR(mode):
            self._walk_directory(path)
        elif stat.S_ISREG(mode):
            with path.open("rb") as stream:
                self.search_file(stream, self.path)
        elif stat.S_ISLNK(mode):
            self._search_piece(os.fsencode(path.readlink()), "link target")
            self._skip("a symbolic link")
        else:
            self._skip("neither a file nor a directory")

    def _walk_directory(self, directory: Path) -> None:
        # A store is written to while it is searched: what is renamed meanwhile shows up under its new name, so look
        # again until there is nothing new.
        searched: set[Path] = set()
        while children := set(directory.iterdir()) - searched:
            for child in sorted(children):
                self._try(self._walk_if_there, child)
            searched |= children

    def _walk_if_there(self, path: Path) -> None:
        try:
            self._walk(path)
        except FileNotFoundError:
            self._skip("gone while it was searched")

    def _search_attributes(self, path: Path) -> None:
        if not hasattr(os, "listxattr"):
            return
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return
        for name in names:
            self._search_piece(os.fsencode(name), "extended attribute")
            self._search_piece(os.getxattr(path, name, follow_symlinks=False), "extended attribute")

    def _skip(self, reason: str) -> None:
        self.result.skipped.append(Unopened(self.path, "", reason))

    def search_file(self, stream: io.BufferedIOBase, path: str) -> None:
        """Search one file, whatever it holds."""
        self.path, self.unpacked = path, 0
        self.result.files += 1
        try:
            self.search_stream(stream, "", 0)
        except _Bomb:
            reason = f"unpacks to more than {MAX_UNPACKED_BYTES} bytes"
            self.result.unopened.append(Unopened(self.path, "", reason))

    # -- bytes

    def search_stream(self, stream: io.BufferedIOBase, place: str, depth: int) -> None:
        """Search a stream's bytes, and then what they hold if they are a container."""
        head = b""
        try:
            for window in self._windows(stream, depth):
                head = head or window[:HEAD_BYTES]
                self._search_piece(window, place)
        except READ_ERRORS as error:
            self._give_up(place, error)
        self._open_container(stream, head, place, depth)

    def _windows(self, stream: io.BufferedIOBase, depth: int) -> Iterator[bytes]:
        """Read in windows that overlap by the longest pattern; what came before an error is still given."""
        carried, failure = b"", None
        while failure is None:
            parts, size = [carried], 0
            try:
                while size < WINDOW_BYTES and (part := stream.read1(READ_BYTES)):
                    parts.append(part)
                    size += len(part)
            except READ_ERRORS as error:
                failure = error
            if size:
                self.count(size, depth)
                yield (window := b"".join(parts))
                carried = window[-self.needles.overlap :]
            elif failure is None:
                return
        raise failure

    def count(self, size: int, depth: int) -> None:
        """Count bytes that were looked at, and stop before a bomb goes off."""
        self.result.size_bytes += size
        self.unpacked += size if depth else 0
        if self.unpacked > MAX_UNPACKED_BYTES:
            raise _Bomb

    def _search_piece(self, data: bytes, place: str) -> None:
        self._report(self.needles.find(data), place)

    def _report(self, found: Iterable[tuple[str, str]], place: str) -> None:
        hits = [Hit(self.path, place, encoding, label) for label, encoding in sorted(found)]
        self.result.hits += [hit for hit in hits if hit not in self.seen]
        self.seen.update(hits)

    def _give_up(self, place: str, error: Exception) -> None:
        # Only our own messages are known to hold no content; of others the kind must do.
        ours = isinstance(error, BrokenParquet | _Unsearchable)
        kind = getattr(error, "strerror", None) or f"can't be read ({type(error).__qualname__})"
        self.result.unopened.append(Unopened(self.path, place, str(error) if ours else kind))

    def _shown(self, path: Path) -> str:
        return str(Path(*(self.shown_name(part) for part in path.parts)))

    def shown_name(self, name: str) -> str:
        """Give a name as it may be shown: not at all, if a mark is in it."""
        return WITHHELD if self.needles.find(os.fsencode(name)) else name

    # -- containers

    def _open_container(self, stream: io.BufferedIOBase, head: bytes, place: str, depth: int) -> None:
        kind = recognise(head)
        if kind is None:
            return
        inside = _join(place, kind)
        try:
            if kind not in OPENERS:
                raise _Unsearchable("this kind of file is not opened here")
            if depth == MAX_DEPTH:
                raise _Unsearchable(f"more than {MAX_DEPTH} containers, one in the other")
            stream.seek(0)
            OPENERS[kind](self, stream, inside, depth + 1)
        except READ_ERRORS as error:
            self._give_up(inside, error)

    def search_zip(self, stream: io.BufferedIOBase, place: str, depth: int) -> None:
        """Search the members of a zip archive."""
        with zipfile.ZipFile(_seekable(stream)) as archive:
            for member in archive.infolist():
                inside = _join(place, f"member {self.shown_name(member.filename)}")
                self._search_piece(member.filename.encode(errors="surrogateescape"), inside)
                try:
                    if member.flag_bits & ZIP_ENCRYPTED:
                        raise _Unsearchable("encrypted")
                    with archive.open(member) as opened:
                        self.search_stream(cast(io.BufferedIOBase, opened), inside, depth)
                except READ_ERRORS as error:
                    self._give_up(inside, error)

    def search_tar(self, stream: io.BufferedIOBase, place: str, depth: int) -> None:
        """Search the members of a tar archive; what isn't a file has its bytes in the archive's headers."""
        with tarfile.open(fileobj=_seekable(stream), mode="r:") as archive:
            for member in archive:
                inside = _join(place, f"member {self.shown_name(member.name)}")
                self._search_piece(os.fsencode(member.name), inside)
                if opened := archive.extractfile(member) if member.isreg() else None:
                    self.search_stream(cast(io.BufferedIOBase, opened), inside, depth)

    # -- Parquet

    def search_parquet(self, stream: io.BufferedIOBase, place: str, depth: int) -> None:
        """Search all that a Parquet file holds, decompressed and decoded."""
        file = parse_parquet(_read_whole(stream))
        self._search_piece(file.created_by, _join(place, "created_by"))
        self._search_metadata(file.metadata, place)
        for element in file.schema:
            self._search_piece(element.name.encode(), _join(place, "schema"))
        for number, group in enumerate(file.row_groups):
            for column in group.columns:
                inside = _join(place, f"column {self.shown_name(column.path)}, row group {number}")
                try:
                    self._search_column(file, column, inside, depth)
                except READ_ERRORS as error:
                    self._give_up(inside, error)

    def _search_metadata(self, metadata: Iterable[tuple[bytes, bytes]], place: str) -> None:
        inside = _join(place, "key-value metadata")
        for pair in metadata:
            for part in (*pair, *map(_read_base64, pair)):
                self._search_piece(part, inside)

    def _search_column(self, file: ParquetFile, column: ColumnChunk, place: str, depth: int) -> None:
        self._search_metadata(column.metadata, place)
        self._search_statistics(column.statistics, place)
        if index := file.column_index(column):
            for value in (*index.minima, *index.maxima):
                self._search_values([value], _join(place, "page index"))
        for number, page in enumerate(file.pages(column)):
            inside = _join(place, f"{page.kind} page {number}")
            self.count(len(page.raw), depth)
            self.result.pages += 1
            self._search_piece(page.raw, inside)
            self._search_statistics(page.statistics, inside)
            # A page that points into the dictionary has no values of its own: only decode what does.
            if not page.is_dictionary_encoded:
                self._search_values(page.values, inside)

    def _search_statistics(self, statistics: Statistics | None, place: str) -> None:
        if statistics:
            values = [value for value in (statistics.minimum, statistics.maximum) if value is not None]
            self._search_values(values, _join(place, "statistics"))

    def _search_values(self, values: Iterable[Value], place: str) -> None:
        """Search decoded values: texts also for the shortest patterns, numbers as they are and in decimal."""
        distinct = set(values)
        texts = [value for value in distinct if isinstance(value, bytes)]
        numbers = [whole for value in distinct if (whole := _whole_number(value)) is not None]
        decimal = " ".join(map(str, numbers)).encode()
        self._search_piece(b"\n".join(texts), place)
        self._search_piece(decimal, place)
        self._report(self.needles.find_short(texts), place)
        # Addresses stored as signed numbers come out negative.
        unsigned = (
            number % bound for number in numbers for bound in ((1 << 32, 1 << 64) if number < 0 else (1 << 64,))
        )
        self._report(self.needles.find_numbers(unsigned), place)


def _whole_number(value: Value) -> int | None:
    """Read a number, also one that is stored as floating point; else None."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def _read_base64(raw: bytes) -> bytes:
    """Decode what is base64 as a whole, such as the Arrow schema; else nothing."""
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error:
        return b""


def _join(place: str, what: str) -> str:
    return f"{place}, {what}" if place else what


# --- Containers ---------------------------------------------------------------------------------------------


def recognise(head: bytes) -> str | None:
    """Name the container that begins with these bytes, if it is one."""
    return next((kind for offset, magic, kind in MAGICS if head.startswith(magic, offset)), None)


type _Opener = Callable[[_Searcher, io.BufferedIOBase, str, int], None]


def _compressed(unpack: Callable[[io.BufferedIOBase], io.BufferedIOBase]) -> _Opener:
    def search(searcher: _Searcher, stream: io.BufferedIOBase, place: str, depth: int) -> None:
        searcher.search_stream(unpack(stream), place, depth)

    return search


def _open_xz(stream: io.BufferedIOBase) -> io.BufferedIOBase:
    return lzma.LZMAFile(cast(IO[bytes], stream))


class _Borrowed:
    """A stream that stays open when pyarrow, at the end of its work, closes what it read from."""

    closed = False

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.read = stream.read

    def close(self) -> None:
        """Leave the stream to its owner."""


class _ZstdFile(io.BufferedIOBase):
    """Decompress zstd; the standard library can do so from Python 3.14 on."""

    def __init__(self, packed: io.BufferedIOBase) -> None:
        self.packed = packed
        self.seek(0)

    def read1(self, size: int = READ_BYTES, /) -> bytes:
        """Read what the next bytes unpack to."""
        return bytes(self.stream.read(size))

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go back to the beginning: nothing else is asked of a stream."""
        self.packed.seek(0)
        self.stream = pa.CompressedInputStream(pa.PythonFile(_Borrowed(self.packed), mode="r"), "zstd")
        return 0


def _seekable(stream: io.BufferedIOBase) -> io.BufferedIOBase:
    """Give the same bytes with cheap random access, which unpacked streams don't have."""
    return io.BytesIO(_read_whole(stream)) if isinstance(stream, UNPACKED) else stream


def _read_whole(stream: io.BufferedIOBase) -> bytes:
    parts, size = [], 0
    while part := stream.read1(READ_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_INNER_BYTES:
            raise _Unsearchable(f"larger than {MAX_INNER_BYTES} bytes")
    return b"".join(parts)


UNPACKED = (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile, zipfile.ZipExtFile, _ZstdFile)

OPENERS: Mapping[str, _Opener] = {
    "gzip": _compressed(lambda stream: gzip.GzipFile(fileobj=stream)),
    "bzip2": _compressed(bz2.BZ2File),
    "xz": _compressed(_open_xz),
    "zstd": _compressed(_ZstdFile),
    "zip": _Searcher.search_zip,
    "tar": _Searcher.search_tar,
    "Parquet": _Searcher.search_parquet,
}
