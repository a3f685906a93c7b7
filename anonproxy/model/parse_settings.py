"""From the text of a configuration to settings, or to all of its mistakes with line and remedy."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from anonproxy.model.errors import Problem, SettingsError
from anonproxy.model.policy import Policy, PolicyError, ReadText, find_policy, hold_to, tighten
from anonproxy.model.settings import Settings

ENVIRONMENT_PREFIX: Final = "ANONPROXY_"

_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\"'-]+)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\"'-]+(?:\s*\.\s*[A-Za-z0-9_\"'-]+)*)\s*=")

# What to do about each kind of mistake that pydantic names; the rest carry the remedy in their own message.
_REMEDIES: Final = {
    "missing": "Add it",
    "extra_forbidden": "Remove it, or look for a slip of the pen: `anonproxy init --all` lists every setting",
    "bool_parsing": "Write true or false",
    "bool_type": "Write true or false",
    "int_parsing": "Write a whole number without quotes",
    "int_type": "Write a whole number without quotes",
    "float_parsing": "Write a number without quotes",
    "float_type": "Write a number without quotes",
    "string_type": "Write it in quotes",
    "tuple_type": 'Write a list, like ["one", "two"]',
    "string_too_short": "Write something between the quotes",
    "string_pattern_mismatch": 'Write a time of day, like "04:00"',
    "model_type": "Write a [section] with settings",
    "dict_type": "Write a [section] with settings",
}


def parse_settings(
    text: str, source: str, environ: Mapping[str, str] | None = None, read_policy: ReadText | None = None
) -> Settings:
    """Parse a configuration, with values from the environment laid over it, and tighten it as its policy demands.

    Raises: SettingsError with every mistake at once
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        problem = Problem("TOML", line, "not valid TOML", "Check quotes, brackets and commas on that line")
        raise SettingsError(source, (problem,)) from None
    overlay_environment(data, environ or {})
    lines = locate_fields(text)
    problems: list[Problem] = []
    policy = _find_policy(data, lines, problems, read_policy)
    try:
        settings = Settings.model_validate(
            tighten(data, policy) if policy else data, context=hold_to(policy) if policy else None
        )
    except ValidationError as error:
        problems += (_problem(detail, lines) for detail in error.errors(include_url=False, include_input=False))
    if problems:
        raise SettingsError(source, tuple(sorted(problems, key=lambda p: (p.line or 0, p.field))))
    return settings


def _find_policy(
    data: Mapping[str, Any],
    lines: Mapping[tuple[str | int, ...], int],
    problems: list[Problem],
    read_policy: ReadText | None,
) -> Policy | None:
    """Find the policy that a configuration names; what is wrong with it is one more problem."""
    name = data.get("policy")
    try:
        return find_policy(name, read_policy) if name and isinstance(name, str) else None
    except PolicyError as error:
        message, _, remedy = str(error).partition("; ")
        remedy = remedy or "Correct it; docs/policies.md says what a policy may hold"
        problems.append(Problem("policy", lines.get(("policy",)), message, f"{remedy[:1].upper()}{remedy[1:]}"))
        return None


def overlay_environment(data: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Set `section.field` from each ANONPROXY_SECTION_FIELD, in place; lists are split at commas."""
    for section, section_field in Settings.model_fields.items():
        model = section_field.annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            continue
        for name, field in model.model_fields.items():
            value = environ.get(f"{ENVIRONMENT_PREFIX}{section}_{name}".upper())
            if value is not None:
                is_list = "tuple" in str(field.annotation)
                data.setdefault(section, {})[name] = (
                    [v.strip() for v in value.split(",") if v.strip()] if is_list else value
                )


def locate_fields(text: str) -> dict[tuple[str | int, ...], int]:
    """Return the line of each table and key, by path: `("sites", 0, "upstream") -> 12`."""
    lines: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _table_path(header[2], is_array=header[1] == "[[", counts=counts)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(table + _split_key(key[1]), number)
    return lines


def _split_key(key: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in key.split("."))


def _table_path(name: str, *, is_array: bool, counts: dict[tuple[str | int, ...], int]) -> tuple[str | int, ...]:
    """Return the path of a table header; a name that is an array stands for its newest element."""
    path: tuple[str | int, ...] = ()
    parts = _split_key(name)
    for depth, part in enumerate(parts, 1):
        path = (*path, part)
        if is_array and depth == len(parts):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _problem(detail: Any, lines: Mapping[tuple[str | int, ...], int]) -> Problem:
    path: tuple[str | int, ...] = detail["loc"]
    message = detail["msg"].removeprefix("Value error, ")
    remedy = _REMEDIES.get(detail["type"], "")
    if not path and ": " in message:  # a rule about several fields names the first of them itself
        section, message = message.split(": ", 1)
        path = (section,)
    if "; " in message and not remedy:
        message, remedy = message.split("; ", 1)
    return Problem(
        field=_render_path(path),
        line=_nearest_line(path, lines),
        message=message,
        remedy=f"{remedy[:1].upper()}{remedy[1:]}" if remedy else "See `anonproxy init --all` for what it may be",
    )


def _nearest_line(path: tuple[str | int, ...], lines: Mapping[tuple[str | int, ...], int]) -> int | None:
    """Return the line of the field, or of the nearest table around it."""
    for length in range(len(path), 0, -1):
        for candidate in (path[:length], (*path[:length], 0)):
            if candidate in lines:
                return lines[candidate]
    return None


def _render_path(path: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "configuration"
