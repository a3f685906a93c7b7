"""Headers: read for the record, kept from the site."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.proxy.headers import (
    ADDRESS_HEADERS,
    CONNECTION_HEADERS,
    HOP_HEADERS,
    add_headers,
    drop_hops,
    guard_referrer,
    is_private,
    mask_headers,
    mask_trailers,
    read_headers,
)

NAMED_BY_DESIGN = (
    b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"CF-Connecting-IP", b"True-Client-IP", b"X-Client-IP",
    b"X-Cluster-Client-IP", b"Fastly-Client-IP", b"X-Original-Forwarded-For", b"Via",
)  # fmt: skip


def test_address_headers_go_whoever_sent_them() -> None:
    """No header that carries an address passes, in any case of letters or with underscores, which CGI takes for the
    same, from a trusted proxy or not."""
    underlined = (name.replace(b"-", b"_") for name in ADDRESS_HEADERS)
    names = (*NAMED_BY_DESIGN, *ADDRESS_HEADERS, *underlined, b"x-FORWARDED-fOr", b"X-Forwarded_For")
    fields = tuple((name, b"203.0.113.7") for name in names)
    for is_peer_trusted in (True, False):
        assert mask_headers(fields, is_peer_trusted=is_peer_trusted) == ()


def test_only_a_websocket_may_take_over_a_connection() -> None:
    """Upgrade passes for a WebSocket; h2c would take what follows past the record."""
    kept = (b"Upgrade", b"WebSocket")
    fields = (kept, (b"upgrade", b"h2c"), (b"HTTP2-Settings", b"x"))
    assert mask_headers(fields, is_peer_trusted=True) == (kept,)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("Connection", "keep-alive"), ("A", "b")], [("Connection", "keep-alive"), ("A", "b")]),
        ([("A", "b"), ("connection", "Close"), ("C", "d")], [("A", "b"), ("connection", "close"), ("C", "d")]),
        ([("Connection", "close, X-Foo"), ("X-Foo", "1"), ("x-foo", "2")], [("Connection", "close")]),
        ([("Connection", "X-Foo"), ("X-Foo", "1"), ("A", "b")], [("A", "b")]),
        ([("Connection", "a"), ("A", "1"), ("Connection", "keep-alive")], [("Connection", "keep-alive")]),
        ([("Connection", "Upgrade"), ("Upgrade", "websocket")], [("Connection", "upgrade"), ("Upgrade", "websocket")]),
        ([("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c")], []),
        ([("Connection", "TE"), ("TE", "trailers")], [("Connection", "te"), ("TE", "trailers")]),
        ([("TE", "trailers, gzip"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "close")], []),
        (
            [("Connection", "Host, content-length,Transfer-Encoding, X-Forwarded-Proto"), ("Host", "a"),
             ("Content-Length", "1"), ("X-Forwarded-Proto", "https")],
            [("Host", "a"), ("Content-Length", "1"), ("X-Forwarded-Proto", "https")],
        ),
    ],
)  # fmt: skip
def test_headers_for_the_next_hop_only_go(fields: list[tuple[str, str]], expected: list[tuple[str, str]]) -> None:
    """What Connection names goes, and what is hop-by-hop by nature; nothing takes away framing, host or scheme."""
    given, kept = ([(name.encode(), value.encode()) for name, value in side] for side in (fields, expected))
    assert drop_hops(tuple(given)) == tuple(kept)


def test_trailers_carry_nothing_that_counts_in_a_head() -> None:
    """Trailers pass but for addresses, routing, framing and what else a site might take for a header."""
    passed = ((b"X-Sum", b"1"), (b"Server-Timing", b"db"))
    named = (
        *ADDRESS_HEADERS,
        b"Client_IP",
        b"Host",
        b"Content-Length",
        b"TRANSFER-ENCODING",
        b"Cookie",
        b"Authorization",
        b"TE",
    )
    assert mask_trailers((*passed, *((name, b"x") for name in named))) == passed


def test_word_about_the_connection_counts_from_trusted_proxies_only() -> None:
    """X-Forwarded-Proto and its like pass from a trusted proxy, and are ours otherwise."""
    fields = tuple((name, b"x") for name in sorted(CONNECTION_HEADERS))
    ours = [(b"X-Forwarded-Proto", b"http")]
    assert add_headers(mask_headers(fields, is_peer_trusted=True), ours) == fields
    assert add_headers(mask_headers(fields, is_peer_trusted=False), ours) == tuple(ours)
    assert mask_headers(((b"X_Forwarded_Proto", b"https"),), is_peer_trusted=False) == ()


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary())))
def test_other_headers_pass_in_order_and_untouched(raw: list[tuple[bytes, bytes]]) -> None:
    """What carries no address passes byte for byte, repeated headers included."""
    named = ADDRESS_HEADERS | CONNECTION_HEADERS | HOP_HEADERS | {b"upgrade", b"te", b"connection"}
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


@pytest.mark.parametrize(
    ("site", "result"),
    [
        ((), "same-origin"),
        (("",), "same-origin"),
        (("nonsense",), "same-origin"),
        (("unsafe-url",), "same-origin"),
        (("no-referrer-when-downgrade",), "same-origin"),
        (("origin-when-cross-origin",), "same-origin"),
        (("strict-origin-when-cross-origin",), "same-origin"),
        (("same-origin",), "unchanged"),
        (("no-referrer",), "unchanged"),
        (("NO-REFERRER ",), "unchanged"),
        (("origin",), "unchanged"),
        (("strict-origin",), "unchanged"),
        (("no-referrer, strict-origin-when-cross-origin",), "same-origin"),
        (("unsafe-url, no-referrer",), "unchanged"),
        (("no-referrer, nonsense",), "unchanged"),
        (("no-referrer,",), "unchanged"),
        (("unsafe-url", "no-referrer"), "unchanged"),
        (("no-referrer", "unsafe-url"), "same-origin"),
        (("no-referrer", ""), "unchanged"),
    ],
)
def test_referrer_policy_is_tightened_and_never_weakened(site: tuple[str, ...], result: str) -> None:
    """What the site sends stays as it is; ours comes last, unless it would tell anybody more than the site's does."""
    sent = (*((b"referrer-POLICY", policy.encode()) for policy in site), (b"content-type", b"text/html"))
    added = guard_referrer(sent)[len(sent) :]
    assert guard_referrer(sent)[: len(sent)] == sent
    assert added == (((b"Referrer-Policy", b"same-origin"),) if result == "same-origin" else ())


POLICIES = (
    "no-referrer", "no-referrer-when-downgrade", "same-origin", "origin", "strict-origin",
    "origin-when-cross-origin", "strict-origin-when-cross-origin", "unsafe-url",
)  # fmt: skip
# What a policy tells, to the site itself and to another website over HTTPS: nothing, the host name, or the address.
TOLD = dict(zip(POLICIES, ((0, 0), (2, 2), (2, 0), (1, 1), (1, 1), (2, 1), (2, 1), (2, 2)), strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_learns_more_and_others_learn_no_search(policy: str) -> None:
    """Whatever a site's policy is: afterwards nobody is told more than before, and no other website an address."""
    last = guard_referrer(((b"Referrer-Policy", policy.encode()),))[-1][1].decode()
    assert all(after <= before for after, before in zip(TOLD[last], TOLD[policy], strict=True))
    assert TOLD[last][1] < 2
