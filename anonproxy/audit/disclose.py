"""What could be handed over: what a store holds, and what it can answer about a day, an address or a card number.

Made for a director and for counsel. Each answer rests on what was found in the bytes and says so; nothing is asserted
from how the software is meant to work, but for one thing that no file can show: keys are in memory only.
The value that is asked about is never repeated.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from anonproxy.audit.evidence import Evidence
from anonproxy.audit.ledger import FILE, PUBLIC_KEY, Entry, LedgerBroken, verify_lines
from anonproxy.audit.marks import SHORT_BYTES, Mark, encodings
from anonproxy.audit.search import SearchResult, search
from anonproxy.audit.tables import Column, Table, Value
from anonproxy.audit.tree import HOUR_S, Tier, day_start
from anonproxy.model.columns import TIERS, VOCABULARY_COLUMNS
from anonproxy.model.columns import Column as DeclaredColumn
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Every table there can be, in the order in which rows pass through them.
TITLES: Final[Mapping[Tier, str]] = {
    "hot": "single requests, with a number that links those of one visit",
    "hits": "single requests, unlinked",
    "daily": "totals of whole days",
    "vocabulary": "the values that columns may hold",
}
COLUMNS: Final[tuple[DeclaredColumn, ...]] = (
    *(column for tier in TIERS.values() for column in tier),
    *VOCABULARY_COLUMNS,
)
DECLARED: Final = frozenset(column.name for column in COLUMNS)

# Source: RFC 6052 section 2.1
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Holding:
    """One table: what it is, from when to when, how much of it, and its first row."""

    tier: Tier
    title: str
    term: str
    sites: tuple[str, ...]
    first: date
    last: date
    files: int
    size_bytes: int
    rows: int
    sample_path: str
    sample: Mapping[str, str]  # by column, a real row of the oldest file


@dataclass(frozen=True, slots=True)
class Custody:
    """What the ledger tells of the store, once it is verified; `broken` says why it couldn't be."""

    entries: tuple[Entry, ...]
    broken: str = ""

    def count(self, event: str) -> int:
        """Count the entries of a kind."""
        return sum(entry.event == event for entry in self.entries)

    def last_s(self, *events: str) -> int | None:
        """Give the time of the newest entry of some kinds.

        Units: unix seconds
        """
        return max((entry.time_s for entry in self.entries if entry.event in events), default=None)


