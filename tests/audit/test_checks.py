"""Each check finds what it is for, stays silent about the rest, and lets a clean store pass."""

import base64
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anonproxy.audit.check import Check, Verdict
from anonproxy.audit.checks import CHECKS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.limits import digest_settings
from anonproxy.audit.specimen import (
    DAILY,
    HITS,
    LEDGER,
    NOW,
    SEALED,
    SEGMENT,
    TODAY,
    VOCABULARY,
    YESTERDAY,
    Row,
    Style,
    add_words,
    change_rows,
    own,
    plant,
    read_rows,
    sign,
    tidy,
    write_day,
    write_hour,
    write_rows,
    write_specimen,
)
from anonproxy.audit.tree import DAY_S, HOUR_S
from anonproxy.ingest import recorder
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import BROWSERS, DEVICES, OSES

Sabotage = Callable[[Path], object]


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean specimen of a store, not to be touched."""
    root = tmp_path_factory.mktemp("specimen") / "store"
    write_specimen(root)
    return root


@pytest.fixture
def store(specimen: Path, tmp_path: Path) -> Path:
    """Return a clean specimen of a store."""
    return shutil.copytree(specimen, tmp_path / "store")


def judge(store: Path, settings: Settings | None = None, now_s: float = NOW) -> dict[str, Verdict]:
    """Return what each check that doesn't pass came to."""
    evidence = Evidence(store, now_s, settings)
    verdicts = {check.code: check.look(evidence).verdict for check in CHECKS}
    return {code: verdict for code, verdict in verdicts.items() if verdict != Verdict.PASS}


# --- Leaks ----------------------------------------------------------------------------------------------------------


def hot(**values: Any) -> Sabotage:
    """Change values of one row of the hot tier."""
    return lambda store: change_rows(store, SEALED, lambda rows: rows[0].update(values))


def daily(**values: Any) -> Sabotage:
    """Change values of the last total of a day."""
    return lambda store: change_rows(store, DAILY, lambda rows: rows[-1].update(values))


def styled(path: str = SEALED, **style: Any) -> Sabotage:
    """Write a file in another style."""
    return lambda store: change_rows(store, path, lambda _: None, Style(**style))


def admitted(column: str, value: str, origin: str = "admitted", visits: int | None = 10) -> Sabotage:
    """Store a value that the vocabulary allows."""

    def sabotage(store: Path) -> None:
        add_words(store, (column, value, origin, visits))
        hot(**{column: value})(store)

    return sabotage


def word(column: str, value: str, origin: str, visits: int | None) -> Sabotage:
    """Put an entry into the vocabulary that no row uses."""
    return lambda store: add_words(store, (column, value, origin, visits))


def planted(path: str, content: bytes = b"") -> Sabotage:
    """Put a file into the store."""
    return lambda store: plant(store, path, content)


def then(*steps: Sabotage) -> Sabotage:
    """Do several things."""

    def sabotage(store: Path) -> None:
        for step in steps:
            step(store)

    return sabotage


def edited(path: str, edit: Callable[[bytes], bytes]) -> Sabotage:
    """Change the bytes of a file."""

    def sabotage(store: Path) -> None:
        (store / path).write_bytes(edit((store / path).read_bytes()))
        if path != LEDGER:
            own(store, path)
        tidy(store)

    return sabotage


