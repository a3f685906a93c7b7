"""Rebuild or review the lists under anonproxy/anonymize/data. Where each comes from: docs/data-sources.md.

Nothing is downloaded: the sources are a Debian package and development dependencies, refreshed by their own tools.
"""

import ipaddress
import lzma
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from mmdb_writer import MMDBWriter
from netaddr import IPNetwork, IPSet

from anonproxy.anonymize import agent, referrer
from anonproxy.anonymize.place import KEEP_BITS
from anonproxy.model.vocabularies import COUNTRIES

COUNTRY_FILE = Path(__file__).parents[1] / "anonproxy/anonymize/data/country.mmdb.xz"
ATTRIBUTION = "IPFire Location, https://location.ipfire.org/, CC BY-SA 4.0; coarsened to /24 and /32"


class Range(NamedTuple):
    """Consecutive addresses, or networks, of one country."""

    first: int
    last: int
    country: str


def parse_number(text: str) -> int:
    """Read one end of a range: an integer for IPv4, an address for IPv6."""
    return int(text) if text.isdecimal() else int(ipaddress.IPv6Address(text))


def read_ranges(path: Path) -> Iterator[Range]:
    """Yield the "first,last,country" lines of a tor-geoipdb file whose country is assigned by ISO 3166-1."""
    for line in path.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            first, last, country = line.split(",")
            if country in COUNTRIES:
                yield Range(parse_number(first), parse_number(last), country)


def read_date(path: Path) -> datetime:
    """Return the day that the source itself was generated; its header says so."""
    with path.open(encoding="ascii") as lines:
        stamp = next(line for line in lines if line.startswith("# Generated:"))
    return parsedate_to_datetime(stamp.removeprefix("# Generated:").strip()).astimezone(UTC)


def coarsen_ranges(ranges: Iterable[Range], drop_bits: int) -> list[Range]:
    """Give each network of `drop_bits` host bits the one country that holds most of it, and join neighbours.

    Ties go to the alphabetically first code, so that the same source always gives the same file.
    """
    size = 1 << drop_bits
    whole: list[Range] = []
    shares: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for first, last, country in ranges:
        head, tail, end = -(-first // size), (last + 1) // size, last + 1
        if head < tail:
            whole.append(Range(head, tail - 1, country))
        head_end = min(head * size, end)
        tail_start = max(tail * size, head_end)
        for start, stop in ((first, head_end), (tail_start, end)):
            if start < stop:
                shares[start // size][country] += stop - start
    split = [Range(unit, unit, min(votes, key=lambda c: (-votes[c], c))) for unit, votes in shares.items()]
    joined: list[Range] = []
    for block in sorted(whole + split):
        if joined and joined[-1].country == block.country and joined[-1].last + 1 == block.first:
            joined[-1] = joined[-1]._replace(last=block.last)
        else:
            joined.append(block)
    return joined


def split_range(block: Range, drop_bits: int, bits: int) -> Iterator[tuple[int, int]]:
    """Yield the CIDR networks, as address and prefix length, that make up one coarse range."""
    first, end = block.first, block.last + 1
    while first < end:
        step = min(first & -first or 1 << bits, 1 << ((end - first).bit_length() - 1))
        yield first << drop_bits, bits - drop_bits - step.bit_length() + 1
        first += step


@click.group(help=__doc__)
def main() -> None:
    """Hold the commands together."""


@main.command()
@click.option("--geoip", type=Path, default="/usr/share/tor/geoip", show_default=True)
@click.option("--geoip6", type=Path, default="/usr/share/tor/geoip6", show_default=True)
def countries(geoip: Path, geoip6: Path) -> None:
    """Rebuild country.mmdb.xz from Debian's tor-geoipdb; the same source gives the same bytes. Half a minute."""
    built = read_date(geoip)

    class DatedWriter(MMDBWriter):
        def _build_meta(self) -> dict[str, Any]:
            return {**super()._build_meta(), "build_epoch": int(built.timestamp())}

    networks: defaultdict[str, list[IPNetwork]] = defaultdict(list)
    for path, bits, version in ((geoip, 32, 4), (geoip6, 128, 6)):
        drop_bits = bits - KEEP_BITS[bits]
        for block in coarsen_ranges(read_ranges(path), drop_bits):
            networks[block.country] += [
                IPNetwork(network, version=version) for network in split_range(block, drop_bits, bits)
            ]
    writer = DatedWriter(
        ip_version=6,
        ipv4_compatible=True,
        database_type="anonproxy-country",
        languages=["en"],
        description=ATTRIBUTION,
    )
    for country in sorted(networks):
        writer.insert_network(IPSet(networks[country]), {"country": {"iso_code": country}})
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "country.mmdb")
        writer.to_db_file(str(plain))
        COUNTRY_FILE.write_bytes(lzma.compress(plain.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    click.echo(f"{COUNTRY_FILE.name}: {COUNTRY_FILE.stat().st_size:,} bytes, {len(networks)} countries")
    click.echo(f"source of {built:%Y-%m-%d}: write that date into docs/data-sources.md")


@main.command()
def bots() -> None:
    """Show which known robots bots.toml misses, and which of its names no known robot uses any more."""
    samples = [text for crawler in CRAWLER_USER_AGENTS_DATA for text in crawler["instances"]]
    missed = [text for text in samples if not agent.parse_agent(text).bot]
    folded = "\n".join(samples).lower()
    click.echo("\n".join(f"missed: {text}" for text in missed))
    click.echo("\n".join(f"unseen: {name} ({bot})" for name, bot in agent.BOT_NAMES if name not in folded))
    click.echo(f"{len(samples)} samples, recall {1 - len(missed) / len(samples):.3f}")


@main.command()
def referrers() -> None:
    """Show the entries of referrers.toml that today's Public Suffix List no longer takes for a site."""
    entries = [*referrer.CHANNEL_BY_SITE, *referrer.ALIASES]
    wrong = [entry for entry in entries if not referrer.parent_domains(entry)]
    click.echo("\n".join(f"no site: {entry}" for entry in wrong))
    click.echo(f"{len(entries)} entries, {len(wrong)} wrong")


if __name__ == "__main__":
    main()
