"""Log files: every byte comes once, in whole lines, in the order of time."""

import bz2
import gzip
import io
import lzma
import os
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonproxy.ingest import sources
from anonproxy.ingest.formats import FORMATS, MAX_LINE_BYTES
from anonproxy.ingest.sources import STDIN, Source, find_logs, open_sources, read_blocks, read_in_order
from anonproxy.model.errors import OperatorError
from tests.ingest.formats.test_formats import sample_log
from tests.support.invented_logs import invent, write_log


def source(path: Path) -> Source:
    """Return a file as it is read."""
    return Source(path, FORMATS["combined"], path.stat().st_size, 0.0)


@given(st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=30), st.booleans())
@settings(max_examples=50)
def test_blocks_are_the_file_in_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool
) -> None:
    """Whatever is in it, put together they are the file; each begins where the numbers say."""
    path = tmp_path_factory.mktemp("log") / "a.log"
    content = b"\n".join(lines) + b"\n" * ends
    path.write_bytes(content)
    blocks = list(read_blocks(0, source(path), 64))
    if not any(content.startswith(magic) for magic in sources.OPENERS):
        assert b"".join(block.data for block in blocks) == content
        assert all(block.data.endswith(b"\n") for block in blocks[:-1])
        for block in blocks:
            before = b"".join(each.data for each in blocks[: blocks.index(block)])
            assert block.first_line == before.count(b"\n") + 1


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    """What is longer than any line is cut there; the lines around it come whole, and numbers stay right."""
    path = tmp_path / "a.log"
    path.write_bytes(b"first\n" + b"x" * (5 * MAX_LINE_BYTES) + b"\nlast\n")
    blocks = list(read_blocks(0, source(path), MAX_LINE_BYTES))
    data = b"".join(block.data for block in blocks)
    assert data.count(b"\n") == 3
    assert (data[:6], data[-6:]) == (b"first\n", b"\nlast\n")
    assert MAX_LINE_BYTES < len(data) < 3 * MAX_LINE_BYTES
    assert blocks[-1].first_line == 3 - blocks[-1].data.count(b"\n") + 1


def test_the_log_that_is_furthest_behind_is_read_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of several files come in the order of their times, whatever the files are called."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 4_000)
    monkeypatch.setattr(sources, "LEAST_BLOCK_BYTES", 4_000)
    lines = invent(days=2)
    write_log(tmp_path / "b", lines[:100])
    write_log(tmp_path / "a", lines[100:])
    write_log(tmp_path / "c", invent(days=2, seed=5))
    opened, others = open_sources(*find_logs([tmp_path]), None, UTC)
    timed = list(read_in_order(opened, UTC))
    assert len(timed) > 6
    assert not others
    assert [each.from_s for each in timed] == sorted(each.from_s for each in timed)
    assert all(each.from_s <= each.until_s for each in timed)
    assert sum(each.block.data.count(b"\n") for each in timed) == len(lines) + len(invent(days=2, seed=5))


def test_folders_are_searched_and_what_is_no_log_is_told(tmp_path: Path) -> None:
    """In a folder what fits no format is left aside; what is named must be a log. Nothing is read twice."""
    folder = tmp_path / "logs" / "old"
    folder.mkdir(parents=True)
    log = write_log(folder / "access.log", invent(days=1))
    (folder / "error.log").write_text("something went wrong\n")
    (folder / "empty.log").touch()
    (folder / "broken.gz").write_bytes(b"\x1f\x8b\x08 nothing")
    (folder / "again.log").hardlink_to(log)
    opened, others = open_sources(*find_logs([tmp_path / "logs", log]), None, UTC)
    assert [each.path.name for each in opened] in (["access.log"], ["again.log"])
    assert {path.name for path in others} >= {"error.log"}
    with pytest.raises(OperatorError, match="no format fits its first lines"):
        open_sources([folder / "error.log"], [], None, UTC)
    with pytest.raises(OperatorError, match="no such file or folder"):
        find_logs([tmp_path / "missing.log"])


