"""Client addresses in every form that reaches a proxy or stands in a log."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.address import classify_network, mask_address, order_classes, parse_client

IPV4 = "203.0.113.77"
IPV6 = "2001:db8:1:2:3:4:5:6"

READABLE = [
    (IPV4, IPV4),
    (" 203.0.113.77\t", IPV4),
    ("203.0.113.77:51234", IPV4),
    ("203.0.113.77:_hidden", IPV4),  # RFC 7239: an obfuscated port behind a real address
    ("for=203.0.113.77", IPV4),
    ("FOR=203.0.113.77:80", IPV4),
    ('"203.0.113.77:80"', IPV4),
    (IPV6, IPV6),
    ("2001:0DB8:0001:0002:0003:0004:0005:0006", IPV6),
    (f"[{IPV6}]", IPV6),
    (f"[{IPV6}]:443", IPV6),
    (f'for="[{IPV6}]:443"', IPV6),
    (f'for="[{IPV6}]:_port"', IPV6),
    (f'"{IPV6}"', IPV6),
    ("fe80::1%eth0", "fe80::1"),
    ("[fe80::1%25eth0.100]:80", "fe80::1"),
    ("2001:db8::7%3", "2001:db8::7"),
    ("::1", "::1"),
    ("::", "::"),
    # what carries an IPv4 address
    ("::ffff:203.0.113.77", IPV4),
    ("::FFFF:cb00:714d", IPV4),
    ("[::ffff:203.0.113.77]:8080", IPV4),
    ("0:0:0:0:0:ffff:cb00:714d", IPV4),
    ("::203.0.113.77", IPV4),
    ("::cb00:714d", IPV4),
    ("::ffff:0:203.0.113.77", IPV4),
    ("2002:cb00:714d::1", IPV4),
    ("2002:cb00:714d:ffff:aaaa:bbbb:cccc:dddd", IPV4),
    ("2001:0:c000:221:8000:f227:34ff:8eb2", IPV4),  # Teredo: the low bits are inverted, the server is not the client
    ("64:ff9b::203.0.113.77", IPV4),
    ("64:ff9b::cb00:714d", IPV4),
    ("64:ff9b:1::203.0.113.77", IPV4),
    ("64:ff9b:1:cb00:71:4d00::", IPV4),  # cut at 48 bits: 16 before and 16 behind the byte that is left out
    ("64:ff9b:1:cb:0:714d::", "203.0.113.77"),  # cut at 56
    ("64:ff9b:1:0:cb:71:4d00:0", "203.0.113.77"),  # cut at 64
    # looks like one, and is not
    ("2001:db8::5efe:203.0.113.77", "2001:db8::5efe:cb00:714d"),  # ISATAP: the network is the user's own
    ("2003:cb00:714d::1", "2003:cb00:714d::1"),
]

UNREADABLE = [
    "", " ", "-", "unknown", "UNKNOWN", "_hidden", "_SEVKISEK", "for=unknown", 'for="_mdn"', "localhost", "unix:",
    "unix:/run/www.sock", "library.example.org", "203-0-113-77.dyn.example.net", "203.0.113", "203.0.113.77.1",
    "203.0.113.256", "203.0.113.077", "203.000.113.77", "0313.0.0161.0115", "0xcb.0x0.0x71.0x4d", "0xcb00714d",
    "3405803853", "cb00714d", "203.0.113.77/32", "203.0.113.0/24", "203.0.113.77, 198.51.100.1",
    "203.0.113.77 198.51.100.1",
    "203.0.113.77,", ",203.0.113.77", "203.0.113.77;proto=https", "for=203.0.113.77;by=198.51.100.1", '"203.0.113.77',
    '203.0.113.77"', "203.0.113.77:", "203.0.113.77:123456", "203.0.113.77:-1", "203.0.113.77:80:80", "[203.0.113.77]",
    "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]:", "[[2001:db8::1]]", "2001:db8::1::2", "2001:db8:1:2:3:4:5:6:7",
    "2001:db8::12345", "::ffff:203.0.113.077", "::ffff:203.0.113.77:80", "2001:db8::1/64", "[]", "%eth0", "::%",
    "203.0.113.77%eth0", "２０３.0.113.77", "203．0．113．77", "203.0.113.77\n", "\n203.0.113.77", "203.0.113.77\x00",
    "\udcff203.0.113.77", "::ﬀ", "x" * 100_000, "1" * 100_000, ":" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize(("raw", "expected"), READABLE)
def test_reads_certain_forms(raw: str, expected: str) -> None:
    """Each form whose meaning is certain gives the address that stands, or is carried, in it."""
    assert parse_client(raw) == ip_address(expected)


@pytest.mark.parametrize("raw", UNREADABLE, ids=lambda raw: ascii(raw[:40]))
def test_refuses_uncertain_forms(raw: str) -> None:
    """A form that two readers read differently, or that is no single address, gives nothing."""
    assert parse_client(raw) is None


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_every_way_of_writing_ipv4_is_one_address(address: IPv4Address, port: int) -> None:
    """All embeddings and decorations of an IPv4 address give that address."""
    value = int(address)
    forms = [
        str(address),
        f"{address}:{port}",
        f'for="{address}:{port}"',
        f"::ffff:{address}",
        str(IPv6Address(0xFFFF << 32 | value)),
        f"[{IPv6Address(0xFFFF << 32 | value)}]:{port}",
        str(IPv6Address(0x2002 << 112 | value << 80 | port)),
        str(IPv6Address(0x20010000 << 96 | port << 64 | value ^ 0xFFFFFFFF)),
        f"64:ff9b::{address}",
    ]
    assert {parse_client(form) for form in forms} == {address}


@given(st.text(max_size=60) | st.from_regex(r"[0-9a-fx.:%\[\]\"_, -]{0,50}", fullmatch=True))
def test_never_raises_and_never_guesses(raw: str) -> None:
    """Whatever comes in, the answer is None or an address whose canonical text stands for what came in."""
    address = parse_client(raw)
    assert address is None or parse_client(str(address)) == address


@given(st.ip_addresses(v=6))
def test_unmapping_is_final(address: IPv6Address) -> None:
    """An address that was unmapped carries no further address."""
    first = parse_client(str(address))
    assert first is not None
    assert parse_client(str(first)) == first


LADDERS = [
    ("203.0.113.77", 24, 32, ("203.0.113.0/24", "203.0.0.0/16")),
    ("203.0.113.77", 20, 32, ("203.0.112.0/20", "203.0.0.0/16")),
    ("203.0.113.77", 16, 32, ("203.0.0.0/16",)),
    ("203.0.113.77", 8, 32, ("203.0.0.0/8",)),
    (IPV6, 24, 32, ("2001:db8::/32", "2001:d00::/24")),
    (IPV6, 24, 40, ("2001:db8::/40", "2001:db8::/32", "2001:d00::/24")),
    (IPV6, 24, 24, ("2001:d00::/24",)),
    (IPV6, 24, 16, ("2001::/16",)),
]


@pytest.mark.parametrize(("text", "ipv4_prefix", "ipv6_prefix", "ladder"), LADDERS)
def test_widens_step_by_step(text: str, ipv4_prefix: int, ipv6_prefix: int, ladder: tuple[str, ...]) -> None:
    """The ladder begins at the configured prefix and only ever gets wider."""
    assert mask_address(ip_address(text), ipv4_prefix, ipv6_prefix) == ladder


@given(st.ip_addresses(), st.integers(0, 2**128 - 1), st.integers(8, 24), st.integers(16, 40))
def test_low_bits_leave_no_trace(address: IPv4Address | IPv6Address, noise: int, ipv4: int, ipv6: int) -> None:
    """Whatever stands below the kept prefix, the ladder is the same, holds the address, and has no host bits."""
    keep_bits = ipv4 if address.version == 4 else ipv6
    low_bits = address.max_prefixlen - keep_bits
    other = type(address)(int(address) ^ noise % (1 << low_bits))
    ladder = mask_address(address, ipv4, ipv6)
    assert mask_address(other, ipv4, ipv6) == ladder
    networks = [ip_network(step) for step in ladder]  # raises when a host bit is set
    assert tuple(map(str, networks)) == ladder
    assert all(address in network and network.prefixlen <= keep_bits for network in networks)


CLASSES = order_classes(
    {
        "town": (ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")),
        "staff": (ip_network("203.0.113.77/32"),),
        "in-library": (ip_network("203.0.113.64/26"), ip_network("2001:db8:1::/48")),
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.77", "staff"),
        ("203.0.113.78", "in-library"),
        ("203.0.113.1", "town"),
        ("203.0.112.1", "remote"),
        ("2001:db8:1::9", "in-library"),
        ("2001:db8:2::9", "town"),
        ("2001:db9::", "remote"),
    ],
)
def test_the_most_specific_class_wins(text: str, expected: str) -> None:
    """The full address decides, by the longest configured prefix that holds it, whatever the order they stand in."""
    assert classify_network(ip_address(text), CLASSES) == expected


def test_embedded_addresses_are_classified_as_what_they_carry() -> None:
    """A 6to4 address of the reading room counts as the reading room."""
    address = parse_client("2002:cb00:714e::1")
    assert address is not None
    assert classify_network(address, CLASSES) == "in-library"
