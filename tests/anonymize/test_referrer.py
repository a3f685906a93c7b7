"""Referrers and campaigns: listed sites in clear, the rest as candidates, nothing of a path or a query."""

import re
import time
from string import ascii_lowercase, digits

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anonproxy.anonymize.referrer import (
    ALIASES,
    ANDROID_APPS,
    ANY_ENDING,
    CHANNEL_BY_CLICK_ID,
    CHANNEL_BY_MEDIUM,
    CHANNEL_BY_SITE,
    TABLE,
    Campaign,
    Referrer,
    parent_domains,
    parse_campaign,
    parse_referrer,
)
from anonproxy.model.vocabularies import CHANNELS, DIRECT, INTERNAL, OTHER

OWN = frozenset({"library.example.org", "www.catalog.example.org"})
CONFIGURED = frozenset({"townof.example.gov", "friends.example.com", "intranet.local"})
NOTHING = Referrer(OTHER, "other", True)


def parse(raw_referrer: str) -> Referrer:
    """Parse as a site would that has these hosts and this configuration."""
    return parse_referrer(raw_referrer, OWN, CONFIGURED)


@pytest.mark.parametrize(
    ("raw_referrer", "site", "channel"),
    [
        ("", DIRECT, "direct"),
        ("   ", DIRECT, "direct"),
        ("https://library.example.org/search?q=secret", INTERNAL, "internal"),
        ("http://LIBRARY.example.org:8080/", INTERNAL, "internal"),
        ("https://www.library.example.org./", INTERNAL, "internal"),
        ("https://catalog.example.org/", INTERNAL, "internal"),
        ("https://www.google.com/search?q=cancer+treatment", "google.com", "search"),
        ("https://www.google.co.uk/", "google.com", "search"),
        ("https://google.de", "google.com", "search"),
        ("https://uk.search.yahoo.com/search", "search.yahoo.com", "search"),
        ("https://yandex.kz/", "yandex.com", "search"),
        ("https://duckduckgo.com/", "duckduckgo.com", "search"),
        ("https://scholar.google.com/scholar", "scholar.google.com", "search"),
        ("https://mail.google.com/mail/u/0/#inbox/FMfc", "mail.google.com", "email"),
        ("https://outlook.live.com/", "outlook.live.com", "email"),
        ("https://us5.campaign-archive.com/?e=abcdef", "campaign-archive.com", "email"),
        ("https://chatgpt.com/c/123", "chatgpt.com", "ai"),
        ("https://chat.openai.com/", "chatgpt.com", "ai"),
        ("https://gemini.google.com/app", "gemini.google.com", "ai"),
        ("https://www.perplexity.ai/", "perplexity.ai", "ai"),
        ("https://copilot.microsoft.com/", "copilot.microsoft.com", "ai"),
        ("https://l.facebook.com/l.php?u=https%3A%2F%2Fx", "facebook.com", "social"),
        ("https://t.co/AbCdEf", "x.com", "social"),
        ("https://old.reddit.com/r/books/", "reddit.com", "social"),
        ("https://news.ycombinator.com/", "news.ycombinator.com", "social"),
        ("https://greenwich.overdrive.com/media/1", "overdrive.com", "other"),
        ("https://anytown.libguides.com/c.php?g=1", "libguides.com", "other"),
        ("https://anytown.bibliocommons.com/item/1", "bibliocommons.com", "other"),
        ("https://somebody.blogspot.de/2026/11/me.html", "blogspot.com", "social"),
        ("https://en.m.wikipedia.org/wiki/Library", "wikipedia.org", "other"),
        ("https://www.nytimes.com/", "nytimes.com", "other"),
        ("https://anytown-org.translate.goog/", "translate.google.com", "other"),
        ("https://events.townof.example.gov/list", "townof.example.gov", "other"),
        ("https://friends.example.com", "friends.example.com", "other"),
        ("android-app://com.google.android.gm/", "mail.google.com", "email"),
        ("android-app://com.google.android.googlequicksearchbox/https/www.google.com", "google.com", "search"),
        ("https://user:password@www.bing.com/", "bing.com", "search"),
        ("http://wiki.intranet.local/page", "intranet.local", "other"),
    ],
)
def test_names_known_sites(raw_referrer: str, site: str, channel: str) -> None:
    """One's own, configured and listed sites are known, by one name each, in their channel."""
    assert parse(raw_referrer) == Referrer(site, channel, True)


