"""Read a site's own list of its pages. Parsing only: whoever fetches it hands in the bytes.

A sitemap comes from the site, but it is parsed as if from an enemy: no document type, no entities, no more than so many
bytes however well they compress, and every address passes the same detectors as a visitor's.
"""

import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from xml.parsers import expat

from anonproxy.anonymize.detectors import detect
from anonproxy.anonymize.path import parse_path

# The protocol allows a file 50 MiB and 50,000 addresses (https://www.sitemaps.org/protocol.html). A town library's file
# has 100 kB; what follows after 16 MiB is not looked at.
MAX_BYTES: Final = 16 << 20
MAX_ADDRESSES: Final = 50_000
MAX_CHILDREN: Final = 50  # sitemaps below an index
MAX_PATHS: Final = 1000  # as many as a site may have routes of its own

REASONS: Final = ("doctype", "malformed", "oversized", "over_limit", "other_host", "not_a_page", "detected")

_GZIP: Final = b"\x1f\x8b"
_CHUNK_BYTES: Final = 65_536
_MAX_ADDRESS_CHARS: Final = 2048  # https://www.sitemaps.org/protocol.html, <loc>


class Sitemap(NamedTuple):
    """What a sitemap says."""

    paths: tuple[str, ...]  # pages, those nearest to the front page first
    children: tuple[str, ...]  # further sitemaps of the site: path and query, to be fetched from it
    ignored: dict[str, int]  # how often for which of REASONS


class _RefusedError(Exception):
    """A document that is not read any further; the argument is the reason."""


def parse_sitemap(content: bytes, hosts: Collection[str] = ()) -> Sitemap:
    """Read a sitemap or an index of sitemaps, plain or gzipped; what is broken ends there and is counted.

    Shape:   `hosts` as in the settings of a site; empty or `*` for any
    Reveals: nothing about a visitor
    Source:  https://www.sitemaps.org/protocol.html
    """
    ignored: Counter[str] = Counter()
    reader = _Reader()
    try:
        for chunk in _inflate(content):
            reader.feed(chunk)
        reader.finish()
    except (expat.ExpatError, zlib.error, UnicodeError, LookupError):
        ignored["malformed"] += 1
    except _RefusedError as refused:
        ignored[str(refused)] += 1
    targets = _select_targets(reader.pages, hosts, ignored)
    pages = dict.fromkeys(filter(None, (_clean_page(target, ignored) for target in targets)))
    nearest = sorted(pages, key=lambda path: path.count("/"))
    children = list(dict.fromkeys(_select_targets(reader.children, hosts, ignored)))
    ignored["over_limit"] += max(0, len(nearest) - MAX_PATHS) + max(0, len(children) - MAX_CHILDREN)
    return Sitemap(tuple(nearest[:MAX_PATHS]), tuple(children[:MAX_CHILDREN]), dict(+ignored))


class _Reader:
    """Collects what stands in <url><loc> and in <sitemap><loc>, whatever the namespaces."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.children: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._collect
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_doctype

    def feed(self, chunk: bytes) -> None:
        self._parser.Parse(chunk, False)

    def finish(self) -> None:
        self._parser.Parse(b"", True)

    def _start(self, name: str, attributes: object) -> None:
        self._open.append(name.rpartition(" ")[2])
        self._text.clear()
        if len(self._open) > 8:
            raise _RefusedError("malformed")

    def _collect(self, text: str) -> None:
        if self._open[-1:] == ["loc"]:
            self._text.append(text)

    def _end(self, name: str) -> None:
        match self._open[-2:]:
            case ["url", "loc"]:
                self.pages.append("".join(self._text).strip())
            case ["sitemap", "loc"]:
                self.children.append("".join(self._text).strip())
        self._open.pop()
        self._text.clear()
        if len(self.pages) + len(self.children) >= MAX_ADDRESSES:
            raise _RefusedError("oversized")

    def _refuse_doctype(self, *_declaration: object) -> None:
        raise _RefusedError("doctype")


def _inflate(content: bytes) -> Iterator[bytes]:
    """Give the document in pieces, and no more of it than MAX_BYTES."""
    if not content.startswith(_GZIP):
        for start in range(0, min(len(content), MAX_BYTES), _CHUNK_BYTES):
            yield content[start : start + _CHUNK_BYTES]
        if len(content) > MAX_BYTES:
            raise _RefusedError("oversized")
        return
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    given_bytes = 0
    while not inflater.eof:
        chunk = inflater.decompress(content, _CHUNK_BYTES)
        content = inflater.unconsumed_tail
        if not chunk and not content:
            raise zlib.error("truncated")
        yield chunk
        given_bytes += len(chunk)
        if given_bytes > MAX_BYTES:
            raise _RefusedError("oversized")


def _select_targets(addresses: Iterable[str], hosts: Collection[str], ignored: Counter[str]) -> list[str]:
    """Keep path and query of the addresses that belong to the site."""
    targets = [_select_target(address, hosts) for address in addresses]
    ignored["other_host"] += targets.count("")
    return [target for target in targets if target]


def _select_target(address: str, hosts: Collection[str]) -> str:
    """Return path and query of an address of the site, "" for any other."""
    try:
        parts = urlsplit(address[:_MAX_ADDRESS_CHARS])
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not host or not _is_own(host, hosts):
        return ""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _is_own(host: str, hosts: Collection[str]) -> bool:
    if not hosts or "*" in hosts:
        return True
    return host in hosts or any(own.startswith("*.") and host.endswith(own[1:]) for own in hosts)


def _clean_page(target: str, ignored: Counter[str]) -> str:
    """Return the path of a page, "" and a reason for what may not become a route."""
    path = parse_path(target)
    if path is None or path.flaw:
        ignored["not_a_page"] += 1
        return ""
    if detect(path.text):
        ignored["detected"] += 1
        return ""
    return path.text
