"""The search finds a planted mark in every container and encoding, says what it couldn't see, and cries no wolf."""

import base64
import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import socket
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonproxy.audit.marks import Mark, encodings
from anonproxy.audit.search import MAX_DEPTH, WINDOW_BYTES, WITHHELD, Hit, recognise, search, search_bytes

SECRET = "Canary-7Qx9-Zephyr"
ADDRESS = "203.0.113.77"
MARK, ADDRESS_MARK = Mark("search term", SECRET), Mark("client address", ADDRESS)
DEVICE_MARK = Mark("device", "2001:db8:77:1:211:22ff:fe33:4455")


def zstd(data: bytes) -> bytes:
    """Compress with zstd."""
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


def zipped(data: bytes, name: str = "inner.log") -> bytes:
    """Put data into a zip archive, deflated."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def tarred(data: bytes, name: str = "inner.log") -> bytes:
    """Put data into a tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def parquet(table: pa.Table, **options: object) -> bytes:
    """Write a table to memory."""
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def parquet_with(data: bytes) -> bytes:
    """Hide data in a compressed page, and nowhere else."""
    table = pa.table({"a": pa.array([b"~", data, b"~~"], pa.binary())})
    return parquet(table, compression="zstd", use_dictionary=False, write_statistics=False)


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd,
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda data: gzip.compress(tarred(data)),
    "gzip in tar": lambda data: tarred(gzip.compress(data)),
    "Parquet": parquet_with,
    "Parquet in zip": lambda data: zipped(parquet_with(data)),
    "Parquet in tar.zst": lambda data: zstd(tarred(parquet_with(data))),
}
# So that nothing in a container is there as it stands, compressed or not.
PADDING = bytes(range(32, 127)) * 20


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("mark", [MARK, ADDRESS_MARK, DEVICE_MARK], ids=["text", "IPv4", "EUI-64"])
def test_every_encoding_is_found_in_every_container(container: str, mark: Mark, tmp_path: Path) -> None:
    """Each form of a mark, planted in each container, is reported under the mark's label, and nothing else is."""
    planted = {name: pattern for name, pattern in encodings(mark).items() if len(pattern) > 4}
    for number, pattern in enumerate(planted.values()):
        (tmp_path / f"{number}").write_bytes(CONTAINERS[container](PADDING + b"|" + pattern + b"|" + PADDING))
    result = search([tmp_path], [mark])
    # Outside a container there is no place to name: where there is one, it must be found inside.
    found = {Path(hit.path).name for hit in result.hits if hit.place or container == "raw"}
    missed = [name for number, name in enumerate(planted) if str(number) not in found]
    assert missed == []
    assert {hit.label for hit in result.hits} == {mark.label}
    assert not result.unopened
    assert result.files == len(planted)


# What a table may hide, and where it must be found.
TABLES: list[tuple[str, bytes, str]] = [
    (
        "dictionary values that no row uses",
        parquet(pa.table({"route": pa.array(["/a", f"/{SECRET}"]).dictionary_encode().take(pa.array([0]))})),
        "column route, row group 0, dictionary page 0",
    ),
    (
        "a compressed dictionary",
        parquet(pa.table({"route": ["/a", f"/{SECRET}"] * 9}), compression="zstd"),
        "column route, row group 0, dictionary page 0",
    ),
    ("statistics", parquet(pa.table({"route": ["/a", SECRET]}), compression="zstd"), "statistics"),
    (
        "a page index",
        parquet(pa.table({"route": ["/a", SECRET]}), compression="zstd", write_page_index=True),
        "page index",
    ),
    (
        "key-value metadata",
        parquet(pa.table({"route": ["/a"]}).replace_schema_metadata({"note": f"by {SECRET}"})),
        "key-value metadata",
    ),
    (
        "metadata of a column, inside the Arrow schema",
        parquet(pa.table([pa.array(["/a"])], schema=pa.schema([pa.field("r", pa.string(), metadata={"n": SECRET})]))),
        "key-value metadata",
    ),
    ("the name of a column", parquet(pa.table({SECRET: [1]})), "schema"),
    (
        "a second row group",
        parquet(pa.table({"route": ["/a", "/b", SECRET]}), compression="zstd", row_group_size=2),
        "row group 1",
    ),
    (
        "strings stored as differences",
        parquet(
            pa.table({"route": ["Canary-7", SECRET]}),
            use_dictionary=False,
            column_encoding="DELTA_BYTE_ARRAY",
            write_statistics=False,
        ),
        "data page 0",
    ),
]


