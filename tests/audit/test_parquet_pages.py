"""The page reader agrees with pyarrow about rows, sees what pyarrow hides, and survives hostile files."""

import datetime
import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anonproxy.audit.parquet_pages import (
    MAX_PAGE_BYTES,
    BrokenParquet,
    NotParquet,
    ParquetFile,
    Region,
    parse_parquet,
    read_parquet,
)

COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), st.text(max_size=12) | st.sampled_from(["/events", "/record/{id}"])),
    "raw": (pa.binary(), st.binary(max_size=8)),
    "fixed": (pa.binary(4), st.binary(min_size=4, max_size=4)),
    "flag": (pa.bool_(), st.booleans()),
    "tiny": (pa.uint8(), st.integers(0, 255)),
    "short": (pa.uint16(), st.integers(0, 65535)),
    "number": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "positive": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "size": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "visit": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "time": (pa.timestamp("s", "UTC"), st.integers(0, 2**33)),
}
# What pyarrow writes without a dictionary, where it can write more than PLAIN.
ENCODINGS = {
    "text": ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"],
    "raw": ["PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"],
    "fixed": ["PLAIN", "DELTA_BYTE_ARRAY", "BYTE_STREAM_SPLIT"],
    "flag": ["PLAIN", "RLE"],
    "number": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
    "positive": ["PLAIN", "DELTA_BINARY_PACKED"],
    "size": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
    "visit": ["PLAIN", "DELTA_BINARY_PACKED"],
    "real": ["PLAIN", "BYTE_STREAM_SPLIT"],
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table of a few columns, with nulls or without."""
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4, unique=True))
    count = draw(st.integers(0, 40))
    columns, fields = [], []
    for name in names:
        kind, values = COLUMNS[name]
        nullable = draw(st.booleans())
        cells = draw(st.lists(values | st.none() if nullable else values, min_size=count, max_size=count))
        columns.append(pa.array(cells * draw(st.sampled_from([1, 1, 30])), kind))
        fields.append(pa.field(name, kind, nullable=nullable))
    length = min(len(column) for column in columns)
    return pa.table([column[:length] for column in columns], schema=pa.schema(fields))


@st.composite
def write_options(draw: st.DrawFn) -> dict[str, Any]:
    """Draw one of the ways in which pyarrow can write a table."""
    dictionary = draw(st.booleans())
    encodings = {name: draw(st.sampled_from(choices)) for name, choices in ENCODINGS.items()}
    return {
        "compression": draw(st.sampled_from(["none", "zstd", "snappy", "gzip", "brotli", "lz4"])),
        "use_dictionary": dictionary,
        "column_encoding": None if dictionary else encodings,
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "row_group_size": draw(st.sampled_from([7, 1000])),
        "data_page_size": draw(st.sampled_from([64, 1 << 20])),
        "write_page_index": draw(st.booleans()),
        "write_page_checksum": draw(st.booleans()),
    }


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    """Write a table to memory."""
    encodings = options.pop("column_encoding", None)
    if encodings:
        options["column_encoding"] = {name: encodings.get(name, "PLAIN") for name in table.column_names}
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def physical(column: pa.ChunkedArray) -> list[Any]:
    """Give a column's values as they are stored."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
    return [value.encode() if isinstance(value, str) else value for value in column.to_pylist()]


def read_everything(file: ParquetFile) -> None:
    """Touch all that a file has to offer."""
    file.slack()
    for group in file.row_groups:
        for column in group.columns:
            file.column_index(column)
            for page in file.pages(column):
                assert page.values is not None


@given(tables(), write_options())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_are_those_that_pyarrow_reads(table: pa.Table, options: dict[str, Any]) -> None:
    """However pyarrow wrote a flat table, the same values come back, and every byte belongs to something."""
    data = parquet_bytes(table, **options)
    file = parse_parquet(data)
    read = pq.read_table(io.BytesIO(data))
    assert file.row_count == read.num_rows
    assert [element.name for element in file.schema] == read.column_names
    for name in read.column_names:
        assert list(file.rows(name)) == physical(read[name])
    assert file.slack() == ()


def test_the_footer_is_all_there() -> None:
    """Schema, metadata, row groups, codec, encodings, statistics and page index are read as they were written."""
    table = pa.table(
        {
            "route": ["/b", "/a", None],
            "visit": pa.array([1, 2, 2**64 - 1], pa.uint64()),
            "time": pa.array([datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC)] * 3, pa.timestamp("s", "UTC")),
        }
    )
    table = table.replace_schema_metadata({"answer": "42"})
    data = parquet_bytes(table, compression="zstd", row_group_size=2, write_page_index=True)
    file = parse_parquet(data)
    metadata = dict(file.metadata)
    assert metadata[b"answer"] == b"42"
    assert b"ARROW:schema" in metadata
    assert file.created_by.startswith(b"parquet-cpp-arrow")
    assert [group.row_count for group in file.row_groups] == [2, 1]
    route, visit, time = file.row_groups[0].columns
    assert (route.path, route.codec, route.element.type) == ("route", "ZSTD", "BYTE_ARRAY")
    assert "RLE_DICTIONARY" in route.encodings
    assert route.statistics is not None
    assert (route.statistics.minimum, route.statistics.maximum) == (b"/a", b"/b")
    assert visit.element.is_unsigned
    assert (time.element.is_unsigned, time.element.time_unit) == (False, "ms")
    index = file.column_index(route)
    assert index is not None
    assert (index.minima, index.maxima) == ((b"/a",), (b"/b",))
    assert route.offset_index is not None
    with pytest.raises(KeyError):
        list(file.rows("nothing"))