def test_what_can_be_read_only_once_is_refused(tmp_path: Path) -> None:
    """A pipe that is named like a file would lose its beginning, by which the format is told; it is read as -."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OperatorError, match=r"pipe: no file\. What comes through a pipe is read as -"):
        find_logs([tmp_path / "pipe"])
    assert find_logs([tmp_path, STDIN]) == ([STDIN], [])


def test_logs_of_several_kinds_are_told_apart(tmp_path: Path) -> None:
    """A log of another kind among many of one is told, whichever came before it."""
    names = ("combined", "combined", "vhost_combined", "common", "combined", "haproxy", "common", "iis", "w3c")
    for number, name in enumerate(names):
        text = sample_log(name).replace(b"17:00:00", b"%02d:00:00" % number)
        (tmp_path / f"{number}.log").write_bytes(text)
    opened, _ = open_sources(*find_logs([tmp_path]), None, UTC)
    assert [each.format.name for each in sorted(opened, key=lambda each: each.path)] == list(names)


def test_the_same_log_twice_is_refused(tmp_path: Path) -> None:
    """A log and its compressed copy, as a rotation leaves them for a moment, would count everything twice."""
    log = write_log(tmp_path / "access.log.1", invent(days=1))
    (tmp_path / "access.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    with pytest.raises(OperatorError, match="is it the same log twice"):
        open_sources(*find_logs([tmp_path]), None, UTC)


@pytest.mark.parametrize(
    "pack",
    [
        bytes,
        lambda text: text.decode().encode("utf-16"),
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda text: pa.compress(text, "zstd", asbytes=True),
        lambda text: gzip.compress(text.decode().encode("utf-16")),
    ],
    ids=["plain", "UTF-16", "gzip", "bzip2", "xz", "zstd", "UTF-16 in gzip"],
)
def test_a_pipe_is_looked_at_and_then_read_from_its_beginning(
    pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the format is detected by is not lost, and a pipe may bring whatever a file may."""
    text = "".join(f"{line.text}\n" for line in invent(days=9)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pack(text))))
    sources.read_stdin.cache_clear()
    opened, _ = open_sources([STDIN], [], None, UTC)
    assert opened[0].format.name == "combined"
    assert b"".join(block.data for block in read_blocks(0, opened[0], 100_000)) == text
    sources.read_stdin.cache_clear()


def open_log(path: Path, format_name: str | None = None) -> Source:
    """Recognise one log."""
    (opened,), _ = open_sources([path], [], format_name, UTC)
    return opened


MIDNIGHT_S = 1_772_409_600


def w3c_day(day: int, fields: str, line: str) -> str:
    """Write a day of a log that names its fields, with a line each half minute."""
    times = (f"{minute // 60:02}:{minute % 60:02}:{second}" for minute in range(1_440) for second in ("00", "30"))
    return f"#Fields: date time {fields}\n" + "".join(f"2026-03-{day:02} {time} {line}\n" for time in times)


@pytest.mark.parametrize("cut", [0, 20], ids=["whole", "cut off"])
def test_the_end_of_a_log_that_names_other_fields_later_is_found(tmp_path: Path, cut: int) -> None:
    """The last lines are read by the fields that are named last before them, however far before."""
    early = w3c_day(2, "c-ip cs-uri-stem sc-status", "203.0.113.7 /events 200")
    late = w3c_day(3, "sc-status c-ip cs-uri-stem", "200 203.0.113.7 /events")
    assert len(late) > sources.HEAD_BYTES
    (tmp_path / "u_ex.log").write_text((early + late)[: len(early + late) - cut])
    found = sources.find_last_time(open_log(tmp_path / "u_ex.log"), UTC)
    assert found == MIDNIGHT_S + 2 * 86_400 - (60 if cut else 30)


def test_times_that_can_not_be_are_not_the_first_or_the_last(tmp_path: Path) -> None:
    """No line makes a log begin or end where no calendar reaches, since a date is made of both."""
    line = '203.0.113.7 [{}] "GET / HTTP/1.1" 200\n'
    times_s = ("-5e17", f"{MIDNIGHT_S}.5", f"{MIDNIGHT_S + 60}", "1e300")
    path = tmp_path / "msec.log"
    path.write_text("".join(map(line.format, times_s)))
    opened = open_log(path, '$remote_addr [$msec] "$request" $status')
    assert (opened.starts_at, sources.find_last_time(opened, UTC)) == (MIDNIGHT_S + 0.5, MIDNIGHT_S + 60)
    (timed,) = read_in_order([opened], UTC)
    assert timed.from_s == opened.starts_at


def test_a_log_that_has_gone_meanwhile_is_named(tmp_path: Path) -> None:
    """Who reads it is told which file it was; the rotation may have taken it."""
    path = write_log(tmp_path / "access.log", invent(days=1))
    opened = open_log(path)
    path.unlink()
    with pytest.raises(OperatorError, match=r"access\.log: can't be read, No such file"):
        list(read_blocks(0, opened, 1_000))
