"""Lines of fields between fixed texts: cut from left to right, all lines of a block at once."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple

import pyarrow.compute as pc

from anonproxy.ingest.formats.dialect import Field, Line, Part
from anonproxy.ingest.formats.parsed import Lines, Rejection
from anonproxy.ingest.formats.values import END, count_inside, holds

QUOTE: Final = b'"'


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
    if not cut_at_quotes(lines, line, has_bare_quotes=has_bare_quotes):
        cut_from_left(lines, line, has_bare_quotes=has_bare_quotes)
    for part in line.parts:
        if part.fields in lines.columns:
            part_fields(lines, part.fields)


def cut_at_quotes(lines: Lines, line: Line, *, has_bare_quotes: bool) -> bool:
    """Cut the lines as from the left, but in one step at all quotes, if each line has them where the format has them.

    As every text that ends a field and has a quote in it ends at the next quote then, it makes no difference but in
    time: cutting from the left copies what is left of the lines again and again.
    """
    segments = split_at_quotes(line)
    texts = pc.split_pattern(lines.rest, QUOTE, max_splits=len(segments) - 1)
    if len(segments) == 1 or not pc.all(pc.equal(pc.list_value_length(texts), len(segments))).as_py():
        return False
    cut = [Lines(pc.list_element(texts, index)) for index in range(len(segments))]
    for of_segment, segment in zip(cut, segments, strict=True):
        cut_from_left(of_segment, segment, has_bare_quotes=has_bare_quotes)
        if of_segment.rejected:
            return False
    lines.columns = {name: column for of_segment in cut for name, column in of_segment.columns.items()}
    return True


def split_at_quotes(line: Line) -> list[Line]:
    """Give what stands between the quotes of a line; the last one may lack, so what it ends is left whole."""
    *constants, begins = line.begins.split(QUOTE)
    segments = [Line(constant, ()) for constant in constants]
    parts: list[Part] = []
    for part in line.parts[:-1]:
        literal, *following = part.literal.split(QUOTE)
        parts.append(part._replace(literal=literal))
        for text in following:
            segments.append(Line(begins, tuple(parts)))
            begins, parts = text, []
    return [*segments, Line(begins, (*parts, line.parts[-1]))]


def cut_from_left(lines: Lines, line: Line, *, has_bare_quotes: bool) -> None:
    """Cut part by part, each up to where the text behind it stands first."""
    if line.begins:
        lines.reject(pc.invert(pc.starts_with(lines.rest, line.begins)), Rejection.NOT_THIS_FORMAT)
        lines.rest = pc.binary_slice(lines.rest, len(line.begins), END)
    for cut in plan_cuts(line):
        cut_parts(lines, cut)
    if line.parts:
        take_last(lines, line.parts[-1], has_bare_quotes=has_bare_quotes)
    else:
        lines.reject(pc.not_equal(lines.rest, b""), Rejection.NOT_THIS_FORMAT)


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
            lines.columns[part.fields] = words[0] if width == 1 else pc.binary_join_element_wise(*words, b" ")
        start += width


def is_wanted(part: Part) -> bool:
    """Tell whether anything of a part is a column."""
    return any(field.column for field in part.fields)


def take_last(lines: Lines, part: Part, *, has_bare_quotes: bool) -> None:
    """Take the last part. A line that lacks no more than its last quote was cut off behind all that matters."""
    if part.literal == QUOTE:
        lines.rest = pc.if_else(pc.ends_with(lines.rest, QUOTE), pc.binary_slice(lines.rest, 0, -1), lines.rest)
        if not has_bare_quotes and holds(lines.rest, QUOTE):
            lines.reject(pc.match_substring(lines.rest, QUOTE), Rejection.NOT_THIS_FORMAT)
    elif part.literal:
        lines.reject(pc.invert(pc.ends_with(lines.rest, part.literal)), Rejection.NOT_THIS_FORMAT)
        lines.rest = pc.binary_slice(lines.rest, 0, -len(part.literal))
    if is_wanted(part):
        lines.columns[part.fields] = lines.rest


def part_fields(lines: Lines, fields: tuple[Field, ...]) -> None:
    """Part fields that have colons between them, from the right: an IPv6 address has some itself."""
    values = lines.columns.pop(fields)
    if len(fields) == 1:
        lines.columns[fields[0]] = values
        return
    lines.rest = pc.split_pattern(values, b":", max_splits=len(fields) - 1, reverse=True)
    lines.reject(pc.not_equal(pc.list_value_length(lines.rest), len(fields)), Rejection.NOT_THIS_FORMAT)
    for index, field in enumerate(fields):
        if field.column:
            lines.columns[field] = pc.list_element(lines.rest, index)
