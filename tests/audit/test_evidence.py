"""Evidence is one moment of a store, whatever goes on in it meanwhile, and every page of its files."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.audit.check import Finding
from anonproxy.audit.checks import CHECKS
from anonproxy.audit.checks.anatomy import measure_page
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.ledger import Ledger
from anonproxy.audit.specimen import (
    DAILY,
    HITS,
    NOW,
    SEALED,
    SEGMENT,
    TODAY,
    VOCABULARY,
    YESTERDAY,
    plant,
    read_rows,
    sign,
    visit_rows,
    write_specimen,
)
from anonproxy.audit.tree import HOUR_S, parse_place, walk
from anonproxy.model.errors import StoreError
from anonproxy.model.hit import Hit
from anonproxy.model.vocabulary import Entry, Vocabulary
from anonproxy.store import layout
from anonproxy.store.seal import merge
from anonproxy.store.write import SegmentWriter


@pytest.fixture(scope="module")
def specimen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clean specimen of a store, not to be touched."""
    root = tmp_path_factory.mktemp("specimen") / "store"
    write_specimen(root)
    return root


@pytest.fixture
def store(specimen: Path, tmp_path: Path) -> Path:
    """Return a clean specimen of a store."""
    return shutil.copytree(specimen, tmp_path / "store")


# --- The tree -------------------------------------------------------------------------------------------------------

NAMES = st.lists(
    st.sampled_from([
        "hot", "hits", "daily", "vocabulary", "ledger", "site=www", "site=WWW", "site=", "date=2026-11-21",
        "date=2026-02-30", "date=x", "10.parquet", "24.parquet", "10.parquet.tmp", "10.open", "10.closing", "10.opened",
        "0123456789abcdef.parquet", "0123456789abcdef.parquet.tmp", "0123456789ABCDEF.parquet", "jane.parquet",
        "10.0123456789abcdef.broken", "hits.parquet", "daily.parquet", "vocabulary.parquet", "hits.parquet.tmp",
    ]),
    min_size=1, max_size=5,
)  # fmt: skip


@given(NAMES)
def test_knows_the_layout_as_the_store_does(names: list[str]) -> None:
    """The auditor's own layout and the store's name the same files, so that neither has a blind spot."""
    root, path = Path("/store"), "/".join(names)
    place = parse_place(path, "file")
    is_ours = layout.is_ours(root, root / path) and "date=2026-02-30" not in path
    assert (place is not None) == is_ours


def test_tells_what_each_file_is(store: Path) -> None:
    """Tier, day and hour of a file come from its path."""
    places = {node.path: node.place for node in walk(store) if node.place}
    assert (places[SEALED].tier, places[SEALED].role, places[SEALED].hour) == ("hot", "sealed", 10)
    assert (places[SEGMENT].tier, places[SEGMENT].role, places[SEGMENT].hour) == ("hot", "segment", 15)
    assert [places[path].tier for path in (HITS, DAILY, VOCABULARY)] == ["hits", "daily", "vocabulary"]
    assert places[HITS].starts_at == YESTERDAY
    assert places[SEALED].starts_at == TODAY + 10 * HOUR_S


# --- The tables -----------------------------------------------------------------------------------------------------


def test_reads_every_row(store: Path) -> None:
    """Distinct values and codes together are the rows that pyarrow reads."""
    for table in Evidence(store, NOW).tables("hot", "hits", "daily", "vocabulary"):
        expected = read_rows(store, table.path)
        for name, column in table.columns.items():
            if name not in {"time", "date"}:
                assert [column.distinct[code] for code in column.codes] == [row[name] for row in expected]
        assert table.row_count == len(expected)


def test_measures_every_page_to_the_byte(store: Path) -> None:
    """A page of a clean file is just as long as its values need, and a byte more is seen."""
    pages = 0
    for table in Evidence(store, NOW).tables("hot", "hits", "daily", "vocabulary"):
        for group in table.file.row_groups:
            for chunk in group.columns:
                for page in table.file.pages(chunk):
                    pages += 1
                    assert measure_page(page, chunk.element) == len(page.raw)
                    longer = replace(page, raw=page.raw + b"jane")
                    assert measure_page(longer, chunk.element) == len(page.raw)
    assert pages > 100


