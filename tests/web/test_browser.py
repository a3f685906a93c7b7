"""The pages in a real browser, with scripts switched off: what people click works, on any screen, on paper too."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from anonproxy.reports.session import Session
from anonproxy.web import auth
from anonproxy.web.auth import hash_password
from tests.web.browsers import browsing
from tests.web.served import Dashboard, serving

pytestmark = pytest.mark.slow

GIVEN_UP = "net::ERR_ABORTED"
PAGES = ("/", "/?period=today", "/?where=device%3Dphone", "/report/pages", "/report/entry", "/live", "/hidden", "/api")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser."""
    with browsing() as started:
        yield started


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Page]:
    """Open a window in which no script runs, and whose every complaint fails the test."""
    complaints: list[str] = []
    with browser.new_context(java_script_enabled=False, locale="en-US", base_url=dashboard.url) as context:
        opened = context.new_page()
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("requestfailed", lambda request: complaints.append(f"{request.url} {request.failure}"))
        yield opened
    # An icon that is still on its way when a link is clicked is given up by the browser itself.
    assert [complaint for complaint in complaints if not complaint.endswith(f"/icon.svg {GIVEN_UP}")] == []


def test_clicking_through(page: Page) -> None:
    """One click filters, another ends it; a period, another figure, a whole report and the way back are one click."""
    page.goto("/")
    page.get_by_role("region", name="Devices").get_by_role("link", name="Phone").click()
    expect(page.get_by_role("link", name="Remove the filter Device: Phone")).to_be_visible()
    page.get_by_role("navigation", name="Period").get_by_role("link", name="Today").click()
    expect(page.get_by_role("link", name="Remove the filter Device: Phone")).to_be_visible()
    expect(page.get_by_text("November 21, 2026").first).to_be_visible()
    page.get_by_role("link", name="Remove the filter Device: Phone").click()
    page.get_by_role("link", name="Pageviews", exact=True).click()
    expect(page.get_by_role("heading", name="Pageviews over time")).to_be_visible()
    page.get_by_role("link", name="Pages: all rows and figures", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Pages")).to_be_visible()
    page.get_by_role("link", name="Back to the overview").click()
    page.wait_for_url("**/?period=today&metric=pageviews")


def test_choosing_dates_without_a_script(page: Page) -> None:
    """The form for other dates is a plain form that keeps the filters."""
    page.goto("/?where=device%3Dphone")
    page.get_by_text("Other dates").click()
    page.get_by_label("From", exact=True).fill("2026-11-19")
    page.get_by_label("To", exact=True).fill("2026-11-20")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/?where=device%3Dphone&since=2026-11-19&until=2026-11-20")
    expect(page.get_by_role("link", name="Remove the filter Device: Phone")).to_be_visible()


def test_the_keyboard_is_enough(page: Page) -> None:
    """From the top: the first stop skips to the figures, menus open by a key, and every stop can be seen."""
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the figures")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Period before")).to_be_focused()
    menu = page.locator("summary", has_text="Other dates")
    for _ in range(10):
        page.keyboard.press("Tab")
        outline = page.locator(":focus").evaluate("it => getComputedStyle(it).outlineStyle")
        assert outline != "none"
        if menu.evaluate("it => it === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_label("From", exact=True)).to_be_visible()


def test_the_chart_is_a_table_too(page: Page) -> None:
    """Who can't see the chart reads a table with the same days; each leads to its day."""
    page.goto("/?since=2026-11-19&until=2026-11-21")
    page.get_by_text("Show as a table").click()
    rows = page.get_by_role("region", name="Visits over time, Show as a table").get_by_role("row")
    expect(rows).to_have_count(4)
    rows.get_by_role("link").last.click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.wait_for_url("**/?since=2026-11-21&until=2026-11-21")


@pytest.mark.parametrize("width", [320, 768])
@pytest.mark.parametrize("target", PAGES)
def test_narrow_screens_are_wide_enough(browser: Browser, dashboard: Dashboard, target: str, width: int) -> None:
    """At 320 px nothing is cut off and nobody has to scroll sideways (WCAG 1.4.10), in the longest language."""
    with browser.new_context(viewport={"width": width, "height": 600}, locale="de-DE") as context:
        opened = context.new_page()
        opened.goto(dashboard.url + target)
        assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_colours_and_languages_are_chosen_by_links(page: Page) -> None:
    """Dark is one click, stays, and can be taken back; so is German, which brings its own dates and numbers."""
    page.goto("/report/devices")
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.get_by_text("Colours", exact=True).click()
    page.get_by_role("link", name="Dark").click()
    page.wait_for_url("**/report/devices")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
    page.locator("summary", has_text="English").click()
    page.get_by_role("link", name="Deutsch").click()
    page.wait_for_url("**/report/devices")
    expect(page.get_by_role("heading", level=1, name="Geräte")).to_be_visible()
    expect(page.get_by_text("23. Okt.").first).to_be_visible()


def test_live_refreshes_when_asked_to_and_stops(page: Page, dashboard: Dashboard) -> None:
    """The live page stands still until somebody wants it to go on, and stops on a click."""
    page.goto("/live")
    page.get_by_role("link", name="Refresh every 15 seconds").click()
    expect(page.get_by_text("Refreshes every 15 seconds")).to_be_visible()
    page.get_by_role("link", name="Stop").click()
    expect(page.get_by_role("link", name="Refresh every 15 seconds")).to_be_visible()


def test_on_paper(browser: Browser, dashboard: Dashboard) -> None:
    """Printed, the page has no menus, and light colours even in the dark."""
    with browser.new_context(color_scheme="dark", locale="en-US") as context:
        opened = context.new_page()
        opened.goto(dashboard.url)
        opened.emulate_media(media="print")
        expect(opened.get_by_role("navigation")).to_have_count(0)
        expect(opened.get_by_role("heading", name="Visits over time")).to_be_visible()
        red = re.match(r"rgb\((\d+)", opened.evaluate("getComputedStyle(document.body).color"))
        assert red is not None
        assert int(red[1]) < 60
        assert opened.pdf(format="A4").startswith(b"%PDF")


def test_motion_is_reduced(browser: Browser, dashboard: Dashboard) -> None:
    """Who asks for less motion gets none."""
    with browser.new_context(reduced_motion="reduce") as context:
        opened = context.new_page()
        opened.goto(dashboard.url)
        durations = "[...document.querySelectorAll('*')].map(it => getComputedStyle(it).transitionDuration)"
        assert set(opened.evaluate(durations)) == {"0s"}


def test_logging_in_with_a_browser(browser: Browser, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password leads to the page that was asked for, and logging out away from it; the browser keeps the cookie."""
    monkeypatch.setattr(auth, "COST", 2**4)
    with (
        serving(session, password_hash=hash_password("library card")) as locked,
        browser.new_context(java_script_enabled=False, locale="en-US", base_url=locked.url) as context,
    ):
        opened = context.new_page()
        opened.goto("/report/pages?period=today")
        opened.get_by_label("Password").fill("guess")
        opened.get_by_role("button", name="Show the figures").click()
        expect(opened.get_by_role("alert")).to_have_text("That isn’t the password.")
        opened.get_by_label("Password").fill("library card")
        opened.get_by_role("button", name="Show the figures").click()
        expect(opened.get_by_role("heading", level=1)).to_be_visible()
        opened.get_by_role("button", name="Log out").click()
        expect(opened.get_by_label("Password")).to_be_visible()
        opened.goto("/")
        expect(opened.get_by_label("Password")).to_be_visible()