@dataclass(frozen=True, slots=True)
class Point:
    """One thing that can be said, and what it rests on."""

    answer: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What can be answered about something, and whether anything was found that shouldn't be there."""

    about: str
    points: tuple[Point, ...]
    found: tuple[str, ...] = ()
    unsearched: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Tell whether everything could be searched, and nothing was found."""
        return not (self.found or self.unsearched)


@dataclass(frozen=True, slots=True)
class Disclosure:
    """All that a store could disclose."""

    root: str
    read_s: float
    holdings: tuple[Holding, ...]
    custody: Custody
    unread: tuple[str, ...]
    answers: tuple[Answer, ...]


def disclose(
    evidence: Evidence,
    *,
    settings: Settings | None = None,
    day: date | None = None,
    address: str | None = None,
    card: str | None = None,
) -> Disclosure:
    """Say what a store holds, and what it can answer.

    Raises: OperatorError for an address that is none, or a value too short to search for
    """
    custody = read_custody(evidence)
    answers: list[Answer] = []
    if day is not None:
        answers.append(ask_day(evidence, custody, day))
    if address is not None:
        answers.append(ask_address(evidence, custody, address, settings))
    if card is not None:
        answers.append(ask_card(evidence, card))
    holdings = tuple(holding for tier in TITLES if (holding := read_holding(evidence, tier)))
    return Disclosure(
        str(evidence.root), evidence.now_s, holdings, custody, tuple(evidence.unread(*TITLES)), tuple(answers)
    )


# --- What there is --------------------------------------------------------------------------------------------------


def read_holding(evidence: Evidence, tier: Tier) -> Holding | None:
    """Count a table; None where it has no file."""
    tables = sorted(evidence.tables(tier), key=lambda table: (table.place.starts_at, table.path))
    if not tables:
        return None
    oldest = next((table for table in tables if table.row_count), tables[0])
    limits = evidence.limits
    terms = {
        "hot": f"at most {limits.hot_hours} hours",
        "hits": f"at most {limits.hits_days} days",
        "daily": f"at most {limits.daily_months} months",
        "vocabulary": f"at most {limits.daily_months} months",
    }
    days = [table.place.day for table in tables if table.place.day]
    return Holding(
        tier,
        TITLES[tier],
        terms[tier],
        tuple(sorted({table.place.site for table in tables if table.place.site})),
        min(days),
        max(days),
        len(tables),
        sum(table.node.size_bytes for table in tables),
        sum(table.row_count for table in tables),
        oldest.path,
        render_row(oldest, 0) if oldest.row_count else {},
    )


def render_row(table: Table, row: int) -> dict[str, str]:
    """Write a row for people to read."""
    seconds = {first: time_s for time_s, first in table.seconds("time").items()}
    shown = {}
    for name, column in table.columns.items():
        value = column.distinct[column.codes[row]]
        if name == "time" and column.codes.index(column.codes[row]) in seconds:
            shown[name] = render_time(seconds[column.codes.index(column.codes[row])])
        elif name == "date" and isinstance(value, int):
            shown[name] = str(date(1970, 1, 1) + timedelta(days=value))
        else:
            shown[name] = "" if value is None else str(value)
    return shown


def read_custody(evidence: Evidence) -> Custody:
    """Verify the ledger."""
    content, public_key = evidence.read(f"ledger/{FILE}"), evidence.read(f"ledger/{PUBLIC_KEY}")
    if content is None or public_key is None:
        return Custody((), "there is no ledger, or its public key is missing")
    try:
        return Custody(tuple(verify_lines(content, public_key)))
    except (LedgerBroken, ValueError) as error:
        return Custody((), f"it doesn't verify: {error}")


# --- A day ----------------------------------------------------------------------------------------------------------


def ask_day(evidence: Evidence, custody: Custody, day: date) -> Answer:
    """Say what is held of one day."""
    tables = [table for table in evidence.tables("hot", "hits", "daily") if table.place.day == day]
    rows = [table for table in tables if table.place.tier != "daily"]
    points = [_say_held(tables, day), *_say_deleted(custody, day)]
    if rows:
        points += [_say_times(rows), _say_visits(evidence, rows, day), _say_columns(rows)]
    return Answer(f"the day {day} (from midnight to midnight UTC)", tuple(points))


def _say_held(tables: list[Table], day: date) -> Point:
    counts = Counter({str(table.place.tier): 0 for table in tables})
    for table in tables:
        counts[str(table.place.tier)] += table.row_count
    if not tables:
        return Point("Nothing is held of this day.", f"no file in hot/, hits/ or daily/ has a folder date={day}")
    held = ", ".join(f"{count:,} rows in {tier}" for tier, count in counts.items())
    return Point(
        f"Held of this day: {held}.", f"{len(tables)} file{'s' * (len(tables) > 1)}, every page of which was read"
    )


def _say_deleted(custody: Custody, day: date) -> Iterator[Point]:
    acts = {
        "settled": "Its visit numbers were deleted",
        "imported": "It was made of old logs, without visit numbers,",
        "purged": "Files of this day were deleted because of their age",
    }
    for entry in custody.entries:
        if entry.event in acts and entry.details.get("date") == str(day):
            place = ", ".join(str(entry.details[key]) for key in ("site", "tier") if key in entry.details)
            yield Point(
                f"{acts[entry.event]} at {render_time(entry.time_s)} ({place}).",
                f"entry {entry.seq} of the signed ledger",
            )


def _say_times(tables: list[Table]) -> Point:
    times = {time_s for table in tables for time_s in table.seconds("time")}
    sizes = ((86_400, "in whole days"), (3_600, "in whole hours"), (900, "in quarters of an hour"))
    size = next((name for step_s, name in sizes if all(time_s % step_s == 0 for time_s in times)), "too closely")
    rows = sum(table.row_count for table in tables)
    is_sorted = all(table.first_unsorted_row is None for table in tables)
    order = "tells nothing more" if is_sorted else "may tell more: some rows are not sorted by what they hold"
    return Point(
        f"When a request came can be told {size}; the order of rows {order}.",
        f"{len(times)} distinct times in {rows:,} rows, each compared with the row above it",
    )


def _say_visits(evidence: Evidence, tables: list[Table], day: date) -> Point:
    visits = {visit for table in tables for (visit,) in table.distinct("visit") if visit is not None}
    if not visits:
        return Point(
            "Which requests one person made can't be told: no row holds a number of a visit.",
            "no file of this day has a column visit with anything in it",
        )
    until = render_time(day_start(day) + evidence.limits.hot_hours * HOUR_S)
    return Point(
        f"Which requests belong to one visit can still be told, for {len(visits):,} visits; whose visit, can't. Who "
        "already knows when somebody came, and with what device, could guess which visit was theirs. The numbers are "
        f"deleted by {until} at the latest.",
        "the column visit of the files in hot/; asked about an address, this command says what a number leads to",
    )


def _say_columns(tables: list[Table]) -> Point:
    names = {name for table in tables for name in table.columns}
    if undeclared := names - DECLARED:
        return Point("There are columns that this software doesn't write.", f"undeclared columns: {len(undeclared)}")
    return Point(
        "No column is for an address, a name, a card number, an account, a search or a cookie.",
        f"of each request these are held: {', '.join(sorted(names))}",
    )


# --- An address -----------------------------------------------------------------------------------------------------


def parse_address(text: str) -> Address:
    """Read an address as people write it.

    Raises: OperatorError when it is none
    """
    try:
        return ipaddress.ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        raise OperatorError("that is not an IP address. Write one, like 192.0.2.1 or 2001:db8::1") from None


def unmap_address(address: Address) -> Address:
    """Give the IPv4 address that an IPv6 address carries, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    carried = (
        address.ipv4_mapped,
        address.sixtofour,
        address.teredo[1] if address.teredo else None,
        ipaddress.IPv4Address(address.packed[12:]) if address in NAT64 else None,
    )
    return next((found for found in carried if found), address)


