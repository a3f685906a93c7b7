"""Formats of logs: found by name, by a line of a server's configuration, or by the fields that a log names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from anonproxy.ingest.formats.dialect import (
    DIALECTS,
    NEEDED,
    Dialect,
    Line,
    name_columns,
    parse_spec,
    read_data,
    read_statement,
)
from anonproxy.ingest.formats.json_lines import Member, list_members, parse_members
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import ProxySettings

BEHIND_SYSLOG: Final = "syslog:"
NO_PROXY: Final = ProxySettings()

FIELDS_LINE: Final = re.compile(rb"#Fields:(.*)")
BEFORE_LINES: Final = (b"\n", b"\xef\xbb\xbf")  # what ends the line before, and the mark of UTF-8
WRITTEN_FIELDS: Final = "#fields:"


@dataclass(frozen=True, slots=True)
class LogFormat:
    """A format, ready to read: a line of fields or the members of a JSON object. It can be sent to another process."""

    name: str
    title: str
    dialect: str
    escapes: str
    line: Line | None = None
    members: tuple[Member, ...] = ()
    has_header: bool = False  # a line in the log itself names the fields, as W3C's do
    markers: tuple[str, ...] = ()
    software: str = ""
    sample: bytes = b""
    is_padded: bool = False
    is_behind_syslog: bool = False
    proxy: ProxySettings = NO_PROXY  # what stood in front of the server that wrote the log

    @property
    def columns(self) -> set[str]:
        """The raw columns that a log of this format can have."""
        fields = self.line.fields if self.line else tuple(member.field for member in self.members)
        return name_columns({field.column for field in fields})

    def behind(self, proxy: ProxySettings) -> "LogFormat":
        """Return the same format for a server behind these proxies: whom they forward is the client."""
        return replace(self, proxy=proxy)

    def after(self, block: bytes) -> "LogFormat":
        """Return the format that holds behind a block: with the fields that its last #Fields line names.

        Whoever hands the blocks of a log to several processes asks for each block's format in the order of the log.
        """
        headers = find_headers(block) if self.has_header else []
        return with_fields(self, headers[-1][1]) if headers else self


def find_headers(block: bytes) -> list[re.Match[bytes]]:
    """Find the lines that name fields."""
    found = FIELDS_LINE.finditer(block)
    return [each for each in found if not each.start() or block.endswith(BEFORE_LINES, 0, each.start())]


# --- Found by name ----------------------------------------------------------------------------------------------


def new_format(name: str, title: str, dialect: Dialect, **others: Any) -> LogFormat:
    """Return a format of a dialect that has no fields yet."""
    given = {
        "escapes": dialect.escapes,
        "is_padded": dialect.is_padded,
        "is_behind_syslog": dialect.is_behind_syslog,
    }
    return LogFormat(name, title, dialect.name, **{**given, **others})


def _build_format(name: str, table: dict[str, Any]) -> LogFormat:
    dialect = DIALECTS[table["dialect"]]
    known = new_format(name, table["title"], dialect, sample=table["sample"].encode())
    if dialect.escapes == "json":
        return replace(known, members=list_members(dialect))
    if "markers" in table:
        line = parse_fields(table["line"][len(WRITTEN_FIELDS) :], dialect)
        marks = {"markers": tuple(table["markers"]), "software": table.get("software", "")}
        return replace(known, line=line, has_header=True, **marks)
    return replace(known, line=parse_spec(table["line"], dialect))


def parse_fields(names: str, dialect: Dialect) -> Line:
    """Read the names of fields, which have blanks between them, as the fields themselves will."""
    return parse_spec(" ".join(names.lower().split()), dialect)


FORMATS: Final[Mapping[str, LogFormat]] = MappingProxyType(
    {name: _build_format(name, table) for name, table in read_data("formats.toml").items()}
)


def find_format(name_or_spec: str) -> LogFormat:
    """Find a format by its name, or read one as it stands in a server's configuration.

    Raises: OperatorError that says what isn't understood, what is missing, or what there is
    """
    if name_or_spec in FORMATS:
        return FORMATS[name_or_spec]
    if name_or_spec.startswith(BEHIND_SYSLOG):
        return put_behind_syslog(find_format(name_or_spec.removeprefix(BEHIND_SYSLOG)))
    if name_or_spec.lower().startswith(WRITTEN_FIELDS):
        return read_fields_line(name_or_spec[len(WRITTEN_FIELDS) :], FORMATS["w3c"])
    return read_spec(name_or_spec)


def put_behind_syslog(known: LogFormat) -> LogFormat:
    """Return the same format for lines that syslog has put something before."""
    return replace(known, name=f"{BEHIND_SYSLOG}{known.name}", is_behind_syslog=True)


# --- Found by a line of a server's configuration ----------------------------------------------------------------


def read_spec(written: str) -> LogFormat:
    """Read a format in the dialect that knows all of it.

    Raises: OperatorError of the dialect that knows most of it
    """
    mistakes: list[tuple[int, OperatorError]] = []
    for dialect in DIALECTS.values():
        if not dialect.is_written or not dialect.directive.search(written):
            continue
        try:
            return read_in_dialect(written, dialect)
        except OperatorError as mistake:
            mistakes.append((count_known(written, dialect), mistake))
    if mistakes:
        raise max(mistakes, key=lambda pair: pair[0])[1]
    raise OperatorError(
        f"not a format that is known by name, nor one of a server's configuration: there are {', '.join(FORMATS)}"
    )


def count_known(written: str, dialect: Dialect) -> int:
    """Count the columns that a dialect finds in a format."""
    found = (dialect.find_match(match) for match in dialect.directive.finditer(written))
    return len({field.column for field in found if field})


def read_in_dialect(written: str, dialect: Dialect) -> LogFormat:
    """Read a format in one dialect.

    Raises: OperatorError for what isn't known or can't be told apart, and for what is missing
    """
    spec = read_statement(written, dialect)
    known = new_format("(given)", dialect.title, dialect, escapes=spec.escapes)
    if spec.text.lstrip().startswith("{"):
        known = replace(known, members=parse_members(spec.text, dialect), escapes="json")
    else:
        known = replace(known, line=parse_spec(spec.text, dialect))
    verify_complete(known, dialect)
    return known


def verify_complete(known: LogFormat, dialect: Dialect) -> None:
    """Check that a format has what every request has.

    Raises: OperatorError that names what is missing and the directives for it
    """
    missing = [
        f"{meaning} ({' or '.join(dialect.names_of(column)[:3])})"
        for column, meaning in NEEDED.items()
        if column not in known.columns
    ]
    if missing:
        raise OperatorError(f"a log in this format can't be counted, because it lacks {', '.join(missing)}")


# --- Found by the fields that a log names ------------------------------------------------------------------------


def read_fields_line(fields: str, otherwise: LogFormat) -> LogFormat:
    """Read the fields of a W3C log, in the dialect whose marks are among them, if any is.

    Raises: OperatorError when something is missing
    """
    names = {*fields.lower().split()}
    known = next((each for each in FORMATS.values() if names & {*each.markers}), otherwise)
    dialect = DIALECTS[known.dialect]
    known = replace(known, line=parse_fields(fields, dialect))
    verify_complete(known, dialect)
    return known


def with_fields(known: LogFormat, fields: bytes) -> LogFormat:
    """Return a format with the fields that the log names; without any line if they aren't enough."""
    try:
        found = read_fields_line(
            fields.decode("ascii", "replace"), FORMATS.get(known.name.removeprefix(BEHIND_SYSLOG), FORMATS["w3c"])
        )
    except OperatorError:
        return replace(known, line=None)
    return (put_behind_syslog(found) if known.is_behind_syslog else found).behind(known.proxy)
