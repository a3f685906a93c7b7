"""What stands in a field of a log, as raw columns: one table of readings, which the dialects name.

A log says the same things again and again, so what takes Python to read is read once for each distinct value.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.ingest.formats.dialect import Field
from anonproxy.model.coded import encode

Columns = dict[str, pa.Array]
Reading = Callable[[Field, pa.Array, tzinfo], Columns]

NONE: Final = b"-"  # how logs say that there was nothing

# Where a slice to the end of a value ends: Arrow 26 miscalculates one that is open.
END: Final = 1 << 30


def map_distinct(values: pa.Array, function: Callable[[bytes], Any], type_: pa.DataType) -> pa.Array:
    """Ask for each distinct value once; None where there is no answer."""
    return encode(values).map(function).gather(type_)


def holds(values: pa.Array, *marks: bytes) -> bool:
    """Tell whether one of several texts stands anywhere in a column; at most it is said too often."""
    data = values.buffers()[2]
    raw = data.to_pybytes() if data else b""
    return any(mark in raw for mark in marks)


# --- Texts ------------------------------------------------------------------------------------------------------


def read_text(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Take a text as it is."""
    is_none = pc.equal(values, NONE)
    return {field.column: pc.if_else(is_none, b"", values) if is_none.true_count else values}


def read_each(change: Callable[[Field, bytes], bytes]) -> Reading:
    """Make a reading of what is to be done with each distinct text."""

    def read(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
        return {field.column: map_distinct(values, lambda raw: b"" if raw == NONE else change(field, raw), pa.binary())}

    return read


def read_request_line(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Split a request line; what is none has its first word for a method, and no target."""
    requests = values.dictionary_encode()
    words = pc.split_pattern(requests.dictionary, b" ", max_splits=1)
    methods = pc.list_element(words, 0)
    rest = pc.list_element(pc.if_else(pc.equal(pc.list_value_length(words), 2), words, TWO_EMPTY), 1)
    targets = pc.list_element(pc.split_pattern(rest, b" HTTP/", max_splits=1, reverse=True), 0)
    columns = {"raw_method": methods, "raw_target": targets}
    return {name: pc.if_else(pc.equal(text, NONE), b"", text).take(requests.indices) for name, text in columns.items()}


TWO_EMPTY: Final = pa.scalar([b"", b""], pa.list_(pa.binary()))


def decode_twice(field: Field, raw: bytes) -> bytes:
    """Undo percent-encoding; CloudFront encodes again what the client had encoded."""
    return unquote_to_bytes(unquote_to_bytes(raw))


def keep_cookie(field: Field, raw: bytes) -> bytes:
    """Keep what a visitor sends back of a Set-Cookie header."""
    return raw.partition(b";")[0]


# --- Numbers ----------------------------------------------------------------------------------------------------

INTEGER: Final = re.compile(rb"[+-]?\d{1,18}")
DECIMAL: Final = re.compile(rb"[+-]?\d{1,20}(?:\.\d{0,20})?(?:e[+-]?\d\d?)?", re.IGNORECASE)


def read_number(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Read whole numbers; none is zero."""
    return {field.column: map_distinct(values, parse_integer, pa.int64())}


def parse_integer(raw: bytes) -> int | None:
    """Read a whole number; None for what is not one."""
    if raw == NONE:
        return 0
    return int(raw) if INTEGER.fullmatch(raw) else None


def read_seconds(field: Field, values: pa.Array, zone: tzinfo, *, unit: float = 1) -> Columns:
    """Read a time since 1970, or how long something took: for that alone no line is lost."""
    parse = parse_decimal if field.column == "time_s" else parse_duration
    return {field.column: map_distinct(values, lambda raw: parse(raw, unit), pa.float64())}


def parse_decimal(raw: bytes, unit: float) -> float | None:
    """Read a number of some unit as seconds; None for what is not a number."""
    return float(raw) * unit if DECIMAL.fullmatch(raw) else None


def parse_duration(raw: bytes, unit: float) -> float:
    """Read how long something took; what can't be read, or is negative, took no time."""
    return max(parse_decimal(raw, unit) or 0.0, 0.0)


def read_flag(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Read a header that says 1 for yes."""
    return {field.column: pc.equal(values, b"1")}


PRIVATE: Final = re.compile(rb"(?i)\b(?:private|no-store)\b")


def read_cache_control(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Read whether the site called its answer private."""
    return {field.column: map_distinct(values, lambda raw: PRIVATE.search(raw) is not None, pa.bool_())}


# --- Times ------------------------------------------------------------------------------------------------------


class TimeLayout(NamedTuple):
    """A way to write times: how many bytes name the minute, of which there are few, and how."""

    width: int
    minute: re.Pattern[bytes]


CLF: Final = TimeLayout(
    len("02/Mar/2026:17:00"),
    re.compile(rb"(?P<day>\d\d)/(?P<month>\w{3})/(?P<year>\d{4}):(?P<hour>\d\d):(?P<minute>\d\d)"),
)
ISO: Final = TimeLayout(
    len("2026-03-02T17:00"),
    re.compile(rb"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[T ](?P<hour>\d\d):(?P<minute>\d\d)"),
)
NAMES: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
MONTHS: Final = {name: number for number, word in enumerate(NAMES, 1) for name in (word, b"%02d" % number)}

SECONDS: Final = re.compile(
    rb":(?P<s>[0-5]\d|60)(?P<fraction>[.,]\d{1,9})? ?(?P<zone>(?P<sign>[+-])(?P<h>\d\d):?(?P<m>[0-5]\d)|Z|)"
)


def read_time(field: Field, values: pa.Array, zone: tzinfo, *, layout: TimeLayout) -> Columns:
    """Read times in words; without a zone of their own they are in the given one."""
    minute = encode(pc.binary_slice(values, 0, layout.width)).map(lambda raw: parse_minute(raw, layout))
    second = encode(pc.binary_slice(values, layout.width, END)).map(parse_seconds)
    seconds = second.map(lambda known: known and known[0]).gather(pa.float64())
    has_zone = second.map(lambda known: known is not None and known[1]).gather(pa.bool_())
    in_utc = minute.map(lambda known: known and known.timestamp()).gather(pa.float64())
    if has_zone.false_count:
        here = minute.map(lambda known: known and known.replace(tzinfo=zone).timestamp()).gather(pa.float64())
        in_utc = pc.if_else(has_zone, in_utc, here)
    return {field.column: pc.add(in_utc, seconds)}


def parse_minute(raw: bytes, layout: TimeLayout) -> datetime | None:
    """Read the minute of a time, as if it were in UTC; None for what is none."""
    found = layout.minute.fullmatch(raw)
    if not found:
        return None
    year, day, hour, minute = (int(found[name]) for name in ("year", "day", "hour", "minute"))
    try:
        return datetime(year, MONTHS.get(found["month"], 0), day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None


def parse_seconds(raw: bytes) -> tuple[float, bool] | None:
    """Read the end of a time, like :00.5+0100: seconds, less what its zone is ahead of UTC, and whether it has one."""
    found = SECONDS.fullmatch(raw)
    if not found:
        return None
    ahead_s = int(found["h"]) * 3600 + int(found["m"]) * 60 if found["sign"] else 0
    fraction = float(found["fraction"].replace(b",", b".")) if found["fraction"] else 0.0
    return int(found["s"]) + fraction + (ahead_s if found["sign"] == b"-" else -ahead_s), bool(found["zone"])


def read_utc_time(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Read times that are in UTC unless they say otherwise."""
    return read_time(field, values, UTC, layout=ISO)


def read_any_time(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Read times that one log writes so and another so."""
    ways = (partial(read_time, layout=ISO), partial(read_time, layout=CLF), read_seconds)
    return {field.column: pc.coalesce(*(way(field, values, zone)[field.column] for way in ways))}


def read_strftime(field: Field, values: pa.Array, zone: tzinfo) -> Columns:
    """Read times as a format of strftime's writes them."""
    layout = field.argument.removeprefix("begin:")

    def parse(raw: bytes) -> float | None:
        try:
            time = datetime.strptime(raw.decode("ascii"), layout)  # noqa: DTZ007 - has a zone or gets one
            return (time if time.tzinfo else time.replace(tzinfo=zone)).timestamp()
        except (ValueError, OverflowError):
            return None

    return {field.column: map_distinct(values, parse, pa.float64())}


READINGS: Final[dict[str, Reading]] = {
    "": read_text,
    "line": read_request_line,
    "number": read_number,
    "flag": read_flag,
    "cache_control": read_cache_control,
    "seconds": read_seconds,
    "milliseconds": partial(read_seconds, unit=1e-3),
    "microseconds": partial(read_seconds, unit=1e-6),
    "nanoseconds": partial(read_seconds, unit=1e-9),
    "clf": partial(read_time, layout=CLF),
    "iso": partial(read_time, layout=ISO),
    "utc": read_utc_time,
    "any": read_any_time,
    "strftime": read_strftime,
    "plus": read_each(lambda field, raw: raw.replace(b"+", b" ")),
    "encoded": read_each(decode_twice),
    "named": read_each(lambda field, raw: field.argument.encode() + b"=" + raw),
    "set_cookie": read_each(keep_cookie),
}


# Readings whose values hold the very text that may end them: how often.
INSIDE: Final = {("clf", b" "): 1, ("utc", b" "): 1}


def count_inside(field: Field, literal: bytes) -> int:
    """Tell how often the text that ends a field stands in the field itself, too."""
    if field.reading == "strftime" and literal == b" ":
        return field.argument.count(" ")
    return INSIDE.get((field.reading, literal), 0)
