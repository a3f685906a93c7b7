"""The proxy's own pages."""

from pathlib import Path

import pytest

from anonproxy.model.errors import OperatorError
from anonproxy.proxy.pages import MAX_OWN_BYTES, OWN_NAMES, STATUSES, Pages, read_own_pages
from tests.proxy.conftest import HOST, Serving, make_settings, split_response
from tests.support.ports import free_port

PLAIN = Pages({}, retry_after_s=7)
OWN = "<h1>Zurück in einer Minute</h1> {title} {{ 7 * 7 }} <?php echo 1 ?>"


@pytest.mark.parametrize("status", STATUSES)
def test_pages_are_whole_responses(status: int) -> None:
    """Each page says its status and length, isn't cached, and ends the connection; HEAD gets the same without body."""
    got, head, body = split_response(PLAIN.render(status))
    assert got == status
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Cache-Control: no-store" in head
    assert b"Connection: close" in head
    assert (b"Retry-After: 7" in head) == (status == 429)
    assert PLAIN.render(status, has_body=False) == head + b"\r\n\r\n"


@pytest.mark.parametrize("status", STATUSES)
def test_pages_name_nobody(status: int) -> None:
    """No page names our software, an address or a cause."""
    assert not any(word in PLAIN.body(status).lower() for word in (b"mitm", b"anonproxy", b"127.", b"error:"))


@pytest.mark.parametrize(
    ("names", "own"),
    [
        ((), ()),
        (("502",), (502,)),
        (("error",), tuple(status for status in STATUSES if status >= 400)),
        (("502", "error"), tuple(status for status in STATUSES if status >= 400)),
    ],
)
def test_own_pages_stand_in_for_ours(names: tuple[str, ...], own: tuple[int, ...]) -> None:
    """An operator's page is sent for its status, `error` for every error without one, nothing for redirects."""
    pages = Pages({name: f"mine: {name}" for name in names}, 1)
    assert tuple(status for status in STATUSES if b"mine" in pages.body(status)) == own
    if "502" in names:
        assert pages.body(502) == b"mine: 502"


def test_own_page_is_sent_as_it_is(tmp_path: Path) -> None:
    """A visitor gets the bytes of the file, with our status and headers; nothing in it is carried out."""
    (tmp_path / "502.html").write_text(OWN, "utf-8")
    (tmp_path / "logo.svg").write_bytes(b"\xff is none of our business")
    own = read_own_pages(str(tmp_path))
    with Serving(make_settings(free_port()), own_pages=own) as serving:
        status, head, body = serving.get("/")
        assert (status, body) == (502, OWN.encode())
        assert f"Content-Length: {len(OWN.encode())}".encode() in head
        assert serving.get("/", host="unknown.example.org")[0] == 421
    assert HOST.encode() not in body


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("404.html", b"x", "404.html is never shown. The names of pages are 400.html"),
        ("index.html", b"x", "index.html is never shown"),
        ("502.html", b"", "502.html is empty, or larger than 64 KiB"),
        ("502.html", bytes(MAX_OWN_BYTES + 1), "502.html is empty, or larger than 64 KiB"),
        ("502.html", b"\xff\xfe", "502.html is not UTF-8"),
        ("readme.txt", b"x", "there is no page in the folder"),
    ],
    ids=lambda value: str(value)[:16],
)
def test_pages_that_cant_be_shown_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """A file that would never be shown, or isn't a page, is refused by name, with what would be right."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OperatorError, match=r"proxy\.error_pages: ") as refused:
        read_own_pages(str(tmp_path))
    assert words in str(refused.value)


def test_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    """A folder that can't be read is an error with a remedy; none at all is fine."""
    with pytest.raises(OperatorError, match="Check path, owner and mode"):
        read_own_pages(str(tmp_path / "missing"))
    assert read_own_pages("") == {}


def test_every_mistake_is_named(tmp_path: Path) -> None:
    """All mistakes are said at once."""
    for name in ("1.html", "2.html"):
        (tmp_path / name).write_text("x")
    with pytest.raises(OperatorError) as refused:
        read_own_pages(str(tmp_path))
    assert str(refused.value).count("proxy.error_pages: ") == 2
    assert all(f"{name}.html" in str(refused.value) for name in OWN_NAMES)
