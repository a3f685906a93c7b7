"""Everybody can read the pages: axe finds nothing, a keyboard is enough, and a narrow screen is wide enough."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext

from tests.web.browsers import browsing
from tests.web.served import Dashboard

pytestmark = pytest.mark.slow

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
PAGES = (
    "/",
    "/?period=today",
    "/?period=7d&where=device%3Dphone",
    "/?period=2020-01",
    "/report/pages",
    "/report/weekday_hours",
    "/live",
    "/hidden",
    "/api",
    "/login",
    "/nothing",
    "/?since=x",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a browser."""
    with browsing() as started:
        yield started


@pytest.fixture(params=["light", "dark"])
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """Open a window in one colour scheme. The checker is a script, so the page's own policy must not keep it out."""
    with browser.new_context(color_scheme=request.param, bypass_csp=True, locale="en-US") as opened:
        yield opened


@pytest.mark.parametrize("target", PAGES)
def test_axe_finds_nothing(dashboard: Dashboard, context: BrowserContext, target: str) -> None:
    """No page breaks a rule of WCAG 2.1 A or AA that a program can check, in light and dark, with all menus open."""
    page = context.new_page()
    page.goto(dashboard.url + target)
    page.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")
    results = Axe().run(page, options=RULES)
    assert not results.response["violations"], results.generate_report()
