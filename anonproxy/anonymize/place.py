"""Country of a client address, from a file in the MaxMind DB format.

The bundled file works without a download or a key; where the sysadmin keeps a GeoLite2 file, the caller opens it
and passes the reader in. Source, licence and date of the bundled file: docs/data-sources.md.
"""

import io
import lzma
from collections import Counter
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

import maxminddb
from maxminddb.types import Record

from anonproxy.model.vocabularies import COUNTRIES, UNKNOWN_COUNTRY

# Leading bits that a country is looked up by, for 32-bit and for 128-bit addresses. They are the longest networks
# that are kept by default, so a country says nothing that the network would not, and the cache below holds no
# address. Measured against the source: 0.04 % of IPv4 addresses and 0.3 % of IPv6 /32 networks get another country
# than by the whole address.
KEEP_BITS: Final = {32: 24, 128: 32}
# The first three bits of every IPv6 address that belongs somewhere (RFC 4291 section 2.4). Below it stand IPv4
# addresses in the file's own notation, which must not be found by it.
GLOBAL_UNICAST: Final = 0b001
# A network that the file cuts into more blocks than these is judged by its first ones: a /24 has 256 addresses.
MAX_BLOCKS: Final = 256
FAMILIES: Final[dict[int, type[IPv4Address | IPv6Address]]] = {32: IPv4Address, 128: IPv6Address}

# Networks that are remembered, about 200 bytes each.
CACHED_NETWORKS: Final = 65_536


class CountryReader(Protocol):
    """What a country file must answer; `maxminddb.Reader` does."""

    def get_with_prefix_len(self, ip_address: IPv4Address | IPv6Address) -> tuple[Record | None, int]: ...


class CountryLookup:
    """Countries by client address, remembering the networks seen last.

    Reveals: the country that holds most of the address's /24 (IPv4) or /32 (IPv6)
    """

    def __init__(self, reader: CountryReader) -> None:
        self._reader = reader
        self._cached = lru_cache(CACHED_NETWORKS)(self._read)

    def country(self, address: IPv4Address | IPv6Address) -> str:
        """Name the country of an address, `??` if the file doesn't know it.

        Reveals: the country that holds most of the address's /24 (IPv4) or /32 (IPv6)
        """
        client = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
        bits = client.max_prefixlen
        if bits == 128 and int(client) >> 125 != GLOBAL_UNICAST:
            return UNKNOWN_COUNTRY
        return self._cached(bits, int(client) >> (bits - KEEP_BITS[bits]))

    def _read(self, bits: int, network: int) -> str:
        drop_bits = bits - KEEP_BITS[bits]
        first, end = network << drop_bits, (network + 1) << drop_bits
        shares: Counter[str] = Counter()
        try:
            for _ in range(MAX_BLOCKS):
                record, prefix = self._reader.get_with_prefix_len(FAMILIES[bits](first))
                after = min((first | ((1 << (bits - prefix)) - 1)) + 1, end)
                shares[parse_country(record)] += after - first
                first = after
                if first == end:
                    break
        except (ValueError, maxminddb.InvalidDatabaseError):  # an IPv4-only file, a damaged one
            return UNKNOWN_COUNTRY
        shares.pop(UNKNOWN_COUNTRY, None)
        return min(shares, key=lambda country: (-shares[country], country), default=UNKNOWN_COUNTRY)


def parse_country(record: object) -> str:
    """Read the country out of either shape of record; anything else is `??`.

    Shape:   {"country": {"iso_code": "US"}} (MaxMind) or {"country_code": "US"} (others)
    Reveals: an ISO 3166-1 alpha-2 code
    Source:  https://dev.maxmind.com/geoip/docs/databases/city-and-country
    """
    match record:
        case {"country": {"iso_code": str(code)}} | {"country_code": str(code)} if code in COUNTRIES:
            return code
        case _:
            return UNKNOWN_COUNTRY


def load_bundled_country() -> maxminddb.Reader:
    """Open the country file that the package carries; 3 MB in memory.

    Reveals: nothing about a visitor
    """
    return maxminddb.open_database(io.BytesIO(read_bundled_country()), maxminddb.MODE_FD)


def read_bundled_country() -> bytes:
    """Unpack the country file that the package carries.

    Reveals: nothing about a visitor
    """
    return lzma.decompress(files("anonproxy.anonymize").joinpath("data", "country.mmdb.xz").read_bytes())


def days_old(reader: maxminddb.Reader, now: datetime) -> int:
    """Count the days since a country file was built, for a warning against GEOLITE2_MAX_DAYS.

    Units:   whole days
    Reveals: nothing about a visitor
    """
    return int(now.timestamp() - reader.metadata().build_epoch) // 86_400