def arrow(change: Callable[[pa.Table], pa.Table], **options: Any) -> Sabotage:
    """Write the sealed hour anew as another Arrow table, with the statistics and keys that it should have."""

    def sabotage(store: Path) -> None:
        path = store / SEALED
        keys = {key: value for key, value in pq.read_metadata(path).metadata.items() if key.startswith(b"anonproxy")}
        table = change(pq.read_table(path, partitioning=None)).replace_schema_metadata(None)
        with pq.ParquetWriter(path, table.schema, store_schema=False, write_statistics=False, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(keys)
        own(store, SEALED)

    return sabotage


def removed(path: str) -> Sabotage:
    """Delete a file."""
    return then(lambda store: (store / path).unlink(), tidy)


def retimed(path: str, time_ns: int) -> Sabotage:
    """Let a file or folder tell when it was changed."""
    return lambda store: os.utime(store / path, ns=(time_ns, time_ns))


def cast(name: str, type_: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    """Give a column another type."""

    def change(table: pa.Table) -> pa.Table:
        at = table.column_names.index(name)
        return table.set_column(at, pa.field(name, type_, nullable=False), table[name].cast(type_))

    return change


def break_text(table: pa.Table) -> pa.Table:
    """Give every row a route that isn't UTF-8."""
    raw = pa.array([b"\xff\xfe"] * table.num_rows)
    broken = pa.StringArray.from_buffers(len(raw), *raw.buffers()[1:])
    at = table.column_names.index("route")
    return table.set_column(at, table.schema.field("route"), broken)


def into_slack(junk: bytes) -> Callable[[bytes], bytes]:
    """Hide bytes between the last page and the footer."""

    def edit(data: bytes) -> bytes:
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        return data[:footer] + junk + data[footer:]

    return edit


def reverse(rows: list[Row]) -> None:
    """Turn the order of rows around."""
    rows.reverse()


def number_visits(store: Path) -> None:
    """Number the visits one after the other."""
    numbers: dict[int, int] = {}

    def change(rows: list[Row]) -> None:
        for row in rows:
            if row["visit"] is not None:
                row["visit"] = numbers.setdefault(row["visit"], len(numbers))

    for path in (SEALED, SEGMENT):
        change_rows(store, path, change)


def carry_on(time_s: int) -> Sabotage:
    """Let a visit number of this morning stand in another hour, too."""

    def sabotage(store: Path) -> None:
        visit = next(row["visit"] for row in read_rows(store, SEALED) if row["visit"])
        path = write_hour(store, time_s)
        change_rows(store, path, lambda rows: rows[0].update(visit=visit, step=1, elapsed_s=0))

    return sabotage


def add_site(store: Path) -> None:
    """Store a second site whose visits carry the numbers of the first."""
    path = SEALED.replace("site=www", "site=kids")
    rows = [{**row, "site": "kids"} for row in read_rows(store, SEALED)]
    write_rows(store, path, rows)
    words = [{**row, "site": "kids"} for row in read_rows(store, VOCABULARY)]
    write_rows(store, VOCABULARY.replace("site=www", "site=kids"), words)
    own(store, path)


def keep_visits(store: Path) -> None:
    """Settle a day and leave the visit numbers in."""
    rows = [{**row, "visit": 2**63 + number} for number, row in enumerate(read_rows(store, HITS))]
    write_rows(store, HITS, rows, Style(extra={"visit": pa.uint64()}))
    own(store, HITS)


def forge_ledger(store: Path) -> None:
    """Make the whole ledger anew with a key of one's own, but for the public key."""
    for name in ("ledger.jsonl", "signing-key.pem"):
        (store / "ledger" / name).unlink()
    own(store, HITS)
    own(store, SEALED)


def swap_file(store: Path) -> None:
    """Put another clean file in the place of one whose digest stands in the ledger."""
    write_rows(store, SEALED, read_rows(store, SEALED)[5:])
    tidy(store)


def restore_deleted(store: Path) -> None:
    """Bring a settled day back from a backup after it was purged."""
    for tier in ("hits", "daily"):
        sign(store, "purged", {"tier": tier, "site": "www", "date": "2026-11-20"})


def change_owner(store: Path) -> None:
    """Give a file to somebody else."""
    os.chown(store / SEALED, 65534, 65534)


def of(rows: list[Row], dimension: str) -> Iterator[Row]:
    """Give the cells of a dimension."""
    return (row for row in rows if row["dimension"] == dimension)


def withheld(dimension: str, **less: int) -> Sabotage:
    """Leave some of a cell out, and keep it in the total."""

    def change(rows: list[Row]) -> None:
        row = next(of(rows, dimension))
        row.update({name: row[name] - number for name, number in less.items()})

    return lambda store: change_rows(store, DAILY, change)


def split(dimension: str, *others: str) -> Sabotage:
    """Share a dimension's only cell among several values; each has visits enough."""

    def change(rows: list[Row]) -> None:
        row = next(of(rows, dimension))
        parts = [{**row, "value": value, "hits": 12, "pageviews": 12} for value in others]
        row.update(hits=48 - 12 * len(others), pageviews=48 - 12 * len(others))
        rows.extend(parts)

    return lambda store: change_rows(store, DAILY, change)


def described(path: str, count: int) -> Sabotage:
    """Describe each of some visits as no other is, and yet only in words of the closed lists."""
    looks = [(browser, os, device) for browser in BROWSERS for os in OSES for device in DEVICES][:count]

    def change(rows: list[Row]) -> None:
        visits = [row for row in rows if not row["bot"]]
        rows[:] = [
            {**visits[0], "browser": browser, "os": os, "device": device}
            | ({"visit": visits[0]["visit"] ^ number << 8, "step": 1, "elapsed_s": 0} if "visit" in visits[0] else {})
            for number, (browser, os, device) in enumerate(looks)
        ]

    return lambda store: change_rows(store, path, change)


def fold_a_search(store: Path) -> None:
    """Let one visit make a rare search; fold it with the usual one among searches, and tell that one among pages."""

    def search(rows: list[Row]) -> None:
        row = next(row for row in rows if row["kind"] == "search")
        row.update(route="/reading-club", time=row["time"].replace(hour=0))

    def count(rows: list[Row]) -> None:
        usual = next(row for row in of(rows, "page") if row["value"] == "/search")
        usual.update(hits=11, pageviews=11, visits=11)
        hours = next(row for row in of(rows, "page") if row["value"] == "/hours")
        hours.update(value="(other)", hits=13, pageviews=13)
        rows.append({**usual, "dimension": "search", "value": "(other)", "hits": 12, "pageviews": 12, "visits": 12})

    change_rows(store, HITS, search)
    change_rows(store, DAILY, count)


SECRET = b"203.0.113.9 jane@example.org"
KEY = b"-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n"

LEAKS: dict[str, tuple[Sabotage, set[str]]] = {
    # closed world
    "a page that nobody admitted": (hot(route="/patron/jane"), {"closed-world"}),
    "a referrer that nobody admitted": (hot(referrer="janesblog.example.org"), {"closed-world"}),
    "a whole Referer": (hot(referrer="https://www.google.com/search"), {"closed-world"}),
    "a browser with its version": (hot(browser="Firefox 131.0.2"), {"closed-world"}),
    "a country that there isn't": (hot(country="06840"), {"closed-world"}),
    "a method of a visitor's making": (hot(method="PROPFIND"), {"closed-world"}),
    "an unregistered status": (hot(status=299), {"closed-world"}),
    "a language that nobody configured": (hot(language="nds"), {"closed-world"}),
    "a network class that nobody configured": (hot(network_class="smith-family"), {"closed-world"}),
    "a campaign that nobody admitted": (hot(campaign="renewal-of-jane"), {"closed-world"}),
    "another site than the path's": (hot(site="staff", visit=None, step=None, elapsed_s=None), {"closed-world"}),
    "bytes that are no text": (arrow(break_text), {"closed-world", "row-order", "anatomy"}),
    "a page left in a dictionary": (styled(unused={"route": "/search/divorce"}), {"closed-world"}),
    "a referrer left in a dictionary": (styled(unused={"referrer": "mail.example.org"}), {"closed-world"}),
    "a settled page left in a dictionary": (styled(HITS, unused={"route": "/search/x"}), {"closed-world"}),
    "an invented placeholder": (word("route", "(jane)", "enumerated", None), {"closed-world"}),
    "a page admitted by three visits": (word("route", "/thin", "admitted", 3), {"closed-world"}),
    "a page admitted by nobody knows how many": (word("route", "/thin", "admitted", None), {"closed-world"}),
    "a configured page that was counted": (word("route", "/thin", "configured", 12), {"closed-world"}),
    "a vocabulary for browsers": (word("browser", "Netscape", "admitted", 10), {"closed-world"}),
    "an invented origin": (word("route", "/thin", "wished", None), {"closed-world"}),
    "a network by configuration": (word("network", "198.51.100.0/24", "configured", None), {"closed-world"}),
    "a page in the daily totals": (daily(dimension="page", value="/patron/jane"), {"closed-world"}),
    "an hour that there isn't": (daily(dimension="hour", value="25"), {"closed-world"}),
    "a status that there isn't": (daily(dimension="status", value="299"), {"closed-world"}),
    "an invented dimension": (daily(dimension="patron", value="jane"), {"closed-world"}),
    "a day without its vocabulary": (removed(VOCABULARY), {"closed-world", "networks"}),
    "a whole sentence between spaces in a page": (
        admitted("route", "/how  to  file"), {"closed-world"}),
    "a query in an admitted page": (admitted("route", "/search?q=divorce"), {"closed-world"}),
    "a whole Referer in a list": (admitted("referrer", "https://a.example/jane", "list", None), {"closed-world"}),
    "a class that names a family": (admitted("network_class", "Jane Smith", "configured", None), {"closed-world"}),
    # crowds
    "a language of three visits": (daily(dimension="language", value="other", visits=3), {"crowds"}),
    "a page of one visit": (daily(dimension="entry", value="/hours", visits=1), {"crowds"}),
    "a robot that came twice": (daily(dimension="bot", value="ai", hits=2), {"crowds"}),
    "an hour of a page that one visit saw": (
        lambda store: change_rows(store, HITS, lambda rows: rows[0].update(route="/reading-club")), {"crowds"}),
    # differencing
    "three requests that were left out": (withheld("browser", hits=3), {"differencing"}),
    "a page view that was left out": (withheld("page", hits=1), {"differencing"}),
    "page views of a language that were left out": (withheld("language", pageviews=2), {"differencing"}),
    "visits of a country that were left out": (withheld("country", visits=2), {"differencing"}),
    "seconds of a language that were left out": (withheld("language", seconds=60), {"differencing"}),
    "a device that is the only one not named": (split("device", "phone", "tablet", "(other)"), {"differencing"}),
    "a class that is the only one not named": (split("network_class", "(other)"), {"differencing"}),
    "a system that the rows still tell": (
        then(
            split("os", "(other)"),
            lambda store: change_rows(store, HITS, lambda rows: [row.update(os="macOS") for row in rows[::4]]),
        ),
        {"differencing"},
    ),
    # re-identification
    "a fingerprint in allowed words": (described(SEALED, 240), {"reidentification"}),
    "a fingerprint in settled rows": (described(HITS, 240), {"reidentification"}),
    # detectors
    "a barcode in an admitted page": (admitted("route", "/patron/21234000123456"), {"detectors"}),
    "an address in an admitted page": (admitted("route", "/list/jane@example.org"), {"detectors"}),
    "an encoded address": (admitted("route", "/list/jane%2540example.org"), {"detectors"}),
    "full-width digits": (admitted("route", "/patron/２１２３４０００１２３４５６"), {"detectors"}),
    "a session in a page": (admitted("route", "/s/9f86d081884c7d659a2feaa0c55ad015"), {"detectors"}),
    "an address in a campaign": (admitted("campaign", "jane@example.org"), {"detectors", "closed-world"}),
    "an IPv4 address as a referrer": (admitted("referrer", "198.51.100.77"), {"detectors"}),
    "a configured page with a barcode": (admitted("route", "/p/21234000123456", "configured", None), {"detectors"}),
    # networks
    "a whole IPv4 address": (admitted("network", "203.0.113.9/32"), {"networks"}),
    "half an IPv4 network": (admitted("network", "203.0.113.0/25"), {"networks"}),
    "a whole IPv6 address": (admitted("network", "2001:db8::1/128"), {"networks"}),
    "a household's IPv6 network": (admitted("network", "2001:db8:77::/48"), {"networks"}),
    "host bits": (admitted("network", "203.0.113.9/24"), {"networks", "detectors"}),
    "6to4": (admitted("network", "2002:cb00::/32"), {"networks"}),
    "NAT64": (admitted("network", "64:ff9b::/96"), {"networks"}),
    "Teredo": (admitted("network", "2001::/32"), {"networks"}),
    "a network in another notation": (admitted("network", "203.0.113.0/255.255.255.0"), {"networks", "detectors"}),
    "a network of three visits": (admitted("network", "198.51.100.0/24", visits=3), {"networks", "closed-world"}),
    "a network that nobody admitted": (hot(network="198.51.100.0/24"), {"networks", "closed-world"}),
    # time
    "seconds": (hot(time=datetime.fromtimestamp(TODAY + 10 * HOUR_S + 754, UTC)), {"time"}),
    "five minutes": (hot(time=datetime.fromtimestamp(TODAY + 10 * HOUR_S + 300, UTC)), {"time"}),
    "another hour": (hot(time=datetime.fromtimestamp(TODAY + 11 * HOUR_S, UTC)), {"time"}),
    "another day": (daily(date=datetime.fromtimestamp(TODAY, UTC).date()), {"time"}),
    "seconds in a settled day": (
        lambda store: change_rows(
            store, HITS, lambda rows: [row.update(time=row["time"] + timedelta(seconds=9)) for row in rows]
        ),
        {"time"},
    ),
    "the time of a file": (retimed(SEALED, (TODAY + 10 * HOUR_S + 754) * 10**9), {"time"}),
    "the nanoseconds of a file": (retimed(SEGMENT, (TODAY + 15 * HOUR_S) * 10**9 + 77), {"time"}),
    "the time of a folder": (retimed("hot/site=www/date=2026-11-21", TODAY * 10**9 + 5), {"time"}),
    "a day to come": (lambda store: write_hour(store, TODAY + 2 * DAY_S), {"time"}),
    # row order
    "rows as they came": (
        lambda store: change_rows(store, SEALED, reverse, Style(is_sorted=False)), {"row-order"}),
    "a segment as it came": (
        lambda store: change_rows(store, SEGMENT, reverse, Style(is_sorted=False)), {"row-order"}),
    "a vocabulary in the order of admission": (
        lambda store: change_rows(store, VOCABULARY, reverse, Style(is_sorted=False)), {"row-order"}),
    "row groups": (styled(row_group_size=7), {"row-order"}),
    # buckets
    "an exact length": (hot(size_bytes=5_417), {"buckets"}),
    "an exact duration": (hot(duration_ms=37), {"buckets"}),
    "exact seconds of a visit": (hot(elapsed_s=61), {"buckets"}),
    "a negative length": (hot(size_bytes=-1), {"buckets"}),
    "an address as a length": (hot(size_bytes=0xCB007109), {"buckets"}),
    # unlinkability
    "a number that lives for five hours": (carry_on(TODAY + 15 * HOUR_S), {"unlinkability"}),
    "a number of two epochs": (carry_on(YESTERDAY + 5 * HOUR_S), {"unlinkability"}),
    "a number at two sites": (add_site, {"unlinkability"}),
    "numbers that were counted": (number_visits, {"unlinkability"}),
    "a robot with a number": (hot(bot="ai"), {"unlinkability"}),
    "a place without a number": (hot(visit=None), {"unlinkability"}),
    "a number without a place": (hot(step=None), {"unlinkability"}),
    # retention
    "visit numbers three days old": (lambda store: write_hour(store, TODAY - 3 * DAY_S), {"retention"}),
    "hits two years old": (lambda store: write_day(store, TODAY - 730 * DAY_S), {"retention"}),
    "totals of another century": (lambda store: write_day(store, TODAY - 11_000 * DAY_S), {"retention"}),
    "a forgotten unfinished file": (
        then(
            lambda store: write_day(store, TODAY - 9 * DAY_S),
            lambda store: (store / "hits/site=www/date=2026-11-12/hits.parquet").rename(
                store / "hits/site=www/date=2026-11-12/hits.parquet.tmp"
            ),
            lambda store: sign(store, "purged", {"tier": "hits", "site": "www", "date": "2026-11-12"}),
        ),
        {"retention"},
    ),
    "a second name of a file": (lambda store: os.link(store / SEALED, store.parent / "kept.parquet"), {"retention"}),
    "visit numbers in a settled day": (keep_visits, {"retention", "anatomy"}),
    # anatomy
    "a note in the metadata": (styled(metadata={"pandas": "some note"}), {"anatomy"}),
    "base64 in the metadata": (styled(metadata={"k": base64.b64encode(SECRET).decode()}), {"anatomy", "detectors"}),
    "a version that says more": (styled(metadata={"anonproxy.version": "0.1.0 jane"}), {"anatomy"}),
    "an address in a metadata key": (styled(metadata={"jane@example.org": ""}), {"anatomy", "detectors"}),
    "a column of addresses as numbers": (styled(extra={"client": pa.int64()}), {"anatomy"}),
    "a column whose name is a secret": (styled(extra={"jane@example.org": pa.int8()}), {"anatomy", "detectors"}),
    "minimum and maximum of a page": (styled(statistics=("route",)), {"anatomy"}),
    "minimum and maximum of a visit": (styled(statistics=("visit",)), {"anatomy"}),
    "bytes between pages and footer": (edited(SEALED, into_slack(SECRET)), {"anatomy"}),
    "a word in a header that nobody reads": (
        edited(SEALED, lambda data: data.replace(b"\x18\x06schema", b"\x18\x06divorc")), {"anatomy"}),
    "another minimum in a page's header": (
        edited(SEALED, lambda data: data.replace(b"\x07Firefox\x18", b"\x07JaneDoe\x18", 1)), {"anatomy"}),
    "another writer": (
        edited(SEALED, lambda data: data.replace(b"parquet-cpp-arrow", b"jane-reads-divorc")), {"anatomy"}),
    "a column of another type": (arrow(cast("size_bytes", pa.int32())), {"anatomy"}),
    "finer time than declared": (arrow(cast("time", pa.timestamp("us", tz="UTC"))), {"anatomy"}),
    "a missing column": (arrow(lambda table: table.drop_columns(["language"])), {"anatomy"}),
    "a file of another tier": (styled(metadata={"anonproxy.tier": "hits"}), {"anatomy"}),
    # foreign files
    "a database": (planted("hot/site=www/scratch.duckdb", SECRET), {"foreign-files"}),
    "an export": (planted("export.csv", SECRET), {"foreign-files"}),
    "an address in the name of a file": (planted("hits/jane@example.org", b""), {"foreign-files", "detectors"}),
    "a log beside the ledger": (planted("ledger/access.log", SECRET), {"foreign-files"}),
    "an editor's backup of the ledger": (planted("ledger/ledger.jsonl~", SECRET), {"foreign-files"}),
    "an impossible date": (planted("hot/site=www/date=2026-13-99/10.parquet", b""), {"foreign-files"}),
    "a segment with a telling name": (
        planted("hot/site=www/date=2026-11-21/15.open/jane.parquet", b""), {"foreign-files"}),
    "a link": (lambda store: (store / "latest").symlink_to(SEALED), {"foreign-files"}),
    "a link in the place of a file": (
        then(
            lambda store: (store / SEALED).rename(store.parent / "10.parquet"),
            lambda store: (store / SEALED).symlink_to(store.parent / "10.parquet"),
            tidy,
        ),
        {"foreign-files"},
    ),
    # keys
    "a key of 32 bytes": (planted("ledger/epoch.key", bytes(range(32))), {"keys", "foreign-files"}),
    "a key in hexadecimal": (planted("hot/k", bytes(range(32)).hex().encode()), {"keys", "foreign-files"}),
    "a second private key": (planted("ledger/old.pem", KEY), {"keys", "foreign-files"}),
    "a key in a Parquet file": (edited(SEALED, into_slack(KEY)), {"keys", "anatomy"}),
    "a key in the metadata": (styled(metadata={"k": KEY.decode()}), {"keys", "anatomy"}),
    "a file that all can read": (lambda store: (store / SEALED).chmod(0o644), {"keys"}),
    "a folder that all can read": (lambda store: store.chmod(0o755), {"keys"}),
    "a signing key that all can read": (lambda store: (store / "ledger/signing-key.pem").chmod(0o640), {"keys"}),
    # ledger
    "a changed entry": (edited(LEDGER, lambda data: data.replace(b"rotated", b"resumed")), {"ledger"}),
    "a removed entry": (edited(LEDGER, lambda data: b"".join(data.splitlines(keepends=True)[::2])), {"ledger"}),
    "a torn entry": (edited(LEDGER, lambda data: data[:-9]), {"ledger"}),
    "entries cut off": (edited(LEDGER, lambda data: b"".join(data.splitlines(keepends=True)[:2])), {"ledger"}),
    "a ledger by another key": (forge_ledger, {"ledger"}),
    "no ledger": (removed(LEDGER), {"ledger"}),
    "a file that went away": (removed(SEALED), {"ledger"}),
    "a day that went away": (removed(HITS), {"ledger"}),
    "a file without an entry": (lambda store: write_hour(store, TODAY + 8 * HOUR_S, is_journalled=False), {"ledger"}),
    "a day without an entry": (lambda store: write_day(store, TODAY - 9 * DAY_S, is_journalled=False), {"ledger"}),
    "a swapped file": (swap_file, {"ledger"}),
    "a day that came back": (restore_deleted, {"ledger"}),
    "a file in an entry that there can't be": (
        lambda store: sign(store, "set_aside", {"file": "hot/jane@example.org"}), {"ledger"}),
    "an entry that says too much": (
        lambda store: sign(store, "started", {"version": "jane@example.org"}), {"ledger"}),
}  # fmt: skip


SECRETS = re.compile(r"jane|divorce|21234000|203\.0\.113|2001:db8:77|9f86d081|5417|131\.0")


@pytest.mark.parametrize("name", LEAKS)
def test_finds_the_leak_and_nothing_else(
    store: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Each leak fails the check that is for it, and no other; what is said about it doesn't repeat it."""
    sabotage, expected = LEAKS[name]
    sabotage(store)
    evidence = Evidence(store, NOW)
    outcomes = {check.code: check.look(evidence) for check in CHECKS}
    assert {code: outcome.verdict for code, outcome in outcomes.items() if outcome.verdict != Verdict.PASS} == (
        dict.fromkeys(expected, Verdict.FAIL)
    )
    assert not any(SECRETS.search(str(finding)) for outcome in outcomes.values() for finding in outcome.findings)
    record_property("found_by", ", ".join(sorted(expected)))


def test_clean_store_passes(store: Path) -> None:
    """A clean store passes every check, and each says how much it looked at."""
    evidence = Evidence(store, NOW)
    outcomes = {check.code: check.look(evidence) for check in CHECKS}
    assert {code: outcome.verdict for code, outcome in outcomes.items()} == dict.fromkeys(outcomes, Verdict.PASS)
    assert all(sum(outcome.looked_at.values()) > 0 for outcome in outcomes.values())


# --- The configuration ----------------------------------------------------------------------------------------------

SITE = '[store]\npath = "/var/lib/anonproxy"\n[[sites]]\nname = "www"\nupstream = "http://127.0.0.1:8000"\n'

STRICTER: dict[str, tuple[str, set[str]]] = {
    "more visits": (f"{SITE}\n[privacy]\nk = 11\n", {"closed-world", "networks"}),
    "wider IPv4": (f"{SITE}\n[privacy]\nipv4_prefix = 20\n", {"networks"}),
    "wider IPv6": (f"{SITE}\n[privacy]\nipv6_prefix = 28\n", {"networks"}),
    "no networks": (f"{SITE}\n[privacy]\nstore_network = false\n", {"networks"}),
    "days": (f'{SITE}\n[privacy]\ntime_resolution = "1day"\n', {"time"}),
    "children's pages": (f'{SITE}children = ["/events/**"]\n', {"unlinkability"}),
    "sensitive pages": (f'{SITE}sensitive = ["/record/{{id}}"]\n', {"unlinkability"}),
}


def test_default_configuration_passes(store: Path) -> None:
    """A clean store passes under the default configuration."""
    assert judge(store, parse_settings(SITE, "test")) == {}


@pytest.mark.parametrize("name", STRICTER)
def test_holds_the_store_to_its_configuration(store: Path, name: str) -> None:
    """What any configuration may store fails where this one promises more."""
    text, expected = STRICTER[name]
    assert judge(store, parse_settings(text, "test")) == dict.fromkeys(expected, Verdict.FAIL)


def test_knows_since_when_the_configuration_is_in_force(store: Path) -> None:
    """What was written before a configuration was tightened is held to the loosest, what came after to that one."""
    settings = parse_settings(f"{SITE}\n[privacy]\nipv6_prefix = 28\n", "test")
    sign(store, "configured", {"settings_sha256": digest_settings(settings)}, TODAY + 12 * HOUR_S)
    assert judge(store, settings) == {}
    add_words(store, ("network", "198.51.100.0/25", "admitted", 10))
    assert judge(store, settings) == {"networks": Verdict.FAIL}


def test_a_configuration_that_the_ledger_does_not_know_holds_for_all(store: Path) -> None:
    """Nobody gets older rows excused by a configuration that the proxy never started with."""
    settings = parse_settings(f"{SITE}\n[privacy]\nipv6_prefix = 28\n", "test")
    sign(store, "configured", {"settings_sha256": digest_settings(settings)}, TODAY)
    sign(store, "configured", {"settings_sha256": "0" * 64}, TODAY + HOUR_S)
    assert judge(store, settings) == {"networks": Verdict.FAIL}


def test_spares_what_the_library_itself_published(store: Path) -> None:
    """A campaign with a date in it is no finding where the configuration names it, and is one where nobody does."""
    admitted("campaign", "jazz-2026-08-15", "configured", None)(store)
    assert judge(store, parse_settings(f'{SITE}campaigns = ["jazz-2026-08-15"]\n', "test")) == {}
    assert judge(store, parse_settings(SITE, "test")) == {"detectors": Verdict.FAIL}


def test_names_a_configuration_as_the_ledger_does() -> None:
    """The digest of a configuration is the one that the proxy writes into the ledger."""
    settings = parse_settings(SITE, "test")
    assert digest_settings(settings) == recorder.digest_settings(settings)


@pytest.mark.parametrize(
    ("settings", "age_s"),
    [("hot_hours = 30", 32 * HOUR_S), ("hits_days = 7", 9 * DAY_S), ("daily_months = 2", 70 * DAY_S)],
)
def test_holds_each_tier_to_its_time(store: Path, settings: str, age_s: int) -> None:
    """What the configuration should have deleted fails, though another could keep it."""
    text = SITE.replace("[store]", f"[store]\n{settings}")
    if age_s > 2 * DAY_S:
        write_day(store, TODAY - age_s // DAY_S * DAY_S)
        if "hits_days" not in settings:
            removed(f"hits/site=www/date={datetime.fromtimestamp(TODAY - age_s, UTC):%Y-%m-%d}/hits.parquet")(store)
            day = f"{datetime.fromtimestamp(TODAY - age_s, UTC):%Y-%m-%d}"
            sign(store, "purged", {"tier": "hits", "site": "www", "date": day})
        assert judge(store, parse_settings(text, "test")) == {"retention": Verdict.FAIL}
        assert judge(store) == {}
    else:
        assert "retention" in judge(store, parse_settings(text, "test"), TODAY + age_s)


# --- What can't be told ---------------------------------------------------------------------------------------------


def test_truncated_file_is_no_pass(store: Path) -> None:
    """Of a file that was cut off nobody can tell what it held."""
    edited(SEALED, lambda data: data[: len(data) // 2])(store)
    verdicts = judge(store)
    assert verdicts["closed-world"] == verdicts["detectors"] == verdicts["row-order"] == Verdict.UNKNOWN
    assert set(verdicts.values()) == {Verdict.UNKNOWN}


def test_file_set_aside_is_no_pass(store: Path) -> None:
    """Of a file that the store itself couldn't read nobody can tell what it held."""
    aside = "hot/site=www/date=2026-11-21/10.0123456789abcdef.broken"
    planted(aside, b"\0" * 99)(store)
    sign(store, "set_aside", {"file": aside, "from": SEGMENT, "sha256": sha256(b"\0" * 99).hexdigest()})
    assert set(judge(store).values()) == {Verdict.UNKNOWN}


def test_unknown_text_in_the_ledger_is_no_pass(store: Path) -> None:
    """A text that this version doesn't know could say anything."""
    sign(store, "started", {"note": "nothing"})
    assert judge(store) == {"ledger": Verdict.UNKNOWN}


def test_entry_without_digest_is_no_pass(store: Path) -> None:
    """A file that any other could have taken the place of proves nothing."""
    sign(store, "sealed", {"file": SEALED})
    assert judge(store) == {"ledger": Verdict.UNKNOWN}


def test_without_public_key_the_ledger_is_no_pass(store: Path) -> None:
    """Nobody can verify a signature without the public key."""
    removed("ledger/public-key.pem")(store)
    assert judge(store) == {"ledger": Verdict.UNKNOWN}


def test_copy_without_times_is_no_pass(store: Path) -> None:
    """A copy that lost its times and modes can't show what they were, and is not called wrong for it."""
    for path in store.rglob("*"):
        os.utime(path, (NOW + 77, NOW + 77))
        path.chmod(0o755)
    assert judge(store) == {"time": Verdict.UNKNOWN, "keys": Verdict.UNKNOWN}


# --- What is no leak ------------------------------------------------------------------------------------------------

HARMLESS: dict[str, Sabotage] = {
    "a visit of four hours": carry_on(TODAY + 14 * HOUR_S),
    "a page of the day after, where a visit ended": daily(dimension="exit", value="/reading-club"),
    "a shared page with a space in its name": admitted("route", "/tags/jquery mobile"),
    "a shared page with a name like a version": admitted("route", "/koha/24.05.01"),
    "a public site with digits": admitted("referrer", "163.com", "list", None),
    "a sealed hour that is being merged": lambda store: (store / SEALED).rename(store / f"{SEALED}.tmp"),
    "nulls where there may be some": hot(network=None, campaign=None),
    "the smallest network": admitted("network", "2001:db8::/40"),
    "a village where everybody stands alone": described(SEALED, 30),
    "a dimension that was left out whole": lambda store: change_rows(
        store, DAILY, lambda rows: rows.remove(next(of(rows, "country")))
    ),
    "two devices that are not named": split("device", "(other)", "phone"),
    "two systems that the rows still tell": then(
        split("os", "(other)"),
        lambda store: change_rows(
            store, HITS, lambda rows: [row.update(os=("macOS", "iOS")[i % 2]) for i, row in enumerate(rows[::4])]
        ),
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_raises_no_false_alarm(store: Path, name: str) -> None:
    """What looks odd and is fine passes."""
    HARMLESS[name](store)
    tidy(store)
    assert {code for code, verdict in judge(store).items() if verdict != Verdict.UNKNOWN} == set()


def test_waits_for_the_entry_of_the_last_hour(store: Path) -> None:
    """An hour that ended just now may still be without its entry; one that ended long ago may not."""
    write_hour(store, TODAY + 14 * HOUR_S, is_journalled=False)
    assert judge(store, now_s=TODAY + 15 * HOUR_S + 600) == {}
    assert judge(store, now_s=TODAY + 16 * HOUR_S) == {"ledger": Verdict.FAIL}


def test_a_restored_backup_is_no_tampering(store: Path) -> None:
    """Backups leave hours out. They are missing until the ledger is told that they are lost, and then a figure."""
    hour = write_hour(store, TODAY - 3 * DAY_S + 10 * HOUR_S)
    (store / hour).unlink()
    tidy(store)
    assert judge(store) == {"ledger": Verdict.FAIL}
    sign(store, "lost", {"file": hour})
    assert judge(store) == {}
    (check,) = (check for check in CHECKS if check.code == "ledger")
    assert str(check.look(Evidence(store, NOW)).figures[0]).endswith("restored backup: 1")
    removed(SEALED)(store)
    assert judge(store) == {"ledger": Verdict.FAIL}


def test_says_what_dimensions_give_away_of_each_other(store: Path) -> None:
    """A rare search that is folded with the usual one, which the list of pages names, is told as a figure."""
    (check,) = (check for check in CHECKS if check.code == "differencing")
    assert check.look(Evidence(store, NOW)).figures == ()
    fold_a_search(store)
    outcome = check.look(Evidence(store, NOW))
    assert outcome.verdict == Verdict.PASS
    assert "how many visits one rare page had follows" in str(outcome.figures)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_explains_itself(check: Check) -> None:
    """Each check has a code, a claim, and a way of looking in whole sentences."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.code)
    assert not check.claim.endswith(".")
    assert len(check.claim) <= 62
    assert check.how.endswith(".")
