"""The whole anonymiser: requests in, the exact rows out, and nothing else whatever comes in."""

import dataclasses
import gc
import random
import re
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from anonproxy.anonymize.context import Context, fold_host
from anonproxy.anonymize.place import CountryLookup, load_bundled_country
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.rules import MAX_RAW_CHARS
from anonproxy.anonymize.steps import anonymize, build_context
from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.hit import Dropped, Hit, VisitMark
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import DropReason, Origin
from anonproxy.model.vocabulary import Entry

NOON = 1_772_470_800.0  # 2026-03-02 17:00 UTC
K = 5
COUNTRIES = CountryLookup(load_bundled_country())

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"
REQUEST = RawRequest(
    time_s=NOON + 754.3,
    raw_client="203.0.113.77",
    raw_host="Library.Example.org:443",
    raw_target="/events/story-time?utm_term=x",
    status=200,
    size_bytes=9_000,
    duration_s=0.137,
    raw_cookie="lang=en; PHPSESSID=abc",
    raw_user_agent=FIREFOX,
    raw_referrer="https://www.google.com/search?q=bankruptcy",
    raw_accept_language="es-MX,es;q=0.9,en;q=0.5",
)
ROW = Hit(
    time=1_772_470_800,
    site="www",
    method="GET",
    route="/events/{event}",
    kind="page",
    status=200,
    size_bytes=8192,
    duration_ms=100,
    visit=None,
    step=1,
    elapsed_s=0,
    network=None,
    network_class="remote",
    country="??",
    referrer="google.com",
    channel="search",
    campaign=None,
    browser="Firefox",
    os="Linux",
    device="desktop",
    bot="",
    language="es",
)


def build_settings(**privacy: object) -> Settings:
    """Return settings for two sites with all that can be configured about them."""
    return Settings.model_validate(
        {
            "store": {"path": "unused"},
            "privacy": {"k": K, "time_zone": "UTC", **privacy},
            "network_classes": {"town": ["198.51.100.0/24"], "in-library": ["198.51.100.16/28"]},
            "sites": [
                {
                    "name": "www",
                    "hosts": ["library.example.org", "*.library.example.org"],
                    "upstream": "http://127.0.0.1:1",
                    "presets": ["koha"],
                    "routes": [{"path": "/events/{event}"}, {"path": "/teens/quiz", "kind": "page"}],
                    "sensitive": ["/health/**"],
                    "children": ["/kids/**"],
                    "referrers": ["school.example.edu"],
                    "campaigns": ["Summer Reading"],
                },
                {"name": "other", "hosts": ["*"], "upstream": "http://127.0.0.1:2"},
            ],
        }
    )


def fresh(**privacy: object) -> Context:
    """Return a context in a new epoch."""
    settings = build_settings(**privacy)
    return build_context(settings, Visits(KeyRing(settings.privacy, NOON), 1800, 14400), COUNTRIES)


def change(**fields: object) -> RawRequest:
    """Return the request with some fields changed."""
    return dataclasses.replace(REQUEST, **fields)  # type: ignore[arg-type]


def store(request: RawRequest, context: Context) -> Hit:
    """Anonymise a request that must not be dropped."""
    hit = anonymize(request, context)
    assert isinstance(hit, Hit), hit
    assert context.vocabulary.allows(hit)
    return hit


def without_visit(hit: Hit | Dropped) -> Hit | Dropped:
    """Return a row without the number of its visit."""
    return hit._replace(visit=None) if isinstance(hit, Hit) else hit


def show(context: Context, visits: int, **fields: object) -> list[Hit]:
    """Send the same request from so many sessions."""
    return [store(change(raw_cookie=f"PHPSESSID=visitor{number}", **fields), context) for number in range(visits)]


def test_a_request_becomes_exactly_this_row() -> None:
    """Every column holds what its rule says, and nothing else of the request is left."""
    hit = store(REQUEST, fresh())
    assert hit.visit
    assert without_visit(hit) == ROW


