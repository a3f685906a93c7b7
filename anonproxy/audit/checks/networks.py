"""Networks are truncated, hide no address in their bits, and were shared by k visits."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome, look_at_tables, values
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.limits import Limits
from anonproxy.audit.specimen import SEALED, add_words, change_rows
from anonproxy.audit.tables import Table, Value
from anonproxy.audit.tree import Tier
from anonproxy.model.settings import Network
from anonproxy.model.vocabularies import Origin

TIERS_LOOKED_AT: Final[tuple[Tier, ...]] = ("hot", "hits", "vocabulary")

# Ranges whose addresses carry an IPv4 address. Source: RFC 4291 section 2.5.5, RFC 6052, RFC 8215, RFC 4380, RFC 3056.
EMBEDDING: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "::/96",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2002::/16",
    )
)


def look(evidence: Evidence) -> Outcome:
    """Parse every stored network, in rows, dictionary pages and vocabularies."""

    def find(table: Table) -> Iterator[Finding]:
        limits = evidence.limits_on(table.place)
        if table.place.tier == "vocabulary":
            for (column, value), row in table.distinct("column", "value").items():
                if column == "network":
                    yield from _judge(limits, value, f"{table.path}, row {row + 1}")
            return
        for _, value, where in values(table, ("network",)):
            if value is not None:
                yield from _judge(limits, value, where)
                yield from _find_unadmitted(evidence, table, value, where)

    return look_at_tables(evidence, TIERS_LOOKED_AT, find, ("network", "column", "value"))


def _judge(limits: Limits, value: Value, where: str) -> Iterator[Finding]:
    network = parse_network(value)
    if not limits.stores_network:
        yield Finding(where, "a network, though the configuration stores none")
    if network is None:
        yield Finding(where, "not a network in its plain form with host bits zero")
        return
    longest = limits.ipv4_prefix if network.version == 4 else limits.ipv6_prefix
    if network.prefixlen > longest:
        yield Finding(where, f"an IPv{network.version} network of /{network.prefixlen}, longer than /{longest}")
    if isinstance(network, ipaddress.IPv6Network) and any(network.subnet_of(range_) for range_ in EMBEDDING):
        yield Finding(where, "in a range whose addresses carry an IPv4 address")


def _find_unadmitted(evidence: Evidence, table: Table, value: Value, where: str) -> Iterator[Finding]:
    place = table.place
    words = evidence.vocabulary(place.site, place.day) if place.site and place.day else None
    word = (words or {}).get(("network", value))
    k = evidence.limits_on(place).k
    if not (word and word.origin == Origin.ADMITTED and isinstance(word.visits, int) and word.visits >= k):
        yield Finding(where, f"the vocabulary doesn't say that {k} visits shared it")


def parse_network(value: Value) -> Network | None:
    """Parse a network; None for anything but the canonical form of one."""
    try:
        network = ipaddress.ip_network(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return network if network and str(network) == value else None


def sabotage(root: Path) -> None:
    """Store a whole address as a network, and admit it."""
    add_words(root, ("network", "203.0.113.9/32", "admitted", 10))
    change_rows(root, SEALED, lambda rows: rows[0].update(network="203.0.113.9/32"))


CHECK: Final = Check(
    code="networks",
    claim="Networks are wide, and at least k visits shared each",
    how="Each distinct network is parsed: host bits zero, no longer than allowed, in no range that embeds an IPv4 "
    "address, and admitted by enough visits according to the vocabulary of its day.",
    look=look,
    sabotage=sabotage,
)
