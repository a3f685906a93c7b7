"""Headers: read for the record, kept from the site."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.proxy.headers import (
    ADDRESS_HEADERS,
    CONNECTION_HEADERS,
    HOP_HEADERS,
    add_headers,
    is_private,
    mask_headers,
    read_headers,
)

NAMED_BY_DESIGN = (
    b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"CF-Connecting-IP", b"True-Client-IP", b"X-Client-IP",
    b"X-Cluster-Client-IP", b"Fastly-Client-IP", b"X-Original-Forwarded-For", b"Via",
)  # fmt: skip


def test_address_headers_go_whoever_sent_them() -> None:
    """No header that carries an address passes, in any case of letters, from a trusted proxy or not."""
    fields = tuple((name, b"203.0.113.7") for name in (*NAMED_BY_DESIGN, *ADDRESS_HEADERS, b"x-FORWARDED-fOr"))
    for is_peer_trusted in (True, False):
        assert mask_headers(fields, is_peer_trusted=is_peer_trusted) == ()


def test_only_a_websocket_may_take_over_a_connection() -> None:
    """Upgrade passes for a WebSocket; h2c would take what follows past the record."""
    kept = (b"Upgrade", b"WebSocket")
    fields = (kept, (b"upgrade", b"h2c"), (b"HTTP2-Settings", b"x"), (b"TE", b"trailers"))
    assert mask_headers(fields, is_peer_trusted=True) == (kept,)


def test_word_about_the_connection_counts_from_trusted_proxies_only() -> None:
    """X-Forwarded-Proto and its like pass from a trusted proxy, and are ours otherwise."""
    fields = tuple((name, b"x") for name in sorted(CONNECTION_HEADERS))
    ours = [(b"X-Forwarded-Proto", b"http")]
    assert add_headers(mask_headers(fields, is_peer_trusted=True), ours) == fields
    assert add_headers(mask_headers(fields, is_peer_trusted=False), ours) == tuple(ours)


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary())))
def test_other_headers_pass_in_order_and_untouched(raw: list[tuple[bytes, bytes]]) -> None:
    """What carries no address passes byte for byte, repeated headers included."""
    named = ADDRESS_HEADERS | CONNECTION_HEADERS | HOP_HEADERS | {b"upgrade"}
    fields = tuple(field for field in raw if field[0].lower() not in named)
    assert mask_headers(fields, is_peer_trusted=False) == fields


def test_read_joins_repeated_lines_and_keeps_every_byte() -> None:
    """Repeated headers are joined as their kind demands; bytes that aren't UTF-8 survive."""
    fields = (
        (b"Cookie", b"a=1"),
        (b"COOKIE", b"b=2"),
        (b"X-Forwarded-For", b"203.0.113.1"),
        (b"x-forwarded-for", b"203.0.113.2"),
        (b"User-Agent", b"\xff\xfe"),
        (b"Other", b"x"),
    )
    read = read_headers(fields)
    assert read[b"cookie"] == "a=1; b=2"
    assert read[b"x-forwarded-for"] == "203.0.113.1,203.0.113.2"
    assert read[b"user-agent"].encode("utf-8", "surrogateescape") == b"\xff\xfe"
    assert read[b"referer"] == ""


@pytest.mark.parametrize(
    ("cache_control", "expected"),
    [
        ("", False),
        ("public, max-age=60", False),
        ("Private", True),
        ('private="Set-Cookie"', True),
        ("max-age=0, no-store", True),
        ("no-cache", False),
        ("privately", False),
    ],
)
def test_private_responses_are_known(cache_control: str, expected: bool) -> None:
    """A response for one visitor only says private or no-store."""
    assert is_private(cache_control) is expected