def ask_address(evidence: Evidence, custody: Custody, text: str, settings: Settings | None) -> Answer:
    """Say what can be answered about an address.

    Raises: OperatorError when it is none
    """
    written = parse_address(text)
    address = unmap_address(written)
    marks = [Mark("the address", text) for text in {str(address), str(written)} if len(text) >= SHORT_BYTES]
    point, found, unsearched = _say_searched(evidence, marks, "the address")
    points = [
        point,
        *_say_networks(evidence, address),
        *_say_class(evidence, address, settings),
        _say_silent_rows(evidence),
        _say_memory(settings),
        _say_keys(evidence, custody),
    ]
    return Answer("the address that was given", tuple(points), found, unsearched)


def _say_networks(evidence: Evidence, address: Address) -> Iterator[Point]:
    limits = evidence.limits
    prefix = limits.ipv4_prefix if address.version == 4 else limits.ipv6_prefix
    network = ipaddress.ip_network((address, prefix), strict=False)
    size = f"{network.num_addresses:,} addresses" if address.version == 4 else f"2^{128 - prefix} addresses"
    found: dict[str, list[tuple[Table, int]]] = {}
    for table in evidence.tables("hot", "hits"):
        for value, count in _count_values(table.columns.get("network")):
            if isinstance(value, str) and _contains(value, address):
                found.setdefault(value, []).append((table, count))
    if not found:
        yield Point(
            f"The narrowest network that could stand for it is {network} ({size}). Neither it nor a wider one around "
            "it is held, so no row leads even that far.",
            "the column network of every file in hot/ and hits/",
        )
    for value, places in sorted(found.items()):
        rows = sum(count for _, count in places)
        days = sorted({table.place.day for table, _ in places if table.place.day})
        crowd = _smallest_crowd(evidence, value, places)
        held = ipaddress.ip_network(value)
        among = f"{held.num_addresses:,}" if held.version == 4 else f"2^{128 - held.prefixlen}"
        yield Point(
            f"Its network {value} stands in {rows:,} rows, from {days[0]} to {days[-1]}: requests from any of {among} "
            f"addresses. Which of them, can't be told; nor that the address asked about is among them.",
            f"the vocabularies say that at least {crowd} visits shared this network before it was written"
            if crowd
            else "but no vocabulary says how many visits shared this network: see `anonproxy audit`",
        )


def _contains(value: str, address: Address) -> bool:
    try:
        return address in ipaddress.ip_network(value)
    except ValueError:
        return False


def _smallest_crowd(evidence: Evidence, value: str, places: list[tuple[Table, int]]) -> int | None:
    counts: list[int] = []
    for table, _ in places:
        words = evidence.vocabulary(table.place.site, table.place.day) if table.place.site and table.place.day else None
        word = (words or {}).get(("network", value))
        if word is None or not isinstance(word.visits, int):
            return None
        counts.append(word.visits)
    return min(counts, default=None)


def _say_class(evidence: Evidence, address: Address, settings: Settings | None) -> Iterator[Point]:
    classes = settings.network_classes if settings else {}
    for name, networks in classes.items():
        if any(address in network for network in networks):
            rows = sum(
                count
                for table in evidence.tables("hot", "hits")
                for value, count in _count_values(table.columns.get("network_class"))
                if value == name
            )
            yield Point(
                f"The configuration counts it to the class “{name}”, which stands in {rows:,} rows; nothing in them "
                "tells the addresses of this class apart.",
                "the column network_class of every file in hot/ and hits/",
            )


def _say_silent_rows(evidence: Evidence) -> Point:
    rows = silent = 0
    for table in evidence.tables("hot", "hits"):
        rows += table.row_count
        silent += sum(count for value, count in _count_values(table.columns.get("network")) if value is None)
    return Point(
        f"{silent:,} of {rows:,} rows hold no network at all: any of them could be from this address, or any other.",
        "the column network of every file in hot/ and hits/",
    )


