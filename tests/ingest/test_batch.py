"""Logs in bulk: the same hits and the same drops as one by one, whatever the log."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonproxy.anonymize.context import Context, Countries
from anonproxy.anonymize.place import CountryLookup, load_bundled_country
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.rules import MAX_RAW_CHARS
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.ingest.batch import HOT_SCHEMA, RAW_SCHEMA, Batch, anonymize_batch
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.hit import Dropped, Hit
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import DropReason
from anonproxy.store.tables import build_table
from tests.support.sample_logs import COMBINED, CUT, EZPROXY, ZONE, read_requests, split_epochs

NOON = 1_772_470_800.0  # 2026-03-02 17:00 UTC
K = 5
COUNTRIES = CountryLookup(load_bundled_country())
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"

SETTINGS = Settings.model_validate(
    {
        "store": {"path": "unused"},
        "privacy": {"k": K, "time_zone": "UTC"},
        "sites": [
            {
                "name": "www",
                "hosts": ["library.example.org", "*.library.example.org"],
                "upstream": "http://127.0.0.1:1",
                "presets": ["koha"],
                "routes": [{"path": "/events/{event}"}],
                "campaigns": ["summer-reading"],
            },
            {"name": "catalog", "hosts": ["catalog.example.org"], "upstream": "http://127.0.0.1:2"},
        ],
    }
)
ANY_HOST = Settings.model_validate(
    {
        "store": {"path": "unused"},
        "privacy": {"time_zone": ZONE, "epoch_cut": CUT},
        "sites": [{"name": "all", "hosts": ["*"], "upstream": "http://127.0.0.1:1", "presets": ["ezproxy"]}],
    }
)


class Epoch:
    """What requests meet in one epoch. Two epochs of one ring make the same hits of the same requests."""

    def __init__(self, ring: KeyRing, config: Settings = SETTINGS, countries: Countries = COUNTRIES) -> None:
        self.visits = Visits(ring, 1800, 14400)
        self.context: Context = build_context(config, self.visits, countries)

    def in_bulk(self, requests: Sequence[RawRequest]) -> Batch:
        """Anonymise requests as a table."""
        return anonymize_batch(build_raw_table(requests), self.context, self.visits)

    def one_by_one(self, requests: Sequence[RawRequest]) -> Batch:
        """Anonymise requests in turn."""
        outcomes = [anonymize(request, self.context) for request in requests]
        hits = [outcome for outcome in outcomes if isinstance(outcome, Hit)]
        dropped = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Dropped))
        return Batch(build_table(hits) if hits else HOT_SCHEMA.empty_table(), dropped)


def build_raw_table(requests: Sequence[RawRequest]) -> pa.Table:
    """Put requests into columns."""
    columns = {name: [to_arrow(getattr(request, name)) for request in requests] for name in RAW_SCHEMA.names}
    return pa.table(columns, schema=RAW_SCHEMA)


def to_arrow(value: object) -> object:
    """Return a text as the bytes that it was decoded from."""
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def new_ring(now: float = NOON) -> KeyRing:
    """Return a ring in a fresh epoch."""
    return KeyRing(SETTINGS.privacy, now)


def assert_same(requests: Sequence[RawRequest], *, config: Settings = SETTINGS, pieces: int = 1) -> Batch:
    """Check that a log gives the same in bulk, in so many pieces, as one by one; and return what."""
    ring = KeyRing(config.privacy, requests[0].time_s if requests and config is ANY_HOST else NOON)
    expected = Epoch(ring, config).one_by_one(requests)
    epoch, size = Epoch(ring, config), len(requests) // pieces + 1
    batches = [epoch.in_bulk(requests[start : start + size]) for start in range(0, size * pieces, size)]
    hits = pa.concat_tables([batch.hits for batch in batches])
    assert hits.to_pylist() == expected.hits.to_pylist()
    assert hits.equals(expected.hits)
    assert sum((batch.dropped for batch in batches), Counter()) == expected.dropped
    assert hits.num_rows + expected.dropped.total() == len(requests)
    return expected


CHOICES: dict[str, list[Any]] = {
    "time_s": [*(NOON + 400.7 * number for number in range(12)), NOON - 7200, NOON + 50_000.0, -1.0, float("nan")],
    "raw_client": [*(f"203.0.{number % 3}.{number}" for number in range(9)), "2002:c633:6411::1", "[2a02::1]:9", "me"],
    "raw_host": ["library.example.org", "kids.library.example.org:443", "catalog.example.org", "elsewhere.example"],
    "raw_method": ["GET", "GET", "POST", "BREW"],
    "raw_target": [
        *["/about/us", "/about/us?utm_campaign=poster"] * 4,
        *("/", "/events/a", "/?utm_campaign=Summer+Reading", "/logo.png"),
        *("/search?q=secret", "/health/hiv", "/kids", "/card/21234567890123", "/account", "*", "/a/%ff", "/caf\udce9"),
        *("/?utm_campaign=21234567890123", "/?fbclid=x", "/cgi-bin/koha/opac-detail.pl?biblionumber=7"),
    ],
    "status": [200, 200, 200, 302, 404, 599, 0, -3],
    "size_bytes": [0, 300, 5_000_000, -1],
    "duration_s": [0.0, 0.3, float("inf"), float("nan")],
    "raw_cookie": ["", "", *(f"PHPSESSID={name}" for name in "abcdefghijklmnop"), "theme=dark"],
    "raw_set_cookie": [*[""] * 8, "PHPSESSID=a", "PHPSESSID=z"],
    "raw_user_agent": [FIREFOX, FIREFOX, "Googlebot/2.1", "\udcff", "x" * (MAX_RAW_CHARS + 1)],
    "raw_referrer": ["", "https://www.bing.com/?q=x", "https://jane-doe.com/", "https://library.example.org/a", "?"],
    "raw_accept_language": ["", "es-MX,es;q=0.9", "br"],
    "is_opted_out": [False, False, False, True],
    "is_private": [False, False, False, True],
    "is_agent_logged": [True, True, True, False],
}  # fmt: skip
TEXT = st.text(max_size=20) | st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
ANY_VALUE = {float: st.floats(), int: st.integers(-(2**40), 2**40), bool: st.booleans(), str: TEXT}
REQUESTS = st.builds(
    RawRequest,
    **{name: st.sampled_from(values) | ANY_VALUE[type(values[0])] for name, values in CHOICES.items()},
)


def test_every_field_of_a_request_is_varied_here() -> None:
    """A field that is added to requests can't be forgotten in these tests."""
    assert list(CHOICES) == RAW_SCHEMA.names


