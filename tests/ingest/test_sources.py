"""Log files: every byte comes once, in whole lines, in the order of time."""

import gzip
import io
import sys
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonproxy.ingest import sources
from anonproxy.ingest.formats import FORMATS, MAX_LINE_BYTES
from anonproxy.ingest.sources import STDIN, Source, find_logs, open_sources, read_blocks, read_in_order
from anonproxy.model.errors import OperatorError
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


def test_the_same_log_twice_is_refused(tmp_path: Path) -> None:
    """A log and its compressed copy, as a rotation leaves them for a moment, would count everything twice."""
    log = write_log(tmp_path / "access.log.1", invent(days=1))
    (tmp_path / "access.log.1.gz").write_bytes(gzip.compress(log.read_bytes()))
    with pytest.raises(OperatorError, match="is it the same log twice"):
        open_sources(*find_logs([tmp_path]), None, UTC)


def test_a_pipe_is_looked_at_and_then_read_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the format is detected by is not lost."""
    text = "".join(f"{line.text}\n" for line in invent(days=9)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    sources.read_stdin.cache_clear()
    opened, _ = open_sources([STDIN], [], None, UTC)
    assert opened[0].format.name == "combined"
    assert b"".join(block.data for block in read_blocks(0, opened[0], 100_000)) == text
    sources.read_stdin.cache_clear()
