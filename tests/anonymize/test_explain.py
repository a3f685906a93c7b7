"""One request, explained: what came in, masked; what is stored; the rule that decided."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.context import Context
from anonproxy.anonymize.explain import DROPS, SHOW, Explanation, explain
from anonproxy.anonymize.place import CountryLookup, load_bundled_country
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.hit import Dropped, Hit
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import DropReason

NOON = 1_772_470_800.0
COUNTRIES = CountryLookup(load_bundled_country())
SETTINGS = Settings.model_validate(
    {
        "store": {"path": "unused"},
        "sites": [
            {
                "name": "www",
                "hosts": ["library.example.org"],
                "upstream": "http://127.0.0.1:1",
                "routes": [{"path": "/record/{id}", "kind": "item"}],
                "session_cookies": ["PHPSESSID", "SESS*"],
            }
        ],
    }
)
REQUEST = RawRequest(
    time_s=NOON + 754.3,
    raw_client="203.0.113.77:4711",
    raw_host="library.example.org",
    raw_target="/record/1234567/jane?q=bankruptcy&jane-doe=1&flag",
    status=200,
    size_bytes=5123,
    duration_s=0.137,
    raw_cookie="lang=en; SESS49960de5880e8c68=abcdefghijklmnopqrstuvwxyz",
    raw_user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0",
    raw_referrer="https://www.google.com/search?q=bankruptcy",
    raw_accept_language="es-MX,es;q=0.9",
)


@pytest.fixture
def context() -> Context:
    """Give the settings of a site and a fresh epoch."""
    return build_context(SETTINGS, Visits(KeyRing(SETTINGS.privacy, NOON), 1800, 14400), COUNTRIES)


def by_column(request: RawRequest, context: Context) -> dict[str, Explanation]:
    """Explain a request, by column."""
    return {explanation.column: explanation for explanation in explain(request, context)}


def test_every_column_is_explained(context: Context) -> None:
    """Each column has what came in, what is stored and a rule, in the order in which it is stored."""
    explained = explain(REQUEST, context)
    assert [row.column for row in explained] == [column.name for column in HIT_COLUMNS]
    assert all(row.raw_masked and row.stored and row.rule for row in explained)


MASKED = [
    ("time", "2026-03-02 ••:••:••", "2026-03-02 17:00"),
    ("site", "Host •••• (19 characters)", "www"),
    ("route", "/••••/••••/••••?q=••••&••••=••••&••••=••••", "(redacted)"),
    ("status", "200", "200"),
    ("size_bytes", "5••• bytes", "4096"),
    ("duration_ms", "1•• ms", "100"),
    ("step", "SESS*=•••• (26 characters)", "1"),
    ("network", "in 203.0.113.0/24", "–"),
    ("network_class", "in 203.0.113.0/24", "remote"),
    ("referrer", "•••• (42 characters)", "google.com"),
    ("browser", "•••• (70 characters)", "Firefox"),
    ("bot", "•••• (70 characters)", '""'),
    ("language", "•••• (14 characters)", "es"),
]


@pytest.mark.parametrize(("column", "raw_masked", "stored"), MASKED)
def test_shows_raw_masked_beside_stored(column: str, raw_masked: str, stored: str, context: Context) -> None:
    """What came in is recognisable and masked; what is stored stands as it is."""
    row = by_column(REQUEST, context)[column]
    assert (row.raw_masked, row.stored) == (raw_masked, stored)


@pytest.mark.parametrize(
    ("fields", "column", "words"),
    [
        ({}, "visit", "session cookie"),
        ({"raw_cookie": ""}, "visit", "address, User-Agent and site"),
        ({"is_opted_out": True}, "visit", "opted out"),
        ({"raw_user_agent": "curl/8"}, "visit", "robot"),
        ({"raw_target": "/kids/a"}, "visit", "children page"),
        ({"raw_target": "/record/1"}, "route", "configured"),
        ({"raw_target": "/about/us"}, "route", "not yet shared by privacy.k visits"),
        ({"raw_target": "/mail/jane@example.org"}, "route", "detector"),
        ({"status": 404}, "route", "does not have"),
        ({"raw_referrer": ""}, "referrer", "names none"),
        ({"raw_referrer": "https://jane-doe.com"}, "referrer", "not yet shared"),
        ({"raw_target": "/?utm_campaign=21234567890123"}, "campaign", "could identify"),
    ],
    ids=str,
)
def test_names_the_rule_that_decided(fields: dict[str, object], column: str, words: str, context: Context) -> None:
    """The rule stands in words that a webmaster understands."""
    request = replace(REQUEST, **fields)  # type: ignore[arg-type]
    assert words in by_column(request, context)[column].rule


def test_shows_the_segments_that_are_stored(context: Context) -> None:
    """Of a path that a route knows, the route's own words are shown."""
    assert by_column(replace(REQUEST, raw_target="/record/1?q="), context)["route"].raw_masked == "/record/••••?q=••••"


def test_an_embedded_address_is_shown_as_what_it_carries(context: Context) -> None:
    """6to4 and its kind are told by what they were unmapped to."""
    row = by_column(replace(REQUEST, raw_client="2002:cb00:714d::1"), context)["network"]
    assert row.raw_masked == "in 203.0.113.0/24, carried in IPv6"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"raw_client": "unknown"}, DropReason.BAD_ADDRESS),
        ({"raw_host": "elsewhere.example"}, DropReason.UNKNOWN_SITE),
        ({"time_s": float("nan")}, DropReason.BAD_TIME),
        ({"time_s": NOON + 1e6}, DropReason.NO_KEY),
        ({"raw_target": "/" * 100_000}, DropReason.OVERSIZED),
        ({"status": "no number"}, DropReason.INTERNAL_ERROR),
    ],
)
def test_a_drop_is_explained(fields: dict[str, object], reason: DropReason, context: Context) -> None:
    """A dropped request is one row with the reason."""
    (row,) = explain(replace(REQUEST, **fields), context)  # type: ignore[arg-type]
    assert (row.column, row.stored, row.rule) == ("(dropped)", reason, DROPS[reason][1])


def test_explains_what_anonymize_does(context: Context) -> None:
    """What is shown as stored is what is stored."""
    first, second = anonymize(REQUEST, context), by_column(REQUEST, context)
    assert isinstance(first, Hit)
    for column in ("route", "kind", "visit", "country", "referrer", "channel", "browser", "language"):
        assert second[column].stored == str(getattr(first, column))


SECRET = "zqxjkvw"
RAW_FIELDS = [field.name for field in fields(RawRequest) if field.name.startswith("raw_")]


@given(st.sampled_from(RAW_FIELDS), st.text(max_size=10), st.text(max_size=10))
def test_nothing_raw_is_shown(name: str, before: str, after: str) -> None:
    """A secret in any field, in any surroundings, is in no part of the explanation."""
    context = build_context(SETTINGS, Visits(KeyRing(SETTINGS.privacy, NOON), 1800, 14400), COUNTRIES)
    for start in ("", getattr(REQUEST, name)):
        request = replace(REQUEST)
        setattr(request, name, f"{start}{before}{SECRET}{after}")
        if "utm_" not in request.raw_target and f"{SECRET}=" not in request.raw_target:
            shown = "\n".join(" ".join(row) for row in explain(request, context))
            assert SECRET not in shown.lower()
            assert not isinstance(anonymize(request, context), Dropped) or "(dropped)" in shown


def test_every_column_has_something_to_show() -> None:
    """The table of what is shown knows the columns of the store, no fewer and no more."""
    assert list(SHOW) == [column.name for column in HIT_COLUMNS]