@pytest.mark.parametrize(("what", "data", "place"), TABLES, ids=[what for what, _, _ in TABLES])
def test_every_corner_of_a_parquet_file_is_searched(what: str, data: bytes, place: str) -> None:
    """A mark in pages, dictionaries, statistics, metadata and names is found, and the place is named without it."""
    result = search_bytes(data, [MARK])
    assert any(place in hit.place for hit in result.hits)
    assert result.pages > 0
    assert not result.unopened
    assert SECRET not in str(result)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 0xCB00714D], pa.uint32()),
        pa.array([1, 0xCB00714D], pa.int64()),
        pa.array([1, 0xCB00714D - (1 << 32)], pa.int32()),
        pa.array([1, 0x4D7100CB], pa.uint64()),
        pa.array([1, 0xCB00714D], pa.float64()),
        pa.array([b"....", bytes([203, 0, 113, 77])], pa.binary(4)),
        pa.array([b"....", bytes([77, 113, 0, 203])], pa.binary()),
    ],
    ids=["uint32", "int64", "negative int32", "bytes swapped", "double", "four bytes", "bytes"],
)
@pytest.mark.parametrize("dictionary", [True, False])
def test_an_address_is_found_in_columns_that_are_not_text(column: pa.Array, dictionary: bool) -> None:
    """Packed into an integer of any width and sign, or into four bytes, an address is recognised in decoded values."""
    data = parquet(pa.table({"c": column}), compression="zstd", use_dictionary=dictionary, write_statistics=False)
    result = search_bytes(data, [ADDRESS_MARK])
    assert {hit.label for hit in result.hits} == {"client address"}


def test_numbers_are_searched_as_decimal_text() -> None:
    """A barcode inside a longer number is found as well; so is a visit id that is an unsalted digest."""
    digest = int.from_bytes(hashlib.sha256(SECRET.encode()).digest()[:8])
    table = pa.table({"n": pa.array([2907701234567899], pa.int64()), "visit": pa.array([digest], pa.uint64())})
    marks = [Mark("barcode", "29077012345678"), MARK]
    result = search_bytes(parquet(table, compression="zstd", write_statistics=False), marks)
    found = {(hit.label, hit.place) for hit in result.hits}
    assert ("barcode", "Parquet, column n, row group 0, dictionary page 0") in found
    assert ("search term", "Parquet, column visit, row group 0, dictionary page 0") in found


@pytest.mark.parametrize(
    "written",
    [
        b"GET /?q=Canary%2d7Qx9%2DZ%65phyr HTTP/1.1",
        b"q=Canary%252D7Qx9%252dZephyr",
        b"q=Canary%25252D7Qx9%25252dZephyr",
        rb'{"q": "Canary\u002d7Qx9-\u005aephyr"}',
        rb"b'Canary\x2d7Qx9\x2dZephyr'",
        b"Canary&#45;7Qx9&#x2D;Zephyr",
        b"Canary=2D7Qx9-Zep=\r\nhyr",
        json.dumps({"q": "/Canary-7Qx9-Zephyr/"}).replace("/", "\\/").encode(),
        SECRET.swapcase().encode(),
    ],
)
def test_a_form_that_escapes_only_some_characters_is_found(written: bytes) -> None:
    """Percent, JSON, byte, entity and quoted-printable escapes are resolved, mixed and up to three times."""
    assert {hit.label for hit in search_bytes(b"some text " + written + b" more", [MARK]).hits} == {"search term"}


@pytest.mark.parametrize("written", [b"1cb00714d", b"cb00714da", b"34058038530", b"13405803853"])
def test_a_few_digits_inside_a_longer_number_are_chance(written: bytes) -> None:
    """Eight hex digits or an integer count only where no digit stands beside them."""
    assert not search_bytes(b'"' + written + b'"', [ADDRESS_MARK]).hits


@pytest.mark.parametrize("place", [0, 1, 5, WINDOW_BYTES - 30, WINDOW_BYTES - 7, WINDOW_BYTES, 2 * WINDOW_BYTES - 3])
def test_a_mark_across_a_windows_edge_is_found(place: int) -> None:
    """Windows overlap, so there is no seam to hide in, at any alignment."""
    for shift in range(9):
        data = b"\n" * (place + shift) + SECRET.encode() + b"\n" * 50
        assert search_bytes(data, [MARK]).hits