@settings(max_examples=60)
@given(st.lists(REQUESTS, max_size=30), st.integers(1, 3))
def test_bulk_is_the_same_as_one_by_one(requests: list[RawRequest], pieces: int) -> None:
    """Any requests, in one table or several, become the rows and the drops that `anonymize` makes of them."""
    assert_same(requests, pieces=pieces)


@pytest.mark.parametrize("seed", range(3))
def test_a_busy_hour_is_the_same_as_one_by_one(seed: int) -> None:
    """Thousands of requests that share much: with admitted values in every open column, and every kind of drop."""
    chance = random.Random(seed)
    requests = [RawRequest(**{name: chance.choice(CHOICES[name]) for name in CHOICES}) for _ in range(3000)]
    made = assert_same(requests, pieces=4)
    for column, value in (("route", "/about/us"), ("network", "203.0.0.0/24"), ("referrer", "jane-doe.com")):
        assert value in made.hits[column].to_pylist(), column
    assert "poster" in made.hits["campaign"].to_pylist()
    assert set(made.dropped) == {
        DropReason.OVERSIZED,
        DropReason.UNKNOWN_SITE,
        DropReason.BAD_TIME,
        DropReason.BAD_ADDRESS,
        DropReason.NO_KEY,
    }


@pytest.mark.slow
@pytest.mark.needs_samples
@pytest.mark.parametrize("name", [EZPROXY, COMBINED])
def test_the_sample_logs_are_the_same_as_one_by_one(samples: Path, name: str) -> None:
    """Each day of the sample logs gives the same hits and drops in bulk."""
    for epoch in split_epochs(read_requests(samples / name)):
        assert_same(epoch, config=ANY_HOST)


def visit(number: int, **fields: Any) -> RawRequest:
    """Return a request of some visitor for a page that no rule knows."""
    page: dict[str, Any] = {"raw_host": "library.example.org", "raw_target": "/about/us", "status": 200}
    return RawRequest(NOON + number, "203.0.113.7", **{
        **page, "raw_cookie": f"PHPSESSID={number}", "raw_user_agent": FIREFOX, **fields
    })  # fmt: skip


def test_columns_that_a_log_lacks_have_their_defaults() -> None:
    """A log of times, addresses and targets alone is the same as one in which the rest is empty."""
    requests = [RawRequest(NOON + number, "203.0.113.7", raw_target=f"/{number}") for number in range(9)]
    ring = new_ring()
    few = build_raw_table(requests).select(["time_s", "raw_client", "raw_target"])
    epoch = Epoch(ring, ANY_HOST)
    assert anonymize_batch(few, epoch.context, epoch.visits).hits.equals(Epoch(ring, ANY_HOST).in_bulk(requests).hits)


def test_an_empty_log_is_no_rows() -> None:
    """Nothing in, nothing out."""
    assert Epoch(new_ring()).in_bulk([]) == Batch(HOT_SCHEMA.empty_table(), Counter())


def test_without_a_key_only_what_needs_none_is_written() -> None:
    """When the key is wiped, visits are dropped and counted; an opt-out's row needs no key."""
    ring = new_ring()
    ring.wipe()
    made = Epoch(ring).in_bulk([visit(1), visit(2, is_opted_out=True)])
    assert made.dropped == {DropReason.NO_KEY: 1}
    assert made.hits["visit"].to_pylist() == [None]


class BrokenCountries:
    """A country file that fails for one address."""

    def country(self, address: object) -> str:
        """Fail, with the address in the message."""
        if str(address) == "203.0.113.66":
            raise ValueError(address)
        return "US"


def test_a_mistake_in_the_software_drops_its_rows_only() -> None:
    """Rows that meet an exception become a reason and nothing more; the others are written."""
    made = Epoch(new_ring(), countries=BrokenCountries()).in_bulk(
        [visit(1), RawRequest(NOON, "203.0.113.66", raw_host="library.example.org"), visit(2)]
    )
    assert made.dropped == {DropReason.INTERNAL_ERROR: 1}
    assert made.hits["country"].to_pylist() == ["US", "US"]


def test_rows_are_plain() -> None:
    """No column of the result is a dictionary: Parquet would keep values that no row has."""
    schema = Epoch(new_ring()).in_bulk([visit(1)]).hits.schema
    assert schema.equals(HOT_SCHEMA)
    assert not any(pa.types.is_dictionary(column) for column in schema.types)
