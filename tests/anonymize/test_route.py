import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.route import EVERYWHERE, MAX_LEARNED, Route, Routes, RouteTable, guess_kind
from anonproxy.model.settings import RouteSettings, SiteSettings
from anonproxy.model.vocabularies import KINDS, REDACTED, UNLISTED, UNMATCHED, Origin
from anonproxy.model.vocabularies import PRESETS as PRESET_NAMES


def make_routes(*routes: tuple[str, str], learned: tuple[str, ...] = (), **settings: Any) -> Routes:
    """Build the routes of a site from (path, kind) pairs, learned paths and other settings."""
    given = tuple(RouteSettings.model_validate({"path": path, "kind": kind}) for path, kind in routes)
    built = Routes(SiteSettings(name="www", upstream="http://127.0.0.1:8000", routes=given, **settings))
    built.learn(learned)
    return built


SITE = make_routes(
    ("/record/{record}", "item"),
    ("/record/new", "page"),
    ("/events/{event}", "page"),
    ("/docs/**", "download"),
    ("/docs/{year}/index", "page"),
    ("/café", "page"),
    presets=("koha", "wordpress"),
    learned=("/about", "/about/history", "/services/Notary-Public/"),
)

MATCHED = [
    ("/record/12345", "/record/{record}", "item", "configured"),
    ("/record/21234000123456", "/record/{record}", "item", "configured"),
    ("/record/jane@example.org?x=1", "/record/{record}", "item", "configured"),
    ("/record/a%2Fb", "/record/{record}", "item", "configured"),
    ("/record/new", "/record/new", "page", "configured"),
    ("/RECORD/New/", "/record/new", "page", "configured"),
    ("//record/./12345;jsessionid=1", "/record/{record}", "item", "configured"),
    ("http://www.example.org/record/12345", "/record/{record}", "item", "configured"),
    ("/%72ecord/12345", "/record/{record}", "item", "configured"),
    ("/ｒecord/１２３", "/record/{record}", "item", "configured"),
    ("/record/caf%E9", "/record/{record}", "item", "configured"),
    ("/docs", "/docs/**", "download", "configured"),
    ("/docs/a", "/docs/**", "download", "configured"),
    ("/docs/2026/index", "/docs/{year}/index", "page", "configured"),
    ("/docs/2026/index/b", "/docs/**", "download", "configured"),
    ("/docs/" + "x/" * 5000, "/docs/**", "download", "configured"),
    ("/caf%C3%A9", "/café", "page", "configured"),
    ("/cgi-bin/koha/opac-search.pl?q=cancer", "/cgi-bin/koha/opac-search.pl", "search", "preset koha"),
    ("/?s=cancer", "/{search}", "search", "preset wordpress"),
    ("/about", "/about", "page", "sitemap"),
    ("/about/", "/about", "page", "sitemap"),
    ("/services/notary-public", "/services/Notary-Public", "page", "sitemap"),
    ("/robots.txt", "/robots.txt", "other", "every site"),
]


@pytest.mark.parametrize(("target", "template", "kind", "rule"), MATCHED, ids=lambda value: value[:40])
def test_rules_in_their_order(target: str, template: str, kind: str, rule: str) -> None:
    """A rule of the configuration beats a preset, a preset the sitemap; a literal beats a name, a name the rest."""
    assert SITE.match(target, 200, is_private=False) == Route(template, kind, rule)


JUDGED = [
    ("/exhibits/quilts", "page", "candidate", "/exhibits/quilts"),
    ("/exhibits/quilts/?utm_source=x", "page", "candidate", "/exhibits/quilts"),
    ("/exhibits/q%75ilts", "page", "candidate", "/exhibits/quilts"),
    ("/exhibits/Patchwork", "page", "candidate", "/exhibits/Patchwork"),
    ("/minutes/2026-10-board.pdf", "download", "candidate", "/minutes/2026-10-board.pdf"),
    ("/results", "search", "candidate", "/results"),
    ("/catalog/search", "search", "candidate", "/catalog/search"),
    ("/results/eviction", "search", "search term in the path", None),
    ("/find/a/lawyer", "search", "search term in the path", None),
    ("/api/hours", "api", "candidate", "/api/hours"),
    ("/news/feed", "feed", "candidate", "/news/feed"),
    ("/static/css/app-3f2a9c1b.css", "asset", "candidate", "/static/**"),
    ("/static/9f86d081884c7d659a2feaa0c55ad015.js", "asset", "candidate", "/static/**"),
    ("/style.css", "asset", "candidate", "/style.css"),
    ("/reset.css", "asset", "candidate", "/reset.css"),
    ("/my-account", "account", "account page", None),
    ("/login.php", "account", "account page", None),
    ("/users/jdoe", "account", "account page", None),
    ("/newsletter/unsubscribe/jdoe", "account", "account page", None),
    ("/a%00b", "page", "control characters", None),
    ("/caf%E9", "page", "not UTF-8", None),
    ("/pаypal", "page", "mixed scripts", None),
    ("/" + "x" * 10_000, "page", "overlong", None),
    ("/{search}", "page", "unusual characters", None),
    ("/(unlisted)", "page", "unusual characters", None),
    ("*", "other", "not a path", None),
    ("www.example.org:443", "other", "not a path", None),
]


