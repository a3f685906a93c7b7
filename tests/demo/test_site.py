import json
import re
import subprocess
import sys
import urllib.request
from html.parser import HTMLParser
from urllib.parse import urldefrag, urlsplit

import pytest

from anonproxy.demo.library import FIRST_RECORD, read_library
from anonproxy.demo.patrons import SESSION_COOKIE, SESSIONS_AT_MOST, Patron, Sessions, is_card
from anonproxy.demo.site import is_own_page, list_public_pages
from tests.demo.conftest import Visitor

CARD = {"barcode": "2 1234 00010 4417", "pin": "4821"}


class Links(HTMLParser):
    """Collects what a page points to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ("href", "src") and value}


def list_links(html: str) -> set[str]:
    """List the addresses that a page names, without the part after #."""
    links = Links()
    links.feed(html)
    return {urldefrag(link).url for link in links.found} - {""}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/", "New on the shelves"),
        ("/hours", "Ferry Landing"),
        ("/hours/harbor", "Library of things"),
        ("/events", "Telescope night"),
        ("/events/story-time", "Every Tuesday at 10:30"),
        ("/search", "walk along the shelves"),
        ("/search?q=river", "The Ferryman’s Almanac"),
        ("/search?q=ferryman%27s", "1 title found"),
        ("/search?q=nothing-has-this-name", "Nothing found"),
        ("/search?q=%3Cscript%3E", "&lt;script&gt;"),
        ("/record/204817", "The Salt Ledger"),
        ("/kids", "The Bear Who Returned His Books"),
        ("/kids/storytime", "on the round rug"),
        ("/topics/health/pregnancy", "Nine Months and a Notebook"),
        ("/news/no-more-late-fees", "gone, for everyone"),
        ("/lists/autumn-reads", "A list by the staff"),
        ("/reset?token=abc", "Choose a new PIN"),
        ("/reset", "needs the link from our message"),
        ("/privacy", "can’t be turned back into you"),
    ],
)
def test_page_says(visitor: Visitor, target: str, says: str) -> None:
    """Every page type answers with its own content, and escapes what came in."""
    answer = visitor.get(target)
    assert answer.status == 200
    assert says in answer.text


def test_every_link_resolves(visitor: Visitor) -> None:
    """Whoever follows links from the home page never meets a 404 and never leaves the site; with a card neither."""
    visitor.post("/login", **CARD)
    seen, waiting = set(), {"/"}
    while waiting:
        target = waiting.pop()
        seen.add(target)
        answer = visitor.get(target)
        assert answer.status in (200, 301, 303), target
        if answer.headers.get("content-type", "").startswith("text/html"):
            waiting |= list_links(answer.text) - seen
    assert all(link.startswith("/") for link in seen)
    assert len({urlsplit(link).path for link in seen}) > 120


def test_sitemap_lists_public_pages_only(visitor: Visitor) -> None:
    """The sitemap names what everyone may read, and no record, account, login, reset or reader's list."""
    paths = re.findall(r"<loc>http://library\.millbrook\.example(/[^<]*)</loc>", visitor.get("/sitemap.xml").text)
    assert paths == list_public_pages()
    assert len(paths) == len(set(paths))
    assert not [path for path in paths if re.match(r"/(record|account|login|reset|forgot|hold|lists/|api)", path)]
    assert {visitor.get(path).status for path in paths} == {200}


def test_hold_asks_for_a_login_and_then_stands_in_the_account(visitor: Visitor) -> None:
    """Hold → login → back to the book → hold → account: the redirects are relative and the cookie carries it."""
    book = f"/record/{FIRST_RECORD}"
    sent_away = visitor.post("/hold", record=str(FIRST_RECORD))
    assert (sent_away.status, sent_away.headers["location"]) == (303, "/login?next=%2Frecord%2F204817")
    logged_in = visitor.post("/login", next=book, **CARD)
    assert (logged_in.status, logged_in.headers["location"]) == (303, book)
    assert re.fullmatch(r"[0-9a-f]{32}", visitor.cookies[SESSION_COOKIE])
    assert visitor.post("/hold", record=str(FIRST_RECORD)).headers["location"] == "/account/holds"
    assert "The Salt Ledger" in visitor.get("/account/holds").text
    assert "4417" in visitor.get("/account").text
    assert visitor.get("/account").headers["cache-control"].startswith("private")


def test_logout_ends_the_session(visitor: Visitor) -> None:
    """After logout the old session id opens nothing, even if it is sent again."""
    visitor.post("/login", **CARD)
    old = visitor.cookies[SESSION_COOKIE]
    assert visitor.post("/logout").headers["location"] == "/signed-out"
    visitor.cookies[SESSION_COOKIE] = old
    for page in ("/account", "/account/checkouts", "/account/holds"):
        assert visitor.get(page).headers["location"].startswith("/login?next=")