CHANGES: list[tuple[dict[str, object], dict[str, object]]] = [
    ({"time_s": NOON - 0.1}, {"time": NOON - 3600}),
    ({"raw_method": "POST"}, {"method": "POST", "step": 0}),
    ({"raw_method": "HEAD"}, {"method": "HEAD", "step": 0}),
    ({"raw_method": "PROPFIND"}, {"method": "OTHER", "step": 0}),
    ({"raw_method": "get"}, {"method": "OTHER", "step": 0}),
    ({"raw_target": "/teens/quiz"}, {"route": "/teens/quiz"}),
    ({"raw_target": "/nowhere/known"}, {"route": "(unlisted)"}),
    ({"raw_target": "/card/21234567890123"}, {"route": "(redacted)"}),
    ({"raw_target": "/logo.png"}, {"route": "(unlisted)", "kind": "asset", "step": 0}),
    ({"status": 404}, {"route": "(unmatched)", "status": 404, "step": 0}),
    ({"status": 0}, {"status": 0, "step": 0}),
    ({"status": 499}, {"route": "(unmatched)", "status": 400, "step": 0}),
    ({"status": 599}, {"status": 500, "step": 0}),
    ({"size_bytes": 0}, {"size_bytes": 0}),
    ({"duration_s": 99.0}, {"duration_ms": 30_000}),
    ({"is_opted_out": True}, {"step": None, "elapsed_s": None}),
    (
        {"raw_user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
        {"step": None, "elapsed_s": None, "browser": "Other", "os": "Other", "device": "other", "bot": "search"},
    ),
    (
        {"raw_user_agent": "", "is_agent_logged": False},
        {"browser": "Other", "os": "Other", "device": "other"},
    ),
    ({"raw_client": "198.51.100.200:4711"}, {"network_class": "town"}),
    ({"raw_client": "198.51.100.17"}, {"network_class": "in-library"}),
    ({"raw_client": "2002:c633:6411::1"}, {"network_class": "in-library"}),
    ({"raw_client": "[2a02:8070::1]:443"}, {"country": "DE"}),
    ({"raw_client": "::ffff:8.8.8.8"}, {"country": "US"}),
    ({"raw_referrer": ""}, {"referrer": "(direct)", "channel": "direct"}),
    ({"raw_referrer": "https://library.example.org/a?b"}, {"referrer": "(internal)", "channel": "internal"}),
    ({"raw_referrer": "https://school.example.edu/class/3b"}, {"referrer": "school.example.edu", "channel": "other"}),
    ({"raw_referrer": "https://jane-doe.com/diary"}, {"referrer": "(other)", "channel": "other"}),
    (
        {"raw_target": "/teens/quiz?utm_campaign=Summer+Reading"},
        {"route": "/teens/quiz", "campaign": "summer-reading", "channel": "campaign"},
    ),
    (
        {"raw_target": "/teens/quiz?utm_campaign=for-jane&utm_medium=email"},
        {"route": "/teens/quiz", "campaign": "(other)", "channel": "email"},
    ),
    ({"raw_accept_language": "br"}, {"language": "other"}),
    ({"raw_accept_language": ""}, {"language": "other"}),
    ({"raw_host": "kids.library.example.org"}, {"site": "www"}),
]


@pytest.mark.parametrize(("fields", "columns"), CHANGES, ids=lambda case: ", ".join(map(str, case.items()))[:60])
def test_a_change_of_the_request_changes_these_columns(fields: dict[str, object], columns: dict[str, object]) -> None:
    """What differs in the row is what the rule of the changed field says, and no more."""
    assert without_visit(store(change(**fields), fresh())) == ROW._replace(**columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["/health/hiv", "/kids/games", "/kids"])
def test_sensitive_and_childrens_pages_belong_to_no_visit(target: str) -> None:
    """Their rows carry no visit, and they don't lengthen one."""
    context = fresh()
    hit = store(change(raw_target=target), context)
    assert (hit.visit, hit.step, hit.elapsed_s) == (None, None, None)
    assert store(REQUEST, context).step == 1


class UnusedTagger:
    """A tagger that must not be called."""

    def mark(self, site: str, raw_parts: tuple[bytes, ...], time_s: float, is_pageview: bool) -> VisitMark | None:
        """Fail, with the session in the message."""
        raise AssertionError(raw_parts)

    def hand_over(self, site: str, raw_parts: tuple[bytes, ...], raw_next_parts: tuple[bytes, ...]) -> None:
        """Fail, with the session in the message."""
        raise AssertionError(raw_next_parts)


@pytest.mark.parametrize(
    "fields",
    [{"is_opted_out": True}, {"raw_user_agent": "curl/8"}, {"raw_target": "/kids/a"}, {"raw_target": "/health/a"}],
)
def test_no_tag_is_computed_where_no_visit_is_wanted(fields: dict[str, object]) -> None:
    """For opt-outs, robots, children's and sensitive pages the key is not even used."""
    context = build_context(build_settings(), UnusedTagger(), COUNTRIES)
    assert store(change(**fields), context).visit is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"raw_client": "unknown"}, DropReason.BAD_ADDRESS),
        ({"raw_client": "203.0.113.7, 198.51.100.1"}, DropReason.BAD_ADDRESS),
        ({"time_s": float("nan")}, DropReason.BAD_TIME),
        ({"time_s": float("inf")}, DropReason.BAD_TIME),
        ({"time_s": -1.0}, DropReason.BAD_TIME),
        ({"time_s": 1e10}, DropReason.BAD_TIME),
        ({"time_s": NOON + 48 * 3600}, DropReason.NO_KEY),
        ({"raw_target": "/" + "a" * MAX_RAW_CHARS}, DropReason.OVERSIZED),
        ({"raw_cookie": "a" * (MAX_RAW_CHARS + 1)}, DropReason.OVERSIZED),
    ],
)
def test_what_cannot_be_read_is_dropped_with_a_reason(fields: dict[str, object], reason: DropReason) -> None:
    """Nothing is passed on unchanged, nothing is guessed."""
    assert anonymize(change(**fields), fresh()) == Dropped(reason)


