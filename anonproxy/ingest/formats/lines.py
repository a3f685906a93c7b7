"""Lines of fields between fixed texts: cut from left to right, all lines of a block at once."""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

import pyarrow.compute as pc

from anonproxy.ingest.formats.dialect import Line, Part
from anonproxy.ingest.formats.parsed import Lines, Rejection
from anonproxy.ingest.formats.values import END, count_inside, holds


class Cut(NamedTuple):
    """The same text, which stands behind each of some parts."""

    literal: bytes
    parts: tuple[Part, ...]


def plan_cuts(line: Line) -> Iterator[Cut]:
    """Put neighbours together that end at the same text, but leave the last part alone."""
    for literal, parts in groupby(line.parts[:-1], key=lambda part: part.literal):
        if literal:
            yield Cut(literal, tuple(parts))


def cut_lines(lines: Lines, line: Line, *, has_bare_quotes: bool) -> None:
    """Cut the fields of all lines that are of the format; in some there may be quotes that don't end a field."""
    if line.begins:
        lines.reject(pc.invert(pc.starts_with(lines.rest, line.begins)), Rejection.NOT_THIS_FORMAT)
        lines.rest = pc.binary_slice(lines.rest, len(line.begins), END)
    for cut in plan_cuts(line):
        cut_parts(lines, cut)
    take_last(lines, line.parts[-1], has_bare_quotes=has_bare_quotes)
    for part in line.parts:
        if part in lines.columns:
            part_fields(lines, part)


def cut_parts(lines: Lines, cut: Cut) -> None:
    """Cut some parts off the lines, up to the text that stands behind each."""
    widths = [1 + sum(count_inside(field, cut.literal) for field in part.fields) for part in cut.parts]
    count = sum(widths)
    lines.rest = pc.split_pattern(lines.rest, cut.literal, max_splits=count)
    lines.reject(pc.not_equal(pc.list_value_length(lines.rest), count + 1), Rejection.NOT_THIS_FORMAT)
    pieces, lines.rest = lines.rest, pc.list_element(lines.rest, count)
    start = 0
    for part, width in zip(cut.parts, widths, strict=True):
        if is_wanted(part):
            words = [pc.list_element(pieces, index) for index in range(start, start + width)]
            lines.columns[part] = words[0] if width == 1 else pc.binary_join_element_wise(*words, b" ")
        start += width


def is_wanted(part: Part) -> bool:
    """Tell whether anything of a part is a column."""
    return any(field.column for field in part.fields)


def take_last(lines: Lines, part: Part, *, has_bare_quotes: bool) -> None:
    """Take the last part. A line that lacks no more than its last quote was cut off behind all that matters."""
    if part.literal == b'"':
        lines.rest = pc.if_else(pc.ends_with(lines.rest, b'"'), pc.binary_slice(lines.rest, 0, -1), lines.rest)
        if not has_bare_quotes and holds(lines.rest, b'"'):
            lines.reject(pc.match_substring(lines.rest, b'"'), Rejection.NOT_THIS_FORMAT)
    elif part.literal:
        lines.reject(pc.invert(pc.ends_with(lines.rest, part.literal)), Rejection.NOT_THIS_FORMAT)
        lines.rest = pc.binary_slice(lines.rest, 0, -len(part.literal))
    if is_wanted(part):
        lines.columns[part] = lines.rest


def part_fields(lines: Lines, part: Part) -> None:
    """Part fields that have colons between them, from the right: an IPv6 address has some itself."""
    values = lines.columns.pop(part)
    first, *others = part.fields
    if not others:
        lines.columns[first] = values
        return
    lines.rest = pc.split_pattern(values, b":", max_splits=len(others), reverse=True)
    lines.reject(pc.not_equal(pc.list_value_length(lines.rest), len(part.fields)), Rejection.NOT_THIS_FORMAT)
    for index, field in enumerate(part.fields):
        if field.column:
            lines.columns[field] = pc.list_element(lines.rest, index)
