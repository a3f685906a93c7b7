"""Days that were made of old logs are audited like those that the proxy recorded, and a little harder."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from anonproxy.audit.check import Verdict
from anonproxy.audit.checks import CHECKS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.limits import digest_settings
from anonproxy.audit.specimen import (
    LEDGER,
    NOW,
    PLAIN,
    SEGMENT,
    TODAY,
    YESTERDAY,
    Row,
    Style,
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

SITE = '[store]\npath = "/var/lib/anonproxy"\n[[sites]]\nname = "www"\nupstream = "http://127.0.0.1:8000"\n'
AGO_DAYS = 9
NINE_S = timedelta(seconds=9)
IMPORTED_AT = NOW - 2 * HOUR_S


def path_of(tier: str, ago_days: int = AGO_DAYS) -> str:
    """Give the path of a day's file."""
    return f"{tier}/site=www/date={day_of(ago_days)}/{tier}.parquet"


def day_of(ago_days: int = AGO_DAYS) -> date:
    """Give the day that was imported."""
    return datetime.fromtimestamp(TODAY - ago_days * DAY_S, UTC).date()


def enter(store: Path, ago_days: int = AGO_DAYS, time_s: int = IMPORTED_AT) -> None:
    """Put an imported day into the ledger as its files are now."""
    files = {tier: store / path_of(tier, ago_days) for tier in ("hits", "daily")}
    digests = {f"{tier}_sha256": sha256(file.read_bytes()).hexdigest() for tier, file in files.items() if file.exists()}
    sign(store, "imported", {"site": "www", "date": str(day_of(ago_days)), "rows": 60, **digests}, time_s)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a store with two days of old logs: one is too old for single rows."""
    root = tmp_path / "store"
    write_specimen(root)
    write_day(root, TODAY - AGO_DAYS * DAY_S, is_journalled=False)
    enter(root)
    write_day(root, TODAY - 200 * DAY_S, is_journalled=False)
    (root / path_of("hits", 200)).unlink()
    (root / path_of("hits", 200)).parent.rmdir()
    enter(root, 200)
    tidy(root)
    return root


def judge(store: Path, settings: Settings | None = None) -> dict[str, Verdict]:
    """Return what each check that doesn't pass came to."""
    evidence = Evidence(store, NOW, settings)
    verdicts = {check.code: check.look(evidence).verdict for check in CHECKS}
    return {code: verdict for code, verdict in verdicts.items() if verdict != Verdict.PASS}


def rewritten(tier: str, change: Callable[[list[Row]], object], style: Style = PLAIN) -> Sabotage:
    """Write a file of the imported day anew after a change to its rows, and leave its entry as it was."""

    def sabotage(store: Path) -> None:
        rows = read_rows(store, path_of(tier))
        change(rows)
        write_rows(store, path_of(tier), rows, style)
        tidy(store)

    return sabotage


def entered(sabotage: Sabotage) -> Sabotage:
    """Do something and enter it, as who holds the key of the ledger could."""

    def do(store: Path) -> None:
        sabotage(store)
        enter(store)

    return do


def digest_edited(store: Path) -> None:
    """Let the entry name another file."""
    digest = sha256((store / path_of("hits")).read_bytes()).hexdigest().encode()
    ledger = store / LEDGER
    assert digest in ledger.read_bytes()
    ledger.write_bytes(ledger.read_bytes().replace(digest, b"0" * 64))
    tidy(store)


def hot_hour(store: Path) -> None:
    """Keep an hour with visit numbers of a day that was imported, and own up to it."""
    write_hour(store, YESTERDAY + 9 * HOUR_S)
    enter(store, 1)


def hot_segment(store: Path) -> None:
    """Keep rows with visit numbers of a day that was imported, which no entry needs to name."""
    write_rows(store, SEGMENT.replace("-21/15", "-20/09"), visit_rows(YESTERDAY + 9 * HOUR_S, 5))
    enter(store, 1)


def remove_rows(store: Path) -> None:
    """Delete single rows before their time."""
    (store / path_of("hits")).unlink()
    tidy(store)


def restore_rows(store: Path) -> None:
    """Keep single rows of a day whose entry has none."""
    write_day(store, TODAY - 200 * DAY_S, is_journalled=False)
    tidy(store)