HOSTS = [
    ("library.example.org", "www"),
    ("LIBRARY.example.org.", "www"),
    ("library.example.org:8443", "www"),
    ("a.b.library.example.org", "www"),
    ("notlibrary.example.org", "other"),
    ("", "other"),
    ("[::1]:80", "other"),
]


@pytest.mark.parametrize(("raw_host", "site"), HOSTS)
def test_the_host_tells_the_site(raw_host: str, site: str) -> None:
    """A configured name, a name below a `*.`, or else the default site."""
    assert store(change(raw_host=raw_host), fresh()).site == site


def test_without_a_default_an_unknown_host_is_dropped() -> None:
    """A row without a site is not written."""
    settings = build_settings()
    only = settings.model_copy(update={"sites": settings.sites[:1]})
    context = build_context(only, UnusedTagger(), COUNTRIES)
    assert anonymize(change(raw_host="203.0.113.1"), context) == Dropped(DropReason.UNKNOWN_SITE)


@pytest.mark.parametrize(
    ("raw", "host"),
    [("A.b:80", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a.", "a"), ("a:x", "a:x"), (":", "")],
)
def test_folds_hosts(raw: str, host: str) -> None:
    """Port, case and the dot of the root make no difference."""
    assert fold_host(raw) == host


@pytest.mark.parametrize(("resolution", "time"), [("15min", NOON), ("1h", NOON), ("1day", NOON - 17 * 3600)])
def test_times_are_floored_to_the_resolution(resolution: str, time: float) -> None:
    """The setting decides how exactly a time is stored."""
    assert store(REQUEST, fresh(time_resolution=resolution)).time == time


def test_a_path_is_listed_from_the_kth_visit_on() -> None:
    """Four visits see a placeholder, the fifth sees the path, and so does a robot after it."""
    context = fresh()
    assert [hit.route for hit in show(context, K, raw_target="/branches/north")] == ["(unlisted)"] * (K - 1) + [
        "/branches/north"
    ]
    assert store(change(raw_target="/branches/north", raw_user_agent="curl/8"), context).route == "/branches/north"


@pytest.mark.parametrize(
    "fields",
    [
        {"raw_target": "/account/jane"},
        {"raw_target": "/about/us", "is_private": True},
        {"raw_target": "/about/us", "status": 404},
        {"raw_target": "/about/us", "status": 500},
        {"raw_target": "/mail/jane@example.org"},
        {"raw_target": "/mail/jane%2540example.org"},
        {"raw_target": "/card/２１２３４５６７８９０１２３"},
    ],
    ids=str,
)
def test_some_paths_are_never_listed(fields: dict[str, object]) -> None:
    """Accounts, private answers, errors and what a detector finds stay out, however many visits show them."""
    assert {hit.route for hit in show(fresh(), 3 * K, **fields)} <= {"(unlisted)", "(unmatched)", "(redacted)"}


def test_requests_without_a_visit_admit_nothing() -> None:
    """A thousand robots and opt-outs don't bring a path, a network, a referrer or a campaign into the clear."""
    context = fresh()
    target, referrer = "/about/us?utm_campaign=x", "https://jane-doe.com/"
    for number in range(50):
        for fields in ({"is_opted_out": True}, {"raw_user_agent": f"curl/{number}"}):
            hit = store(change(raw_target=target, raw_referrer=referrer, **fields), context)
            assert (hit.route, hit.network, hit.referrer, hit.campaign) == ("(unlisted)", None, "(other)", "(other)")


def test_networks_narrow_as_visits_come() -> None:
    """A network is absent, then wide, then narrow, each from its own kth visit on."""
    context = fresh()
    wide = [show(context, 1, raw_client=f"203.0.{number}.1", raw_target=f"/{number}") for number in range(K)]
    assert [hit.network for (hit,) in wide] == [None] * K  # one session: one visit
    spread = [
        store(change(raw_client=f"203.0.{number}.1", raw_cookie=f"PHPSESSID={number}"), context).network
        for number in range(K - 1)
    ]
    assert spread == [None] * (K - 2) + ["203.0.0.0/16"]
    assert [hit.network for hit in show(context, K + 1, raw_client="203.0.113.9")][-2:] == ["203.0.113.0/24"] * 2


def test_strict_stores_no_network() -> None:
    """With `store_network` off no number of visits brings one in."""
    context = fresh(store_network=False)
    assert {hit.network for hit in show(context, 3 * K)} == {None}
    assert not [entry for entry in context.vocabulary.entries("www") if entry.column == "network"]


@pytest.mark.parametrize(
    ("column", "fields", "value"),
    [
        ("referrer", {"raw_referrer": "https://blog.jane-doe.com/diary?x"}, "jane-doe.com"),
        ("campaign", {"raw_target": "/?utm_campaign=Poster+A"}, "poster-a"),
    ],
)
def test_other_open_values_are_admitted_alike(column: str, fields: dict[str, object], value: str) -> None:
    """Referrers and campaigns come into the clear with the kth visit."""
    context = fresh()
    stored = [getattr(hit, column) for hit in show(context, K, **fields)]
    assert stored == ["(other)"] * (K - 1) + [value]
    assert Entry("www", column, value, Origin.ADMITTED, K) in context.vocabulary.entries("www")


def test_a_campaign_that_identifies_is_never_admitted() -> None:
    """A newsletter link with a barcode in it stays out, however many visits show it."""
    hits = show(fresh(), 3 * K, raw_target="/?utm_campaign=21234567890123")
    assert {hit.campaign for hit in hits} == {"(other)"}


def test_without_a_key_only_what_needs_none_is_written() -> None:
    """When the key is wiped, visits are dropped and counted; an opt-out's row needs no key."""
    settings = build_settings()
    ring = KeyRing(settings.privacy, NOON)
    context = build_context(settings, Visits(ring, 1800, 14400), COUNTRIES)
    ring.wipe()
    assert anonymize(REQUEST, context) == Dropped(DropReason.NO_KEY)
    assert store(change(is_opted_out=True), context).visit is None


def test_a_mistake_in_the_software_drops_the_request() -> None:
    """An exception, whatever its text, becomes a reason and nothing more."""
    context = build_context(build_settings(), UnusedTagger(), COUNTRIES)
    assert anonymize(REQUEST, context) == Dropped(DropReason.INTERNAL_ERROR)


def test_the_epochs_end_forgets_what_was_admitted() -> None:
    """The next epoch starts with the lasting vocabulary; a page learned from the sitemap meanwhile stays."""
    context = fresh()
    before = context.vocabulary.entries("www")
    show(context, K, raw_target="/about/us")
    show(context, K, raw_target="/about/staff")
    context.learn_routes("www", ["/about/us"])
    context.forget()
    learned = Entry("www", "route", "/about/us", Origin.SITEMAP)
    assert context.vocabulary.entries("www") == sorted([*before, learned])
    assert store(change(raw_target="/about/us"), context).route == "/about/us"
    assert store(change(raw_target="/about/staff"), context).route == "(unlisted)"


MARK = re.compile(r"zqx\d{6}")


def send_marked(context: Context) -> None:
    """Send requests with marks in every text, in forms that take each of the ways through the steps."""
    hosts = ("library.example.org", "{}.example", "{}.library.example.org")
    for number, host in enumerate(hosts * 20):
        mark = f"zqx{number:06}"
        request = change(
            raw_host=host.format(mark),
            raw_method=mark,
            raw_target=f"/{mark}/été{mark}?{mark}={mark}&utm_campaign={mark}",
            raw_cookie=f"{mark}={mark}; PHPSESSID={mark}" if number % 2 else "",
            raw_user_agent=f"{FIREFOX} {mark}",
            raw_referrer=f"https://{mark}.{mark}.com/{mark}?{mark}" if number % 3 else f"http://{mark}@{mark}",
            raw_accept_language=f"de, {mark};q=0.1",
            raw_client="203.0.113.7" if number % 5 else mark,
        )
        anonymize(request, context)


def find_marked() -> set[str]:
    """Say in what sort of object a marked text still lives, anywhere in the process."""
    gc.collect()
    return {
        type(holder).__name__
        for holder in gc.get_objects()
        for text in gc.get_referents(holder)
        if isinstance(text, str) and MARK.search(text)
    }


def test_the_epochs_end_leaves_no_raw_text() -> None:
    """While the epoch lasts caches remember texts; after its end no object of the process does, in any library."""
    context = fresh()
    send_marked(context)
    assert find_marked()
    context.forget()
    assert find_marked() == set()


HOSTILE = (
    "a",
    ".",
    "a.",
    "/",
    "/a/..",
    "%25",
    ";",
    "a=b;",
    "a=b&",
    "en;q=",
    "1-",
    "a@",
    "(",
    "&#38;",
    ":",
    "http://",
    "é",
    "２",
)


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(RawRequest) if field.name.startswith("raw_")]
)
def test_no_text_is_expensive(name: str) -> None:
    """The longest and most awkward text that is read at all costs less than a tenth of a second of the processor."""
    context = fresh()
    start = getattr(REQUEST, name)
    for piece in HOSTILE:
        request = change(**{name: (start + piece * MAX_RAW_CHARS)[:MAX_RAW_CHARS]})
        began = time.process_time()
        assert anonymize(request, context) != Dropped(DropReason.INTERNAL_ERROR)
        assert time.process_time() - began < 0.1, piece


