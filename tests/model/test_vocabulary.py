"""The gate lets only the closed world through."""

import pytest

from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.hit import Hit
from anonproxy.model.vocabularies import Origin
from anonproxy.model.vocabulary import Entry, Vocabulary

HIT = Hit(
    time=1_800_000_000, site="www", method="GET", route="/", kind="page", status=200, size_bytes=256, duration_ms=10,
    visit=1, step=1, elapsed_s=0, network=None, network_class="remote", country="US", referrer="(direct)",
    channel="direct", campaign=None, browser="Firefox", os="Linux", device="desktop", bot="", language="en",
)  # fmt: skip

ENTRIES = [
    Entry("www", column, value, Origin.CONFIGURED)
    for column, value in [("route", "/"), ("network_class", "remote"), ("referrer", "(direct)"), ("language", "en")]
]


def test_fields_are_columns() -> None:
    """A hit has the columns' fields, in their order."""
    assert Hit._fields == tuple(column.name for column in HIT_COLUMNS)


def test_lets_a_known_hit_through() -> None:
    """A hit of known values passes."""
    assert Vocabulary(ENTRIES).allows(HIT)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("site", "other"), ("method", "BREW"), ("route", "/jane"), ("kind", "x"), ("status", 299), ("size_bytes", 257),
        ("duration_ms", 11), ("network", "192.0.2.0/24"), ("network_class", "jane"), ("country", "XX"),
        ("referrer", "example.com"), ("channel", "x"), ("campaign", "jane"), ("browser", "Firefox 143"), ("os", "x"),
        ("device", "Pixel"), ("bot", "x"), ("language", "xx"), ("route", None), ("step", 256), ("elapsed_s", 11),
    ],
)  # fmt: skip
def test_stops_whatever_is_unknown(column: str, value: object) -> None:
    """Any value outside the closed world stops the hit, whichever column it stands in."""
    assert not Vocabulary(ENTRIES).allows(HIT._replace(**{column: value}))  # type: ignore[arg-type]  # a wrong value


def test_every_column_of_values_is_guarded() -> None:
    """No column can be added whose values nobody checks."""
    guarded = {"time", "visit"}  # numbers without a list: the resolution and the key bound them
    assert all(c.values or c.world in {"open", "configured"} or c.name in guarded for c in HIT_COLUMNS)


def test_removed_values_are_strange_again() -> None:
    """A value that was admitted for an epoch is forbidden after it."""
    vocabulary = Vocabulary(ENTRIES)
    vocabulary.add(Entry("www", "route", "/new", Origin.ADMITTED, 10))
    assert vocabulary.allows(HIT._replace(route="/new"))
    version = vocabulary.version
    vocabulary.remove("www", "route", "/new")
    assert not vocabulary.allows(HIT._replace(route="/new"))
    assert vocabulary.version > version
