"""The first language of a browser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.language import parse_language
from anonproxy.model.vocabularies import LANGUAGES

DEFAULT = frozenset(LANGUAGES)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("en-US,en;q=0.9", "en"),
        ("EN", "en"),
        ("es-419", "es"),
        ("zh-Hant-TW, zh;q=0.8, en;q=0.5", "zh"),
        ("en;q=0.5, es;q=0.9", "es"),
        ("fr;q=0.8, de;q=0.8", "fr"),
        ("da, en;q=0.9", "other"),
        ("fil-PH,en;q=0.5", "tl"),
        ("yue-HK", "zh"),
        ("in", "id"),
        ("pt_BR", "pt"),
        ("en ; q = 0.3", "other"),
        ("en ; q=0.3 , ko ; q=0.4", "ko"),
        ("*", "other"),
        ("*;q=0.5, it;q=0.2", "it"),
        ("en;q=0", "other"),
        ("en;q=2, es;q=0.1", "es"),
        ("en;q=1.000", "en"),
        ("x-klingon", "other"),
        ("i-default", "other"),
        ("english", "other"),
        ("", "other"),
        (",,;;q=", "other"),
        ("en\x00", "other"),
        ("ｅｎ", "other"),
        ("\udcff\udcfe", "other"),
        ("en-" + "a" * 100_000, "other"),
        (",".join(["xx;q=0.1"] * 50_000), "other"),
    ],
)
def test_takes_the_heaviest(header: str, language: str) -> None:
    """The primary subtag of the highest weight counts if it is configured; whatever can't be read is `other`."""
    assert parse_language(header, DEFAULT) == language


def test_follows_the_configuration() -> None:
    """A language is told apart only where the configuration names it."""
    assert parse_language("da, en;q=0.9", frozenset({"da"})) == "da"
    assert parse_language("en", frozenset({"da"})) == "other"


@given(st.one_of(st.text(), st.text(alphabet="enzhfr-_;q=01.,* ", max_size=80)))
def test_never_leaves_the_list(header: str) -> None:
    """Whatever comes, the answer is a configured language or `other`."""
    assert parse_language(header, DEFAULT) in DEFAULT | {"other"}


@given(st.sampled_from(LANGUAGES), st.lists(st.sampled_from(["da", "nl", "ga", "cy", "eu"]), max_size=5))
def test_forgets_the_rest(first: str, rest: list[str]) -> None:
    """What stands behind the first language changes nothing: the list as a whole is close to a fingerprint."""
    header = ",".join([first, *(f"{language};q=0.{9 - place}" for place, language in enumerate(rest))])
    assert parse_language(header, DEFAULT) == first
