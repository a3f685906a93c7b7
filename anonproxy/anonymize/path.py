"""From a raw request target to a clean path: segments to match by, and whether the path could ever be stored."""

import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

# No page's own address needs more; one that has more carries data. The longest of the library paths in
# tests/anonymize/corpus has about 100 characters and 8 segments.
MAX_CHARS: Final = 512
MAX_SEGMENTS: Final = 12

# What is looked at of an overlong target: enough to match a rule by, and little enough to be cheap.
_CUT_CHARS: Final = 4 * MAX_CHARS

# Encoded once by the browser, once more by a redirect or a proxy's link, and once for good measure.
DECODE_ROUNDS: Final = 3

# Braces, asterisks and parentheses belong to templates and placeholders: no path can pass for one of them.
_MARKS: Final = "._~!$',@ +-"
_DIGITS: Final = "0123456789"
_PLAIN_SEGMENT: Final = re.compile(rf"[A-Za-z0-9{re.escape(_MARKS)}]*")
_PLAIN_PATH: Final = re.compile(rf"(?:/(?!\.)[A-Za-z0-9{re.escape(_MARKS)}]+)+")
_SCHEME_AND_HOST: Final = re.compile(r"[a-z][a-z0-9+.-]{0,15}://[^/?#]*", re.IGNORECASE)

# Scripts that one word may mix: Japanese and Korean writing. Source: Unicode UTS 39, "highly restrictive".
_MIXED_SCRIPTS: Final = (
    frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    frozenset({"CJK", "HANGUL"}),
)


class CleanPath(NamedTuple):
    """A request target without query, parameters, dot segments and encodings."""

    segments: tuple[str, ...]  # decoded and NFKC-folded, none empty
    lowered: tuple[str, ...]  # the same in lower case, to match by
    raw_query: str
    flaw: str = ""  # why the path may never be stored, "" when it may

    @property
    def text(self) -> str:
        """The path as it would be stored."""
        return "/" + "/".join(self.segments)


def parse_path(raw_target: str) -> CleanPath | None:
    """Take the path out of a request target and say whether it could ever be stored; None when there is no path.

    Shape:   `;` parameters and a slash at the end are gone; the query is set aside unread
    Reveals: the path, which is why it goes no further than the route rules unless it has no flaw
    Source:  RFC 9112 section 3.2 (forms of a target), RFC 3986 sections 3.3 (parameters) and 5.2.4 (dot segments)
    """
    target = raw_target[:_CUT_CHARS]
    if not target.startswith("/"):
        host = _SCHEME_AND_HOST.match(target)
        if host is None:  # `*` of OPTIONS, `host:port` of CONNECT, garbage
            return None
        target = "/" + target[host.end() :].removeprefix("/")
    raw_path, _, raw_query = target.partition("#")[0].partition("?")
    segments = tuple(_clean_segments(raw_path))
    lowered = tuple(map(str.lower, segments))
    is_long = len(raw_path) > MAX_CHARS or len(segments) > MAX_SEGMENTS
    flaw = "overlong" if is_long else next(filter(None, map(_find_flaw, segments)), "")
    return CleanPath(segments, lowered, raw_query, flaw)


def decode_percent(text: str) -> str:
    """Undo up to three rounds of percent-encoding; bytes that are not UTF-8 stay visible as lone surrogates.

    Reveals: what was encoded
    """
    for _ in range(DECODE_ROUNDS):
        if "%" not in text:
            break
        text = unquote(text, errors="surrogateescape")
    return text


def fold_text(text: str) -> str:
    """Give look-alikes of ASCII one form: full-width letters, circled digits, ligatures.

    Reveals: what the look-alikes stand for
    Source:  Unicode UAX 15, form NFKC
    """
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _clean_segments(raw_path: str) -> list[str]:
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path.split("/")[1:]
    kept: list[str] = []
    for raw_segment in raw_path.split("/"):
        segment = fold_text(decode_percent(raw_segment)).partition(";")[0]
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    return kept


def _find_flaw(segment: str) -> str:
    """Name what forbids a segment in a stored path, if anything does."""
    return "" if _PLAIN_SEGMENT.fullmatch(segment) else _find_unicode_flaw(segment)


@lru_cache(4096)
def _find_unicode_flaw(segment: str) -> str:
    scripts: set[str] = set()
    for character in segment:
        category = unicodedata.category(character)
        if category == "Cs":
            return "not UTF-8"
        if category.startswith("C"):
            return "control characters"
        if category.startswith("L"):
            scripts.add(unicodedata.name(character, "unnamed").partition(" ")[0])
        elif not (category.startswith("M") or character in _MARKS or character in _DIGITS):
            return "unusual characters"
    is_mixed = len(scripts) > 1 and not any(scripts <= allowed for allowed in _MIXED_SCRIPTS)
    return "mixed scripts" if is_mixed else ""