@pytest.mark.parametrize(("target", "kind", "rule", "candidate"), JUDGED, ids=lambda value: str(value)[:40])
def test_what_no_rule_knows(target: str, kind: str, rule: str, candidate: str | None) -> None:
    """An unknown path is unlisted, and a candidate only if nothing in it can name a person."""
    assert SITE.match(target, 200, is_private=False) == Route(UNLISTED, kind, rule, candidate)


@pytest.mark.parametrize("path", ["/card/21234000123456", "/hello/jane@example.org", "/x/203%252D555%252D0123"])
def test_a_detector_redacts_for_good(path: str) -> None:
    """What a detector finds is neither stored nor a candidate."""
    found = SITE.match(path, 200, is_private=False)
    assert (found.template, found.candidate) == (REDACTED, None)
    assert found.rule.startswith("detector ")


STATUSES = [
    # status, template of a known page, template of an unknown one, is the unknown one a candidate
    (200, "/record/{record}", UNLISTED, True),
    (206, "/record/{record}", UNLISTED, True),
    (304, "/record/{record}", UNLISTED, True),
    (0, "/record/{record}", UNLISTED, False),
    (101, "/record/{record}", UNLISTED, False),
    (301, "/record/{record}", UNLISTED, False),
    (302, "/record/{record}", UNLISTED, False),
    (500, "/record/{record}", UNLISTED, False),
    (503, "/record/{record}", UNLISTED, False),
    (400, UNMATCHED, UNMATCHED, False),
    (401, UNMATCHED, UNMATCHED, False),
    (404, UNMATCHED, UNMATCHED, False),
    (451, UNMATCHED, UNMATCHED, False),
]


@pytest.mark.parametrize(("status", "known", "unknown", "is_candidate"), STATUSES)
def test_what_an_answer_changes(status: int, known: str, unknown: str, is_candidate: bool) -> None:
    """Errors of the server show by page, what the site denies is unmatched, only an answered page is a candidate."""
    assert SITE.match("/record/1", status, is_private=False).template == known
    found = SITE.match("/exhibits/quilts", status, is_private=False)
    assert (found.template, found.candidate is not None) == (unknown, is_candidate)


def test_a_private_answer_is_no_candidate() -> None:
    """A page that the site marks as private is known by its rule or not at all."""
    assert SITE.match("/record/1", 200, is_private=True).template == "/record/{record}"
    assert SITE.match("/exhibits/quilts", 200, is_private=True) == Route(UNLISTED, "page", "private answer")


AUDIENCES = [
    ("/health/grief", "sensitive"),
    ("/health", "sensitive"),
    ("/Health/Grief", "sensitive"),
    ("/topics/health/diabetes", "sensitive"),
    ("/topics/law", "general"),
    ("/healthy-cooking", "general"),
    ("/kids", "children"),
    ("/kids/storytime?x=1", "children"),
    ("//kids//storytime", "children"),
    ("/x/../kids/storytime", "children"),
    ("/kids%2Fstorytime", "children"),
    ("/kids%5Cstorytime", "children"),
    ("/%6bids", "children"),
    ("/%256bids", "children"),
    ("/ｋｉｄｓ", "children"),
    ("/kids;a=b/storytime", "children"),
    ("http://www.example.org/kids", "children"),
    ("/kids/" + "x" * 10_000, "children"),
    ("/kids/%FF", "children"),
    ("/", "general"),
    ("*", "general"),
]


@pytest.mark.parametrize(("target", "audience"), AUDIENCES, ids=lambda value: value[:40])
@pytest.mark.parametrize("status", [200, 404, 500])
def test_sensitive_and_childrens_pages(target: str, audience: str, status: int) -> None:
    """Such pages are told by any spelling of their path and whatever the site answers."""
    assert SITE.match(target, status, is_private=False).audience == audience


def test_sensitive_comes_before_children() -> None:
    """A page of both classes belongs to the sensitive ones."""
    routes = make_routes(sensitive=("/kids/health/**",), children=("/kids/**",))
    assert routes.match("/kids/health/bullying", 200, is_private=False).audience == "sensitive"


