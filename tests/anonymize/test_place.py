"""Countries: the bundled file, foreign record shapes, and how little a country says."""

import ipaddress
import lzma
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import maxminddb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maxminddb.types import Record

from anonproxy.anonymize.place import (
    CACHED_NETWORKS,
    KEEP_BITS,
    MAX_BLOCKS,
    CountryLookup,
    days_old,
    load_bundled_country,
    parse_country,
)
from anonproxy.model.vocabularies import COUNTRIES, UNKNOWN_COUNTRY

BUNDLED = files("anonproxy.anonymize").joinpath("data", "country.mmdb.xz")
READER = load_bundled_country()
LOOKUP = CountryLookup(READER)
VOCABULARY = COUNTRIES | {UNKNOWN_COUNTRY}


@pytest.mark.parametrize(
    ("record", "country"),
    [
        ({"country": {"iso_code": "US", "geoname_id": 6252001}, "city": {"names": {"en": "Greenwich"}}}, "US"),
        ({"country_code": "DE"}, "DE"),
        ({"country": {"iso_code": "us"}}, "??"),
        ({"country": {"iso_code": "XK"}}, "??"),
        ({"country_code": "EU"}, "??"),
        ({"country_code": "A1"}, "??"),
        ({"country_code": "??"}, "??"),
        ({"country": {}}, "??"),
        ({"country": "US"}, "??"),
        ({"registered_country": {"iso_code": "US"}}, "??"),
        ({"country": {"iso_code": 17}}, "??"),
        ("US", "??"),
        (["US"], "??"),
        (None, "??"),
    ],
)
def test_reads_both_shapes(record: object, country: str) -> None:
    """A code of ISO 3166-1 is read from either shape; regions, proxies and damage are unknown."""
    assert parse_country(record) == country


@pytest.mark.parametrize(
    ("address", "country"),
    [
        ("8.8.8.8", "US"),
        ("193.0.6.139", "NL"),
        ("133.11.0.1", "JP"),
        ("2001:7fd::1", "NL"),
        ("2001:200::1", "JP"),
        ("2601:19b::1", "US"),
        ("::ffff:8.8.8.8", "US"),
        ("192.168.1.1", "??"),
        ("127.0.0.1", "??"),
        ("203.0.113.9", "??"),
        ("::1", "??"),
        ("fe80::1%eth0", "??"),
        ("2001:db8::1", "??"),
    ],
)
def test_knows_public_addresses(address: str, country: str) -> None:
    """Without a download or a key, well-known networks have their country and private ones have none."""
    assert LOOKUP.country(ipaddress.ip_address(address)) == country


def test_bundled_file_is_whole(tmp_path: Path) -> None:
    """The bundled file names nearly every country, nothing else, and says whose work it is."""
    plain = tmp_path / "country.mmdb"
    plain.write_bytes(lzma.decompress(BUNDLED.read_bytes()))
    with maxminddb.open_database(plain) as reader:  # from a file the C extension walks it in no time
        found = {parse_country(record) for _, record in reader}
    assert found <= COUNTRIES
    assert len(found) > 230
    assert "IPFire Location" in READER.metadata().description["en"]
    assert "CC BY-SA 4.0" in READER.metadata().description["en"]


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(min_value=0))
def test_says_no_more_than_the_network(address: IPv4Address | IPv6Address, noise: int) -> None:
    """Addresses that share the /24 or the /32 share the country, and every country is in the vocabulary."""
    drop_bits = address.max_prefixlen - KEEP_BITS[address.max_prefixlen]
    network = int(address) >> drop_bits << drop_bits
    neighbour = type(address)(network | noise % (1 << drop_bits))
    if not (isinstance(address, IPv6Address) and network == 0):  # ::/32 also holds the IPv4-mapped addresses
        assert LOOKUP.country(address) == LOOKUP.country(neighbour)
    assert LOOKUP.country(address) in VOCABULARY


class FakeReader:
    """Answer from a table of networks like a country file, and keep what was asked."""

    def __init__(self, *rows: tuple[str, str]) -> None:
        self.rows = {ipaddress.ip_network(cidr): country for cidr, country in rows}
        self.asked: list[IPv4Address | IPv6Address] = []

    def get_with_prefix_len(self, ip_address: IPv4Address | IPv6Address) -> tuple[Record | None, int]:
        """Look an address up as maxminddb does."""
        self.asked.append(ip_address)
        found = next((network for network in self.rows if ip_address in network), None)
        return ({"country_code": self.rows[found]}, found.prefixlen) if found else (None, ip_address.max_prefixlen)


def test_asks_by_network_once() -> None:
    """The file is asked for a network, never for an address, and once while the cache holds it."""
    reader = FakeReader(("198.51.96.0/20", "CA"), ("2001:db8::/32", "CA"))
    lookup = CountryLookup(reader)
    for last in range(1, 255):
        assert lookup.country(IPv4Address(f"198.51.100.{last}")) == "CA"
        assert lookup.country(IPv6Address(f"2001:db8:{last:x}::{last:x}")) == "CA"
    assert reader.asked == [IPv4Address("198.51.100.0"), IPv6Address("2001:db8::")]


@pytest.mark.parametrize(
    ("rows", "country"),
    [
        ([("203.0.113.0/26", "FR"), ("203.0.113.64/26", "BE"), ("203.0.113.128/25", "BE")], "BE"),
        ([("203.0.113.142/31", "GB")], "GB"),
        ([("203.0.113.0/25", "NL"), ("203.0.113.128/25", "DE")], "DE"),
        ([("203.0.113.0/25", "EU"), ("203.0.113.128/30", "LU")], "LU"),
        ([], "??"),
    ],
)
def test_takes_what_holds_most(rows: list[tuple[str, str]], country: str) -> None:
    """Where a file cuts a network up, all its addresses get the country that holds most of it."""
    lookup = CountryLookup(FakeReader(*rows))
    assert {lookup.country(address) for address in ipaddress.ip_network("203.0.113.0/24")} == {country}


def test_steps_are_bounded() -> None:
    """A file that cuts a /32 into billions of blocks is asked for the first few only."""
    reader = FakeReader()
    assert CountryLookup(reader).country(IPv6Address("2001:db8::1")) == "??"
    assert len(reader.asked) == MAX_BLOCKS


def test_cache_is_bounded() -> None:
    """However many networks come, the cache holds a fixed number."""
    reader = FakeReader(("0.0.0.0/0", "CA"))
    lookup = CountryLookup(reader)
    for network in range(CACHED_NETWORKS + 1):
        lookup.country(IPv4Address(network << 8))
    lookup.country(IPv4Address(0))
    assert len(reader.asked) == CACHED_NETWORKS + 2


@pytest.mark.parametrize("error", [ValueError("an IPv4-only file"), maxminddb.InvalidDatabaseError("damaged")])
def test_survives_a_file_that_cannot_answer(error: Exception) -> None:
    """A file without IPv6, or a damaged one, makes the country unknown and raises nothing."""

    class BrokenReader:
        def get_with_prefix_len(self, ip_address: IPv4Address | IPv6Address) -> tuple[Record | None, int]:
            raise error

    assert CountryLookup(BrokenReader()).country(IPv6Address("2600::1")) == "??"


def test_counts_days() -> None:
    """The age of a file is counted in whole days from its build."""
    built = datetime.fromtimestamp(READER.metadata().build_epoch, UTC)
    assert days_old(READER, built + timedelta(hours=23)) == 0
    assert days_old(READER, built + timedelta(days=31, hours=1)) == 31