def test_reads_again_what_it_could_not_keep(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store too large to keep in memory is audited all the same."""
    monkeypatch.setattr("anonproxy.audit.evidence.MAX_KEPT_ROWS", 30)
    evidence = Evidence(store, NOW)
    assert {check.code for check in CHECKS if check.look(evidence).verdict != "pass"} == set()


# --- What can't be read ---------------------------------------------------------------------------------------------


def test_store_that_is_no_folder(tmp_path: Path) -> None:
    """A file is no store."""
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StoreError):
        Evidence(tmp_path / "store", NOW)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(99) + b"PAR1", os.urandom(5000)])
def test_names_what_it_cannot_read(store: Path, content: bytes) -> None:
    """A file that is no Parquet is named with the reason, and its content is not repeated."""
    path = SEALED.replace("10.parquet", "11.parquet")
    plant(store, path, content)
    sign(store, "sealed", {"file": path})
    (line,) = Evidence(store, NOW).unread("hot")
    assert line.startswith(f"{path} can't be read: ")


# --- A store at work ------------------------------------------------------------------------------------------------


@contextmanager
def working(root: Path) -> Iterator[None]:
    """Write and merge some twenty times a second until told to stop; the real thing does it every few seconds."""
    words = [(row["column"], row["value"], row["origin"], row["visits"]) for row in read_rows(root, VOCABULARY)]
    writer = SegmentWriter(root, Vocabulary(Entry("www", *word) for word in words))
    ledger = Ledger(root / "ledger", NOW)
    start_s = TODAY + 14 * HOUR_S
    hour = layout.hour_at(root, "www", start_s)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                for _ in range(3):
                    for row in visit_rows(start_s, 2):
                        writer.add(Hit(**{**row, "time": start_s}))
                    writer.flush()
                merge(hour, lambda event, details: ledger.append(event, details, NOW))
                stop.wait(0.02)
        except BaseException as error:
            failures.append(error)

    ledger.append("sealed", {"file": hour.sealed.relative_to(root).as_posix()}, NOW)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert failures == []


def alarms(evidence: Evidence) -> dict[str, tuple[tuple[Finding, ...], tuple[str, ...]]]:
    """Give what each check found, and what it couldn't tell, by the check's name; nothing of those that pass."""
    told = {check.code: check.look(evidence) for check in CHECKS}
    return {code: (one.findings, one.unknown) for code, one in told.items() if one.findings or one.unknown}


@pytest.mark.slow
def test_store_at_work_raises_no_alarm(store: Path) -> None:
    """Segments that come, merge and go while the audit looks are no finding and no riddle."""
    rows = []
    with working(store):
        for _ in range(20):
            evidence = Evidence(store, NOW)
            assert alarms(evidence) == {}
            rows.append(evidence.row_count)
    assert rows[-1] > rows[0]


@contextmanager
def slow_write(path: Path, pause_s: float) -> Iterator[None]:
    """Write a segment anew as the store does, but with a pause before each step."""
    data, times_s = path.read_bytes(), (TODAY + 15 * HOUR_S,) * 2
    temporary = path.with_name(f"{path.name}.tmp")
    path.unlink()
    temporary.write_bytes(data[: len(data) // 2])
    temporary.chmod(0o600)

    def go_on() -> None:
        for step in (
            lambda: temporary.write_bytes(data),
            lambda: os.utime(temporary, times_s),
            lambda: temporary.rename(path),
            lambda: os.utime(path.parent, times_s),
        ):
            time.sleep(pause_s)
            step()

    with ThreadPoolExecutor() as pool:
        going_on = pool.submit(go_on)
        yield
        going_on.result()


def test_write_under_way_raises_no_alarm(store: Path) -> None:
    """A file that is half there, and a time that isn't hidden yet, are given the moment that a write takes."""
    with slow_write(store / SEGMENT, 0.3):
        assert alarms(Evidence(store, NOW)) == {}


def test_time_that_is_never_hidden_is_found_however_often_it_changes(store: Path) -> None:
    """A store that is written to all the time gets no more patience than any other."""
    folder, stopped = (store / SEGMENT).parent, threading.Event()

    def touch() -> None:
        while not stopped.wait(0.01):
            os.utime(folder)

    os.utime(folder)
    with ThreadPoolExecutor() as pool:
        touching = pool.submit(touch)
        told = alarms(Evidence(store, NOW))
        stopped.set()
        touching.result()
    assert set(told) == {"time"}
    [(finding,)] = [findings for findings, _ in told.values()]
    assert finding.where == folder.relative_to(store).as_posix()


@pytest.mark.parametrize("age_s", [0, HOUR_S])
def test_half_a_file_that_nobody_writes_is_named(store: Path, age_s: int) -> None:
    """What a crash left behind is told, however fresh."""
    temporary = store / f"{SEGMENT}.tmp"
    temporary.write_bytes((store / SEGMENT).read_bytes()[:99])
    os.utime(temporary, (time.time() - age_s,) * 2)
    (line,) = Evidence(store, NOW).unread("hot")
    assert line.startswith(f"{SEGMENT}.tmp can't be read: ")
