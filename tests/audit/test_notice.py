"""The public page says what this configuration records: change the one, and the other changes in that place only."""

import re
from html.parser import HTMLParser
from typing import get_args

import pytest

from anonproxy import __version__
from anonproxy.audit.notice import FACTS, NO_CONTACT, VALUES, Form, render_notice
from anonproxy.model import vocabularies as words
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.settings import Settings

FORMS: tuple[Form, ...] = get_args(Form)
VOID = {"meta", "br", "hr"}


def settings(top: str = "", site: str = "", store: str = "") -> Settings:
    """Write a configuration."""
    return parse_settings(
        f'{top}\n[store]\npath = "/nowhere"\n{store}\n[[sites]]\nname = "www"\nhosts = ["library.example.org"]\n'
        f'upstream = "http://127.0.0.1:8000"\n{site}\n',
        "test",
        {},
    )


def words_of(page: str) -> str:
    """Return a text with its line breaks and indents as single spaces."""
    return " ".join(page.split())


def text(**changed: str) -> str:
    """Render the page as a text without line breaks."""
    return words_of(render_notice(settings(**changed), "text"))


# What stands on the page, by what was changed in the configuration; each fact stands for its setting and no other.
FACTS_BY_SETTING: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = (
    ({}, ("Only the hour in which it happened", "named only once 10 visits have opened it on the same day",
          "for at most 48 hours", "destroyed every day at 04:00 (local time)", "after 30 minutes without a click",
          "after 4 hours in any case", "of 203.0.113.77 we keep 203.0.113.0/24, which is shared by 256 addresses",
          "its first 32 of 128 bits, like 2001:db8::/32", "Totals for each day 25 months",
          "The same lines without that number 90 days", "it is remote for everybody", "your full internet address",
          "Children's pages: everything below /kids/ and /children/", "one of 30 common ones",
          "The website behind the counting doesn't learn your internet address",
          "This page is about library.example.org.")),
    ({"top": "[privacy]\nk = 25"},
     ("named only once 25 visits", "only once 25 visits have come from it", "from which 25 visits came",
      "fewer than 25 visits saw that page", "whatever fewer than 25 visits of a day have in common")),
    ({"top": "[privacy]\nipv4_prefix = 16\nipv6_prefix = 24"},
     ("we keep 203.0.0.0/16, which is shared by 65,536 addresses", "its first 24 of 128 bits, like 2001:d00::/24",
      "At most the first 16 of 32 bits, or 24 of 128; or empty")),
    ({"top": "[privacy]\nstore_network = false"},
     ("Nothing. No part of your address is recorded.", "your internet address, neither all of it nor any part")),
    ({"top": '[privacy]\ntime_resolution = "15min"'}, ("Only the quarter of an hour in which",)),
    ({"top": '[privacy]\nepoch_hours = 6\nepoch_cut = "05:30"\ntime_zone = "America/New_York"'},
     ("destroyed every 6 hours, and every day at 05:30 (America/New_York)", "opened it within 6 hours")),
    ({"top": "[privacy]\nvisit_idle_min = 20\nvisit_max_h = 1"},
     ("after 20 minutes without a click", "and after 1 hour in any case")),
    ({"top": '[privacy]\nlanguages = ["en", "es"]'}, ("one of 2 common ones", "Values: en, es, other")),
    ({"store": "hot_hours = 36\nhits_days = 30\ndaily_months = 13"},
     ("for at most 36 hours", "deleted after 36 hours at most", "without that number 30 days", "each day 13 months")),
    ({"top": '[network_classes]\nin-library = ["198.51.100.0/24"]'}, ("One of in-library, remote;",)),
    ({"top": '[proxy]\nforward_client = "truncated"'}, ("learns your network from it, but not your full address",)),
    ({"top": "[proxy]\nmax_requests_per_s = 5"}, ("how many connections and requests your address has just now",)),
    ({"top": "[proxy]\nmax_connections = 0\nmax_requests_per_s = 5"}, ("how many requests your address has",)),
    ({"site": 'sensitive = ["/law", "/health/**"]\nchildren = []'},
     ("Sensitive topics: everything below /health/; /law",)),
    ({"site": "sensitive = []\nchildren = []"}, ("No pages are set apart",)),
    ({"site": 'routes = [{ path = "/event/{id}" }, { path = "/find", kind = "search" }]\npresets = ["koha"]'},
     ("left out, like /event/{id}.", "the page types /event/{id}, /find; those of koha; pages of the site's own")),
    ({"site": 'referrers = ["town.example.org"]\ncampaigns = ["summer-reading"]'},
     ("town.example.org, or shared by 10 visits", "summer-reading, or shared by 10 visits")),
    ({"top": 'profile = "strict"'},
     ("Only the day in which", "only once 20 visits", "for at most 30 hours", "without that number 35 days",
      "Nothing. No part of your address is recorded.")),
)  # fmt: skip


