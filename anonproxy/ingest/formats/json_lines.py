"""Lines that are JSON objects."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import pyarrow as pa

from anonproxy.ingest.formats.dialect import NEEDED, Dialect, Field, name_columns
from anonproxy.ingest.formats.parsed import Lines, Rejection
from anonproxy.ingest.formats.values import NONE
from anonproxy.model.errors import OperatorError

# nginx escapes like this unless it is told that the format is JSON, in which it is no escape.
BYTE: Final = re.compile(r"\\x([0-9A-Fa-f]{2})")


# A directive without quotes around it, for a number.
BARE: Final = re.compile(r"(?<=[:,\[])\s*([$%<][^\s,}\]\"]+\}?)(?=\s*[,}\]])")


class Member(NamedTuple):
    """Where in an object a field stands."""

    path: tuple[str, ...]
    field: Field


def parse_members(spec: str, dialect: Dialect) -> tuple[Member, ...]:
    """Read a format that is a JSON object of directives.

    Raises: OperatorError when it is none
    """
    quoted = BARE.sub(lambda found: f'"{found[1]}"' if dialect.directive.fullmatch(found[1]) else found[1], spec)
    try:
        template = json.loads(quoted)
    except ValueError as mistake:
        raise OperatorError(f"the format begins like JSON, but is none: {mistake}") from None
    return tuple(
        Member(path, field)
        for path, text in walk_texts(template, ())
        if (found := dialect.directive.fullmatch(text)) and (field := dialect.find_match(found))
    )


def walk_texts(template: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the texts in an object of objects, each with where it stands."""
    if isinstance(template, dict):
        for name, inner in template.items():
            yield from walk_texts(inner, (*path, name))
    elif isinstance(template, str):
        yield path, template


def list_members(dialect: Dialect) -> tuple[Member, ...]:
    """List the members that a dialect names: a dot goes one object down."""
    fields = ((name, dialect.find_field(name)) for name in dialect.directives)
    return tuple(Member(tuple(name.split(".")), field) for name, field in fields if field)


class Plan(NamedTuple):
    """How to read objects: the numbers of the members in a tree of names, and by what it is told that all is there."""

    tree: dict[str, Any]
    needed: tuple[tuple[int, ...], ...]  # of each column that every request has the members that may be it
    agents: tuple[int, ...]
    above_agents: tuple[tuple[str, ...], ...]  # where there are objects that the agent would stand in


@cache
def make_plan(members: tuple[Member, ...]) -> Plan:
    """Prepare the reading of members."""
    tree: dict[str, Any] = {}
    for number, member in enumerate(members):
        *above, name = member.path
        inner = tree
        for each in above:
            inner = inner.setdefault(each, {})
        inner[name] = number
    filled = [name_columns({member.field.column}) for member in members]
    needed = (tuple(number for number, columns in enumerate(filled) if name in columns) for name in NEEDED)
    agents = tuple(number for number, columns in enumerate(filled) if "raw_user_agent" in columns)
    above_agents = (members[number].path[:-1] for number in agents)
    return Plan(tree, tuple(needed), agents, tuple(path for path in above_agents if path))


def read_objects(lines: Lines, members: tuple[Member, ...]) -> None:
    """Read the fields of lines that are objects and have everything that a request has."""
    plan = make_plan(members)
    found = [read_object(raw, plan, len(members)) for raw in lines.rest.to_pylist()]
    lines.reject(pa.array([row is None for row in found], pa.bool_()), Rejection.NOT_THIS_FORMAT)
    rows = [row for row in found if row is not None]
    for member, column in zip(members, zip(*(row.values for row in rows), strict=True), strict=False):
        if column.count(None) < len(column):
            lines.columns[member.field] = pa.array([NONE if value is None else value for value in column], pa.binary())
    lines.columns["is_agent_logged"] = pa.array([row.has_agent for row in rows], pa.bool_())


class Row(NamedTuple):
    """What an object says of a request."""

    values: list[bytes | None]
    has_agent: bool  # or would have it, if the request had had one


def read_object(raw: bytes, plan: Plan, count: int) -> Row | None:
    """Read one line; None unless it is an object that has everything that a request has."""
    found = parse_object(raw.decode("utf-8", "surrogateescape"))
    if not isinstance(found, dict):
        return None
    values: list[bytes | None] = [None] * count
    take_members(found, plan.tree, values)
    if not all(any(values[number] is not None for number in numbers) for numbers in plan.needed):
        return None
    has_agent = any(values[number] is not None for number in plan.agents)
    return Row(values, has_agent or any(isinstance(find_member(found, path), dict) for path in plan.above_agents))


def take_members(found: dict[str, Any], tree: dict[str, Any], values: list[bytes | None]) -> None:
    """Take the members of an object that are in the tree."""
    for name, value in found.items():
        inner = tree.get(name)
        if isinstance(inner, int):
            values[inner] = render_value(value)
        elif inner and isinstance(value, dict):
            take_members(value, inner, values)


def find_member(found: Any, path: tuple[str, ...]) -> Any:
    """Go down a path of objects; None where it doesn't lead on."""
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def render_value(value: Any) -> bytes | None:
    """Write a value as it would stand in a line, of a list the first; None for what can't stand in one."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str):
        return encode_text(value)
    return repr(value).encode() if isinstance(value, int | float) and not isinstance(value, bool) else None


def parse_object(text: str) -> Any:
    """Read JSON, or what nginx writes for it; None for what is neither."""
    for written in (text, BYTE.sub(r"\\u00\1", text)):
        try:
            return json.loads(written)
        except (ValueError, RecursionError):
            pass
    return None


def encode_text(text: str) -> bytes:
    """Return a text as bytes, those that are no UTF-8 as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which JSON can write
        return text.encode("utf-8", "surrogatepass")
