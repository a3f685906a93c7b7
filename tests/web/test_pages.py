"""Each page shows what the reports say, for every question that can be asked of it."""

import csv
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import pytest

from anonproxy.model.errors import StoreError
from anonproxy.reports.run import definitions
from anonproxy.reports.session import Session
from anonproxy.web.pages import disarm
from tests.store.examples import visits, write
from tests.web.served import NOW, Dashboard, serving

TODAY = NOW.date()


class Links(HTMLParser):
    """Collects what a page points to, and what it would load or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.forbidden: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag in {"script", "iframe", "object", "embed", "base"}:
            self.forbidden.add(tag)
        self.forbidden |= {name for name in found if name.startswith("on") or name == "style"}
        if tag == "a" and "href" in found:
            self.links.add(urldefrag(found["href"]).url)
        self.loaded |= {found[name] for name in ("src",) if name in found}
        if tag == "link":
            self.loaded.add(found["href"])


def read_rows(page: str, name: str) -> list[list[str]]:
    """Return the cells of a panel's table, as they are read."""
    panel = re.search(rf'aria-labelledby="panel-{name}".*?</section>', page, re.DOTALL)
    assert panel is not None, name
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", panel[0].partition("<tbody>")[2], re.DOTALL)
    return [[clean(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def clean(cell: str) -> str:
    """Return the text of a cell."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split())


def test_every_link_leads_somewhere(dashboard: Dashboard) -> None:
    """From the first page, every link to every depth is answered; nothing is loaded from elsewhere, or run."""
    seen, waiting = {"/"}, ["/"]
    while waiting:
        target = waiting.pop()
        answer = dashboard.ask(target, Accept_Language="en")
        assert answer.status in ({303} if target.startswith("/prefer") else {200}), target
        if answer.status == 303 or not answer.headers["Content-Type"].startswith("text/html"):
            continue
        page = Links(answer.body)
        assert not page.forbidden, target
        assert all(link.startswith("/") for link in page.loaded), target
        # One question of each sort is enough: their combinations are the same code.
        new = {link for link in page.links if link.startswith("/") and is_new_sort(link, seen)}
        seen |= new
        waiting += new
    assert len(seen) > 60


def is_new_sort(link: str, seen: set[str]) -> bool:
    """Tell whether no page was asked such a thing yet: its first field, and of a filter the column."""

    def sort(target: str) -> tuple[str, str]:
        parts = urlsplit(target)
        first = re.match(r"where=[a-z_]+|[a-z]*", parts.query)
        return parts.path if not parts.query else parts.path.partition("/")[0], first[0] if first else ""

    return sort(link) not in set(map(sort, seen))


def test_a_panel_shows_its_report(dashboard: Dashboard, session: Session) -> None:
    """A panel has the rows of the report, in order, with their shares of all visits."""
    since = "2026-11-01"
    page = dashboard.ask(f"/?since={since}&until={TODAY}", Accept_Language="en").body
    visits = session.report("overview", since, TODAY).records()[0]["visits"]
    assert f'<span class="figure">{visits:,}</span>' in page
    assert isinstance(visits, int)
    expected = [[row["device"], row["visits"]] for row in session.report("devices", since, TODAY).records()]
    names = {"desktop": "Computer", "phone": "Phone", "(other)": "(other) ?", "tablet": "Tablet", "other": "Other"}
    shown = read_rows(page, "devices")
    assert [[name, int(number.replace(",", ""))] for name, number, _ in shown] == [
        [names[str(name)], number] for name, number in expected
    ]
    assert next(share.rstrip("%").partition(".")[0] for *_, share in shown) in {
        str(int(100 * int(str(expected[0][1])) / visits + nudge)) for nudge in (0, 0.5)
    }


def test_figures_stand_beside_those_before(dashboard: Dashboard) -> None:
    """The summary compares with the period before; where there is none, it says so."""
    page = dashboard.ask(f"/?since={TODAY}&until={TODAY}", Accept_Language="en").body
    assert re.search(r"[+−]\d+%", page)
    assert "before</span>" in page
    first = dashboard.ask("/?period=30d", Accept_Language="en").body
    assert "no figure for the period before" in first


@pytest.mark.parametrize(
    ("query", "heading"),
    [
        ("period=today", "November 21, 2026"),
        ("period=7d", "Nov 15\u2009–\u200921, 2026"),
        ("period=month", "Nov 1\u2009–\u200921, 2026"),
        ("period=2026-10", "October 2026"),
        ("period=12m", "Dec 1, 2025\u2009–\u2009Nov 21, 2026"),
        ("since=2026-11-19&until=2026-11-20", "Nov 19\u2009–\u200920, 2026"),
        ("period=last+month", "October 2026"),
    ],
)
def test_periods(dashboard: Dashboard, query: str, heading: str) -> None:
    """Each period of the picker, and whatever the command line understands, shows its days."""
    answer = dashboard.ask(f"/?{query}", Accept_Language="en")
    assert answer.status == 200
    assert re.sub(r"\s", " ", heading) in re.sub(r"\s", " ", answer.body)


def test_a_click_on_a_bar_filters_and_a_click_on_the_chip_ends_it(dashboard: Dashboard) -> None:
    """A filter shows as a chip, narrows every panel, and goes again."""
    page = dashboard.ask("/?where=device%3Dphone", Accept_Language="en").body
    assert "Remove the filter Device: Phone" in page
    assert [row[0] for row in read_rows(page, "devices")] == ["Phone"]
    more = Links(page).links
    assert any("where=device%3Dphone&where=" in link for link in more)
    assert "/" in more


def test_a_handful_is_not_shown(dashboard: Dashboard) -> None:
    """A filter that leaves fewer than k visits shows nothing but that."""
    page = dashboard.ask("/?where=device%3Dtablet&where=country%3DJP&where=browser%3DOpera", Accept_Language="en").body
    assert "Too few visits to show" in page
    assert "panel-pages" not in page


@pytest.mark.parametrize(
    "query",
    ["period=soon", "since=2026-11-20&until=2026-11-01", "site=elsewhere", "where=visit%3D1", "period=99999999d"],
)
def test_what_makes_no_sense_is_answered_in_words(dashboard: Dashboard, query: str) -> None:
    """A question that can't be answered gets a page, or an object, that says why."""
    answer = dashboard.ask(f"/?{query}", Accept_Language="en")
    assert answer.status == 400
    assert "That can’t be answered" in answer.body
    told = dashboard.ask(f"/api/pages.json?{query}")
    assert told.status == 400
    assert json.loads(told.body)["error"]


@pytest.mark.parametrize("target", ["/nothing", "/report/nothing", "/report/", "/api/nothing.json", "/api/pages.xml"])
def test_unknown_pages(dashboard: Dashboard, target: str) -> None:
    """What there isn't has a page of its own."""
    answer = dashboard.ask(target, Accept_Language="en")
    assert answer.status == 404
    assert "mistyped" in answer.body


@pytest.mark.parametrize("target", ["/?where=route%3D%3Cscript%3E", "/?period=%3Cscript%3E", "/%3Cscript%3E"])
def test_nothing_from_the_address_becomes_html(dashboard: Dashboard, target: str) -> None:
    """What the address says is shown as text."""
    assert "<script" not in dashboard.ask(target).body


@pytest.mark.parametrize("name", [definition.name for definition in definitions()])
def test_every_report_is_a_page_a_table_and_an_object(dashboard: Dashboard, session: Session, name: str) -> None:
    """Each report is there as a page, as CSV and as JSON, with the same rows."""
    assert dashboard.ask(f"/report/{name}").status == 200
    told = json.loads(dashboard.ask(f"/api/{name}.json?since=2026-11-19").body)
    expected = json.loads(json.dumps(session.report(name, "2026-11-19", TODAY).records(), default=str))
    assert told["rows"] == expected
    assert (told["report"], told["since"], told["until"], told["k"]) == (name, "2026-11-19", str(TODAY), 10)
    table = dashboard.ask(f"/api/{name}.csv?since=2026-11-19")
    assert table.headers["Content-Disposition"] == f'attachment; filename="{name}-2026-11-19-{TODAY}.csv"'
    assert len(list(csv.DictReader(io.StringIO(table.body)))) == len(expected)


def test_the_api_compares(dashboard: Dashboard) -> None:
    """With compare=1 the figures of the period before stand beside."""
    [row] = json.loads(dashboard.ask("/api/overview.json?period=today&compare=1").body)["rows"]
    assert row["visits"] > 0
    assert row["previous_visits"] > 0


@pytest.mark.parametrize("value", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_no_cell_is_a_formula(value: str) -> None:
    """A text that a spreadsheet would compute is marked as text; numbers stay numbers."""
    assert disarm(value) == f"'{value}"
    assert (disarm(-1), disarm("/"), disarm(None)) == (-1, "/", None)


def test_the_page_of_the_api_names_everything(dashboard: Dashboard) -> None:
    """No report and no filter is missing from the description of the API."""
    page = dashboard.ask("/api", Accept_Language="en").body
    for definition in definitions():
        assert f"<code>{definition.name}</code>" in page
    assert "<code>network_class</code>" in page


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    """Before the first visit there is a page that says so, on every page that shows figures."""
    (tmp_path / "store").mkdir()
    with serving(Session(tmp_path / "store")) as empty:
        page = empty.ask("/", Accept_Language="en")
        assert page.status == 200
        assert "No figures yet" in page.body
        assert "anonproxy check" in page.body
        assert empty.ask("/report/pages").status == 200


def test_a_store_that_is_gone_is_said_in_words(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store can't be read any more, every page says so, and how to mend it."""
    with serving(session) as served:
        for name in ("run", "sites"):
            monkeypatch.setattr(Session, name, fail_to_read)
        page = served.ask("/", Accept_Language="en")
        assert page.status == 503
        assert "The store can’t be read" in page.body
        assert "anonproxy run" in page.body
        assert served.ask("/api/pages.json").status == 503
        assert served.ask("/hidden").status == 200


def fail_to_read(*_: object) -> None:
    """Be a store that isn't there."""
    raise StoreError("nothing there yet. `anonproxy run` makes it; or correct the path")


def test_a_period_without_figures_says_where_there_are_some(dashboard: Dashboard) -> None:
    """A period before the first visit points to the days that have figures."""
    page = dashboard.ask("/?period=2020-01", Accept_Language="en").body
    assert "Nothing in this period" in page
    assert "since=2026-11-19" in page


def test_live_shows_what_the_proxy_tells(dashboard: Dashboard) -> None:
    """The live page shows the proxy's figures and refreshes by itself only for whoever asked for it."""
    answer = dashboard.ask("/live", Accept_Language="en")
    assert '<span class="figure">87</span>' in answer.body
    assert "Refresh" not in answer.headers
    asked = dashboard.ask("/live", Cookie="refresh=on", Accept_Language="en")
    assert asked.headers["Refresh"] == "15"
    assert "/prefer?refresh=off" in asked.body


def test_live_tells_of_few_and_of_none(session: Session) -> None:
    """Too few visits are not told; a proxy that doesn't run is no fault."""
    few: dict[str, Any] = {"k": 10, "time": 0, "visits": None, "visits_now": None, "minutes": None, "pages": []}
    with serving(session, lambda site: few) as quiet:
        assert "Fewer than 10 visits" in quiet.ask("/live", Accept_Language="en").body

    def nobody(site: str | None) -> dict[str, object]:
        raise StoreError("nothing records")

    with serving(session, nobody) as off:
        answer = off.ask("/live", Accept_Language="en")
        assert answer.status == 200
        assert "Nothing is being recorded" in answer.body
        assert off.ask("/live?site=elsewhere").status == 200


def test_choices_are_kept_in_cookies(dashboard: Dashboard) -> None:
    """Colours and language are chosen by a link, kept for a year, and unknown ones are passed over."""
    answer = dashboard.ask("/prefer?theme=dark&back=%2Fhidden")
    assert answer.headers["Location"] == "/hidden"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("theme=dark;")
    assert "SameSite=strict" in cookie
    assert 'data-theme="dark"' in dashboard.ask("/hidden", Cookie="theme=dark").body
    assert 'data-theme="auto"' in dashboard.ask("/hidden", Cookie='theme="><script>').body
    assert dashboard.ask("/prefer?theme=pink").headers["Set-Cookie"] is None


def test_several_sites_have_a_picker(tmp_path: Path) -> None:
    """With two sites one can look at each, and at both."""
    write(tmp_path / "store", visits(30) + visits(15, first=100, site="kids"), sites=("www", "kids"))
    with serving(Session(tmp_path / "store")) as served:
        both = served.ask("/?period=today", Accept_Language="en").body
        assert "All sites" in both
        assert '<span class="figure">45</span>' in both
        assert '<span class="figure">15</span>' in served.ask("/?period=today&site=kids").body
