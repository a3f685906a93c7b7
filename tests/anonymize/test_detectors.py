import base64
import dataclasses
import random
import re
import string
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.detectors import _HARMLESS, MAX_CHARS, detect, unfold
from anonproxy.model.patterns import PATTERNS, Pattern

CORPUS: Final = Path(__file__).parent / "corpus"
MAX_FALSE_POSITIVES: Final = 0.02


def read_corpus(name: str) -> list[str]:
    """Read the strings of a corpus, without headings and empty lines."""
    lines = (CORPUS / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


MUST_CATCH: Final = read_corpus("must_catch.txt")
MUST_STAY: Final = read_corpus("must_stay.txt")


def percent_encode_all(text: str) -> str:
    """Encode every byte, those that need no encoding included."""
    return "".join(f"%{byte:02X}" for byte in text.encode())


def widen(text: str) -> str:
    """Turn ASCII into its full-width forms."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


ENCODINGS: Final[dict[str, Callable[[str], str]]] = {
    "raw": str,
    "percent once": lambda text: quote(text, safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "percent three times": lambda text: quote(quote(quote(text, safe=""), safe=""), safe=""),
    "every byte": percent_encode_all,
    "every byte twice": lambda text: quote(percent_encode_all(text), safe=""),
    "full-width": widen,
    "full-width, percent": lambda text: quote(widen(text)),
    "plus for space": lambda text: text.replace(" ", "+"),
    "upper case": str.upper,
    "zero-width spaces": "\u200b".join,
    "HTML references": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "Arabic digits": lambda text: text.translate({ord(str(digit)): chr(0x660 + digit) for digit in range(10)}),
    "en dashes": lambda text: text.replace("-", "\u2013"),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
}


def test_the_corpora_are_large_and_without_doubles() -> None:
    """There are at least 300 different strings of each sort, and no string is of both sorts."""
    assert min(len(set(MUST_CATCH)), len(set(MUST_STAY))) >= 300
    assert (len(set(MUST_CATCH)), len(set(MUST_STAY))) == (len(MUST_CATCH), len(MUST_STAY))
    assert not set(MUST_CATCH) & set(MUST_STAY)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nothing_that_must_be_caught_gets_through(encoding: str) -> None:
    """Every string of the corpus is caught in every encoding, by itself and as a segment."""
    encode = ENCODINGS[encoding]
    missed = [text for text in MUST_CATCH if not detect(encode(text)) or not detect(f"/x/{encode(text)}/y")]
    assert missed == []


def test_library_paths_stay(capsys: pytest.CaptureFixture[str]) -> None:
    """At most 2 % of real-looking library paths are caught, and no string that must be caught is missed."""
    caught = [path for path in MUST_STAY if detect(path)]
    missed = sum(detect(encode(text)) is None for text in MUST_CATCH for encode in ENCODINGS.values())
    with capsys.disabled():
        sys.stdout.write(
            f"\ndetectors: {missed} false negatives in {len(MUST_CATCH) * len(ENCODINGS):,}"
            f" ({len(MUST_CATCH)} strings, {len(ENCODINGS)} encodings); {len(caught)} false positives"
            f" in {len(MUST_STAY)} library paths ({len(caught) / len(MUST_STAY):.1%})\n"
        )
    assert missed == 0
    assert len(caught) / len(MUST_STAY) <= MAX_FALSE_POSITIVES


@given(
    secret=st.sampled_from(MUST_CATCH),
    path=st.sampled_from(MUST_STAY),
    position=st.floats(0, 1),
    separator=st.sampled_from("/-_.,' "),
    encoding=st.sampled_from(sorted(ENCODINGS)),
)
def test_nothing_hides_in_a_clean_path(secret: str, path: str, position: float, separator: str, encoding: str) -> None:
    """Whatever must be caught is caught at any place of any clean path."""
    cut = round(position * len(path))
    assert detect(f"{path[:cut]}{separator}{ENCODINGS[encoding](secret)}{separator}{path[cut:]}")


@given(st.text(max_size=MAX_CHARS + 50))
def test_any_text_has_an_answer(text: str) -> None:
    """No text makes the detectors raise, lone surrogates and control characters included."""
    assert detect(text) is None or isinstance(detect(text), str)


@given(st.from_regex(_HARMLESS, fullmatch=True))
def test_the_short_cut_is_sound(text: str) -> None:
    """No pattern fires on a text that is let through without looking at the patterns."""
    assert [pattern.name for pattern in PATTERNS if pattern.fires(unfold(text[:MAX_CHARS]))] == []


def test_the_short_cut_is_taken() -> None:
    """Most library paths cost a single match."""
    assert sum(_HARMLESS.fullmatch(path) is not None for path in MUST_STAY) > len(MUST_STAY) / 2


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_a_hint_hides_nothing(pattern: Pattern) -> None:
    """A pattern finds the same with its hint as without."""
    everything = dataclasses.replace(pattern, hint=re.compile(""))
    for text in map(unfold, MUST_CATCH + MUST_STAY + [path for path, _ in DATES]):
        assert pattern.fires(text) == everything.fires(text)


def test_every_pattern_is_needed() -> None:
    """For each pattern there is a string that it catches."""
    for pattern in PATTERNS:
        assert any(pattern.fires(unfold(text)) for text in MUST_CATCH + [path for path, _ in DATES]), pattern.name


DATES: Final = [
    # A full date with a year from 2010 on is the site's calendar where a word says so, and else a child's birth date.
    ("/events/2026-10-31", None),
    ("/calendar/day/2026-10-31", None),
    ("/docs/minutes/2026-05-20_Board_Minutes.pdf", None),
    ("/news/library-closed-october-31-2026", None),
    ("/2026/10/31/halloween-parade", None),
    ("/2008/05/12/our-new-website", None),
    ("/register/2015-03-02", "date"),
    ("/summer/kate-2018-06-30", "date"),
    ("/x/30.06.2018", "date"),
    ("/x/june-30-2018", "date"),
    # Before 2010 no word helps, but blogs of that time keep their addresses.
    ("/events/1985-04-12", "birth_date"),
    ("/calendar/12-april-1985", "birth_date"),
    ("/1985/04/12/x", "birth_date"),
]


@pytest.mark.parametrize(("path", "name"), DATES)
def test_dates_of_birth_and_dates_of_events(path: str, name: str | None) -> None:
    """A date is taken for a birth date unless its year and its text speak of a calendar."""
    assert detect(path) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/dewey/641.5973", None),
        ("/events/america-250-2026", None),
        ("/years/1790-1840", None),
        ("/years/2024-2025-2026", None),
        ("/grades-9-10-11-12", None),
        ("/images/banner@2x.png", None),
        ("/search~S1", None),
        ("/record={record}", None),
        ("203-0-113-77", "ipv4"),
        ("1.2.3.4", "ipv4"),
        ("%252525252541", "encoded"),
        ("x" * (MAX_CHARS + 1), "overlong"),
    ],
)
def test_near_misses(text: str, name: str | None) -> None:
    """What looks like an identifier and isn't stays; what can't be looked at doesn't."""
    assert detect(text) == name


ALPHABETS: Final = {
    "base64": string.ascii_letters + string.digits + "+/",
    "base64url": string.ascii_letters + string.digits + "-_",
    "base62": string.ascii_letters + string.digits,
    "base58": "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
    "base36": string.ascii_lowercase + string.digits,
    "base32": string.ascii_uppercase + "234567",
    "Crockford": "0123456789ABCDEFGHJKMNPQRSTVWXYZ",
    "letters": string.ascii_lowercase,
}


@pytest.mark.parametrize("alphabet", ALPHABETS)
@pytest.mark.parametrize(("length", "share"), [(20, 0.97), (32, 0.99)])
def test_random_text_is_caught(alphabet: str, length: int, share: float) -> None:
    """At least 97 % of random strings of 20 characters are caught, and 99 % of 32, whatever their alphabet."""
    draw = random.Random(f"{alphabet}{length}")
    texts = ["".join(draw.choices(ALPHABETS[alphabet], k=length)) for _ in range(1000)]
    assert sum(detect(text) is not None for text in texts) / len(texts) >= share


@given(st.from_regex(r"[a-z]{3,9}(\.[a-z]{3,9})?@[a-z]{4,9}\.(org|com)", fullmatch=True))
def test_encoded_addresses_are_caught(address: str) -> None:
    """An e-mail address in base64 is caught as random text in nearly all cases, and in hexadecimal in all."""
    assert detect(address.encode().hex())
    assert detect(f"/u/{base64.b64encode(address.encode()).decode()}/{address}")


UNITS: Final = [
    "a", "1", "1-", "12-", "1.", "a.", "a-", "ab-", "eyJ", "eyJa.", "(0", "0+", "+1", "::", "a:",
    "1:", "@", "a@", "a@a.", "x=", "%25", "%2525", "&#49;", "&amp;", "~", "--", "jan-", "jan-1-",
    "19", "1985-", "1985-0", "12/", "A1", "aA", "_-", "a-at-", "[at", "Zz9", "=", "/", "//", "/..",
    "/a", "é", "１", "\u200b", "\udcff", "{", "203-555-", "97+8", "0x", "0x1.", "f.", "a/1", "user",
    "token=",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_no_text_takes_long(unit: str) -> None:
    """Ten thousand characters of anything take each pattern less than half a second, on a busy machine."""
    text = (unit * 10_000)[:10_000]
    for look in (detect, *(pattern.fires for pattern in PATTERNS)):
        start_s = time.process_time()
        look(text)
        assert time.process_time() - start_s < 0.5
    start_s = time.process_time()
    detect(text[:MAX_CHARS])
    assert time.process_time() - start_s < 0.5


def test_every_pattern_says_what_it_means() -> None:
    """Names are unique and fit for a rule; meaning and source are given."""
    assert len({pattern.name for pattern in PATTERNS}) == len(PATTERNS)
    for pattern in PATTERNS:
        assert re.fullmatch(r"[a-z0-9_]+", pattern.name)
        assert pattern.meaning
        assert pattern.source