def test_a_dictionary_shows_values_that_no_row_has() -> None:
    """Rows that were filtered out of a dictionary column are still in its dictionary page."""
    column = pa.array(["/public", "/secret"]).dictionary_encode().take(pa.array([0]))
    file = parse_parquet(parquet_bytes(pa.table({"route": column})))
    dictionary, data = file.pages(file.row_groups[0].columns[0])
    assert (dictionary.kind, dictionary.values) == ("dictionary", [b"/public", b"/secret"])
    assert (data.kind, data.values, data.is_dictionary_encoded) == ("data", [b"/public"], True)


def test_page_headers_show_their_statistics() -> None:
    """Minimum and maximum stand in clear in the page header as well, and are read there."""
    data = parquet_bytes(pa.table({"a": ["/b", "/a"]}), compression="zstd", use_dictionary=False)
    file = parse_parquet(data)
    (page,) = file.pages(file.row_groups[0].columns[0])
    assert page.statistics is not None
    assert (page.statistics.minimum, page.statistics.maximum) == (b"/a", b"/b")


def test_a_page_lays_its_bytes_open() -> None:
    """The raw bytes of a page are the decompressed ones."""
    table = pa.table({"a": ["needle" * 9] * 2})
    data = parquet_bytes(table, compression="zstd", use_dictionary=False, write_statistics=False)
    file = parse_parquet(data)
    (page,) = file.pages(file.row_groups[0].columns[0])
    assert page.raw.count(b"needle") == 18
    assert b"needle" * 3 not in file.data[page.region.offset : page.region.end]


def test_bytes_that_belong_to_nothing_are_reported() -> None:
    """Bytes smuggled in between the pages and the footer are slack; all others are accounted for."""
    data = parquet_bytes(pa.table({"a": ["x", "y"]}))
    footer = parse_parquet(data).footer
    stuffed = data[: footer.offset] + b"hidden" + data[footer.offset :]
    assert parse_parquet(stuffed).slack() == (Region(footer.offset, 6),)


def test_bytes_after_the_footers_end_are_slack() -> None:
    """A footer that is declared longer than it is leaves room, and that is reported."""
    data = parquet_bytes(pa.table({"a": ["x", "y"]}))
    footer = parse_parquet(data).footer
    stuffed = data[:-8] + b"hidden" + (footer.length + 6).to_bytes(4, "little") + b"PAR1"
    assert parse_parquet(stuffed).slack() == (Region(footer.end, 6),)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": [[1, 2]]}),
        pa.table({"a": [{"b": 1}]}),
        pa.table({"a": [[("k", 1)]]}, schema=pa.schema([("a", pa.map_(pa.string(), pa.int64()))])),
    ],
    ids=["list", "struct", "map"],
)
def test_nested_schemas_are_refused(table: pa.Table) -> None:
    """Lists, structures and maps are beyond this reader, and it says so."""
    with pytest.raises(BrokenParquet, match="flat"):
        parse_parquet(parquet_bytes(table))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1PAR1", b"GIF89a" * 9, b"PAR1" + bytes(9) + b"PAR2"])
