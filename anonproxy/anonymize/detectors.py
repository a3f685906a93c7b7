"""Find what can identify a person in a text that is about to be stored."""

import re
import unicodedata
from html import unescape
from typing import Final

from anonproxy.anonymize.path import decode_percent
from anonproxy.model.patterns import PATTERNS

# Nothing that may be stored is longer, and what can't be looked at whole is not let through.
MAX_CHARS: Final = 2048

# Text that no pattern can fire on, so that most paths cost one match: words of up to 12 letters in lower case, and one
# number of up to six digits. The tests hold it against every pattern.
_WORD: Final = r"[-/._,'!$ ]|[A-Z]?[a-z]{1,12}+(?![A-Za-z0-9])"
_HARMLESS: Final = re.compile(rf"(?:{_WORD})*+(?:[0-9]{{1,6}}+(?![0-9A-Za-z])(?:{_WORD})*+)?")

_STILL_ENCODED: Final = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)

# Spaces and dashes of all kinds, by Unicode category; invisible and broken characters vanish.
_PLAIN_OF_CATEGORY: Final = {"Zs": " ", "Pd": "-", "Cc": "", "Cf": "", "Cs": "", "Co": "", "Cn": ""}


def detect(raw_text: str) -> str | None:
    """Name the first pattern that a text shows in any of its encodings.

    Reveals: the kind of thing found, never the thing
    """
    if _HARMLESS.fullmatch(raw_text) and len(raw_text) <= MAX_CHARS:
        return None
    if len(raw_text) > MAX_CHARS:
        return "overlong"
    text = unfold(raw_text)
    if _STILL_ENCODED.search(text):
        return "encoded"
    return next((pattern.name for pattern in PATTERNS if pattern.fires(text)), None)


def unfold(raw_text: str) -> str:
    """Undo what hides a pattern: percent-encoding, HTML entities, look-alikes, exotic digits, invisible characters.

    Reveals: what was hidden
    Source:  Unicode UAX 15, form NFKC
    """
    text = decode_percent(raw_text)
    if "&" in text:
        text = unescape(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_plain, unicodedata.normalize("NFKC", text)))


def _plain(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    if (digit := unicodedata.decimal(character, None)) is not None:
        return str(digit)
    return _PLAIN_OF_CATEGORY.get(unicodedata.category(character), character)
