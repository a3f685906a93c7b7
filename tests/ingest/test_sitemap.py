"""A site's sitemap is fetched from the site itself, and whatever is wrong with it does no harm."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from anonproxy.ingest.sitemap import MAX_FILES, fetch_sitemap_paths
from anonproxy.model.settings import SiteSettings

INDEX = "<sitemapindex><sitemap><loc>http://www.example.org/{0}.xml</loc></sitemap></sitemapindex>"
URLS = "<urlset><url><loc>http://www.example.org/events</loc></url><url><loc>http://evil.example/x</loc></url></urlset>"
FILES = {
    "/sitemap.xml": INDEX.format("pages"),
    "/pages.xml": URLS,
    "/loop.xml": INDEX.format("loop"),
    "/broken.xml": "<urlset><url>",
    "/endless-0.xml": INDEX.format("endless-1"),
}


class _Site(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - shared by the handlers of one test

    def do_GET(self) -> None:
        self.asked.append(self.path)
        content = FILES.get(self.path)
        if self.path.startswith("/endless-"):
            content = INDEX.format(f"endless-{len(self.asked)}")
        self.send_response(200 if content else 404)
        self.end_headers()
        self.wfile.write((content or "").encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[SiteSettings]:
    """Serve sitemaps on the loopback interface."""
    _Site.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield SiteSettings(
            name="www", hosts=("www.example.org",), upstream=f"http://127.0.0.1:{server.server_address[1]}"
        )
        server.shutdown()


def test_follows_the_index(site: SiteSettings) -> None:
    """The pages below an index are found, those of other hosts are not."""
    assert fetch_sitemap_paths(site) == ["/events"]


@pytest.mark.parametrize("name", ["/loop.xml", "/broken.xml", "/missing.xml", ""])
def test_bad_sitemaps_do_no_harm(site: SiteSettings, name: str) -> None:
    """A loop, broken XML, a missing file or none at all give no pages and end."""
    assert fetch_sitemap_paths(site.model_copy(update={"sitemap": name})) == []


def test_an_endless_chain_ends(site: SiteSettings) -> None:
    """A chain of ever new indexes is given up."""
    fetch_sitemap_paths(site.model_copy(update={"sitemap": "/endless-0.xml"}))
    assert len(_Site.asked) == MAX_FILES


def test_a_silent_site_has_no_sitemap() -> None:
    """A site that doesn't answer has no pages that are known by name."""
    assert fetch_sitemap_paths(SiteSettings(name="www", upstream="http://127.0.0.1:9")) == []