def test_what_is_not_parquet_is_called_so(data: bytes) -> None:
    """Without the magic at both ends it isn't Parquet."""
    with pytest.raises(NotParquet):
        parse_parquet(data)


def test_encrypted_files_are_refused() -> None:
    """A file with an encrypted footer can't be checked."""
    with pytest.raises(BrokenParquet, match="encrypted"):
        parse_parquet(b"PARE" + bytes(20) + b"PARE")


def test_a_wrong_checksum_is_noticed() -> None:
    """A page that was changed after it was written doesn't match its checksum."""
    data = parquet_bytes(
        pa.table({"a": ["needle"]}),
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    file = parse_parquet(data.replace(b"needle", b"noodle", 1))
    with pytest.raises(BrokenParquet, match="checksum"):
        list(file.rows("a"))


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_goes_off() -> None:
    """A page that unpacks to more than the limit isn't unpacked."""
    value = "\0" * (MAX_PAGE_BYTES + 1)
    file = parse_parquet(parquet_bytes(pa.table({"a": [value]}), compression="zstd", use_dictionary=False))
    with pytest.raises(BrokenParquet, match="page claims"):
        list(file.rows("a"))


SAMPLES = [
    parquet_bytes(
        pa.table(
            {
                "route": pa.array(["/a", None, "/SECRET"] * 5),
                "visit": pa.array([7, None, 2**63] * 5, pa.uint64()),
                "flag": [True, False, True] * 5,
                "real": [0.5, 1.5, math.pi] * 5,
            }
        ),
        **options,
    )
    for options in (
        {"compression": "none", "write_page_index": True},
        {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 4},
        {"compression": "snappy", "use_dictionary": False},
        {
            "compression": "gzip",
            "use_dictionary": False,
            "column_encoding": {
                "route": "DELTA_BYTE_ARRAY",
                "visit": "DELTA_BINARY_PACKED",
                "flag": "RLE",
                "real": "BYTE_STREAM_SPLIT",
            },
            "data_page_version": "2.0",
        },
    )
]


@pytest.mark.parametrize("sample", SAMPLES, ids=["plain", "v2", "snappy", "delta"])
def test_every_truncation_ends_in_the_one_exception(sample: bytes) -> None:
    """A file cut off anywhere, at either end, is broken and nothing else."""
    for cut in range(len(sample)):
        for part in (sample[:cut], sample[cut + 1 :]):
            with pytest.raises(BrokenParquet):
                parse_parquet(part)


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6),
)
@settings(max_examples=500, deadline=5000)
def test_garbled_files_end_in_an_answer_or_in_the_one_exception(sample: bytes, changes: list[tuple[int, int]]) -> None:
    """Whatever bytes are changed, reading ends soon, and the message repeats nothing that stood in the file."""
    garbled = bytearray(sample)
    for place, byte in changes:
        garbled[place % len(garbled)] = byte
    message = ""
    try:
        read_everything(parse_parquet(bytes(garbled)))
    except BrokenParquet as error:
        message = str(error)
    assert "SECRET" not in message


@given(st.binary(max_size=300))
@settings(max_examples=500)
def test_any_footer_ends_in_an_answer_or_in_the_one_exception(footer: bytes) -> None:
    """Random bytes in the place of a footer are refused."""
    data = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(BrokenParquet):
        parse_parquet(data)


def test_a_file_is_read_from_disk(tmp_path: Any) -> None:
    """The same reader takes a path."""
    path = tmp_path / "a.parquet"
    path.write_bytes(SAMPLES[0])
    assert read_parquet(path).row_count == 15


def test_a_claimed_size_must_be_the_true_one() -> None:
    """A page header that claims another decompressed size is refused for every codec, and never padded with rubbish."""
    for codec in ("none", "zstd", "snappy", "gzip", "brotli", "lz4"):
        data = parquet_bytes(pa.table({"a": ["x" * 40]}), compression=codec, use_dictionary=False)
        page = parse_parquet(data).row_groups[0].columns[0].region.offset
        # A page header is: type, then the decompressed size as the second varint field.
        assert data[page + 2] == 0x15
        claimed = data[: page + 3] + bytes([data[page + 3] + 2]) + data[page + 4 :]
        with pytest.raises(BrokenParquet):
            list(parse_parquet(claimed).rows("a"))