def number_rows(rows: list[Row]) -> None:
    """Give each row a visit."""
    for number, row in enumerate(rows):
        row["visit"] = 2**63 + number


def admit(value: str) -> Sabotage:
    """Put a page into the imported day's vocabulary."""
    word = {"site": "www", "column": "route", "value": value, "origin": "admitted", "visits": 10}
    return rewritten("vocabulary", lambda rows: rows.append(word))


SABOTAGES: dict[str, tuple[Sabotage, set[str]]] = {
    "rows that were added": (rewritten("hits", lambda rows: rows.extend(rows[-20:])), {"ledger"}),
    "a total that was changed": (rewritten("daily", lambda rows: rows[0].update(seconds=999)), {"ledger"}),
    "another digest in the entry": (digest_edited, {"ledger"}),
    "a file that went away": (remove_rows, {"ledger"}),
    "an hour of visits": (hot_hour, {"ledger"}),
    "a segment of visits": (hot_segment, {"ledger"}),
    "a day without an entry": (lambda store: write_day(store, TODAY - 30 * DAY_S, is_journalled=False), {"ledger"}),
    "single rows of a day that was too old for them": (restore_rows, {"ledger"}),
    "a barcode in the vocabulary": (admit("/patron/21234000123456"), {"detectors"}),
    "a search term in the vocabulary": (admit("/search?q=divorce"), {"closed-world"}),
    "a page that nobody admitted": (
        entered(rewritten("hits", lambda rows: rows[-1].update(route="/patron/jane"))), {"closed-world", "crowds"}),
    "an address in the totals": (
        entered(rewritten("daily", lambda rows: rows[-1].update(dimension="page", value="/jane@example.org"))),
        {"closed-world", "detectors"},
    ),
    "a whole address": (
        entered(rewritten("hits", lambda rows: rows[0].update(network="203.0.113.9/32"))),
        {"closed-world", "networks"},
    ),
    "exact times": (
        entered(rewritten("hits", lambda rows: [row.update(time=row["time"] + NINE_S) for row in rows])),
        {"time"},
    ),
    "visit numbers in single rows": (
        entered(rewritten("hits", number_rows, Style(extra={"visit": pa.uint64()}))), {"anatomy", "retention"}),
    "the order of the lines": (
        entered(rewritten("hits", lambda rows: rows.reverse(), Style(is_sorted=False))), {"row-order"}),
    "a page of three visits in the totals": (
        entered(rewritten("daily", lambda rows: rows[-1].update(dimension="page", value="/hours", visits=3))),
        {"crowds"},
    ),
    "the log itself": (lambda store: plant(store, "hits/access.log", b"203.0.113.9 GET /"), {"foreign-files"}),
}  # fmt: skip


def test_an_import_without_fault_passes(store: Path) -> None:
    """Days of old logs pass every check, also those that are too old for single rows."""
    assert judge(store) == {}
    assert judge(store, parse_settings(SITE, "test")) == {}


@pytest.mark.parametrize("tier", ["hits", "daily", "vocabulary"])
def test_an_import_on_its_way_passes(store: Path, tier: str) -> None:
    """A day of long ago that is being put there, or was when the import was killed, is not overdue."""
    (store / path_of(tier)).rename(store / f"{path_of(tier)}.tmp")
    tidy(store)
    assert "retention" not in judge(store)


@pytest.mark.parametrize("name", SABOTAGES)
def test_finds_what_was_done_to_an_import(
    store: Path, name: str, record_property: Callable[[str, object], None]
) -> None:
    """Each sabotage of an imported day fails the checks that are for it, and no other."""
    sabotage, expected = SABOTAGES[name]
    sabotage(store)
    assert judge(store) == dict.fromkeys(expected, Verdict.FAIL)
    record_property("found_by", ", ".join(sorted(expected)))


def test_an_import_is_as_old_as_its_entry(store: Path) -> None:
    """A day of long ago that was imported under the present configuration is held to that one, not to the loosest."""
    settings = parse_settings(f"{SITE}\n[privacy]\nipv4_prefix = 20\n", "test")
    sign(store, "configured", {"settings_sha256": digest_settings(settings)}, TODAY + 14 * HOUR_S)
    assert judge(store, settings) == {}
    enter(store, time_s=TODAY + 14 * HOUR_S)
    assert judge(store, settings) == {"networks": Verdict.FAIL}
