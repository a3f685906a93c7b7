"""Ask a site for its sitemap, so that the pages it publishes itself are known by name."""

import http.client
from collections import deque
from typing import Final
from urllib.parse import urlsplit

from anonproxy.anonymize.sitemap import MAX_PATHS, parse_sitemap
from anonproxy.model.settings import SiteSettings

TIMEOUT_S: Final = 10.0
# What one file may have as sent; the parser bounds what it becomes.
MAX_FILE_BYTES: Final = 10 << 20
# An index may name thousands (sitemaps.org); a library's own pages stand in the first few.
MAX_FILES: Final = 20


def fetch_sitemap_paths(site: SiteSettings) -> list[str]:
    """Return the paths that a site's sitemap names, following its index; none when the site doesn't answer.

    The site itself is asked, never another host, whatever the sitemap says.
    """
    paths: dict[str, None] = {}
    waiting = deque([site.sitemap] if site.sitemap else [])
    asked: set[str] = set()
    while waiting and len(asked) < MAX_FILES and len(paths) < MAX_PATHS:
        target = waiting.popleft()
        if target not in asked:
            asked.add(target)
            sitemap = parse_sitemap(_fetch(site, target), site.hosts)
            paths |= dict.fromkeys(sitemap.paths)
            waiting += sitemap.children
    return list(paths)[:MAX_PATHS]


def _fetch(site: SiteSettings, target: str) -> bytes:
    """Ask the site behind the proxy for one file; b"" for whatever isn't a plain answer."""
    parts = urlsplit(site.upstream)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    host = next((host for host in site.hosts if "*" not in host), parts.netloc)
    try:
        connection.request("GET", target, headers={"Host": host, "User-Agent": "anonproxy"})
        response = connection.getresponse()
        return response.read(MAX_FILE_BYTES) if response.status == http.HTTPStatus.OK else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