@pytest.mark.parametrize(
    ("raw_referrer", "domain"),
    [
        ("https://somebody.github.io/", "github.io"),
        ("https://www.the-smiths.net/", "the-smiths.net"),
        ("https://intranet.greenwich.k12.ct.us/", "greenwich.k12.ct.us"),
        ("https://a.b.c.example.co.uk/", "example.co.uk"),
        ("https://google.attacker.com/", "attacker.com"),
        ("https://notgoogle.com/", "notgoogle.com"),
        ("https://xn--bcher-kva.de/", "xn--bcher-kva.de"),
    ],
)
def test_offers_the_rest_for_admission(raw_referrer: str, domain: str) -> None:
    """Any other site is a candidate only, by its registrable domain: the host that names a person is cut off."""
    assert parse(raw_referrer) == Referrer(domain, "other", False)


@pytest.mark.parametrize(
    "raw_referrer",
    [
        "http://192.0.2.7/",
        "http://[2001:db8::1]/",
        "http://printer.local/",
        "http://intranet/",
        "http://localhost:3000/",
        "http://home.arpa.lan/",
        "https://com/",
        "https://co.uk/",
        "https://bücher.example/",
        "https://ｇｏｏｇｌｅ.com/",
        "https://a..b.com/",
        "https://.com/",
        "https://exa mple.com/",
        "https://example.com\\@evil.com/",
        "https://%65xample.com/",
        "ftp://example.com/",
        "file:///home/jane/links.html",
        "about:blank",
        "javascript:alert(1)",
        "www.google.com",
        "android-app://org.somebody.private.app/",
        "https://",
        "https://" + "a" * 100_000 + ".com/",
        "https://" + "a." * 50_000 + "com/",
        "https://" + "x" * 300 + "@www.google.com/",
        "\x00\x01",
        "\udcff\udcfe",
    ],
)
def test_drops_what_is_no_public_site(raw_referrer: str) -> None:
    """Addresses, intranet names, other schemes and damage become `(other)`, never a raw host."""
    assert parse(raw_referrer) == NOTHING


LABEL = st.text(alphabet=ascii_lowercase + digits + "-", min_size=1, max_size=12)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
ENDING = st.sampled_from(["com", "org", "co.uk", "lib.ct.us", "blogspot.com", "local", "google.com", ""])


@given(st.one_of(st.text(), st.builds("https://{}.{}/{}".format, HOST, ENDING, st.text())))
def test_never_raises_and_never_passes_a_host(raw_referrer: str) -> None:
    """Whatever comes: a known value is a listed one, and a candidate is a plain registrable domain."""
    site, channel, known = parse(raw_referrer)
    assert channel in CHANNELS
    if known:
        assert site in {DIRECT, INTERNAL, OTHER, *CHANNEL_BY_SITE, *CONFIGURED}
    else:
        assert parent_domains(site) == (site,)
        assert re.fullmatch(r"[a-z0-9._-]{1,253}", site)


@given(st.sampled_from(sorted(CHANNEL_BY_SITE)), st.text(), st.text())
def test_never_looks_at_path_or_query(site: str, path: str, query: str) -> None:
    """A path and a query change nothing."""
    assert parse(f"https://{site}/{path}?{query}") == parse(f"https://{site}/")


def test_every_listed_site_is_found() -> None:
    """Each entry of the list is a site of today's Public Suffix List and finds itself, by host and by www host."""
    expected = {site: Referrer(site, channel, True) for site, channel in CHANNEL_BY_SITE.items()}
    assert {site: parse(f"https://{site}/") for site in CHANNEL_BY_SITE} == expected
    assert {site: parse(f"https://www.{site}/") for site in CHANNEL_BY_SITE} == expected


def test_the_list_is_consistent() -> None:
    """No site stands twice or is an alias as well; every alias, ending and app leads to a listed site."""
    sites = [site for section in TABLE.values() for site in section.get("sites", ())]
    assert len(sites) == len(set(sites)) >= 300
    assert ALIASES.keys().isdisjoint(sites)
    assert {*ALIASES.values(), *ANY_ENDING.values(), *ANDROID_APPS.values()} <= set(sites)
    assert {*CHANNEL_BY_SITE.values(), *CHANNEL_BY_MEDIUM.values(), *CHANNEL_BY_CLICK_ID.values()} <= set(CHANNELS)