# How it shows: what may not make a difference makes none. Each property compares two fresh epochs, in which k visits
# have already admitted the network, the path and the referrer of the request.


def seen(request: RawRequest) -> Context:
    """Return an epoch in which enough others have shown what the request shows."""
    context = fresh()
    for number in range(K):
        anonymize(dataclasses.replace(request, raw_cookie=f"PHPSESSID=other{number}"), context)
    return context


def assert_same_row(request: RawRequest, other: RawRequest) -> None:
    """Compare two requests after the same past; only the visit may be another."""
    assert without_visit(anonymize(request, seen(request))) == without_visit(anonymize(other, seen(request)))


TARGETS = st.sampled_from(
    ["/", "/events/a", "/about/us", "/kids/a", "/logo.png", "/cgi-bin/koha/opac-detail.pl", "/search", "/account"]
)
PEOPLE = st.builds(
    change,
    raw_target=TARGETS,
    raw_cookie=st.sampled_from(["", "PHPSESSID=me", "theme=dark"]),
    status=st.sampled_from([200, 302, 404]),
    raw_referrer=st.sampled_from(["", "https://www.bing.com/", "https://jane-doe.com/x"]),
    is_opted_out=st.booleans(),
)
FEW = hypothesis_settings(max_examples=60)


@FEW
@given(PEOPLE, st.ip_addresses(), st.integers(0, 2**96 - 1))
def test_low_address_bits_change_nothing(request: RawRequest, address: object, noise: int) -> None:
    """Below /24 and /32 no bit changes a stored value: only a network class that is configured more narrowly may."""
    client = dataclasses.replace(request, raw_client=str(address))
    kept = seen(client).read_client(client.raw_client)
    assert kept is not None
    low_bits = 8 if kept.address.version == 4 else 96
    other_address = type(kept.address)(int(kept.address) ^ noise % (1 << low_bits))
    other = dataclasses.replace(client, raw_client=str(other_address))
    others = seen(other).read_client(other.raw_client)
    assert others is not None
    if others.address == other_address and others.network_class == kept.network_class:  # it carries no IPv4 by chance
        assert_same_row(client, other)


