import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.path import MAX_CHARS, MAX_SEGMENTS, CleanPath, decode_percent, parse_path

CLEAN = [
    ("/", "/"),
    ("/events", "/events"),
    ("/events/", "/events"),
    ("/events/halloween-parade", "/events/halloween-parade"),
    ("/events?session=abc", "/events"),
    ("/events#top", "/events"),
    ("/events#a?b", "/events"),
    ("/events?a#b?c", "/events"),
    ("http://www.example.org/events", "/events"),
    ("http://www.example.org:80/events?x=1", "/events"),
    ("HTTPS://user:secret@www.example.org/events", "/events"),
    ("http://www.example.org", "/"),
    ("http://www.example.org?q=x", "/"),
    ("//events///list", "/events/list"),
    ("/./events/./list/.", "/events/list"),
    ("/events/../about", "/about"),
    ("/../../etc/passwd", "/etc/passwd"),
    ("/events/%2e%2E/about", "/about"),
    ("/events/%252e%252e/about", "/about"),
    ("/events;jsessionid=0A1B2C", "/events"),
    ("/events;jsessionid=0A1B2C/list;a=b;c", "/events/list"),
    ("/events%3Bjsessionid=0A1B2C", "/events"),
    ("/%65vents", "/events"),
    ("/%2565vents", "/events"),
    ("/%252565vents", "/events"),
    ("/ｅｖｅｎｔｓ/２０２６", "/events/2026"),
    ("/%EF%BD%85vents", "/events"),
    ("/caf%C3%A9", "/café"),
    ("/cafe\u0301", "/café"),
    ("/a+b", "/a+b"),
    ("/a%20b", "/a b"),
    ("/ja/おはなし会", "/ja/おはなし会"),
    ("/ko/圖書館행사", "/ko/圖書館행사"),
    ("/①", "/1"),
]


@pytest.mark.parametrize(("target", "text"), CLEAN)
def test_what_is_left_of_a_target(target: str, text: str) -> None:
    """Host, query, fragment, parameters, dot segments, doubled slashes and encodings are gone."""
    path = parse_path(target)
    assert path is not None
    assert (path.text, path.flaw) == (text, "")


FLAWED = [
    ("/caf%E9", "not UTF-8"),
    ("/caf\udce9", "not UTF-8"),
    ("/a%00b", "control characters"),
    ("/a%0d%0aSet-Cookie", "control characters"),
    ("/a\u202eb", "control characters"),
    ("/a\u200bb", "control characters"),
    ("/pаypal", "mixed scripts"),  # Cyrillic a
    ("/ραge", "mixed scripts"),  # Greek rho, alpha
    ("/a(b)", "unusual characters"),
    ("/{id}", "unusual characters"),
    ("/**", "unusual characters"),
    ("/a=b", "unusual characters"),
    ("/a&user=jdoe", "unusual characters"),
    ("/a%2Fb", "unusual characters"),
    ("/a%5Cb", "unusual characters"),
    ("/a%3Fq=x", "unusual characters"),
    ("/a%25252541", "unusual characters"),
    ("/http://example.org", "unusual characters"),
    ('/"quoted"', "unusual characters"),
    ("/٢٠٢٦", "unusual characters"),
    ("/😀", "unusual characters"),
    ("/" + "x" * MAX_CHARS, "overlong"),
    ("/" + "x" * 10_000, "overlong"),
    ("/a" * (MAX_SEGMENTS + 1), "overlong"),
    ("/a/.." * 300, "overlong"),
]


@pytest.mark.parametrize(("target", "flaw"), FLAWED, ids=lambda value: f"{ascii(value)[:30]} {len(value)}")
def test_what_may_never_be_stored(target: str, flaw: str) -> None:
    """A path that hides something, mixes alphabets or carries too much says so."""
    path = parse_path(target)
    assert path is not None
    assert path.flaw == flaw


@pytest.mark.parametrize("target", ["*", "www.example.org:443", "", "events", "?q=x", "#top", "://", "\x16\x03\x01"])
def test_what_is_no_path(target: str) -> None:
    """The targets of OPTIONS and CONNECT, and garbage, are no paths."""
    assert parse_path(target) is None


@given(st.text(max_size=3000))
def test_any_target_has_an_answer(target: str) -> None:
    """No target makes the parser raise, and what has no flaw is short, folded and printable."""
    for raw_target in (target, f"/{target}", f"http://{target}"):
        path = parse_path(raw_target)
        if path is not None and not path.flaw:
            assert len(path.text) <= 8 * MAX_CHARS
            assert path.text.isprintable()
            assert unicodedata.is_normalized("NFC", path.text)
            assert not set(path.text) & set("?#;%&={}()*<>\\")


@given(
    st.lists(st.from_regex(r"[a-z0-9][a-z0-9_.~-]{0,20}", fullmatch=True), max_size=MAX_SEGMENTS),
    st.text(max_size=50),
)
def test_a_clean_path_comes_back_as_it_went_in(segments: list[str], query: str) -> None:
    """A plain path is itself, whatever follows in the query."""
    path = parse_path(f"/{'/'.join(segments)}?{query}")
    assert path is not None
    assert path == CleanPath(tuple(segments), tuple(segments), path.raw_query)


@given(st.text(st.characters(codec="utf-8")))
def test_three_rounds_are_undone(text: str) -> None:
    """Text without percent signs survives being encoded up to three times."""
    plain = encoded = text.replace("%", "")
    for _ in range(3):
        encoded = "".join(f"%{byte:02x}" for byte in encoded.encode()) if len(encoded) < 5000 else encoded
        assert decode_percent(encoded) == plain


@pytest.mark.parametrize("unit", ["a", "/", "/a", "/..", "%25", "%2525", ";", "/é", "％", "\udcff", "?", "a:", "/a;b"])
def test_ten_kilobytes_are_cheap(unit: str) -> None:
    """A target of 10 kB is cut before it is looked at: less than 50 ms on a busy machine."""
    target = ("/" + unit * 10_000)[:10_000]
    start_s = time.process_time()
    parse_path(target)
    assert time.process_time() - start_s < 0.05
