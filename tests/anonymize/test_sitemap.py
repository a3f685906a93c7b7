import gzip
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.sitemap import (
    MAX_ADDRESSES,
    MAX_BYTES,
    MAX_CHILDREN,
    MAX_PATHS,
    REASONS,
    Sitemap,
    parse_sitemap,
)

NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
HOSTS = ("www.example.org",)


def urlset(*addresses: str) -> bytes:
    """Write a sitemap of pages."""
    urls = "".join(f"<url><loc>{address}</loc><lastmod>2026-10-31</lastmod></url>" for address in addresses)
    return f'<?xml version="1.0" encoding="UTF-8"?><urlset {NAMESPACE}>{urls}</urlset>'.encode()


def index(*addresses: str) -> bytes:
    """Write an index of sitemaps."""
    sitemaps = "".join(f"<sitemap><loc>{address}</loc></sitemap>" for address in addresses)
    return f"<sitemapindex {NAMESPACE}>{sitemaps}</sitemapindex>".encode()


def test_the_pages_of_a_site() -> None:
    """Paths come out clean, without doubles, those nearest to the front page first; the rest is counted by reason."""
    content = urlset(
        "https://www.example.org/about/board/minutes",
        "https://www.example.org/about/",
        "https://www.example.org/about?utm_source=x",
        "https://www.example.org",
        "http://WWW.EXAMPLE.ORG:8080/caf%C3%A9",
        "https://www.example.org/a&amp;b",
        "https://www.example.org/card/21234000123456",
        "https://elsewhere.example/about",
        "/relative",
        "ftp://www.example.org/file",
        "https://[broken/",
    )
    assert parse_sitemap(content, HOSTS) == Sitemap(
        ("/about", "/", "/café", "/about/board/minutes"), (), {"other_host": 4, "not_a_page": 1, "detected": 1}
    )


def test_an_index_names_further_sitemaps() -> None:
    """Children come out as path and query, those of other hosts don't."""
    content = index(
        "https://www.example.org/page-sitemap.xml",
        "https://www.example.org/sitemap.xml?page=2",
        "https://elsewhere.example/sitemap.xml",
    )
    expected = Sitemap((), ("/page-sitemap.xml", "/sitemap.xml?page=2"), {"other_host": 1})
    assert parse_sitemap(content, HOSTS) == expected


@pytest.mark.parametrize(
    ("hosts", "is_taken"),
    [
        ((), True),
        (("*",), True),
        (("www.example.org",), True),
        (("*.example.org",), True),
        (("example.org",), False),
        (("*.www.example.org",), False),
        (("ample.org", "*ample.org"), False),
    ],
)
def test_whose_pages(hosts: tuple[str, ...], is_taken: bool) -> None:
    """A page belongs to the site if its host does, wildcards included."""
    assert bool(parse_sitemap(urlset("https://www.example.org/about"), hosts).paths) is is_taken


