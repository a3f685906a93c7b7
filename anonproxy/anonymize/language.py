"""The language that a browser asks for first, if many people speak it."""

import re
from functools import lru_cache
from typing import Final

from anonproxy.model.vocabularies import OTHER_LANGUAGE

# A browser with a dozen languages sends about 120 characters; what comes later has a lower weight anyway.
MAX_CHARACTERS: Final = 500
CACHED_HEADERS: Final = 4_096

# One language range: primary subtag, further subtags, weight. A weight has at most three digits (RFC 9110 12.4.2).
RANGE: Final = re.compile(
    r"\s*(?P<primary>[a-z]{2,3})(?:[-_][a-z0-9_-]{0,80})?\s*(?:;\s*q=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?",
    re.IGNORECASE | re.ASCII,
)

# Deprecated and three-letter subtags that browsers send, by the "Preferred-Value" or macrolanguage of the IANA
# Language Subtag Registry (https://www.iana.org/assignments/language-subtag-registry).
SAME_LANGUAGE: Final = {
    "cmn": "zh",
    "fil": "tl",
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "nb": "no",
    "nn": "no",
    "yue": "zh",
}


def parse_language(raw_accept_language: str, languages: frozenset[str]) -> str:
    """Name the language of the highest weight, the first of equals; `other` if it isn't among `languages`.

    Only one language is kept: the whole list, in its order, is close to a fingerprint.

    Reveals: one configured language, or that it is another
    Source:  RFC 9110 section 12.5.4, RFC 5646
    """
    language = preferred_language(raw_accept_language[:MAX_CHARACTERS])
    return language if language in languages else OTHER_LANGUAGE


@lru_cache(CACHED_HEADERS)
def preferred_language(raw_accept_language: str) -> str:
    """Find the primary subtag of the highest weight; "" if nothing can be read.

    Reveals: one primary subtag
    """
    ranges = (RANGE.fullmatch(part) for part in raw_accept_language.split(","))
    weighted = [(float(found["weight"] or 1), found["primary"].lower()) for found in ranges if found]
    weight, primary = max(weighted, key=lambda choice: choice[0], default=(0.0, ""))
    return SAME_LANGUAGE.get(primary, primary) if weight > 0 else ""