@pytest.mark.parametrize(
    ("raw_query", "channel", "name"),
    [
        ("", "", ""),
        ("q=secret&page=2", "", ""),
        ("utm_source=newsletter&utm_medium=email&utm_campaign=Summer+Reading", "email", "summer-reading"),
        ("utm_campaign=one-book%20one%20town", "campaign", "one-book-one-town"),
        ("UTM_Campaign=Fall_2026", "campaign", "fall_2026"),
        ("utm_source=brochure", "campaign", "brochure"),
        ("utm_source=chatgpt.com", "ai", ""),
        ("utm_source=facebook&utm_medium=social&utm_campaign=gala", "social", "gala"),
        ("utm_source=facebook", "social", ""),
        ("utm_source=google&utm_medium=cpc&utm_campaign=gala", "campaign", "gala"),
        ("utm_source=overdrive", "campaign", ""),
        ("utm_campaign=first&utm_campaign=second", "campaign", "first"),
        ("utm_campaign=jane%40example.org", "campaign", ""),
        ("utm_campaign=jane%2540example.org", "campaign", ""),
        ("utm_campaign=" + "a" * 41, "campaign", ""),
        ("utm_campaign=caf%C3%A9", "campaign", ""),
        ("utm_campaign=ｇａｌａ", "campaign", "gala"),
        ("utm_campaign=%ff%fe", "campaign", ""),
        ("utm_campaign=\udcff", "campaign", ""),
        ("utm_campaign=", "campaign", ""),
        ("utm_term=secret&utm_content=secret&utm_id=7", "", ""),
        ("gclid=EAIaIQobChMI", "campaign", ""),
        ("msclkid=a1b2", "campaign", ""),
        ("fbclid=IwAR0", "social", ""),
        ("mc_cid=1&mc_eid=a1b2c3", "email", ""),
        ("gclid=EAIa&utm_medium=email", "email", ""),
        ("x=" + "&" * 3_999 + "utm_campaign=late", "", ""),
    ],
)
def test_reads_campaigns(raw_query: str, channel: str, name: str) -> None:
    """Three parameters of a campaign are read, folded and bounded; of click identifiers only that they are there."""
    assert parse_campaign(raw_query, frozenset()) == Campaign(channel, name, False)


def test_knows_configured_campaigns() -> None:
    """A configured name is known; any other waits for admission."""
    configured = frozenset({"summer-reading"})
    assert parse_campaign("utm_campaign=Summer%20Reading", configured).known
    assert not parse_campaign("utm_campaign=winter", configured).known


@given(st.one_of(st.text(), st.builds("utm_source={}&utm_medium={}&utm_campaign={}".format, *[st.text()] * 3)))
def test_campaigns_stay_plain(raw_query: str) -> None:
    """Whatever comes, the channel is a channel and the name at most 40 plain characters."""
    channel, name, known = parse_campaign(raw_query, frozenset())
    assert channel in {"", *CHANNELS}
    assert re.fullmatch(r"[a-z0-9._-]{0,40}", name)
    assert not known


@given(st.text(alphabet=ascii_lowercase + digits), st.sampled_from(sorted(CHANNEL_BY_CLICK_ID)))
def test_click_identifiers_are_never_read(value: str, parameter: str) -> None:
    """The value of a click identifier changes nothing."""
    assert parse_campaign(f"{parameter}={value}", frozenset()) == parse_campaign(f"{parameter}=", frozenset())


@given(st.text(max_size=40))
def test_other_parameters_are_never_read(value: str) -> None:
    """A search term beside the campaign changes nothing."""
    assume("&" not in value)
    query = "utm_campaign=gala&q={}".format
    assert parse_campaign(query(value), frozenset()) == parse_campaign(query(""), frozenset())


@pytest.mark.parametrize(
    "attack", ["https://" + "@" * 200_000, "https://" + "a@" * 100_000, "https://" + "-." * 90_000]
)
def test_costs_little(attack: str) -> None:
    """A hostile Referer takes no longer than any other."""
    started = time.perf_counter()
    parse(attack)
    assert time.perf_counter() - started < 1