def test_parts_of_segments() -> None:
    """A name may stand for a part of a segment; the longest text around it does not matter, a literal does."""
    table: RouteTable[str] = RouteTable()
    for pattern in ("/record={record}", "/search~{scope}/**", "/{file}.pdf", "/a.pdf"):
        table.add(pattern, pattern)
    assert table.find(("record=b1234",)) == "/record={record}"
    assert table.find(("record=",)) is None
    assert table.find(("search~s1", "x", "y")) == "/search~{scope}/**"
    assert table.find(("b.pdf",)) == "/{file}.pdf"
    assert table.find(("a.pdf",)) == "/a.pdf"


def test_parameters_tell_pages_apart() -> None:
    """A rule may ask for a parameter, or for one of some values; its name is read in any case, encoded or not."""
    table: RouteTable[str] = RouteTable()
    table.add("/x", "plain")
    table.add("/x", "any", (("id", frozenset()),))
    table.add("/x", "renew", (("op", frozenset({"renew", "hold"})),))
    cases = {
        "": "plain",
        "q=1": "plain",
        "id=": "any",
        "ID=7": "any",
        "%69d=7": "any",
        "op=renew": "renew",
        "op=other": "plain",
        "op=other&op=hold": "renew",
        "op=%68old": "renew",
        "%ff=%ff&&=&;": "plain",
    }
    assert {query: table.find(("x",), query) for query in cases} == cases


def test_learning_takes_only_pages() -> None:
    """Of a sitemap only clean paths that no rule covers become routes, and no more than the limit."""
    routes = make_routes(("/record/{record}", "item"))
    routes.learn(["/about", "/record/1", "/card/21234000123456", "/a%00b", "/about/", "/" + "x" * 600])
    learned = [template for template, origin in routes.templates() if origin is Origin.SITEMAP]
    assert learned == ["/about"]
    routes.learn(f"/page-{number}" for number in range(MAX_LEARNED + 50))
    assert sum(origin is Origin.SITEMAP for _, origin in routes.templates()) == MAX_LEARNED


def test_templates_say_where_they_come_from() -> None:
    """The list of templates has each with its origin."""
    origins = dict(SITE.templates())
    assert origins["/record/{record}"] == Origin.CONFIGURED
    assert origins["/cgi-bin/koha/opac-search.pl"] == Origin.PRESET
    assert origins["/about"] == Origin.SITEMAP
    assert set(EVERYWHERE) <= set(origins)


@given(st.text(max_size=200), st.integers(0, 999), st.booleans())
def test_only_templates_and_placeholders_come_out(target: str, status: int, is_private: bool) -> None:
    """Whatever is asked for, the template is in the list or a placeholder, the kind in its list, and nothing raises."""
    templates = {template for template, _ in SITE.templates()} | {UNLISTED, UNMATCHED, REDACTED}
    for raw_target in (target, f"/{target}", f"/kids/{target}", f"/record/{target}", f"http://{target}"):
        found = SITE.match(raw_target, status, is_private)
        assert found.template in templates
        assert found.kind in KINDS
        assert found.candidate is None or found.template == UNLISTED


@given(st.text(max_size=100), st.text(max_size=100))
def test_a_query_changes_nothing_but_the_rule(one: str, other: str) -> None:
    """Two requests that differ in the query alone get the same candidate."""
    found = {SITE.match(f"/exhibits/quilts?{query.replace('#', '')}", 200, is_private=False) for query in (one, other)}
    assert len(found) == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ((), "page"),
        (("about",), "page"),
        (("sitemap.xml",), "other"),
        (("feed.rss",), "feed"),
        (("data.json",), "api"),
        (("book.epub",), "download"),
        (("events.ics",), "download"),
        (("logo.svg",), "asset"),
        (("signin.aspx",), "account"),
        (("forgot_password",), "account"),
        (("oauth2", "callback"), "account"),
        (("search~s1", "x"), "search"),
        (("research",), "page"),
        (("u.s.-citizenship",), "page"),
    ],
)
def test_kinds_by_word_and_extension(path: tuple[str, ...], kind: str) -> None:
    """The kind of an unknown page is told by the words and the extension of its path."""
    assert guess_kind(path) == kind


def test_matching_is_fast() -> None:
    """With every preset and a thousand learned pages a match takes far less than a millisecond."""
    routes = make_routes(presets=PRESET_NAMES, learned=tuple(f"/page/{number}" for number in range(1000)))
    targets = [f"/exhibits/quilts-{number}" for number in range(1000)] + [f"/page/{n}?x=1" for n in range(1000)]
    start_s = time.process_time()
    for target in targets:
        routes.match(target, 200, is_private=False)
    assert (time.process_time() - start_s) / len(targets) < 0.0002
