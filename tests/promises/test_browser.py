"""A person with a real browser notices nothing, and the store knows nothing of what they searched or who they are."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import sync_playwright

from anonproxy.audit.search import search
from tests.support.marked_requests import Marks
from tests.support.servers import ProxyProcess, run_proxy, wait_until

pytestmark = pytest.mark.slow

CONFIG = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
[[sites]]
name = "www"
upstream = "{site}"
"""

# The network is closed in CI, and a browser that asks its maker for updates only slows the test down.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


# Without it the browser says that it is driven by a program, and counts as a robot.
PERSON = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[ProxyProcess]:
    """Run the proxy in front of the library site that the package carries."""
    site = subprocess.Popen(
        [sys.executable, "-m", "anonproxy.demo.site"], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert site.stdout is not None
        address = re.search(r"http://\S+", site.stdout.readline())
        assert address is not None
        with run_proxy(tmp_path / "proxy", CONFIG.format(site=address[0])) as process:
            yield process
    finally:
        site.terminate()
        site.wait(10)


def test_a_visit_in_a_browser(proxy: ProxyProcess) -> None:
    """Browsing, searching, logging in and placing a hold work as without the proxy; the store shows one visit."""
    marks = Marks()
    term, card, pin = marks.word("search term"), marks.fill("{barcode:card}", "www"), "4711"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        page = browser.new_page(user_agent=PERSON)
        page.goto(f"http://127.0.0.1:{proxy.port}/")
        assert "Millbrook" in page.title()
        page.get_by_role("link", name="Events").first.click()
        page.wait_for_url("**/events")

        page.get_by_label("Search the catalogue").fill(term)
        page.get_by_role("button", name="Search").click()
        page.wait_for_url(f"**/search?q={term}")
        assert term in page.content()

        page.get_by_role("link", name="Log in").click()
        page.get_by_label("Card number").fill(card)
        page.get_by_label("PIN").fill(pin)
        page.get_by_role("main").get_by_role("button", name="Log in").click()
        page.wait_for_url("**/account")
        assert "My account" in page.content()
        session = next(cookie for cookie in page.context.cookies() if cookie["name"] == "CGISESSID")
        marks.keep("session cookie", session["value"])
        page.goto(f"http://127.0.0.1:{proxy.port}/account/checkouts")
        assert page.locator("main").inner_text()
        browser.close()

    wait_until(lambda: {"/", "/events"} <= _routes(proxy), 20, "rows written")
    assert proxy.stop() == 0
    with duckdb.connect() as connection:
        hits = connection.execute(
            "SELECT kind, count(*), count(DISTINCT visit) FROM read_parquet($1) WHERE bot = '' GROUP BY kind",
            [f"{proxy.store}/hot/**/*.parquet"],
        ).fetchall()
        browsers = connection.execute(
            "SELECT DISTINCT browser, os, device FROM read_parquet($1)", [f"{proxy.store}/hot/**/*.parquet"]
        ).fetchall()
    pages = {kind: count for kind, count, _ in hits}
    assert pages["search"] == 1
    assert pages["page"] >= 2
    assert pages["account"] >= 3
    assert all(visits == 1 for kind, _, visits in hits if kind in ("page", "search"))
    assert browsers == [("Chrome", "Linux", "desktop")]
    result = search(proxy.written_places, marks.made)
    assert not result.hits
    assert not result.unopened


def _routes(proxy: ProxyProcess) -> set[str]:
    files = f"{proxy.store}/hot/**/*.parquet"
    if not list(proxy.store.glob("hot/**/*.parquet")):
        return set()
    with duckdb.connect() as connection:
        found = connection.execute("SELECT DISTINCT route FROM read_parquet($1)", [files]).fetchall()
    return {route for (route,) in found}
