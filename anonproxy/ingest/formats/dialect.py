"""The dialects in which servers are told what to log: which directive holds what. All of it is data."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.resources import files
from typing import Any, Final, NamedTuple

from anonproxy.model.errors import OperatorError

# What every request has: without one of them a log can't be counted.
NEEDED: Final = {
    "raw_client": "the client's address",
    "time_s": "the time",
    "raw_target": "the request",
    "status": "the status",
}


# Columns that raw columns are made of.
MADE_OF: Final = {
    "request": {"raw_method", "raw_target"},
    "raw_query": set[str](),
    "raw_forwarded_for": {"raw_client"},
    "": set[str](),
}


def name_columns(filled: Iterable[str]) -> set[str]:
    """Name the raw columns that come of columns as the dialects name them."""
    return set[str]().union(*(MADE_OF.get(name, {name}) for name in filled))


class Field(NamedTuple):
    """A directive in a line: what it is called, the raw column that it fills, and how it is read."""

    name: str
    column: str = ""
    reading: str = ""
    argument: str = ""  # what stands in its braces, or what it has instead of the table's *


class Part(NamedTuple):
    """One field of a line, or several with colons between them, and the text behind."""

    fields: tuple[Field, ...]
    literal: bytes


class Line(NamedTuple):
    """A line of a format: what it begins with, and its parts."""

    begins: bytes
    parts: tuple[Part, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields, in their order."""
        return tuple(field for part in self.parts for field in part.fields)


class Dialect(NamedTuple):
    """A way to write formats down."""

    name: str
    title: str
    escapes: str
    directives: Mapping[str, str]
    directive: re.Pattern[str]
    statement: re.Pattern[str] | None
    short_for: Mapping[str, str]
    anything: str  # a directive for what isn't to be read
    is_padded: bool  # numbers have blanks before them, so that they stand below each other
    is_behind_syslog: bool  # the server knows no other way to write a log

    def find_field(self, name: str, argument: str | None = None, written: str = "") -> Field | None:
        """Look a directive up: by its name, else by a pattern that it fits."""
        key = name if argument is None else f"{{{argument.lower()}}}{name}"
        if key in self.directives:
            return _build_field(written or name, self.directives[key], argument or "")
        key = name if argument is None else f"{{{argument}}}{name}"
        for pattern, held in self.directives.items():
            before, star, after = pattern.partition("*")
            if star and key.startswith(before) and key.endswith(after) and len(key) >= len(before) + len(after):
                return _build_field(written or name, held, key[len(before) : len(key) - len(after)])
        return None

    def find_match(self, found: re.Match[str]) -> Field | None:
        """Look up a directive that stands in a format."""
        return self.find_field(found["name"].strip("{}"), found.groupdict().get("argument"), found.group())

    @property
    def is_written(self) -> bool:
        """Whether formats are written down in it, and not only known by the names of what they hold."""
        return self.directive.pattern != ANY_NAME

    def names_of(self, column: str) -> list[str]:
        """Name the directives that fill a column."""
        return [name for name, held in self.directives.items() if column in name_columns({held.partition(":")[0]})]


def _build_field(written: str, held: str, argument: str) -> Field:
    column, _, reading = held.partition(":")
    return Field(written, column, reading, argument)


def read_data(name: str) -> dict[str, Any]:
    """Read one of the tables beside this module."""
    return tomllib.loads(files("anonproxy.ingest.formats").joinpath("data", name).read_text(encoding="utf-8"))


ANY_NAME: Final = r"(?P<name>[^ ]+)"


def _build_dialects(tables: Mapping[str, dict[str, Any]]) -> dict[str, Dialect]:
    dialects: dict[str, Dialect] = {}
    for name, table in tables.items():
        base = dialects.get(table.get("extends", ""))
        dialects[name] = Dialect(
            name,
            table["title"],
            table["escapes"],
            {**table["directives"], **{k: v for k, v in base.directives.items() if k not in table["directives"]}}
            if base
            else table["directives"],
            re.compile(table.get("directive", ANY_NAME)),
            re.compile(table["statement"]) if "statement" in table else None,
            table.get("short_for") or (base.short_for if base else {}),
            table.get("anything", ""),
            table.get("is_padded", False),
            table.get("is_behind_syslog", False),
        )
    return dialects


DIALECTS: Final[Mapping[str, Dialect]] = _build_dialects(read_data("dialects.toml"))


class Spec(NamedTuple):
    """A format as it was written."""

    text: str
    escapes: str


def read_statement(written: str, dialect: Dialect) -> Spec:
    """Take a format out of the statement of a server's configuration, if that was given."""
    found = dialect.statement.search(written) if dialect.statement else None
    if not found:
        return Spec(written, dialect.escapes)
    groups = found.groupdict()
    if groups.get("pieces"):
        pieces = re.findall(r"'([^']*)'|\"((?:[^\"\\]|\\.)*)\"", groups["pieces"])
        return Spec("".join(single or double for single, double in pieces), ESCAPES[groups["escape"] or "default"])
    if groups.get("quoted") is not None:
        return Spec(re.sub(r'\\(["\\])', r"\1", groups["quoted"]), dialect.escapes)
    return Spec(groups["bare"].strip(), dialect.escapes)


ESCAPES: Final = {"default": "backslash", "json": "backslash", "none": "none"}  # nginx's names and ours


def parse_spec(written: str, dialect: Dialect) -> Line:
    """Read a format as a server's configuration writes it.

    Raises: OperatorError for a directive that isn't known, or two with nothing between them
    """
    text = written
    for short, long in dialect.short_for.items():
        text = re.sub(short, long, text)
    literals, fields, end = [], [], 0
    for found in dialect.directive.finditer(text):
        field = dialect.find_match(found)
        if not field:
            raise UnknownDirective(found.group(), written.find(found.group()) + 1, dialect)
        fields.append(field)
        literals.append(text[end : found.start()].replace("%%", "%").encode())
        end = found.end()
    literals.append(text[end:].encode())
    return Line(literals[0], tuple(_join_by_colon(fields, literals[1:])))


def _join_by_colon(fields: list[Field], literals: list[bytes]) -> list[Part]:
    parts: list[Part] = []
    joined: tuple[Field, ...] = ()
    for number, (field, literal) in enumerate(zip(fields, literals, strict=True), 1):
        joined += (field,)
        if literal == b":":
            continue
        if not literal and number < len(fields):
            following = fields[number]
            if field.column or following.column:
                raise OperatorError(
                    f"nothing stands between {field.name} and {following.name}, so nobody can tell where one ends"
                )
        parts.append(Part(joined, literal))
        joined = ()
    return parts


class UnknownDirective(OperatorError):
    """A directive that the table of a dialect doesn't have."""

    def __init__(self, directive: str, column: int, dialect: Dialect) -> None:
        near = get_close_matches(directive.lstrip("$%"), [name for name in dialect.directives if "*" not in name], 3)
        instead = f", whose nearest are {', '.join(near)}" if near else ""
        anything = f". Write {dialect.anything} for what isn't to be read" if dialect.anything else ""
        super().__init__(
            f"{directive} (column {column}) is not known to the dialect {dialect.title}{instead}{anything}"
        )