NOBODYS_TEXT = st.text(st.characters(exclude_characters="#&"), max_size=40)


@FEW
@given(
    PEOPLE,
    st.sampled_from(["q", "idx", "biblionumber", "token", "ticket", "session", "url"]),
    NOBODYS_TEXT,
    NOBODYS_TEXT,
)
def test_query_values_change_nothing(request: RawRequest, name: str, value: str, other_value: str) -> None:
    """No value of a parameter changes a stored value; utm_campaign and its kind are the only ones that are read."""
    one, other = (
        dataclasses.replace(request, raw_target=f"{request.raw_target}?{name}={text}") for text in (value, other_value)
    )
    assert_same_row(one, other)


@FEW
@given(PEOPLE, st.text(max_size=60), st.text(max_size=60))
def test_cookies_change_nothing_but_the_visit(request: RawRequest, cookie: str, other: str) -> None:
    """Whatever stands in the Cookie header, the row is the same but for the number of the visit."""
    assert_same_row(dataclasses.replace(request, raw_cookie=cookie), dataclasses.replace(request, raw_cookie=other))


AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101 Firefox/{n}.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android {n}; Pixel {n} Build/QP1A.{n}) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.{n}.1 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS {n}_1 like Mac OS X) AppleWebKit/605.1.{n} (KHTML, like Gecko) "
    "Version/{n}.1 Mobile/15E148 Safari/604.1",
]


