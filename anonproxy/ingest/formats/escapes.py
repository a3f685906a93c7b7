"""Escapes: while lines are cut, what is escaped must not look like what ends a field."""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import pyarrow as pa

from anonproxy.ingest.formats.values import holds, map_distinct

# What is hidden has another pair of bytes in its place. They begin with one that UTF-8 doesn't have, and where it
# stands all the same, it is hidden too, so that nothing is mistaken.
MARK: Final = b"\xff"
HIDDEN_MARK: Final = MARK + b"\x01"
HIDDEN: Final = {1: MARK, 2: b"\\", 3: b'"', 4: b" "}

BACKSLASHED: Final = re.compile(rb"\xff([\x01-\x03])|\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\([bfnrtv/])")
LETTERS: Final = dict(zip(b"bfnrtv/", (b"\b", b"\f", b"\n", b"\r", b"\t", b"\v", b"/"), strict=True))

# A word in quotes, in which a quote is written twice.
QUOTED: Final = re.compile(rb'(?<![^ \t\n])"((?:[^"\n]|"")*+)"(?![^ \t\n])')
BLANKED: Final = re.compile(rb"\xff([\x01\x04])")


class Escapes(NamedTuple):
    """How a dialect escapes: the byte that shows it, how that is hidden in a block, and shown again in a value."""

    sign: bytes
    hide: Callable[[bytes], bytes]
    show: Callable[[bytes], bytes]


def hide_backslashed(block: bytes) -> bytes:
    """Hide escaped backslashes and quotes, in the few lines that have any."""
    if MARK in block:
        block = block.replace(MARK, HIDDEN_MARK)
    pieces: list[bytes] = []
    copied_to = end = 0
    while (found := block.find(b"\\", end)) >= 0:
        end = block.find(b"\n", found) + 1 or len(block)
        hidden = block[found:end].replace(b"\\\\", MARK + b"\x02").replace(b'\\"', MARK + b"\x03")
        if MARK in hidden:
            pieces += (block[copied_to:found], hidden)
            copied_to = end
    return b"".join((*pieces, block[copied_to:])) if pieces else block


def show_one(found: re.Match[bytes]) -> bytes:
    """Show what was hidden or escaped."""
    hidden, byte, character, letter = found.groups()
    if hidden:
        return HIDDEN[hidden[0]]
    if byte:
        return bytes([int(byte, 16)])
    if character:
        return chr(int(character, 16)).encode("utf-8", "surrogatepass")
    return LETTERS[letter[0]]


def hide_quoted(block: bytes) -> bytes:
    """Take the quotes off quoted words, and hide the blanks in them."""
    block = block.replace(MARK, HIDDEN_MARK)
    return QUOTED.sub(lambda found: found[1].replace(b'""', b'"').replace(b" ", MARK + b"\x04"), block)


def show_blanks(raw: bytes) -> bytes:
    """Show hidden blanks."""
    return BLANKED.sub(lambda found: HIDDEN[found[1][0]], raw)


ESCAPES: Final = {
    "backslash": Escapes(b"\\", hide_backslashed, partial(BACKSLASHED.sub, show_one)),
    "doubled": Escapes(b'"', hide_quoted, show_blanks),
}


def show_all(values: pa.Array, escapes: Escapes) -> pa.Array:
    """Make texts what they were before the server escaped them."""
    if not holds(values, MARK, escapes.sign):
        return values
    return map_distinct(values, escapes.show, pa.binary())
