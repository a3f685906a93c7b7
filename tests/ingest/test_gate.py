"""The gate for days that an import has made: all that the rules could have made passes, and nothing else."""

import io
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anonproxy.anonymize.request import RawRequest
from anonproxy.ingest.gate import Flaw, Gate, Unfit, keep_tiers
from anonproxy.ingest.jobs import read_here
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.settings import Settings
from anonproxy.store.imports import Made
from anonproxy.store.layout import Kind
from anonproxy.store.tables import SCHEMAS, render_parquet
from tests.support.invented_logs import K, day, invent, plan, settings, write_log
from tests.support.sample_logs import COMBINED, EZPROXY

Rows = list[dict[str, Any]]
TOTALS: tuple[Kind, ...] = ("daily",)
# Pages that the site publishes; two of them with words that no visitor's path may have.
SITEMAP = ("/about", "/user/help", "/My Library/Hours", "/search")


def read(made: Made, kind: Kind) -> Rows:
    """Return the rows of a day's file."""
    rows: Rows = pq.ParquetFile(pa.BufferReader(made.files[kind])).read().cast(SCHEMAS[kind]).to_pylist()
    return rows


def change(kind: Kind, act: Callable[[Rows], object]) -> Callable[[Made], Made]:
    """Have a day made with other rows, written as this version writes them."""

    def changed(made: Made) -> Made:
        rows = read(made, kind)
        act(rows)
        data = render_parquet(pa.Table.from_pylist(rows, SCHEMAS[kind]), kind)
        return made._replace(files={**made.files, kind: data})

    return changed


def word(column: str, value: str, origin: str = "admitted", visits: int | None = K) -> Callable[[Made], Made]:
    """Have a day made with one more word."""
    entry = {"site": "www", "column": column, "value": value, "origin": origin, "visits": visits}
    return change("vocabulary", lambda rows: rows.append(entry))


def cell(dimension: str, value: str, **numbers: int) -> Callable[[Made], Made]:
    """Have a day made with one more cell of its totals."""
    measures = dict.fromkeys(("hits", "pageviews", "visits", "bounces", "seconds"), K) | numbers
    row = {"date": day(0), "site": "www", "dimension": dimension, "value": value, **measures}
    return change("daily", lambda rows: rows.append(row))


def move_crowd(by: timedelta) -> Callable[[Made], Made]:
    """Have a day made in which those who looked at the same page did so at another time than at midnight."""

    def move(rows: Rows) -> None:
        [(crowd, count)] = Counter((row["route"], row["bot"] == "") for row in rows).most_common(1)
        assert count >= K
        for row in rows:
            if (row["route"], row["bot"] == "") == crowd:
                row["time"] += by

    return change("hits", move)


def repeat_country(rows: Rows) -> None:
    """Count a country a second time."""
    rows.append(dict(next(row for row in rows if row["dimension"] == "country")))


def told(data: bytes, kind: Kind = "hits") -> Callable[[Made], Made]:
    """Have a day made with other bytes."""
    return lambda made: made._replace(files={**made.files, kind: data})


def annotate(made: Made) -> Made:
    """Write something beside the rows."""
    target = io.BytesIO()
    rows = pq.ParquetFile(pa.BufferReader(made.files["hits"])).read()
    pq.write_table(rows.replace_schema_metadata({"note": "203.0.113.7"}), target)
    return made._replace(files={**made.files, "hits": target.getvalue()})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return the settings of a library."""
    return settings(tmp_path_factory.mktemp("gate") / "store")


@pytest.fixture(scope="module")
def made(config: Settings, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Make a day of a log."""
    log = write_log(tmp_path_factory.mktemp("logs") / "access.log", invent(days=1, people=60))
    days = [message for message in read_here(plan(config, log, learned={"www": SITEMAP})) if isinstance(message, Made)]
    return next(each for each in days if each.date == day(0))


@pytest.fixture
def gate(config: Settings) -> Gate:
    """Give the gate of a recorder that has learned nothing from a sitemap, and has seen nobody."""
    recorder = Recorder(config)
    known = recorder._list_words()
    recorder.close()
    return Gate(config, known)


def test_a_day_passes(gate: Gate, made: Made) -> None:
    """What an import makes passes, with pages of the sitemap, pages that visitors shared, and networks."""
    origins = {row["origin"] for row in read(made, "vocabulary")}
    assert origins == {"enumerated", "configured", "preset", "list", "sitemap", "admitted"}
    gate.verify(made)


