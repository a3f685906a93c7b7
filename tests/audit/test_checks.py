"""Each check finds what it is for, stays silent about the rest, and lets a clean store pass."""

import base64
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anonproxy.audit.check import Check, Verdict
from anonproxy.audit.checks import CHECKS
from anonproxy.audit.evidence import Evidence
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
    plant,
    read_rows,
    sign,
    tidy,
    visit_rows,
    write_day,
    write_hour,
    write_rows,
    write_specimen,
)
from anonproxy.audit.tree import DAY_S, HOUR_S
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.settings import Settings

Sabotage = Callable[[Path], object]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a clean specimen of a store."""
    write_specimen(tmp_path / "store")
    return tmp_path / "store"


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
        tidy(store)

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
    for path in (SEALED, SEGMENT):
        numbers: dict[int, int] = {}
        offset = 0 if path == SEALED else 1000
        change_rows(
            store,
            path,
            lambda rows, numbers=numbers, offset=offset: [  # type: ignore[misc] - bound at once
                row.update(visit=numbers.setdefault(row["visit"], offset + len(numbers)))
                for row in rows
                if row["visit"] is not None
            ],
        )


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
    sign(store, "sealed", {"file": path})


def keep_visits(store: Path) -> None:
    """Settle a day and leave the visit numbers in."""
    rows = [{**row, "visit": 2**63 + number} for number, row in enumerate(read_rows(store, HITS))]
    write_rows(store, HITS, rows, Style(extra={"visit": pa.uint64()}))
    tidy(store)


def forge_ledger(store: Path) -> None:
    """Make the whole ledger anew with a key of one's own, but for the public key."""
    for name in ("ledger.jsonl", "signing-key.pem"):
        (store / "ledger" / name).unlink()
    sign(store, "settled", {"site": "www", "date": "2026-11-20"})
    sign(store, "sealed", {"file": SEALED})


def swap_file(store: Path) -> None:
    """Put another clean file in the place of one whose digest stands in the ledger."""
    sign(store, "sealed", {"file": SEALED, "sha256": "0" * 64})


def restore_deleted(store: Path) -> None:
    """Bring a settled day back from a backup after it was purged."""
    for tier in ("hits", "daily"):
        sign(store, "purged", {"tier": tier, "site": "www", "date": "2026-11-20"})


def change_owner(store: Path) -> None:
    """Give a file to somebody else."""
    os.chown(store / SEALED, 65534, 65534)


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
    "bytes that are no text": (arrow(break_text), {"closed-world", "row-order"}),
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
    # detectors
    "a barcode in an admitted page": (admitted("route", "/patron/21234000123456"), {"detectors"}),
    "an address in an admitted page": (admitted("route", "/list/jane@example.org"), {"detectors"}),
    "an encoded address": (admitted("route", "/list/jane%2540example.org"), {"detectors"}),
    "full-width digits": (admitted("route", "/patron/２１２３４０００１２３４５６"), {"detectors"}),
    "a session in a page": (admitted("route", "/s/9f86d081884c7d659a2feaa0c55ad015"), {"detectors"}),
    "an address in a campaign": (admitted("campaign", "jane@example.org"), {"detectors"}),
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
        lambda store: change_rows(store, HITS, lambda rows: rows[0].update(time=rows[0]["time"] + timedelta(seconds=9))),
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
    "a page index": (arrow(lambda table: table, write_page_index=True, ), set()),
    "bytes between pages and footer": (edited(SEALED, into_slack(SECRET)), {"anatomy"}),
    "another writer": (edited(SEALED, lambda data: data.replace(b"parquet-cpp-arrow", b"jane-reads-divorc")), {"anatomy"}),
    "a column of another type": (arrow(cast("size_bytes", pa.int32())), {"anatomy"}),
    "finer time than declared": (arrow(cast("time", pa.timestamp("us", tz="UTC"))), {"anatomy"}),
    "a missing column": (arrow(lambda table: table.drop_columns(["language"])), {"anatomy"}),
    "a file of another tier": (
        lambda store: change_rows(store, SEALED, lambda _: None, Style(metadata={"anonproxy.tier": "hits"})), {"anatomy"}),
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


@pytest.mark.parametrize("name", LEAKS)
def test_finds_the_leak_and_nothing_else(store: Path, name: str) -> None:
    """Each leak fails the check that is for it, and no other."""
    sabotage, expected = LEAKS[name]
    sabotage(store)
    assert judge(store) == dict.fromkeys(expected, Verdict.FAIL)
