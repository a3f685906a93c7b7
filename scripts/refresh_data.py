"""Rebuild or review the lists under anonproxy/*/data. Where each comes from: docs/data-sources.md.

Nothing is downloaded: the sources are a Debian package and development dependencies, refreshed by their own tools.
"""

import ipaddress
import json
import lzma
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click
from babel.core import get_global
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from mmdb_writer import MMDBWriter
from netaddr import IPNetwork, IPSet

from anonproxy.anonymize import agent, referrer
from anonproxy.anonymize.place import KEEP_BITS
from anonproxy.model.vocabularies import COUNTRIES

COUNTRY_FILE = Path(__file__).parents[1] / "anonproxy/anonymize/data/country.mmdb.xz"
WORLD_FILE = Path(__file__).parents[1] / "anonproxy/web/data/world.json"
WORLD_WIDTH = 1000
# Units of the map: what is nearer to a straight line than this is drawn as one, and what is smaller is left out.
WORLD_TOLERANCE = 0.55
SMALLEST_ISLAND = 2.5
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


type Point = tuple[float, float]


def project(longitude: float, latitude: float) -> Point:
    """Place a point on the map: Equal Earth, so that a country's colour covers as much as the country does.

    The map is cut along 169° W, through the Bering Strait, where it cuts no country in two.

    Source: Šavrič, Patterson, Jenny, "The Equal Earth map projection", IJGIS 2018
    """
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    theta = math.asin(math.sqrt(3) / 2 * math.sin(math.radians(latitude)))
    slope = a1 + 3 * a2 * theta**2 + 7 * a3 * theta**6 + 9 * a4 * theta**8
    x = 2 / math.sqrt(3) * math.radians((longitude + 169) % 360 - 180) * math.cos(theta) / slope
    y = theta * (a1 + a2 * theta**2 + a3 * theta**6 + a4 * theta**8)
    unit = WORLD_WIDTH / 2 / 2.7066  # half the length of the equator
    return WORLD_WIDTH / 2 + x * unit, WORLD_WIDTH * 0.2415 - y * unit


def simplify(line: list[Point]) -> list[Point]:
    """Leave out points that hardly bend a line (Douglas and Peucker). Its ends stay, so that neighbours still meet."""
    (x1, y1), (x2, y2) = line[0], line[-1]
    length = math.hypot(x2 - x1, y2 - y1)

    def distance(point: Point) -> float:
        x, y = point
        return abs((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / length if length else math.hypot(x - x1, y - y1)

    far = max(range(len(line)), key=lambda index: distance(line[index]))
    if len(line) < 3 or distance(line[far]) < WORLD_TOLERANCE:
        return [line[0], line[-1]]
    return [*simplify(line[: far + 1])[:-1], *simplify(line[far:])]


def measure_area(ring: list[Point]) -> float:
    """Return the area of a ring (Gauss)."""
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True))) / 2


def draw_path(rings: list[list[Point]]) -> str:
    """Write rings as the `d` of an SVG path, in whole units but for a digit; the largest ring is always drawn."""
    largest, *rest = sorted(rings, key=measure_area, reverse=True)
    islands = [ring for ring in rest if measure_area(ring) >= SMALLEST_ISLAND and not is_cut(ring)]
    return "".join(map(draw_ring, (largest, *islands)))


def is_cut(ring: list[Point]) -> bool:
    """Tell whether the edge of the map runs through a ring: an island of the Bering Strait."""
    return max(x for x, _ in ring) - min(x for x, _ in ring) > WORLD_WIDTH / 2


def draw_ring(ring: list[Point]) -> str:
    """Write one ring; a country too small to be seen becomes a small square."""
    if measure_area(ring) < SMALLEST_ISLAND:
        x, y = (sum(axis) / len(ring) for axis in zip(*ring, strict=True))
        return f"M{x - 1.2:.1f} {y - 1.2:.1f}h2.4v2.4h-2.4z"
    tenths = [(round(x * 10), round(y * 10)) for x, y in ring]
    steps = [(x2 - x1, y2 - y1) for (x1, y1), (x2, y2) in pairwise(tenths)]
    moves = " ".join(f"{dx / 10:g} {dy / 10:g}" for dx, dy in steps[:-1] if dx or dy)
    return f"M{tenths[0][0] / 10:g} {tenths[0][1] / 10:g}l{moves.replace(' -', '-')}z"


@main.command()
@click.argument("source", type=Path)
def world(source: Path) -> None:
    """Rebuild world.json from SOURCE, the countries-50m.json of `npm pack world-atlas`."""
    topology = json.loads(source.read_text(encoding="utf-8"))
    (scale_x, scale_y), (left, top) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        line = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            line.append(project(x * scale_x + left, y * scale_y + top))
        arcs.append(simplify(line))

    def join(numbers: list[int]) -> list[Point]:
        lines = [arcs[number] if number >= 0 else arcs[~number][::-1] for number in numbers]
        return [point for line in lines for point in line[:-1]] + [lines[0][0]]

    aliases = get_global("territory_aliases")
    paths = {}
    for shape in topology["objects"]["countries"]["geometries"]:
        [code] = aliases.get(shape.get("id"), ["-"])
        polygons = [shape["arcs"]] if shape["type"] == "Polygon" else shape["arcs"]
        if code != "AQ":  # it would take a quarter of the map
            paths.setdefault(code, []).extend(join(numbers) for polygon in polygons for numbers in polygon)
    drawn = {code: draw_path(rings) for code, rings in sorted(paths.items())}
    WORLD_FILE.write_text(json.dumps(drawn, indent=0) + "\n", encoding="utf-8")
    click.echo(f"{WORLD_FILE.name}: {WORLD_FILE.stat().st_size:,} bytes, {len(drawn)} shapes")


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
