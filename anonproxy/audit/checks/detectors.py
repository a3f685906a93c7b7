"""No stored text looks like something that identifies: a second opinion beside the closed world."""

import html
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.checks.closed_world import ORIGINS
from anonproxy.audit.checks.networks import parse_network
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import SEALED, add_words, change_rows
from anonproxy.audit.tables import Table
from anonproxy.audit.tree import Tier
from anonproxy.model.patterns import PATTERNS

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot", "hits", "daily", "vocabulary")

# An escape in an escape in an escape, as a link that was passed on three times has it.
ROUNDS: Final = 3

# Spaces, dashes, and what can't be seen, by Unicode category.
_PLAIN: Final = {"Zs": " ", "Pd": "-", "Cc": "", "Cf": ""}


def look(evidence: Evidence) -> Outcome:
    """Try every pattern on every stored text: values, metadata, and names of files."""
    looked_at = Counter({"files": 0, "texts": 0})
    findings: list[Finding] = []
    published = evidence.limits.published
    for where, text in _names(evidence):
        looked_at["texts"] += 1
        findings += _judge(where, text)
    for table in evidence.tables(*TIERS_LOOKED_AT):
        looked_at["files"] += 1
        for where, text in (*_values(table), *_notes(table)):
            looked_at["texts"] += 1
            findings += _judge(where, text) if text not in published else ()
    return Outcome(looked_at, tuple(findings), tuple(evidence.unread(*TIERS_LOOKED_AT)))


def _judge(where: str, text: str) -> Iterator[Finding]:
    if meaning := detect(text):
        yield Finding(where, f"looks like: {meaning} ({len(text)} characters)")


def detect(text: str) -> str | None:
    """Say what a text looks like, once its escapes are resolved, if it looks like anything that identifies."""
    folded = fold(text)
    return next((pattern.meaning for pattern in PATTERNS if pattern.fires(folded)), None)


def fold(text: str) -> str:
    """Resolve the escapes and the look-alikes of a text."""
    for _ in range(ROUNDS):
        text = html.unescape(unquote(text))
    return "".join(map(_plain, unicodedata.normalize("NFKC", text)))


def _plain(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return str(digit) if digit is not None else _PLAIN.get(unicodedata.category(character), character)


def _names(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for node in evidence.nodes:
        if node.place is None:
            yield f"{node.shown}, its name", node.path.rpartition("/")[2]
        elif node.place.site and node.kind == "folder" and not node.place.day:
            yield f"{node.shown}, its name", node.place.site


def _values(table: Table) -> Iterator[tuple[str, str]]:
    """Give the texts that no closed list holds; a network that parses is the affair of its own check."""
    subject = {"daily": "dimension", "vocabulary": "column"}.get(str(table.place.tier))
    if subject:
        for (_, text), row in table.distinct(subject, "value").items():
            if isinstance(text, str) and parse_network(text) is None:
                yield f"{table.path}, value of row {row + 1}", text
    else:
        for name in ORIGINS.keys() & table.columns.keys():
            column = table.columns[name]
            for text in (*column.distinct, *column.unused):
                if isinstance(text, str) and parse_network(text) is None:
                    where = f"row {column.first_row(text) + 1}" if text in column.distinct else "a dictionary page"
                    yield f"{table.path}, {name} of {where}", text


def _notes(table: Table) -> Iterator[tuple[str, str]]:
    for number, (key, value) in enumerate(table.file.metadata, 1):
        yield f"{table.path}, metadata key {number}", key.decode(errors="replace")
        yield f"{table.path}, metadata value {number}", value.decode(errors="replace")
    for number, element in enumerate(table.file.schema, 1):
        yield f"{table.path}, name of column {number}", element.name


def sabotage(root: Path) -> None:
    """Admit a page with a patron's barcode in it."""
    add_words(root, ("route", "/patron/21234000123456", "admitted", 10))
    change_rows(root, SEALED, lambda rows: rows[0].update(route="/patron/21234000123456"))


CHECK: Final = Check(
    code="detectors",
    claim="No text looks like an address, a card number or a session",
    how=f"{len(PATTERNS)} patterns are tried on each distinct text that neither a closed list nor the configuration "
    "holds: values, dictionary pages, metadata, names of files, after resolving percent signs, entities and look-alike "
    "characters.",
    look=look,
    sabotage=sabotage,
)
