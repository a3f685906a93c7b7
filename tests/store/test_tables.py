"""Tests of the bytes."""

import io
from contextlib import suppress
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.audit.parquet_pages import parse_parquet
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.store.tables import BrokenFile, build_table, read_rows, render_parquet, verify_footer
from tests.store.examples import hit, random_hits

ROWS = random_hits(Random(1), 500)


@given(st.integers(0, 2**32))
def test_the_same_rows_give_the_same_bytes(seed: int) -> None:
    """The order in which rows arrived leaves no trace."""
    shuffled = Random(seed).sample(ROWS, len(ROWS))
    assert render_parquet(build_table(shuffled), "hot") == render_parquet(build_table(ROWS), "hot")


def test_pieces_of_memory_leave_no_trace() -> None:
    """A table that was put together from many has the bytes of one that was made at once."""
    pieces = pa.concat_tables([build_table(ROWS[start : start + 7]) for start in range(0, len(ROWS), 7)])
    assert render_parquet(pieces, "hot") == render_parquet(build_table(ROWS), "hot")


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    """Nothing is lost or changed but the order."""
    path = tmp_path / "rows.parquet"
    path.write_bytes(render_parquet(build_table(ROWS), "hot"))
    rows = read_rows(path, "hot").to_pylist()
    expected = build_table(ROWS).to_pylist()
    assert sorted(rows, key=repr) == sorted(expected, key=repr)


def test_a_file_holds_rows_and_nothing_else() -> None:
    """One row group; dictionaries of used values; minima only of public lists; three fixed keys; no gap."""
    table = build_table([*ROWS[:50], hit(route="/events")])
    file = parse_parquet(render_parquet(table, "hot"))
    assert len(file.row_groups) == 1
    assert file.slack() == ()
    assert [key for key, _ in file.metadata] == [b"anonproxy.schema", b"anonproxy.version", b"anonproxy.tier"]
    enumerated = {column.name for column in HIT_COLUMNS if column.world == "enumerated"}
    for column in file.row_groups[0].columns:
        assert (column.statistics is not None) == (column.path in enumerated)
        pages = list(file.pages(column))
        dictionary = [value for page in pages if page.kind == "dictionary" for value in page.values]
        values = {value for page in pages if page.kind == "data" for value in page.values}
        assert set(dictionary) <= values
        assert len(set(dictionary)) == len(dictionary)


def test_unused_values_of_a_dictionary_are_not_written() -> None:
    """A column that pyarrow holds as a dictionary is written as plain strings."""
    table = build_table([hit(), hit(route="/secret")])
    encoded = table.set_column(3, "route", table["route"].dictionary_encode())
    assert b"secret" not in render_parquet(encoded.slice(0, 1), "hot")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 50 + b"PAR1", b"not parquet at all"])
def test_what_isnt_ours_is_broken(tmp_path: Path, data: bytes) -> None:
    """Bytes of any kind are answered with one error."""
    path = tmp_path / "rows.parquet"
    path.write_bytes(data)
    for read in (lambda: read_rows(path, "hot"), lambda: verify_footer(path)):
        with pytest.raises(BrokenFile):
            read()


@given(st.data())
def test_a_damaged_file_never_gets_through_as_another_error(data: st.DataObject) -> None:
    """Cut short or with a flipped byte, a file is read or broken; there is no third."""
    whole = bytearray(render_parquet(build_table(ROWS[:20]), "hot"))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[at] ^= data.draw(st.integers(1, 255))
    else:
        del whole[at:]
    with suppress(BrokenFile):
        read_rows(_Bytes(bytes(whole)), "hot")


class _Bytes(Path):
    """A path that has its bytes in memory, since hypothesis writes thousands of files otherwise."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def read_bytes(self) -> bytes:
        return self._data


def test_parquet_of_others_is_broken() -> None:
    """A file without our schema version is not taken for ours."""
    target = io.BytesIO()
    pq.write_table(build_table(ROWS[:3]), target)
    with pytest.raises(BrokenFile):
        read_rows(_Bytes(target.getvalue()), "hot")
