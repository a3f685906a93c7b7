"""Client addresses: read in every form that is certain, unmapped, classified, truncated. The uncertain is None."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from anonproxy.model.vocabularies import REMOTE

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# One node as proxies and logs write it: 203.0.113.7, 203.0.113.7:443, 2001:db8::1, [2001:db8::1%eth0]:443, and in the
# Forwarded header for="[2001:db8::1]:443" with a port that may be a name (RFC 7239 section 6). No list, no host name.
NODE: Final = re.compile(
    r"""
    (?: for= )? (?P<quote> "? )
    (?: (?P<ipv4> [0-9.]{7,15} ) | \[ (?P<bracketed> [0-9a-f:.]{2,45} ) (?: %[\w.~%-]{1,64} )? \] )
    (?: : (?: [0-9]{1,5} | _[\w.-]{1,64} ) )?
    (?P=quote)
    | (?: for= )? (?P<outer> "? ) (?P<ipv6> [0-9a-f:.]{2,45} ) (?: %[\w.~%-]{1,64} )? (?P=outer)
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)

# Where an IPv6 address carries the IPv4 address of its user: prefix, its length, and the bits to shift the rest by.
# ISATAP (RFC 5214) is not here: its IPv4 address, often a private one, stands in the last 64 bits, which are never
# kept, while its first 64 bits are the user's own network.
EMBEDDINGS: Final = tuple(
    (int(IPv6Address(prefix)) >> (128 - length), 128 - length, drop_bits, flip)
    for prefix, length, drop_bits, flip in (
        ("::ffff:0:0", 96, 0, 0),  # IPv4-mapped, RFC 4291 section 2.5.5.2
        ("::", 96, 0, 0),  # IPv4-compatible, RFC 4291 section 2.5.5.1; :: and ::1 are not, see below
        ("::ffff:0:0:0", 96, 0, 0),  # IPv4-translated, RFC 2765 section 2.1
        ("2002::", 16, 80, 0),  # 6to4, RFC 3056 section 2
        ("2001::", 32, 0, 0xFFFFFFFF),  # Teredo, inverted, RFC 4380 section 4; bits 32 to 63 are only its server
        ("64:ff9b::", 96, 0, 0),  # NAT64, RFC 6052 section 2.1
    )
)
# NAT64 in a network of one's own (RFC 8215), which may be cut at 48, 56, 64 or 96 bits. The zeros behind the IPv4
# address tell which (RFC 6052 section 2.2). An address that itself ends in zeros can be taken for a shorter cut; what
# is then kept as /24 is never its last part.
NAT64_LOCAL: Final = int(IPv6Address("64:ff9b:1::")) >> 80
NAT64_CUTS: Final = ((48, 40), (56, 32), (64, 24))  # prefix bits, zero bits at the end

# What a network is widened to while fewer than k visits share it. /16 is what rsyslog and Matomo mask to.
# An IPv6 /32 is what registries allocate to a provider, so a /24 holds 256 of those, as a /16 holds 256 times a /24.
WIDER_PREFIXES: Final = {4: (16,), 6: (32, 24)}


def parse_client(raw: str) -> Address | None:
    """Read one client address and take it out of what it is embedded in; None unless it is certain.

    Zero-padded, octal, hexadecimal and integer forms, lists, host names and obfuscated identifiers are None: one
    reader takes 010.0.0.1 for 8.0.0.1 and the next for 10.0.0.1.

    Reveals: the full address: what this returns never leaves the room
    Source:  RFC 4291 section 2.2, RFC 4007 section 11, RFC 7239 section 6
    """
    node = NODE.fullmatch(raw.strip(" \t"))
    if not node:
        return None
    try:
        if node["ipv4"]:
            return IPv4Address(node["ipv4"])
        return unmap_address(IPv6Address(node["bracketed"] or node["ipv6"]))
    except ValueError:
        return None


def unmap_address(address: IPv6Address) -> Address:
    """Return the IPv4 address that an IPv6 address carries, or the address itself.

    Reveals: the full address: what this returns never leaves the room
    """
    value = int(address)
    if value <= 1:  # unspecified and loopback
        return address
    for prefix, rest_bits, drop_bits, flip in EMBEDDINGS:
        if value >> rest_bits == prefix:
            return IPv4Address((value >> drop_bits & 0xFFFFFFFF) ^ flip)
    if value >> 80 == NAT64_LOCAL:
        return IPv4Address(_unmap_nat64(value))
    return address


def _unmap_nat64(value: int) -> int:
    for prefix_bits, zero_bits in NAT64_CUTS:
        if value & ((1 << zero_bits) - 1) == 0:
            # Bits 64 to 71 are no part of the IPv4 address; without them it is one piece.
            joined = value >> 64 << 56 | value & ((1 << 56) - 1)
            return joined >> (120 - prefix_bits - 32) & 0xFFFFFFFF
    return value & 0xFFFFFFFF


def mask_address(address: Address, ipv4_prefix: int, ipv6_prefix: int) -> tuple[str, ...]:
    """Truncate an address to its network, from the narrowest that may be kept to the widest.

    Shape:   ("203.0.113.0/24", "203.0.0.0/16") or ("2001:db8::/32", "2001:d00::/24")
    Reveals: the /24 (256 addresses) or the IPv6 /32 at most, as configured; less until k visits share it
    """
    narrow = ipv4_prefix if address.version == 4 else ipv6_prefix
    wider = (prefix for prefix in WIDER_PREFIXES[address.version] if prefix < narrow)
    return tuple(_mask(address, prefix) for prefix in (narrow, *wider))


def _mask(address: Address, prefix: int) -> str:
    drop_bits = address.max_prefixlen - prefix
    kept = int(address) >> drop_bits << drop_bits
    return f"{'.'.join(map(str, kept.to_bytes(4))) if address.version == 4 else _render_ipv6(kept)}/{prefix}"


def _render_ipv6(kept: int) -> str:
    """Write an address of which at most 48 bits are left, five times as fast as ipaddress does."""
    groups = [kept >> 112, kept >> 96 & 0xFFFF, kept >> 80 & 0xFFFF]
    while groups and not groups[-1]:
        groups.pop()
    return ":".join(f"{group:x}" for group in groups) + "::"


def order_classes(classes: Mapping[str, Sequence[Network]]) -> tuple[tuple[Network, str], ...]:
    """List the configured networks, the most specific first, so that the first that fits decides.

    Reveals: nothing about a visitor
    """
    named = [(network, name) for name, networks in classes.items() for network in networks]
    return tuple(sorted(named, key=lambda pair: -pair[0].prefixlen))


def classify_network(address: Address, classes: Sequence[tuple[Network, str]]) -> str:
    """Name the class of the most specific network that holds the full address, as ordered by `order_classes`.

    Reveals: which of the configured networks, or `remote`
    """
    return next((name for network, name in classes if address in network), REMOTE)
