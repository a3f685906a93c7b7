"""From the bytes of a log to raw columns; and which format the bytes look like."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, tzinfo
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.anonymize.address import parse_client
from anonproxy.ingest.formats.columns import build_table, complete_table, read_columns
from anonproxy.ingest.formats.escapes import ESCAPES
from anonproxy.ingest.formats.json_lines import read_objects
from anonproxy.ingest.formats.lines import cut_lines
from anonproxy.ingest.formats.log_format import FORMATS, LogFormat, find_headers, put_behind_syslog, with_fields
from anonproxy.ingest.formats.parsed import MAX_LINE_BYTES, Lines, Parsed, Rejected, Rejection
from anonproxy.ingest.formats.values import END

# Larger pieces take longer a line, since they don't fit into any cache, and smaller ones since each costs something.
PIECE_BYTES: Final = 8 << 20

UTF8_MARK: Final = b"\xef\xbb\xbf"

# What syslog puts before a line, in a file or on the wire: RFC 3164 as rsyslog writes it, or RFC 5424.
SYSLOG: Final = (
    r"^(?:<\d{1,3}>)?(?:\d )?(?:[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)?) "
    r"(?:(?:\S+ )?\S+: |\S+ \S+ \S+ \S+ (?:-|\[[^\]]*\]) )"
)


def detect_format(head: bytes, likely: Iterable[LogFormat] = ()) -> LogFormat | None:
    """Find the format of a log by its first lines: the first of those that read most addresses in them.

    Where a likely one reads all of them, those behind it aren't looked at: it takes a tenth of a second to try all.
    """
    head = head[: head.rfind(b"\n") + 1] or head
    if headers := find_headers(head):
        made_by = (each for each in FORMATS.values() if each.software and each.software.encode() in head)
        found = with_fields(next(made_by, FORMATS["w3c"]), headers[0][1])
        return found if found.line else None
    known = [each for each in FORMATS.values() if not each.has_header]
    candidates = [*known, *(put_behind_syslog(each) for each in known if not each.is_behind_syslog)]
    sure = next((each for each in likely if each in candidates and reads_all(head, each)), candidates[-1])
    candidates = candidates[: candidates.index(sure) + 1]
    counts = [count_requests(parse_lines(head, each).requests) for each in candidates]
    return candidates[counts.index(max(counts))] if any(map(any, counts)) else None


def reads_all(head: bytes, format: LogFormat) -> bool:
    """Tell whether a format reads an address in every line that is any."""
    parsed = parse_lines(head, format)
    return not parsed.rejected and parsed.requests.num_rows > 0 and len(set(count_requests(parsed.requests))) == 1


def count_requests(requests: pa.Table) -> tuple[int, int]:
    """Count the requests whose client is an address, and all."""
    clients = requests["raw_client"].to_pylist()
    return sum(parse_client(raw.decode("ascii", "replace")) is not None for raw in clients), len(clients)


def parse_lines(block: bytes, format: LogFormat, *, zone: tzinfo = UTC) -> Parsed:
    """Read whole lines into raw columns; the last line of a file may lack its end. Never raises.

    A time that names no zone is in the given one. A log that names its fields can name others in its middle; what holds
    behind a block tells `format.after(block)`.

    Shape:   as Parsed
    Reveals: everything: what this returns is for `anonymize` only; of rejected lines nothing but their numbers
    """
    return join_parsed(
        [
            parse_section(piece, known, zone)
            for section, known in split_sections(block, format)
            for piece in split_pieces(section)
        ]
    )


def join_parsed(pieces: Sequence[Parsed]) -> Parsed:
    """Join what was read of the pieces of a block."""
    rejected: Rejected = {}
    before = 0
    for piece in pieces:
        for reason, numbers in piece.rejected.items():
            rejected.setdefault(reason, []).extend(before + number for number in numbers)
        before += piece.lines
    tables = [piece.requests for piece in pieces]
    if any(table.column_names != tables[0].column_names for table in tables):
        tables = [complete_table(table) for table in tables]
    return Parsed(pa.concat_tables(tables), rejected, sum(piece.ignored for piece in pieces), before)


def split_sections(block: bytes, format: LogFormat) -> Iterator[tuple[bytes, LogFormat]]:
    """Cut a block where its log names other fields."""
    start = 0
    for found in find_headers(block) if format.has_header else ():
        if found.start():
            yield block[start : found.start()], format
        start, format = found.start(), with_fields(format, found[1])
    yield block[start:], format


def split_pieces(section: bytes) -> Iterator[bytes]:
    """Cut lines into pieces of a size that memory is used again and again for."""
    start = 0
    while len(section) - start > PIECE_BYTES and (end := section.rfind(b"\n", start, start + PIECE_BYTES) + 1):
        yield section[start:end]
        start = end
    yield section[start:]


def parse_section(block: bytes, format: LogFormat, zone: tzinfo) -> Parsed:
    """Read lines that have the same fields."""
    block = clean_block(block, format)
    escapes = ESCAPES.get(format.escapes)
    if escapes and escapes.sign not in block:
        escapes = None
    lines = Lines.of(escapes.hide(block) if escapes else block)
    drop_prefixes(lines, format)
    lines.ignore(pc.or_(pc.equal(lines.rest, b""), pc.starts_with(lines.rest, b"#")))
    lines.reject(pc.greater(pc.binary_length(lines.rest), MAX_LINE_BYTES), Rejection.TOO_LONG)
    if format.line:
        cut_lines(lines, format.line, has_bare_quotes=format.escapes == "none")
    else:
        read_objects(lines, format.members)
    read_columns(lines, escapes, zone, format.proxy)
    rejected = {reason: sorted(numbers) for reason, numbers in lines.rejected.items()}
    return Parsed(build_table(lines, format.columns), rejected, lines.ignored, lines.total)


def clean_block(block: bytes, format: LogFormat) -> bytes:
    """Make one of several ways to write the same, and leave out NULs: a crash leaves them before the next line."""
    for raw, plain in ((b"\r\n", b"\n"), (b"\0", b"")):
        if raw[:1] in block:
            block = block.replace(raw, plain) or b"\n"
    if format.has_header:
        block = block.replace(b"\t", b" ")
    while format.is_padded and b"  " in block:
        block = block.replace(b"  ", b" ")
    return block


def drop_prefixes(lines: Lines, format: LogFormat) -> None:
    """Drop what stands before what the server itself wrote."""
    is_marked = pc.starts_with(lines.rest, UTF8_MARK)
    if is_marked.true_count:
        lines.rest = pc.if_else(is_marked, pc.binary_slice(lines.rest, len(UTF8_MARK), END), lines.rest)
    if format.is_padded:
        lines.rest = pc.if_else(pc.starts_with(lines.rest, b" "), pc.binary_slice(lines.rest, 1, END), lines.rest)
    if format.is_behind_syslog:
        lines.rest = pc.replace_substring_regex(lines.rest, SYSLOG, "", max_replacements=1)
