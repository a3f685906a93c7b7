"""Columns as numbers say what the columns say."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.model.coded import CODED_TEXT, Coded, encode, filter_all, join, repeat

TEXTS = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "é"])), max_size=12)
ROWS = st.lists(st.tuples(*(st.sampled_from("abc") for _ in range(3)), st.booleans()), max_size=12)


@given(TEXTS)
def test_encoding_keeps_every_value(texts: list[str | None]) -> None:
    """Nulls included; and so does an encoded column, in several pieces as well."""
    coded = encode(pa.array(texts, pa.string()))
    assert list(coded.rows()) == texts
    assert len(set(coded.values)) == len(coded.values)
    for type_ in (pa.string(), CODED_TEXT):
        assert coded.gather(type_).to_pylist() == texts
    pieces = [pa.array(texts, pa.string()).dictionary_encode(), pa.array(["z", None]).dictionary_encode()]
    assert list(encode(pa.chunked_array(pieces)).rows()) == [*texts, "z", None]


@given(ROWS)
def test_joining_and_filtering_keep_rows_together(rows: list[tuple[Any, ...]]) -> None:
    """Whether columns share their numbers or not, and whatever the order they are asked for in."""
    first, second, third = (encode(pa.array([row[place] for row in rows], pa.string())) for place in range(3))
    columns = {
        "first": first,
        "upper": first.map(str.upper),
        "second": second,
        "third": third,
        "same": repeat(1, len(rows)),
    }
    for names in (
        ("first", "upper"),
        ("second", "first", "upper"),
        ("first", "second", "upper", "third"),
        ("same", "third"),
    ):
        joined = join([columns[name] for name in names])
        assert list(joined.rows()) == list(zip(*(columns[name].rows() for name in names), strict=True))
        assert list(joined.narrow().rows()) == list(joined.rows())
    mask = pa.array([row[3] for row in rows], pa.bool_())
    for name, column in filter_all(columns, mask).items():
        assert list(column.rows()) == [value for value, row in zip(columns[name].rows(), rows, strict=True) if row[3]]
        assert set(column.values) == set(column.rows())


def test_a_question_is_asked_once_for_each_value() -> None:
    """However many rows there are."""
    asked: list[str] = []

    def answer(value: str) -> str:
        asked.append(value)
        return value.upper()

    answered = encode(pa.array(["a", "b"] * 50)).map(answer)
    assert asked == ["a", "b"]
    assert list(answered.rows()) == ["A", "B"] * 50


@pytest.mark.parametrize(("values", "numbers"), [(["x", "x"], 1), (["x", "y"], 2), (["x", None], 2)])
def test_narrowing_gives_equal_values_one_number(values: list[str | None], numbers: int) -> None:
    """So that what is laid beside it has few combinations."""
    narrow = Coded(pa.array([0, 1, 1], pa.int64()), values).narrow()
    assert len(narrow.values) == numbers
    assert list(narrow.rows()) == [values[0], values[1], values[1]]
    assert narrow.where(lambda value: value == "x").to_pylist() == [value == "x" for value in narrow.rows()]