def test_a_day_with_the_hours_of_a_crowd_passes(gate: Gate, made: Made) -> None:
    """When many looked at the same page may be told."""
    gate.verify(move_crowd(timedelta(hours=3))(made))


def test_a_day_of_few_passes(gate: Gate, config: Settings, tmp_path: Path) -> None:
    """How many came in all is told of any day, and so is the rest that nothing is told of."""
    log = write_log(tmp_path / "access.log", invent(days=1, people=K // 2))
    days = [message for message in read_here(plan(config, log)) if isinstance(message, Made)]
    assert {row["dimension"] for row in read(days[0], "daily") if 0 < row["visits"] < K} >= {"total", "country"}
    for made in days:
        gate.verify(made)


FLAWS: dict[str, tuple[Flaw, Callable[[Made], Made]]] = {
    "of a site that isn't configured": (Flaw.FILES, lambda made: made._replace(site="../..")),
    "with visit numbers": (Flaw.FILES, lambda made: made._replace(files={**made.files, "hot": b""})),
    "without totals": (Flaw.FILES, lambda made: made._replace(files={"vocabulary": made.files["vocabulary"]})),
    "that is no Parquet": (Flaw.BYTES, told(b"203.0.113.7 GET /secret")),
    "of nothing": (Flaw.BYTES, told(b"", "daily")),
    "that is cut off": (Flaw.BYTES, lambda made: told(made.files["hits"][:-1])(made)),
    "of other columns": (Flaw.BYTES, lambda made: told(made.files["daily"])(made)),
    "with a note in the footer": (Flaw.BYTES, annotate),
    "with a page of a person": (Flaw.WORDS, word("route", "/patron/jane.doe@example.org")),
    "with a page of an account": (Flaw.WORDS, word("route", "/account/history")),
    "with a page that is longer than any": (Flaw.WORDS, word("route", f"/events/{'a-' * 125}")),
    "with a page that isn't plain": (Flaw.WORDS, word("route", "/a/../b")),
    "with a placeholder of its own": (Flaw.WORDS, word("route", "(jane)")),
    "with a page that few have seen": (Flaw.WORDS, word("route", "/genealogy", visits=K - 1)),
    "with a page that nobody counted": (Flaw.WORDS, word("route", "/genealogy", visits=None)),
    "with a page that the configuration hasn't": (Flaw.WORDS, word("route", "/genealogy", "configured", None)),
    "with a page that no site publishes": (Flaw.WORDS, word("route", "/21234567890123", "sitemap", None)),
    "with an address": (Flaw.WORDS, word("network", "203.0.113.7/32")),
    "with a narrow network": (Flaw.WORDS, word("network", "2001:db8:1:2::/64")),
    "with a network that hides an address": (Flaw.WORDS, word("network", "2002:cb00::/32")),
    "with a network that is none": (Flaw.WORDS, word("network", "jane/24")),
    "with a host that holds a barcode": (Flaw.WORDS, word("referrer", "21234567890123.org")),
    "with a public site as if it weren't": (Flaw.WORDS, word("referrer", "google.com")),
    "with somebody's own host": (Flaw.WORDS, word("referrer", "jane.library.example.org")),
    "with a listed site that nobody listed": (Flaw.WORDS, word("referrer", "jane.org", "list", None)),
    "with a campaign for somebody": (Flaw.WORDS, word("campaign", "21234567890123")),
    "with a campaign in plain text": (Flaw.WORDS, word("campaign", "Jane Doe")),
    "with a language that nobody asked for": (Flaw.WORDS, word("language", "tlh")),
    "with a word for a column that has none": (Flaw.WORDS, word("browser", "Firefox")),
    "with a word of another site": (Flaw.WORDS, change("vocabulary", lambda rows: rows[0].update(site="kids"))),
    "with a row of another site": (Flaw.ROWS, change("hits", lambda rows: rows[0].update(site="kids"))),
    "with a page outside its words": (Flaw.ROWS, change("hits", lambda rows: rows[0].update(route="/jane"))),
    "with a network outside its words": (
        Flaw.ROWS,
        change("hits", lambda rows: rows[0].update(network="10.0.0.0/8")),
    ),
    "with an exact length": (Flaw.ROWS, change("hits", lambda rows: rows[0].update(size_bytes=5_417))),
    "with a browser of its own": (Flaw.ROWS, change("hits", lambda rows: rows[0].update(browser="Jane's"))),
    "with an exact time": (
        Flaw.ROWS,
        change("hits", lambda rows: rows[0].update(time=datetime(2026, 11, 10, 12, 34, 56, tzinfo=UTC))),
    ),
    "with an hour that one visitor has": (
        Flaw.ROWS,
        change("hits", lambda rows: rows[0].update(time=datetime(2026, 11, 10, 3, 45, tzinfo=UTC))),
    ),
    "with a row of another day": (
        Flaw.ROWS,
        change("hits", lambda rows: rows[0].update(time=rows[0]["time"] + timedelta(days=1))),
    ),
    "with an exact time that a crowd has": (Flaw.ROWS, move_crowd(timedelta(hours=3, seconds=1))),
    "with another day's hour that a crowd has": (Flaw.ROWS, move_crowd(timedelta(days=1))),
    "with a row too few": (Flaw.ROWS, change("hits", lambda rows: rows.pop(0))),
    "with more rows than it says": (Flaw.TOTALS, lambda made: made._replace(rows=made.rows - 1)),
    "with a cell of few": (Flaw.TOTALS, cell("country", "FR", visits=K - 1)),
    "with a cell of few robots": (Flaw.TOTALS, cell("bot", "ai", hits=K - 1)),
    "with a page of totals outside its words": (Flaw.TOTALS, cell("exit", "/jane")),
    "with a dimension of its own": (Flaw.TOTALS, cell("patron", "(other)")),
    "with an hour that no day has": (Flaw.TOTALS, cell("hour", "24")),
    "with less than nothing": (Flaw.TOTALS, cell("country", "FR", seconds=-1)),
    "with the same cell twice": (Flaw.TOTALS, change("daily", repeat_country)),
    "with totals of another day": (Flaw.TOTALS, change("daily", lambda rows: rows[0].update(date=day(1)))),
    "with totals of another site": (Flaw.TOTALS, change("daily", lambda rows: rows[0].update(site="kids"))),
}


@pytest.mark.parametrize(("flaw", "spoil"), FLAWS.values(), ids=FLAWS.keys())
def test_a_day_is_refused(gate: Gate, made: Made, flaw: Flaw, spoil: Callable[[Made], Made]) -> None:
    """What the rules could not have made is refused, and only the kind of flaw is told."""
    with pytest.raises(Unfit) as refused:
        gate.verify(spoil(made))
    assert refused.value.args == (flaw,)


def test_what_is_too_old_by_now_is_left_out(gate: Gate, made: Made) -> None:
    """Single rows go, and with them the words that only they could hold; the rest is a day as any other."""
    kept = keep_tiers(made, TOTALS)
    assert kept.files.keys() == {"vocabulary", "daily"}
    assert kept.files["daily"] == made.files["daily"]
    assert len(read(kept, "vocabulary")) < len(read(made, "vocabulary"))
    gate.verify(kept)
    assert keep_tiers(made, ("hits", "daily")) is made
    assert keep_tiers(kept, TOTALS) is kept


def test_what_the_recorder_admitted_may_differ(config: Settings, made: Made) -> None:
    """Neither what its own visitors admitted nor what it learned itself is in the way of an import."""
    recorder = Recorder(config)
    recorder._context.learn_routes("www", ["/genealogy", "/About/1"])
    for number in range(K):
        recorder.record(RawRequest(recorder._clock(), f"198.51.100.{number}", raw_target="/about/2", status=200))
    known = recorder._list_words()
    recorder.close()
    Gate(config, known).verify(made)


@pytest.mark.slow
@pytest.mark.needs_samples
@pytest.mark.parametrize(("name", "year"), [(EZPROXY, 2012), (COMBINED, 2015)])
def test_days_of_real_logs_pass(samples: Path, tmp_path: Path, name: str, year: int) -> None:
    """Each day of a real log passes, as rows and totals, and as totals alone."""
    config = settings(tmp_path, sites=[{"name": "www", "upstream": "http://127.0.0.1:9", "presets": ["ezproxy"]}])
    recorder = Recorder(config)
    gate = Gate(config, recorder._list_words())
    recorder.close()
    now_s = int(datetime(year, 12, 24, tzinfo=UTC).timestamp())
    days = [message for message in read_here(plan(config, samples / name, now_s=now_s)) if isinstance(message, Made)]
    assert days
    for each in days:
        gate.verify(each)
        gate.verify(keep_tiers(each, TOTALS))