@FEW
@given(PEOPLE, st.sampled_from(AGENTS), st.integers(11, 199), st.integers(11, 199))
def test_versions_and_models_change_nothing(request: RawRequest, agent: str, one: int, other: int) -> None:
    """Below the enums nothing of a User-Agent is left in the row; the visit may be another."""
    assert_same_row(
        dataclasses.replace(request, raw_user_agent=agent.format(n=one)),
        dataclasses.replace(request, raw_user_agent=agent.format(n=other)),
    )


@FEW
@given(PEOPLE, st.text(max_size=40), st.text(max_size=40))
def test_paths_of_referrers_change_nothing(request: RawRequest, path: str, other: str) -> None:
    """What stands behind the host of a Referer makes no difference."""
    assert_same_row(
        dataclasses.replace(request, raw_referrer=f"https://www.google.com/{path}"),
        dataclasses.replace(request, raw_referrer=f"https://www.google.com/{other}"),
    )


@FEW
@given(PEOPLE, st.floats(0, 3599), st.floats(0, 3599))
def test_seconds_change_nothing(request: RawRequest, one: float, other: float) -> None:
    """Within the hour no time changes a stored value of a first request."""
    assert_same_row(
        dataclasses.replace(request, time_s=NOON + one, raw_cookie=""),
        dataclasses.replace(request, time_s=NOON + other, raw_cookie=""),
    )


