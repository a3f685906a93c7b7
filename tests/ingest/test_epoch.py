"""Old logs in bulk: an epoch's hits are those of its requests one by one, all of which were counted before."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.ingest.batch import HOT_SCHEMA, Batch
from anonproxy.ingest.epoch import CODED_SCHEMA, Epoch, prepare
from anonproxy.keys import ring as ring_module
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.hit import Dropped, Hit
from anonproxy.model.settings import PrivacySettings, Settings
from anonproxy.model.vocabularies import DropReason
from anonproxy.store.tables import build_table
from tests.ingest.test_batch import ANY_HOST, CHOICES, COUNTRIES, FIREFOX, NOON, REQUESTS, SETTINGS, K, build_raw_table
from tests.support.sample_logs import COMBINED, EZPROXY, read_requests, split_epochs


@pytest.fixture(autouse=True)
def one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all rings of a test one key, so that their hits can be compared."""

    def fill(key: bytearray) -> None:
        key[:] = bytes(range(len(key)))

    monkeypatch.setattr(ring_module, "fill_random", fill)


def in_bulk(requests: Sequence[RawRequest], config: Settings = SETTINGS, pieces: int = 1) -> Batch:
    """Make hits of an epoch that comes in so many pieces."""
    context = build_context(config, Visits(KeyRing(config.privacy, NOON), 1800, 14400), COUNTRIES)
    epoch = Epoch(config.privacy, requests[0].time_s if config is ANY_HOST else NOON)
    size, dropped = len(requests) // pieces + 1, Counter[DropReason]()
    for start in range(0, size * pieces, size):
        prepared = prepare(build_raw_table(requests[start : start + size]), context)
        epoch.add(prepared)
        dropped.update(prepared.dropped)
    return Batch(epoch.close(context), dropped)


def one_by_one(requests: Sequence[RawRequest], config: Settings = SETTINGS) -> Batch:
    """Make hits of requests in turn, in the order of their times, after all have been counted."""
    ring = KeyRing(config.privacy, requests[0].time_s if config is ANY_HOST else NOON)
    visits = Visits(ring, 1800, 14400)
    context = build_context(config, visits, COUNTRIES)
    order = sorted(range(len(requests)), key=lambda number: requests[number].time_s)
    for number in order:
        anonymize(requests[number], context)
    visits.forget()
    outcomes = {number: anonymize(requests[number], context) for number in order}
    hits = [outcome for _, outcome in sorted(outcomes.items()) if isinstance(outcome, Hit)]
    dropped = Counter(outcome.reason for outcome in outcomes.values() if isinstance(outcome, Dropped))
    return Batch(build_table(hits) if hits else HOT_SCHEMA.empty_table(), dropped)


def assert_same(requests: Sequence[RawRequest], config: Settings = SETTINGS, pieces: int = 1) -> None:
    """Check that an epoch gives the same in bulk as one by one."""
    expected, made = one_by_one(requests, config), in_bulk(requests, config, pieces)
    assert renumber(made.hits) == renumber(expected.hits)
    assert +Counter(made.dropped) == expected.dropped
    assert made.hits.schema.equals(CODED_SCHEMA)


def renumber(hits: pa.Table) -> list[dict[str, Any]]:
    """Return rows with visits numbered as they come: which rows share one matters, and not what it is called."""
    numbers: dict[int | None, int | None] = {None: None}
    return [{**row, "visit": numbers.setdefault(row["visit"], len(numbers))} for row in hits.to_pylist()]


def in_time(request: RawRequest) -> bool:
    """Tell whether a request is of the epoch that these tests are about; the pipeline sorts others out before."""
    return NOON - 8 * 3600 <= request.time_s < NOON + 10 * 3600


def random_requests(seed: int, count: int, **fixed: Any) -> list[RawRequest]:
    """Return requests that vary in every field."""
    chance = random.Random(seed)
    requests = (
        RawRequest(**{**{name: chance.choice(CHOICES[name]) for name in CHOICES}, **fixed}) for _ in range(count)
    )
    return [request for request in requests if in_time(request)]


@pytest.mark.parametrize("fixed", [{}, {"raw_set_cookie": ""}], ids=["handed over", "cut"])
@pytest.mark.parametrize("pieces", [1, 7])
def test_an_epoch_is_the_same_in_bulk_and_one_by_one(fixed: dict[str, Any], pieces: int) -> None:
    """Whatever the requests, in whatever pieces, and whether visits go on under another cookie or not."""
    for seed in range(6):
        assert_same(random_requests(seed, 800, **fixed), pieces=pieces)