@pytest.mark.parametrize(("changed", "facts"), FACTS_BY_SETTING, ids=lambda value: str(value)[:40])
def test_page_follows_the_configuration(changed: dict[str, str], facts: tuple[str, ...]) -> None:
    """Each setting that decides what is recorded is told, and what another setting would make of it is not."""
    page, standard = text(**changed), text()
    for fact in facts:
        assert fact in page
        assert (fact in standard) == (not changed)


def test_one_change_changes_one_place() -> None:
    """Between two pages only those lines differ whose facts do, so that a comparison shows what was changed."""
    pages = [render_notice(settings(store=store), "markdown") for store in ("", "daily_months = 12")]
    first, second = (page.splitlines() for page in pages)
    differing = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    assert differing == [("| Totals for each day | 25 months |", "| Totals for each day | 12 months |")]


def test_page_tells_what_is_in_memory() -> None:
    """What `anonproxy top` remembers is told where it is on, and nowhere else."""
    told = "how often it asked, for five minutes"
    assert told in text()
    assert told not in text(top="[proxy]\ntop = false")
    assert told not in text(top='profile = "strict"')


@pytest.mark.parametrize("form", FORMS)
def test_page_has_no_date(form: Form) -> None:
    """The page is the same whenever it is written, and holds no date and no version."""
    page = render_notice(settings(), form)
    assert page == render_notice(settings(), form)
    assert not re.search(r"\b(19|20)\d\d\b(?!:)", page)
    assert __version__ not in page


def test_every_column_is_told() -> None:
    """No column is left out of the page, in plain words and in detail, and none is told twice."""
    told = [name for fact in FACTS for name in fact.columns]
    columns = [column.name for column in HIT_COLUMNS]
    assert sorted(told) == sorted(columns)
    assert list(VALUES) == columns
    page = render_notice(settings(), "html")
    for column in HIT_COLUMNS:
        assert f"<code>{column.name}</code>" in page


@pytest.mark.parametrize(
    "values",
    [
        words.BOTS[1:],
        words.BROWSERS,
        words.CHANNELS,
        words.DEVICES,
        words.KINDS,
        words.LANGUAGES,
        words.METHODS,
        words.OSES,
    ],
)
def test_vocabularies_are_listed(values: tuple[str, ...]) -> None:
    """Every value of every closed list stands on the page."""
    page = render_notice(settings(), "html")
    assert [value for value in values if f"<code>{value}</code>" not in page] == []


def test_several_sites_are_told_apart() -> None:
    """With several sites the page names all of them, and whose the children's pages are."""
    page = text(site='children = ["/kids/**"]\n[[sites]]\nname = "catalog"\nhosts = ["catalog.example.org", "*"]\n'
                'upstream = "http://127.0.0.1:8001"\nchildren = ["/teens"]\nsensitive = []')  # fmt: skip
    assert "This page is about catalog.example.org and library.example.org." in page
    assert "Which of our websites it was: www, catalog." in page
    assert "Children's pages at www: everything below /kids/" in page
    assert "Children's pages at catalog: /teens" in page
    assert "Sensitive topics at catalog" not in page


@pytest.mark.parametrize("form", FORMS)
def test_contact(form: Form) -> None:
    """The page says whom to ask, or shows that nobody is named yet."""
    assert "Ann Lee, 555 0100" in render_notice(settings(), form, "Ann Lee, 555 0100")
    assert words_of(NO_CONTACT) in words_of(render_notice(settings(), form))


class Tags(HTMLParser):
    """Collects tags, and sees that each is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag


def test_html_is_self_contained() -> None:
    """The page is well-formed, needs nothing from anywhere, and runs nothing."""
    page = render_notice(settings(), "html")
    seen = Tags(page).seen
    assert {"script", "link", "img", "iframe", "form", "object"} & {tag for tag, _ in seen} == set()
    assert not [attributes for _, attributes in seen if {"src", "href", "onclick", "style"} & attributes.keys()]
    assert "url(" not in page
    assert "@import" not in page


def test_html_is_accessible() -> None:
    """A screen reader finds language, title, one main part, headings in order, and tables with headings."""
    page = render_notice(settings(), "html")
    seen = Tags(page).seen
    tags = [tag for tag, _ in seen]
    assert page.startswith("<!DOCTYPE html>")
    assert ("html", {"lang": "en"}) in seen
    assert tags.count("main") == tags.count("title") == tags.count("h1") == tags.count("details") == 1
    assert [tag for tag in tags if re.fullmatch(r"h\d", tag)] == ["h1"] + ["h2"] * (tags.count("h2"))
    assert tags.count("caption") == tags.count("table") == 3
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in seen if tag == "th")


def test_html_escapes() -> None:
    """Whatever stands in the configuration or the contact is text on the page, and no markup."""
    page = render_notice(settings(site='children = ["/<b>x"]'), "html", "<script>alert(1)</script>")
    assert "<b>" not in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_markdown_tables_are_whole() -> None:
    """Every line of a table has as many cells as its head, whatever stands in them."""
    page = render_notice(settings(site='routes = [{ path = "/a|b" }]'), "markdown")
    tables = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