@given(st.binary(max_size=64), st.binary(max_size=64), st.sampled_from(sorted(encodings(MARK))))
def test_no_surroundings_hide_a_mark(before: bytes, after: bytes, name: str) -> None:
    """Whatever stands around it, a pattern of a text is found."""
    assert search_bytes(before + encodings(MARK)[name] + after, [MARK]).hits


def test_names_are_searched_and_withheld(tmp_path: Path) -> None:
    """A mark in the name of a file, a directory, a link's target or an archive's member is found and not repeated."""
    (tmp_path / f"x-{SECRET}").mkdir()
    (tmp_path / f"x-{SECRET}" / "a.log").write_text("nothing")
    (tmp_path / f"{SECRET}.log").write_text(f"q={SECRET}")
    (tmp_path / "link").symlink_to(f"/nowhere/{SECRET}")
    (tmp_path / "a.zip").write_bytes(zipped(b"nothing", f"{SECRET}.txt"))
    (tmp_path / "a.tar").write_bytes(tarred(b"nothing", f"{SECRET}.txt"))
    result = search([tmp_path], [MARK])
    places = {hit.place for hit in result.hits}
    assert {"file name", "link target", f"zip, member {WITHHELD}", f"tar, member {WITHHELD}"} <= places
    assert SECRET not in str(result)
    assert any(hit.path.endswith(WITHHELD) for hit in result.hits)


def test_what_is_not_a_file_is_skipped_and_listed(tmp_path: Path) -> None:
    """Links aren't followed, pipes and sockets aren't read, and each is listed."""
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        result = search([root], [MARK])
    assert not result.hits
    assert {Path(skipped.path).name for skipped in result.skipped} == {"link", "pipe", "socket"}


def test_extended_attributes_are_searched(tmp_path: Path) -> None:
    """A mark in an attribute beside a file's bytes is found."""
    path = tmp_path / "a.log"
    path.write_text("nothing")
    with contextlib.suppress(OSError):
        os.setxattr(path, "user.note", SECRET.encode())
    # Not every file system has them.
    expected = ["extended attribute"] * len(os.listxattr(path))
    assert [hit.place for hit in search([tmp_path], [MARK]).hits] == expected


def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    """Who names a link means what it points to."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.log").write_text(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert search([tmp_path / "link"], [MARK]).hits


UNSEARCHABLE = {
    "a truncated gzip": gzip.compress(os.urandom(5000))[:-100],
    "a truncated zstd": zstd(os.urandom(5000))[:-100],
    "a garbled xz": lzma.compress(bytes(5000))[:-40] + bytes(40),
    "a broken Parquet file": parquet(pa.table({"a": [1]}))[:-1],
    "a Parquet file that is not flat": parquet(pa.table({"a": [[1]]})),
    "a 7-Zip archive": b"7z\xbc\xaf\x27\x1c" + bytes(50),
    "a DuckDB database": bytes(8) + b"DUCK" + bytes(50),
    "an encrypted zip member": zipped(b"nothing")
    .replace(b"PK\x03\x04\x14\0\0", b"PK\x03\x04\x14\0\x01")
    .replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\x01"),
    "a zip without an end": zipped(b"nothing")[:40],
}


@pytest.mark.parametrize("what", UNSEARCHABLE)
def test_what_cannot_be_opened_is_never_silently_fine(what: str) -> None:
    """A container that is broken, encrypted or of a kind that isn't opened here makes a result unclean."""
    result = search_bytes(UNSEARCHABLE[what], [MARK])
    assert result.unopened
    assert not result.is_clean


def test_what_precedes_a_break_is_searched() -> None:
    """A cut-off container is searched up to the cut."""
    data = gzip.compress(SECRET.encode() + os.urandom(200_000))[:-1000]
    result = search_bytes(data, [MARK])
    assert result.hits
    assert result.unopened


def test_nesting_ends_with_a_report() -> None:
    """Containers are opened to a bounded depth; what lies deeper is listed."""
    data = SECRET.encode()
    for _ in range(MAX_DEPTH):
        data = gzip.compress(data)
    assert search_bytes(data, [MARK]).hits
    deeper = search_bytes(gzip.compress(data), [MARK])
    assert (deeper.hits, len(deeper.unopened)) == ([], 1)


