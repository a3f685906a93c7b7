"""Keyed hashes of sessions and visits."""

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from anonproxy.keys.tags import tag_session, tag_visit

KEY = bytearray(range(32))
PARTS = st.lists(st.binary(max_size=20), max_size=5)


def test_a_tag_is_hmac_sha256_over_length_prefixed_parts() -> None:
    """The construction is the published one."""
    message = b"\0\0\0\0\0\0\0\x03www" + b"\0\0\0\0\0\0\0\x00" + b"\0\0\0\0\0\0\0\x01x"
    assert tag_session(KEY, (b"www", b"", b"x")) == hmac.new(bytes(KEY), message, hashlib.sha256).digest()


@given(PARTS, PARTS)
def test_different_parts_have_different_tags(parts: list[bytes], other: list[bytes]) -> None:
    """No two lists of parts run together to the same text."""
    assert (tag_session(KEY, parts) == tag_session(KEY, other)) is (parts == other)


@given(st.binary(min_size=32, max_size=32), st.floats(0, 4e9))
def test_a_visit_number_is_an_unsigned_64_bit_integer(session: bytes, start_s: float) -> None:
    """It fits the column, is never 0, and depends on session, start and key."""
    number = tag_visit(KEY, session, start_s)
    assert 0 < number < 2**64
    assert number != tag_visit(KEY, session, start_s + 1)
    assert number != tag_visit(bytearray(32), session, start_s)
