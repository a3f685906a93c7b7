"""The pages speak three languages, whole, and write numbers and dates as each does."""

import re
from datetime import UTC, date, datetime
from importlib.resources import files
from string import Formatter

import pytest

from anonproxy.model import vocabularies
from anonproxy.reports.run import FILTERS, LABELS, definitions
from anonproxy.web.panels import PANELS
from anonproxy.web.words import LANGUAGES, choose_language, read_words

ENGLISH = read_words("en").messages
# Texts that are whole sentences or paragraphs of a page, where a few tags are welcome.
MAY_HAVE_TAGS = re.compile(r"live\.off_text|board\.kept_text")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_language_lacks_a_text(language: str) -> None:
    """Each language has the keys of the first, fills in the same values, and none is empty."""
    messages = read_words(language).messages
    assert messages.keys() == ENGLISH.keys()
    for key, text in messages.items():
        assert text, key
        assert names(text) == names(ENGLISH[key]), key


def names(text: str) -> set[str]:
    """Return the names of the values that a text takes."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_safe_in_attributes(language: str) -> None:
    """No text ends an attribute; only a few hold tags."""
    for key, text in read_words(language).messages.items():
        assert '"' not in text, key
        assert MAY_HAVE_TAGS.fullmatch(key) or not set("<>") & set(text), key


def test_no_text_is_without_use() -> None:
    """Every key is used by a template or a module, by itself or as one of a family."""
    room = files("anonproxy.web")
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in (room, room / "templates")
        for path in folder.iterdir()
        if path.name.endswith((".py", ".html"))
    )
    exact = set(re.findall(r'"([a-z_]+\.[a-z_0-9]+)"', code))
    families = set(re.findall(r'"([a-z_]+\.(?:title_)?)" ~', code)) | set(re.findall(r'f"([a-z_]+\.)\{', code))
    for key in ENGLISH:
        plain = re.sub(r"\.(one|other)$", "", key)
        assert plain in exact or key in exact or any(key.startswith(family) for family in families), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_everything_that_is_shown_has_a_name(language: str) -> None:
    """No report, column, filter or value of ours is without a word in any language."""
    messages = read_words(language).messages
    for definition in definitions():
        assert {f"report.{definition.name}", f"about.{definition.name}"} <= messages.keys()
    columns = {*LABELS, *FILTERS, *(panel.label for panel in PANELS.values())}
    assert {f"column.{name}" for name in columns} <= messages.keys()
    lists = {
        "kind": vocabularies.KINDS, "channel": vocabularies.CHANNELS, "device": vocabularies.DEVICES,
        "bot": [bot for bot in vocabularies.BOTS if bot], "country": ["??"],
    }  # fmt: skip
    for dimension, values in lists.items():
        assert {f"value.{dimension}.{value}" for value in values} <= messages.keys()
    privacy = next(definition.sql for definition in definitions() if definition.name == "privacy")
    hidden = re.findall(r"'([^']+: [^']+)'", privacy)
    assert hidden
    assert {f"value.hidden.{reason}" for reason in hidden} <= messages.keys()


FIGURES = {
    "en": ("12,345", "3.6", "12%", "3.4%", "United States", "Nov 21", "1 min 51 s", "1.5 GB", "7:00 PM"),
    "de": ("12.345", "3,6", "12 %", "3,4 %", "Vereinigte Staaten", "21. Nov.", "1 min 51 s", "1,5 GB", "19:00"),
    "es": ("12.345", "3,6", "12 %", "3,4 %", "Estados Unidos", "21 nov", "1 min 51 s", "1,5 GB", "19:00"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures_are_written_as_readers_write_them(language: str) -> None:
    """Numbers, shares, countries, days, times and sizes follow the language."""
    words = read_words(language)
    written = (
        words.number(12_345), words.number(3.62, 1), words.percent(0.123), words.percent(0.0342),
        words.value("country", "US"), words.short_day(date(2026, 11, 21)), words.duration(111), words.size(1.5e9),
        words.hour(datetime(2026, 11, 21, 19, tzinfo=UTC)),
    )  # fmt: skip
    assert tuple(re.sub(r"\s", " ", text) for text in written) == FIGURES[language]


def test_changes_have_a_sign() -> None:
    """A change says up or down, and a very large one how many times."""
    words = read_words("en")
    assert [words.change(share) for share in (0.123, -0.5, 0, 0.001, 11)] == ["+12%", "\u221250%", "0%", "0%", "× 12"]


def test_waits_are_spans() -> None:
    """A bucket of response times is named by both its ends, the last by the one that it has."""
    words = read_words("en")
    assert [words.wait(ms) for ms in (0, 100, 1_000, 30_000)] == ["0–10 ms", "100–250 ms", "1–2.5 s", "≥ 30 s"]


SPANS = {
    (date(2026, 11, 21), date(2026, 11, 21)): "November 21, 2026",
    (date(2026, 11, 1), date(2026, 11, 30)): "November 2026",
    (date(2026, 1, 1), date(2026, 12, 31)): "2026",
    (date(2026, 10, 23), date(2026, 11, 21)): "Oct 23 – Nov 21, 2026",
    (date(2025, 12, 1), date(2026, 11, 21)): "Dec 1, 2025 – Nov 21, 2026",
    (date(2026, 11, 1), date(2026, 12, 31)): "Nov 1 – Dec 31, 2026",
}


@pytest.mark.parametrize("span", SPANS)
def test_periods_are_said_as_shortly_as_they_can_be(span: tuple[date, date]) -> None:
    """A day, a month and a year have names; what has none is said from when to when."""
    assert re.sub(r"\s", " ", read_words("en").span(*span)) == SPANS[span]


def test_texts_count_in_their_language() -> None:
    """One is singular; values are escaped."""
    words = read_words("en")
    assert words("summary.robots", n=1).startswith("One request")
    assert words("summary.robots", n=1234).startswith("1,234 requests")
    assert "&lt;b&gt;" in words("filter.remove", column="Page", value="<b>")


@pytest.mark.parametrize(
    ("accepted", "chosen", "language"),
    [
        ("", None, "en"),
        ("de-AT,de;q=0.9,en;q=0.5", None, "de"),
        ("fr;q=0.9,es;q=0.8,de;q=0.85", None, "de"),
        ("en;q=0.1,es", None, "es"),
        ("de", "es", "es"),
        ("de", "xx", "de"),
        ("*;q=x,,;;", None, "en"),
        ("fr", None, "en"),
    ],
)
def test_the_language_is_the_readers(accepted: str, chosen: str | None, language: str) -> None:
    """What was chosen counts first, then what the browser likes best, then English."""
    assert choose_language(accepted, chosen) == language