@pytest.mark.parametrize("container", ["gzip", "zip", "Parquet"])
def test_a_bomb_is_given_up(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that unpacks to more than the limit is listed, and the next one is searched."""
    # The real limit, a gigabyte, takes half a minute.
    monkeypatch.setattr("anonproxy.audit.search.MAX_UNPACKED_BYTES", 1 << 21)
    result = search_bytes(CONTAINERS[container](bytes(1 << 22)), [MARK])
    assert [unopened.reason for unopened in result.unopened] == ["unpacks to more than 2097152 bytes"]


def test_missing_roots_are_reported(tmp_path: Path) -> None:
    """A directory that isn't there hasn't been searched."""
    result = search([tmp_path / "nowhere"], [MARK])
    assert [unopened.reason for unopened in result.unopened] == ["No such file or directory"]
    assert not result.is_clean


def test_nothing_searched_is_not_clean(tmp_path: Path) -> None:
    """An empty store can't pass."""
    assert not search([tmp_path], [MARK]).is_clean


def test_a_hit_says_where() -> None:
    """Path, place, encoding and label are given, and what was looked at is counted."""
    result = search_bytes(gzip.compress(base64.b64encode(b"k=" + SECRET.encode())), [MARK], "stdout")
    assert result.hits == [Hit("stdout", "gzip", "base64 at offset 2", "search term")]
    assert result.files == 1
    assert result.size_bytes > len(SECRET)


def many_marks() -> list[Mark]:
    """Make as many marks as a canary plants: texts, addresses of both kinds, barcodes."""
    chance = random.Random(1)
    texts = [Mark(f"text {n}", f"canary{chance.getrandbits(64):016x}") for n in range(18)]
    barcodes = [Mark(f"barcode {n}", f"2{chance.randrange(10**13):013}") for n in range(4)]
    v4 = [Mark(f"IPv4 {n}", f"198.51.100.{chance.randrange(2, 250)}") for n in range(9)]
    v6 = [Mark(f"IPv6 {n}", f"2001:db8:{n:x}:7:211:22ff:fe{n:02x}:{chance.getrandbits(16):x}") for n in range(9)]
    return texts + barcodes + v4 + v6


def write_clean_store(root: Path, rows: int) -> int:
    """Write what a store of that many rows looks like: routes, networks, random visit ids, digests, logs."""
    chance = random.Random(2)
    table = pa.table(
        {
            "time": pa.array(
                [1_780_000_000 + 3600 * chance.randrange(2000) for _ in range(rows)], pa.timestamp("s", "UTC")
            ),
            "route": [f"/events/{chance.randrange(400)}" for _ in range(rows)],
            "network": [f"{chance.choice(['198.51.100', '203.0.113'])}.0/24" for _ in range(rows)],
            "visit": pa.array([chance.getrandbits(64) for _ in range(rows)], pa.uint64()),
            "size_bytes": [2 ** chance.randrange(24) for _ in range(rows)],
            "hash": [f"{chance.getrandbits(256):064x}" for _ in range(rows)],
        }
    )
    pq.write_table(table, root / "hits.parquet", compression="zstd")
    entries = (json.dumps({"n": n, "sha256": f"{chance.getrandbits(256):064x}"}) for n in range(rows // 50))
    (root / "ledger.jsonl").write_text("\n".join(entries))
    (root / "old.log.gz").write_bytes(gzip.compress(base64.b64encode(chance.randbytes(rows * 10))))
    (root / "random").write_bytes(chance.randbytes(rows * 10))
    return sum(path.stat().st_size for path in root.iterdir())


@pytest.mark.slow
def test_a_clean_store_raises_no_alarm(tmp_path: Path) -> None:
    """A store of 100,000 random rows, with ids, digests and compressed noise, holds none of 40 marks."""
    write_clean_store(tmp_path, 100_000)
    result = search([tmp_path], many_marks())
    assert result.hits == []
    assert result.is_clean
    assert result.files == 4
    assert result.pages > 10


@pytest.mark.slow
def test_the_search_is_fast_enough_for_a_store() -> None:
    """40 marks, over 5,000 patterns, are searched for at 5 MB/s at least, on a busy machine; an idle one does 20."""
    marks = many_marks()
    assert sum(len(encodings(mark)) for mark in marks) > 5000
    data = random.Random(3).randbytes(16 << 20)
    started = time.process_time()
    assert search_bytes(data, marks).is_clean
    assert len(data) / 1e6 / (time.process_time() - started) > 5


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PAR1"]),
)
@settings(max_examples=300)
def test_any_bytes_end_in_a_result(data: bytes, magic: bytes) -> None:
    """No bytes make the search raise, and a broken container is always reported."""
    result = search_bytes(magic + data, [MARK])
    assert bool(result.unopened) == (recognise(magic + data) is not None)
