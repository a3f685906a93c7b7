"""The page that an auditor signs holds all that they must have seen, and nothing that it would load or run."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from anonproxy.audit.checks import CHECKS
from anonproxy.audit.specimen import NOW, SEALED, change_rows, write_specimen
from anonproxy.cli.audit import command


class Page(HTMLParser):
    """The words and the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.tags = "", list[tuple[str, dict[str, str | None]]]()
        self.feed(text)
        self.words = " ".join(self.words.split())

    def handle_data(self, data: str) -> None:
        """Gather the words."""
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Gather the tags."""
        self.words += " "
        self.tags.append((tag, dict(attrs)))

    def find(self, tag: str) -> list[dict[str, str | None]]:
        """Give the attributes of each tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, Page]]:
    """Return the pages of a clean store and of one with a leak, with the status of the command."""
    folder = tmp_path_factory.mktemp("pages")
    write_specimen(folder / "clean")
    shutil.copytree(folder / "clean", folder / "leaking <b>")
    change_rows(folder / "leaking <b>", SEALED, lambda rows: rows[0].update(route="/patron/jane-doe"))
    made: dict[str, tuple[int, Page]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anonproxy.cli.audit.now", lambda: float(NOW))
        for store in ("clean", "leaking <b>"):
            page = folder / f"{len(made)}.html"
            arguments = ["--store", str(folder / store), "--policy", "greenwich", "--html", str(page)]
            status = CliRunner().invoke(command, arguments).exit_code
            made[store.partition(" ")[0]] = (status, Page(page.read_text(encoding="utf-8")))
    return made


def test_page_tells_a_clean_store(pages: dict[str, tuple[int, Page]]) -> None:
    """Claims, ways of looking, figures, controls, limits, clauses, the head of the ledger, and a place to sign."""
    _, page = pages["clean"]
    for check in CHECKS:
        assert check.claim in page.words
        assert check.how in page.words
    assert "stand alone by time" in page.words
    assert f"{len(CHECKS)} of {len(CHECKS)}" in page.words
    assert "Visit numbers are kept for at most 48 hours" in page.words
    assert "The policy of Greenwich Library" in page.words
    assert "GR-1" in page.words
    assert "verified with the public key that lies in the store" in page.words
    assert "`" not in page.words
    assert page.words.count("✗") == 0
    assert "Name and function" in page.words


def test_page_tells_a_leak_and_does_not_repeat_it(pages: dict[str, tuple[int, Page]]) -> None:
    """What is wrong stands at the top, and with its place, never with what was found there."""
    status, page = pages["leaking"]
    assert status == 1
    assert "Something is wrong" in page.words
    assert f"Found: {SEALED}, route of row" in page.words
    assert "Broken:" in page.words
    assert "jane" not in page.words
    assert page.find("b") == []


@pytest.mark.parametrize("store", ["clean", "leaking"])
def test_page_stands_by_itself(pages: dict[str, tuple[int, Page]], store: str) -> None:
    """Nothing runs, nothing is loaded; a screen reader finds language, title, headings, captions and scopes."""
    _, page = pages[store]
    assert not {"script", "link", "img", "iframe", "form", "object"} & {tag for tag, _ in page.tags}
    assert not any({"src", "href", "onclick", "style"} & attributes.keys() for _, attributes in page.tags)
    assert page.find("html") == [{"lang": "en"}]
    assert len(page.find("h1")) == len(page.find("title")) == len(page.find("main")) == 1
    assert len(page.find("table")) == len(page.find("caption")) == 2
    assert all(attributes.get("scope") in {"row", "col"} for attributes in page.find("th"))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes} <= ids


def test_page_fits_any_paper(pages: dict[str, tuple[int, Page]]) -> None:
    """Paper is Letter in one country and A4 in another; each sheet says of which audit it is, and which of how many."""
    _, page = pages["clean"]
    (rule,) = re.findall(r"@page {.*?} }", page.words)
    assert "size" not in rule
    assert "Audit of a visitor log, 21 November 2026, 15:20 UTC" in rule
    assert "counter(pages)" in rule


def test_page_that_can_not_be_written_is_the_operators_error(tmp_path: Path) -> None:
    """A file that can't be written is said to be so."""
    write_specimen(tmp_path / "store")
    arguments = ["--store", str(tmp_path / "store"), "--html", str(tmp_path / "nowhere" / "page.html")]
    error = CliRunner().invoke(command, arguments).exception
    assert "Name another file" in str(error)