def _say_memory(settings: Settings | None) -> Point:
    """Say what the running service knows without writing it: nobody can hand that over later."""
    remembered = (
        "those that asked within five minutes, for `anonproxy top`"
        if settings is None or settings.proxy.top
        else "none beyond these, since proxy.top is off"
    )
    return Point(
        "A running service knows in its memory the addresses whose connections are open just now and, of others, "
        f"{remembered}. It is never written, and gone with the process.",
        "no configuration was given; this is what the default one does" if settings is None else "the configuration",
    )


def _say_keys(evidence: Evidence, custody: Custody) -> Point:
    visits = sum(
        1
        for table in evidence.tables("hot")
        for value, _ in _count_values(table.columns.get("visit"))
        if value is not None
    )
    if not visits:
        return Point(
            "No visit can be tied to it: no number of a visit is held.", "the column visit of every file in hot/"
        )
    # A key ends with its epoch and with its process, however that ended.
    destroyed_s = custody.last_s("rotated", "started", "stopped")
    if custody.broken or destroyed_s is None:
        return Point(
            f"{visits:,} numbers of visits are held. They were made with a key that is in the memory of the running "
            "service only and is destroyed every day; that this has happened already, nothing shows.",
            f"the ledger: {custody.broken or 'no entry of a destroyed key'}",
        )
    return Point(
        f"{visits:,} numbers of visits are held. Those made before {render_time(destroyed_s)} can't be computed again "
        "from this or any address, by anybody: their key is destroyed. The key of later ones is in the memory of the "
        "running service until its next rotation. Who could read that memory could compute them; no file holds the "
        "key, and no command gives it out.",
        f"the ledger shows when keys were destroyed ({custody.count('rotated')} × at the end of an epoch); that no "
        "file holds one, the check keys of `anonproxy audit`",
    )


# --- A card number --------------------------------------------------------------------------------------------------


def ask_card(evidence: Evidence, card: str) -> Answer:
    """Say what can be answered about a card number, or any other text that names a person.

    Raises: OperatorError when it is too short to search for
    """
    text = "".join(card.split()) if card.replace(" ", "").isdecimal() else card.strip()
    try:
        mark = Mark("the number", text)
    except ValueError:
        raise OperatorError("that is too short to search for: it would be found by chance. Give it whole") from None
    point, found, unsearched = _say_searched(evidence, [mark], "the number")
    if found:
        return Answer("the card number that was given", (point,), found, unsearched)
    undeclared = {name for table in evidence.tables(*TITLES) for name in table.columns} - DECLARED
    place = (
        Point("There are columns that this software doesn't write.", f"undeclared columns: {len(undeclared)}")
        if undeclared
        else Point(
            "No table has a place for card numbers, names or accounts, so there is nothing to look up by one.",
            f"all columns of all tables are these: {', '.join(sorted(DECLARED))}",
        )
    )
    end = Point(
        "Nothing about a cardholder can be answered from here. What the library system holds is another matter.",
        "the two points above",
    )
    points = (point, place) if undeclared or unsearched else (point, place, end)
    return Answer("the card number that was given", points, found, unsearched)


# --- Searching ------------------------------------------------------------------------------------------------------


def _say_searched(evidence: Evidence, marks: list[Mark], what: str) -> tuple[Point, tuple[str, ...], tuple[str, ...]]:
    """Search every byte of the store for a value, in every form in which it could be stored."""
    result = search([evidence.root], marks)
    forms: dict[str, dict[str, None]] = {}
    for hit in result.hits:
        forms.setdefault(f"{hit.path}{f', {hit.place}' if hit.place else ''}", {})[hit.encoding] = None
    found = tuple(f"{place}: as {', '.join(names)}" for place, names in forms.items())
    unsearched = tuple(f"{item.path}: {item.reason}" for item in result.unopened)
    looked = _render_search(result, marks)
    if found:
        places = "1 place" if len(found) == 1 else f"{len(found)} places"
        answer = f"In this store {what} was found, in {places}. It should not be there."
    elif unsearched:
        answer = f"{what.capitalize()} was not found, but not everything could be searched."
    else:
        answer = f"{what.capitalize()} stands nowhere in this store."
    return Point(answer, looked), found, unsearched


def _render_search(result: SearchResult, marks: list[Mark]) -> str:
    forms = sum(len(encodings(mark)) for mark in marks)
    return (
        f"searched in {forms:,} forms (plain, encoded, hashed, as a number, …): {result.files:,} files, "
        f"{result.size_bytes:,} bytes as read and unpacked, {result.pages:,} pages"
    )


def _count_values(column: Column | None) -> Iterator[tuple[Value, int]]:
    if column is not None:
        counts = Counter(column.codes)
        yield from ((value, counts[code]) for code, value in enumerate(column.distinct))


def render_time(time_s: float) -> str:
    """Write a time for people to read."""
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"