@given(st.lists(REQUESTS.filter(in_time), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_any_epoch_is_the_same_in_bulk_and_one_by_one(requests: list[RawRequest]) -> None:
    """Hypothesis finds no requests that fare differently."""
    assert_same(requests)


@pytest.mark.parametrize(("spacing_s", "expected"), [(1, 1), (600, 5), (1799, 4), (1800, 5), (1801, 35), (7200, 9)])
def test_visits_end_where_they_would_one_by_one(spacing_s: int, expected: int) -> None:
    """After 30 minutes of silence, and after 4 hours in any case, as often as that happens."""
    times = [NOON - 8 * 3600 + number * spacing_s for number in range(min(1000, 64_800 // spacing_s))]
    requests = [visit(1, time_s=time_s) for time_s in times]
    assert_same(requests)
    assert len(in_bulk(requests).hits["visit"].unique()) == expected


def test_the_order_of_lines_changes_nothing() -> None:
    """Two servers' logs, one behind the other, give the rows that one log gives."""
    requests = [visit(number % 7, time_s=NOON + number * 61.7) for number in range(300)]
    turned = [*requests[1::2], *requests[::2]]
    first, second = (gather_visits(in_bulk(each).hits) for each in (requests, turned))
    assert first == second


def gather_visits(hits: pa.Table) -> list[list[str]]:
    """Return the rows of each visit, whatever the order of the rows and the names of the visits."""
    visits: dict[int, list[str]] = {}
    for row in hits.to_pylist():
        visits.setdefault(row.pop("visit"), []).append(repr(row))
    return sorted(sorted(rows) for rows in visits.values())


def visit(number: int, **fields: Any) -> RawRequest:
    """Return a request of some visitor for a page that no rule knows."""
    page: dict[str, Any] = {"raw_host": "library.example.org", "raw_target": "/about/us", "status": 200}
    return RawRequest(**{
        "time_s": NOON + number, "raw_client": "203.0.113.7", **page, "raw_cookie": f"PHPSESSID={number}",
        "raw_user_agent": FIREFOX, **fields,
    })  # fmt: skip


def test_all_visitors_are_counted_before_anything_is_written() -> None:
    """What k visits of the log share is in clear from its first row on; what k - 1 share never is."""
    requests = [
        *(visit(number) for number in range(K)),
        *(visit(number, raw_target="/about/staff") for number in range(K - 1)),
        visit(99, is_opted_out=True),
    ]
    hits = in_bulk(requests).hits
    assert hits["route"].to_pylist() == ["/about/us"] * K + ["(unlisted)"] * (K - 1) + ["/about/us"]
    assert set(hits["network"].to_pylist()) == {"203.0.113.0/24"}


def test_when_there_are_too_many_routes_those_most_seen_are_kept() -> None:
    """The limit on admitted routes holds; what it leaves out is what the fewest visitors saw."""
    config = SETTINGS.model_copy(update={"privacy": SETTINGS.privacy.model_copy(update={"max_routes": 1})})
    requests = [visit(n, raw_target="/a") for n in range(K)] + [visit(n, raw_target="/b") for n in range(K + 1)]
    assert set(in_bulk(requests, config).hits["route"].to_pylist()) == {"(unlisted)", "/b"}


def test_an_epoch_without_rows_is_no_hits() -> None:
    """Nothing in, nothing out."""
    context = build_context(SETTINGS, Visits(KeyRing(SETTINGS.privacy, NOON), 1800, 14400), COUNTRIES)
    epoch = Epoch(SETTINGS.privacy, NOON)
    epoch.add(prepare(build_raw_table([]), context))
    assert epoch.close(context).equals(CODED_SCHEMA.empty_table())


@pytest.mark.slow
@pytest.mark.needs_samples
@pytest.mark.parametrize("name", [EZPROXY, COMBINED])
def test_the_sample_logs_are_the_same_as_one_by_one(samples: Path, name: str) -> None:
    """Each day of the sample logs gives the same hits and drops in bulk."""
    for epoch in split_epochs(read_requests(samples / name)):
        requests = [request for request in epoch if request.raw_client]
        assert_same(requests, ANY_HOST, pieces=3)


@pytest.mark.parametrize(("raw_set_cookie", "count"), [("", 0), ("PHPSESSID=next", 1)], ids=["cut", "handed over"])
def test_a_closed_epoch_has_no_key(raw_set_cookie: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one only while visits are walked that go on under another cookie; then it is overwritten."""
    rings: list[KeyRing] = []

    def make_ring(privacy: PrivacySettings, now: float) -> KeyRing:
        rings.append(KeyRing(privacy, now))
        return rings[-1]

    context = build_context(SETTINGS, Visits(KeyRing(SETTINGS.privacy, NOON), 1800, 14400), COUNTRIES)
    monkeypatch.setattr("anonproxy.ingest.epoch.KeyRing", make_ring)
    epoch = Epoch(SETTINGS.privacy, NOON)
    epoch.add(prepare(build_raw_table([visit(1, raw_set_cookie=raw_set_cookie), visit(2)]), context))
    assert repr(epoch) == "Epoch(…)"
    assert epoch.close(context).num_rows == 2
    assert len(rings) == count
    assert not any(any(ring.tag_key) or any(ring.visit_key) for ring in rings)
    assert not epoch._numbers
    assert not epoch._tables
