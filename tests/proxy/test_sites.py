"""Host names and upstreams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.model.settings import Settings
from anonproxy.proxy.sites import Sites, Upstream, parse_host, parse_upstream
from tests.proxy.conftest import make_settings


@pytest.mark.parametrize(
    ("raw_host", "name"),
    [
        ("library.example.org", "library.example.org"),
        ("Library.Example.ORG:8080", "library.example.org"),
        ("library.example.org.", "library.example.org"),
        ("library.example.org:", "library.example.org"),
        ("[2001:db8::1]:80", "[2001:db8::1]"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("", ""),
        (":80", ":80"),
        ("a:b", "a:b"),
    ],
)
def test_host_is_read_without_port(raw_host: str, name: str) -> None:
    """The port, the case of letters and the root's dot don't matter."""
    assert parse_host(raw_host) == name


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        ("http://127.0.0.1:8000", Upstream("http", "127.0.0.1", 8000)),
        ("https://site.example", Upstream("https", "site.example", 443)),
        ("http://[::1]", Upstream("http", "::1", 80)),
    ],
)
def test_upstream_has_its_default_port(url: str, upstream: Upstream) -> None:
    """An upstream without a port has that of its scheme."""
    assert parse_upstream(url) == upstream


def test_most_exact_name_wins() -> None:
    """An exact name goes before a wildcard, a longer wildcard before a shorter, the default last."""
    hosts = (("www.example.org",), ("*.example.org",), ("*.cat.example.org",), ("*",))
    sites = Sites(make_settings(1, 2, 3, 4, hosts=hosts))
    asked = ("www.example.org", "x.example.org", "a.b.cat.example.org", "cat.example.org", "example.org", "*", "")
    assert [found.port for name in asked if (found := sites.choose(name))] == [1, 2, 3, 2, 4, 4, 4]


@given(st.text())
def test_any_host_finds_a_site_or_none(raw_host: str) -> None:
    """No Host header, however odd, is an error; without a default an odd one is nobody's."""
    assert Sites(make_settings(1, hosts=(("www.example.org",),))).choose(raw_host + "!") is None


def test_referrers_are_guarded_site_by_site() -> None:
    """Only a site that wants it, under any of its host names, has its pages' addresses kept from others."""
    settings = make_settings(1, 2, hosts=(("a.example.org", "*.a.example.org"), ("*",)))
    plain = settings.model_dump(mode="json")
    plain["sites"][0]["referrer_policy"] = "same-origin"
    sites = Sites(Settings.model_validate(plain))
    hosts = ("a.example.org", "A.example.org:8080", "www.a.example.org", "b.example.org", "")
    assert [sites.guards_referrers(host) for host in hosts] == [True, True, True, False, False]
    assert not any(Sites(settings).guards_referrers(host) for host in hosts)
