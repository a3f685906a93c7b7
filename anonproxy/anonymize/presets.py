"""Route rules of the systems that libraries run, as data: data/presets/*.toml."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from anonproxy.model.vocabularies import KINDS

_FOLDER: Final = files("anonproxy.anonymize").joinpath("data", "presets")

# Segments, each with at most one {name} in it, and /** for any rest.
_PATTERN = re.compile(r"/(\*\*)?|(/[^/?#{}*\s]*(\{[a-z]+\}[^/?#{}*\s]*)?)+(/\*\*)?")


class Rule(NamedTuple):
    """One page type: the paths it covers, and what is stored for all of them."""

    path: str  # a pattern: {name} for one segment or a part of it, /** for any rest or none
    kind: str
    route: str  # what is stored: the pattern itself, unless parameters tell page types of one path apart
    query: tuple[tuple[str, frozenset[str]], ...] = ()  # parameters that must be there, with any or one of these values


class Example(NamedTuple):
    """A real URL of a system, and what becomes of it."""

    url: str
    route: str
    kind: str


class Preset(NamedTuple):
    """What one system's pages look like."""

    name: str
    title: str
    sources: tuple[str, ...]
    rules: tuple[Rule, ...]
    examples: tuple[Example, ...]


@cache
def load_preset(name: str) -> Preset:
    """Read the rules of one library system.

    Shape:   one of `vocabularies.PRESETS`; the settings allow no other
    Reveals: nothing about a visitor
    """
    return parse_preset(name, _FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def parse_preset(name: str, text: str) -> Preset:
    """Parse the rules of one library system.

    Shape:   title, sources, examples [{url, route, kind}], and in [rules] for each kind a list of paths or of
             {path, route, query}; with `bases`, every rule is repeated below each base
    Reveals: nothing about a visitor
    Raises:  ValueError for what is not a preset
    """
    data = tomllib.loads(text)
    if unknown := data.keys() - {"title", "sources", "bases", "examples", "rules"}:
        raise ValueError(f"{name}: unknown keys {sorted(unknown)}")
    return Preset(
        name=name,
        title=data["title"],
        sources=tuple(data["sources"]),
        rules=tuple(_parse_rules(data["rules"], data.get("bases", [""]))),
        examples=tuple(Example(**entry) for entry in data["examples"]),
    )


def _parse_rules(by_kind: dict[str, list[Any]], bases: list[str]) -> Iterator[Rule]:
    if unknown := by_kind.keys() - set(KINDS):
        raise ValueError(f"unknown kinds {sorted(unknown)}")
    for kind, entries in by_kind.items():
        for entry in entries:
            given = {"path": entry} if isinstance(entry, str) else entry
            for base in bases:
                yield _parse_rule(kind, base, **given)


def _parse_rule(
    kind: str, base: str, path: str, route: str | None = None, query: dict[str, list[str]] | None = None
) -> Rule:
    for pattern in (path, route or path):
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"not a pattern: {pattern}")
    conditions = tuple((parameter, frozenset(values)) for parameter, values in (query or {}).items())
    return Rule(_join(base, path), kind, _join(base, route or path), conditions)


def _join(base: str, path: str) -> str:
    return base if base and path == "/" else base + path