def test_images_and_alternates_are_no_pages() -> None:
    """Only the address of the page itself counts, not those of its pictures and translations."""
    content = b"""<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:i="http://example.org/image">
    <url><loc>
      https://www.example.org/about
    </loc><i:image><i:loc>https://www.example.org/x.png</i:loc></i:image></url></urlset>"""
    assert parse_sitemap(content, HOSTS).paths == ("/about",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_encodings(encoding: str) -> None:
    """A sitemap may be in any encoding that it declares."""
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + urlset("https://www.example.org/café").decode()[38:]
    assert parse_sitemap(text.encode(encoding), HOSTS).paths == ("/café",)


def test_gzip() -> None:
    """A gzipped sitemap says the same as a plain one; a truncated one what it has, and that it is broken."""
    content = urlset("https://www.example.org/about", "https://www.example.org/hours")
    packed = gzip.compress(content)
    assert parse_sitemap(packed, HOSTS) == parse_sitemap(content, HOSTS)
    assert parse_sitemap(packed[:-10], HOSTS) == Sitemap(("/about", "/hours"), (), {"malformed": 1})
    assert parse_sitemap(packed[:12], HOSTS).ignored == {"malformed": 1}


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "billion laughs": (
        f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]><urlset><url><loc>&l9;</loc></url></urlset>',
        "doctype",
    ),
    "external entity": ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><urlset>&e;</urlset>', "doctype"),
    "external DTD": ('<!DOCTYPE urlset SYSTEM "http://example.org/x.dtd"><urlset/>', "doctype"),
    "parameter entity": ('<!DOCTYPE x [<!ENTITY % e "y"> %e;]><urlset/>', "doctype"),
    "unknown entity": ("<urlset><url><loc>&e;</loc></url></urlset>", "malformed"),
    "not closed": ("<urlset><url><loc>x", "malformed"),
    "deep": ("<a>" * 100_000, "malformed"),
    "HTML": ("<!doctype html><html><body>Not found</body></html>", "malformed"),
    "text": ("https://www.example.org/about\n", "malformed"),
    "nothing": ("", "malformed"),
    "unknown encoding": ('<?xml version="1.0" encoding="klingon"?><urlset/>', "malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents(name: str) -> None:
    """Document types, entities and rubbish are not read, and not expanded."""
    text, reason = HOSTILE[name]
    start_s = time.process_time()
    for content in (text.encode(), gzip.compress(text.encode())):
        assert parse_sitemap(content, HOSTS) == Sitemap((), (), {reason: 1})
    assert time.process_time() - start_s < 1


def test_what_is_read_before_the_mistake_stays() -> None:
    """A mistake ends the reading; the pages before it are the site's all the same."""
    content = urlset("https://www.example.org/about").replace(b"</urlset>", b"<url><loc>https://www.example.org/a & b")
    assert parse_sitemap(content, HOSTS) == Sitemap(("/about",), (), {"malformed": 1})


def test_a_bomb_is_not_unpacked() -> None:
    """Of 200 MB in 200 kB no more than the limit is looked at, in little memory."""
    bomb = gzip.compress(b"<urlset>" + b" " * (200 << 20), compresslevel=1)
    tracemalloc.start()
    found = parse_sitemap(bomb, HOSTS)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == Sitemap((), (), {"oversized": 1})
    assert peak_bytes < 8 << 20


def test_large_plain_files_are_cut() -> None:
    """What stands after the limit of bytes is not looked at."""
    early, late = urlset("https://www.example.org/early"), urlset("https://www.example.org/late")
    content = early.removesuffix(b"</urlset>") + b" " * MAX_BYTES + late[late.index(b"<url>") :]
    assert parse_sitemap(content, HOSTS) == Sitemap(("/early",), (), {"oversized": 1})


def test_limits() -> None:
    """More pages, children and addresses than the limits are counted."""
    pages = parse_sitemap(urlset(*(f"https://www.example.org/page-{n}" for n in range(MAX_PATHS + 7))), HOSTS)
    assert (len(pages.paths), pages.ignored) == (MAX_PATHS, {"over_limit": 7})
    children = parse_sitemap(index(*(f"https://www.example.org/{n}.xml" for n in range(MAX_CHILDREN + 3))), HOSTS)
    assert (len(children.children), children.ignored) == (MAX_CHILDREN, {"over_limit": 3})
    same = parse_sitemap(urlset(*["https://www.example.org/about"] * MAX_ADDRESSES), HOSTS)
    assert same == Sitemap(("/about",), (), {"oversized": 1})


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_have_an_answer(junk: bytes, cut: int) -> None:
    """Nothing makes the parser raise: rubbish, rubbish in a sitemap, rubbish in gzip; reasons come from the list."""
    content = urlset("https://www.example.org/about", "https://www.example.org/hours")
    broken = content[:cut] + junk + content[cut:]
    packed = gzip.compress(content)
    for raw in (junk, broken, gzip.compress(broken), packed[:cut] + junk + packed[cut:], b"\x1f\x8b" + junk):
        assert set(parse_sitemap(raw, HOSTS).ignored) <= set(REASONS)