def test_wrong_card_is_refused_without_repeating_it(visitor: Visitor) -> None:
    """A mistyped card gives 401, no cookie, and a page that doesn't show the number again."""
    answer = visitor.post("/login", barcode="31234000104417", pin="4821")
    assert answer.status == 401
    assert not visitor.cookies
    assert "31234000104417" not in answer.text


@pytest.mark.parametrize(
    ("barcode", "pin", "fits"),
    [
        ("21234000104417", "4821", True),
        ("2 1234 00010 4417", "48211234", True),
        ("31234000104417", "4821", False),
        ("2123400010441", "4821", False),
        ("21234000104417", "12", False),
        ("21234000104417", "secret", False),
        ("", "", False),
    ],
)
def test_card(barcode: str, pin: str, fits: bool) -> None:
    """A card has 14 digits starting with 2, a PIN 4 to 8 digits."""
    assert is_card(barcode, pin) is fits


@pytest.mark.parametrize(
    ("target", "own"),
    [
        ("/record/1", True),
        ("/", True),
        ("//evil.example/", False),
        ("/\\evil.example", False),
        ("http://e/", False),
        ("", False),
    ],
)
def test_login_leads_back_to_own_pages_only(target: str, own: bool) -> None:
    """`next` can't be used to send a reader to somebody else's site."""
    assert is_own_page(target) is own


def test_forms_without_a_card(visitor: Visitor) -> None:
    """Contact, forgotten PIN and reset thank for the form and show nothing of it."""
    for form, thanks in (("/contact", "/contact/thanks"), ("/forgot", "/forgot/sent"), ("/reset", "/reset/done")):
        answer = visitor.post(form, email="agnes@mailbox.example", question="?", token="abc", pin="123456")
        assert (answer.status, answer.headers["location"]) == (303, thanks)
        assert visitor.get(thanks).status == 200


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/wp-login.php", 404),
        ("GET", "/record/999999", 404),
        ("GET", "/record/21234000104417", 404),
        ("GET", "/record/²", 404),
        ("GET", "/topics/health/nothing", 404),
        ("GET", "/topics/nothing/pregnancy", 404),
        ("GET", "/downloads/..%2fsite.py", 404),
        ("GET", "/events/", 404),
        ("GET", "/hold", 405),
        ("PUT", "/events", 405),
        ("HEAD", "/", 200),
        ("GET", "/search?q=river&page=99", 200),
        ("GET", "/search?q=river&page=0", 200),
        ("GET", "/search?q=river&page=%C2%B2", 200),
    ],
)
def test_odd_requests(visitor: Visitor, method: str, target: str, status: int) -> None:
    """What isn't there is a 404 and what isn't offered a 405, in the library's own words."""
    assert visitor.send(method, target, b"").status == status


def test_endless_form_is_refused(visitor: Visitor) -> None:
    """A body beyond 64 KiB is not read to its end."""
    assert visitor.send("POST", "/contact", b"x" * 70_000).status == 413


def test_downloads_and_feeds(visitor: Visitor) -> None:
    """PDFs end as PDFs do and their cross-reference table is right; CSV, feed and availability carry the catalogue."""
    for name in read_library().downloads:
        pdf = visitor.get(f"/downloads/{name}").body
        assert pdf.startswith(b"%PDF-1.4")
        assert pdf.endswith(b"%%EOF\n")
        start = int(pdf.split()[-2])
        assert pdf[start : start + 4] == b"xref"
        offsets = [int(entry) for entry in re.findall(rb"(\d{10}) 00000 n", pdf)]
        assert [pdf[offset:].split()[0] for offset in offsets] == [b"1", b"2", b"3", b"4", b"5"]
    assert len(visitor.get("/downloads/catalogue.csv").text.splitlines()) == len(read_library().books) + 1
    assert visitor.get("/feed.xml").text.count("<entry>") == 5
    assert json.loads(visitor.get("/api/availability?record=204818").text)["record"] == 204818
    assert "Disallow: /account" in visitor.get("/robots.txt").text


def test_sessions_are_bounded() -> None:
    """The oldest session ends when there are too many."""
    sessions = Sessions()
    first = sessions.open(Patron("0001"))
    for _ in range(SESSIONS_AT_MOST):
        last = sessions.open(Patron("0002"))
    assert sessions.find(first) is None
    assert sessions.find(last) is not None


def test_site_uses_nothing_from_elsewhere(visitor: Visitor) -> None:
    """No page loads anything from another host, and no page has a script."""
    for path in list_public_pages():
        text = visitor.get(path).text
        assert not re.search(r"""(src|href)=["'](https?:)?//|<script|url\(|@import""", text), path


def test_site_runs_by_itself_and_says_where() -> None:
    """`python -m anonproxy.demo.site` takes a free port, prints it once, and logs nothing afterwards."""
    command = [sys.executable, "-m", "anonproxy.demo.site", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as site:
        assert site.stdout is not None
        assert site.stderr is not None
        address = site.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{address}/search?q=secret-word", timeout=10) as answer:
            assert answer.status == 200
        site.terminate()
        said = site.stdout.read() + site.stderr.read()
    assert said == ""