# Fuzzing: whatever comes in, a row of the closed world or a reason comes out.

RAW = st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
ANYTHING = st.builds(
    RawRequest,
    time_s=st.floats() | st.floats(NOON, NOON + 80_000),
    raw_client=RAW | st.ip_addresses().map(str),
    raw_host=RAW | st.just("library.example.org"),
    raw_method=RAW | st.sampled_from(["GET", "POST"]),
    raw_target=RAW | RAW.map(lambda raw: f"/{raw}"),
    status=st.integers() | st.integers(100, 599),
    size_bytes=st.integers(),
    duration_s=st.floats(),
    raw_cookie=RAW | RAW.map(lambda raw: f"PHPSESSID={raw}"),
    raw_user_agent=RAW | RAW.map(lambda raw: f"{FIREFOX} {raw}"),
    raw_referrer=RAW | RAW.map(lambda raw: f"https://{raw}"),
    raw_accept_language=RAW,
    is_opted_out=st.booleans(),
    is_private=st.booleans(),
)
FUZZED = fresh()


def assert_closed(outcome: Hit | Dropped, context: Context) -> str:
    """Check that an outcome is a row of the closed world, or a reason other than a mistake of ours."""
    if isinstance(outcome, Dropped):
        assert outcome.reason is not DropReason.INTERNAL_ERROR
        return outcome.reason
    assert context.vocabulary.allows(outcome), outcome
    return "written"


@given(ANYTHING)
def test_anything_becomes_a_row_of_the_closed_world_or_a_reason(request: RawRequest) -> None:
    """No text gets out of the vocabularies, nothing raises, and no drop is a mistake of ours."""
    assert_closed(anonymize(request, FUZZED), FUZZED)


SPLICES = (
    *(
        "%",
        "%25",
        "%00",
        "..",
        "//",
        ";",
        "\udcff",
        "\ud800",
        "\0",
        "\n",
        "@",
        "é",
        "２",
        "<script>",
        "a" * 3000,
        "{id}",
    ),
    *("(unlisted)", "?", "#", "&utm_campaign=x", "http://", "21234567890123", ",", "::ffff:", "[", "]", ":99999"),
)


def splice(chance: random.Random, raw: str) -> str:
    """Put something awkward into a text."""
    spot = chance.randint(0, len(raw))
    return raw[:spot] + chance.choice(SPLICES) + raw[spot:]


MUTATIONS: list[Callable[[random.Random, str], str]] = [
    splice,
    lambda chance, raw: raw[: chance.randint(0, len(raw))],
    lambda chance, raw: raw * 2,
    lambda chance, raw: "".join(chance.sample(raw, len(raw))),
    lambda chance, raw: "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randint(0, 20))),
]
SEEDS = [change(**fields) for fields, _ in CHANGES] + [change(raw_target=f"/branches/{name}") for name in "abcdef"]


@pytest.mark.slow
def test_a_hundred_thousand_mutated_requests_stay_in_the_closed_world() -> None:
    """Of 100,000 requests each is written or dropped with a reason, and admitted values were shared by k visits."""
    chance, context, outcomes = random.Random(20260302), fresh(), Counter[str]()
    for _ in range(100_000):
        request = dataclasses.replace(chance.choice(SEEDS))
        for name in chance.sample(TEXTS, chance.randint(0, 3)):
            setattr(request, name, chance.choice(MUTATIONS)(chance, getattr(request, name)))
        outcomes[assert_closed(anonymize(request, context), context)] += 1
    assert outcomes.total() == 100_000
    assert outcomes["written"] > 50_000
    assert outcomes.keys() <= {"written", "bad_address", "bad_time", "unknown_site", "oversized", "no_key"}
    admitted = [entry for site in ("www", "other") for entry in context.vocabulary.entries(site) if entry.visits]
    assert admitted
    assert {entry.visits for entry in admitted} == {K}


TEXTS = [field.name for field in dataclasses.fields(RawRequest) if field.name.startswith("raw_")]
