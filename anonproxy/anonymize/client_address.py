"""Which address is the visitor's: the peer, or the rightmost hop that isn't a trusted proxy."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from anonproxy.anonymize.address import Address, parse_client
from anonproxy.model.settings import Network, ProxySettings

# A chain is a few hops long; whoever sends hundreds wants to make us work.
MAX_HOPS: Final = 32

_NOT_TRUSTED: Final = "the peer is not a trusted proxy, so its word about others is not taken"
_NO_HEADER: Final = "the peer is a trusted proxy, but named no client"
_CHOSEN: Final = "hop {hop} from the right is the first that is not a trusted proxy"
_UNREADABLE: Final = "hop {hop} from the right is not an address, and addresses are never guessed"
_COUNTED: Final = "hop {hop} from the right, because proxy.trusted_hops says how many proxies stand in front"
_TOO_FEW: Final = "fewer hops than proxy.trusted_hops says, so somebody came past the proxies; nothing is guessed"
_ALL_TRUSTED: Final = "every hop is a trusted proxy, so the farthest is the client"

# One element of Forwarded (RFC 7239 section 4) ends at a comma outside quotes; its `for` may be quoted. Quotes that are
# not closed reach to the end: to look behind each of them for others would take seconds.
_ELEMENT: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))+', re.DOTALL)
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))', re.IGNORECASE)

# How a listener for both IPv4 and IPv6 shows an IPv4 peer (RFC 4291 section 2.5.5.2).
_MAPPED: Final = re.compile(r"\[?::ffff:", re.IGNORECASE)


class ClientChoice(NamedTuple):
    """The address that was taken, which hop from the right it was (0 is the peer), and why."""

    raw_client: str
    hop: int
    why: str


def is_trusted(raw_hop: str, trusted: Sequence[Network]) -> bool:
    """Tell whether a hop is one of the configured proxies.

    An IPv4 address that IPv6 carries (6to4, NAT64, …) is anybody's; only a dual-stack listener's own form is not.

    Reveals: whether it is one of the proxies
    """
    return bool(trusted) and _is_among(raw_hop, parse_client(raw_hop), trusted)


def _is_among(raw_hop: str, address: Address | None, trusted: Sequence[Network]) -> bool:
    if address is None or (address.version == 4 and raw_hop.count(":") > 1 and not _MAPPED.match(raw_hop)):
        return False
    return any(address in network for network in trusted)


def is_trusted_peer(raw_peer: str, proxy: ProxySettings) -> bool:
    """Tell whether whoever connects is one of the proxies in front: by its address, or because all are.

    Reveals: whether it is one of the proxies
    """
    return proxy.trusted_hops > 0 or is_trusted(raw_peer, proxy.trusted_proxies)


def choose_client(raw_peer: str, raw_x_forwarded_for: str, raw_forwarded: str, proxy: ProxySettings) -> ClientChoice:
    """Choose the client's address among the hops, by the proxies' number if that is configured, else by their list.

    Only the peer is certain; each trusted hop vouches for the one to its left and for no other.

    Reveals: the full address: what this returns never leaves the room that asks
    """
    if not is_trusted_peer(raw_peer, proxy):
        return ClientChoice(raw_peer, 0, _NOT_TRUSTED)
    return choose_hop(raw_peer, parse_x_forwarded_for(raw_x_forwarded_for) or parse_forwarded(raw_forwarded), proxy)


def choose_hop(raw_peer: str, raw_hops: Sequence[str], proxy: ProxySettings) -> ClientChoice:
    """Choose among the hops that a trusted peer names, farthest first; if it names none, it is the client itself.

    Reveals: the full address: what this returns never leaves the room that asks
    """
    trusted = proxy.trusted_proxies
    if count := proxy.trusted_hops:
        if len(raw_hops) < count:
            return ClientChoice("", len(raw_hops), _TOO_FEW)
        return ClientChoice(raw_hops[-count], count, _COUNTED.format(hop=count))
    for hop, raw_hop in enumerate(reversed(raw_hops[-MAX_HOPS:]), 1):
        address = parse_client(raw_hop)
        if not _is_among(raw_hop, address, trusted):
            return ClientChoice(raw_hop, hop, (_CHOSEN if address else _UNREADABLE).format(hop=hop))
    if not raw_hops:
        return ClientChoice(raw_peer, 0, _NO_HEADER)
    farthest = min(len(raw_hops), MAX_HOPS)
    return ClientChoice(raw_hops[-farthest], farthest, _ALL_TRUSTED)


def parse_x_forwarded_for(raw_value: str) -> list[str]:
    """Return the hops of X-Forwarded-For, farthest first. An empty element is a hop that can't be read.

    Reveals: the full addresses: what this returns never leaves the room that asks
    """
    return [raw_hop.strip() for raw_hop in raw_value.split(",")] if raw_value.strip() else []


def parse_forwarded(raw_value: str) -> list[str]:
    """Return the `for` of each element of Forwarded, farthest first; "" where it is missing.

    Reveals: the full addresses: what this returns never leaves the room that asks
    Source:  RFC 7239 sections 4 and 6
    """
    found = [_FOR.search(element) for element in _ELEMENT.findall(raw_value) if element.strip()]
    return [(match[1] or match[2] or "") if match else "" for match in found]
