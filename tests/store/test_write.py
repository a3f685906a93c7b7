"""Tests of the way into the store."""

import threading
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from anonproxy.model.hit import Dropped
from anonproxy.model.vocabularies import DropReason, Origin
from anonproxy.model.vocabulary import Entry
from anonproxy.store import write as module
from anonproxy.store.layout import days
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from anonproxy.store.tables import build_table, read_rows
from anonproxy.store.write import SegmentWriter, read_vocabulary
from tests.store.examples import DATE, DAY_S, HOUR_S, MIDNIGHT, K, Notes, hit, random_hits, settings, visits, vocabulary
from tests.store.kill import deaths, killed_after

OUTSIDE = Dropped(DropReason.OUTSIDE_VOCABULARY)


@pytest.mark.parametrize(
    "changes",
    [
        {"route": "/search?q=secret"},
        {"site": "elsewhere"},
        {"country": "XX"},
        {"browser": "Mozilla/5.0"},
        {"size_bytes": 257},
        {"status": 999},
        {"network": "203.0.113.9"},
        {"time": MIDNIGHT + 1},
        {"time": -3600},
        {"time": 2**40},
        {"time": float(MIDNIGHT)},
        {"step": 256},
        {"elapsed_s": 11},
        {"visit": 2**64},
        {"visit": -1},
        {"visit": "patron"},
        {"route": None},
        {"referrer": b"(direct)"},
    ],
    ids=str,
)
def test_what_isnt_in_the_closed_world_isnt_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    """One value outside its column's vocabulary, and the row is dropped; no value is ever mended."""
    writer = SegmentWriter(tmp_path, vocabulary())
    assert writer.add(hit(**changes)) == OUTSIDE
    assert (writer.pending, writer.flush()) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_undecodable_bytes_are_not_taken_even_if_admitted(tmp_path: Path) -> None:
    """A value with surrogates can't be written as UTF-8, and must not hold up the rows around it."""
    words = vocabulary()
    words.add(Entry("www", "route", "/\udcff", Origin.ADMITTED, K))
    assert SegmentWriter(tmp_path, words).add(hit(route="/\udcff")) == OUTSIDE


def test_each_hour_of_each_site_gets_its_segment(tmp_path: Path) -> None:
    """A flush writes one file for a site and an hour, under a random name, and then nothing is pending."""
    writer = SegmentWriter(tmp_path, vocabulary("www", "kids"))
    for each in [hit(0), hit(900), hit(3600), hit(0, site="kids")]:
        assert writer.add(each) is None
    assert writer.pending == 4
    assert writer.flush() == 4
    assert (writer.pending, writer.flush()) == (0, 0)
    folders = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("hot/*/*/*/*"))
    assert folders == [
        f"hot/site=kids/date={DATE}/00.open",
        f"hot/site=www/date={DATE}/00.open",
        f"hot/site=www/date={DATE}/01.open",
    ]


def test_the_order_in_a_segment_tells_nothing_of_arrival(tmp_path: Path) -> None:
    """Rows are sorted before they reach the disk, not only when the hour is sealed."""
    hits = random_hits(Random(3), 50, hours=1)
    stored = []
    for name, order in {"a": hits, "b": hits[::-1]}.items():
        writer = SegmentWriter(tmp_path / name, vocabulary())
        (tmp_path / name).mkdir()
        for each in order:
            writer.add(each)
        writer.flush()
        stored.append(next(tmp_path.glob(f"{name}/hot/*/*/*/*")).read_bytes())
    assert stored[0] == stored[1]


def test_the_vocabulary_is_there_before_the_rows(tmp_path: Path) -> None:
    """Killed at any step of a flush, no row stands on disk whose values aren't published."""
    for step in deaths():
        root = tmp_path / str(step)
        root.mkdir()
        writer = SegmentWriter(root, vocabulary())
        writer.add(hit())
        with killed_after(step) as fate:
            writer.flush()
        if list(root.glob("hot/*/*/*/*.parquet")):
            published = read_vocabulary(next(root.glob("vocabulary/*/*/*.parquet")))
            assert ("route", "/") in published
        if not fate.came:
            break
    assert step > 10


def test_a_vocabulary_grows_and_keeps_first_origins(tmp_path: Path) -> None:
    """What another process or an earlier epoch published for the date stays."""
    words = vocabulary()
    words.add(Entry("www", "route", "/a", Origin.ADMITTED, K))
    writer = SegmentWriter(tmp_path, words)
    writer.add(hit(route="/a"))
    words.remove("www", "route", "/a")  # the epoch ends before the flush
    words.add(Entry("www", "route", "/b", Origin.ADMITTED, K))
    writer.add(hit(route="/b"))
    writer.flush()
    words.add(Entry("www", "route", "/a", Origin.SITEMAP))
    again = SegmentWriter(tmp_path, words)
    again.add(hit(route="/a"))
    again.flush()
    published = read_vocabulary(tmp_path / f"vocabulary/site=www/date={DATE}/vocabulary.parquet")
    assert published["route", "/a"] == Entry("www", "route", "/a", Origin.ADMITTED, K)
    assert ("route", "/b") in published


def test_what_the_disk_refuses_stays_pending_and_the_rest_goes(tmp_path: Path) -> None:
    """One bad folder doesn't hold up the other rows, and its own come with a later flush."""
    writer = SegmentWriter(tmp_path, vocabulary())
    blocker = tmp_path / f"hot/site=www/date={DATE}/01.open"
    blocker.parent.mkdir(parents=True)
    blocker.touch()
    for each in [hit(0), hit(3600), hit(3600, visit=2), hit(7200)]:
        writer.add(each)
    assert writer.flush() == 2
    assert writer.pending == 2
    assert writer.flush() == 0
    writer.add(hit(3600, visit=3))
    blocker.unlink()
    assert writer.flush() == 3
    assert writer.pending == 0
    assert read_rows(next(blocker.glob("*")), "hot").num_rows == 3


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing can be written for long, rows are dropped and counted; pages are served all the same."""
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    writer = SegmentWriter(tmp_path, vocabulary())
    assert [writer.add(hit()) for _ in range(4)] == [None, None, None, Dropped(DropReason.DISK)]
    assert writer.drop_pending() == 3
    assert writer.pending == 0
    assert writer.add(hit()) is None


def test_rows_of_a_settled_day_are_late(tmp_path: Path) -> None:
    """A settled day isn't opened again: its visit numbers are gone already."""
    writer = SegmentWriter(tmp_path, vocabulary())
    writer.add(hit())
    writer.flush()
    writer.add(hit(visit=2))  # waits in memory while its day settles
    settle(tmp_path, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    assert (writer.flush(), writer.pending, writer.take_late(), writer.take_late()) == (0, 0, 1, 0)
    assert writer.add(hit()) == Dropped(DropReason.LATE)
    assert writer.add(hit(DAY_S)) is None
    assert days(tmp_path, "hot") == []


def test_rows_may_come_while_others_are_written(tmp_path: Path) -> None:
    """Nothing is lost or doubled between the thread that adds and the one that flushes."""
    words = vocabulary()
    writer = SegmentWriter(tmp_path, words)
    hits = visits(1000) + visits(1000, HOUR_S)

    def add() -> None:
        for number, each in enumerate(hits):
            words.add(Entry("www", "route", f"/admitted/{number // 50}", Origin.ADMITTED, K))
            assert writer.add(each) is None

    adding = threading.Thread(target=add)
    adding.start()
    written = 0
    while adding.is_alive():
        written += writer.flush()
    adding.join()
    written += writer.flush()
    assert written == len(hits)
    seal(tmp_path, MIDNIGHT + DAY_S, Notes())
    stored = [row for path in sorted(tmp_path.glob("hot/*/*/*.parquet")) for row in read_rows(path, "hot").to_pylist()]
    assert sorted(row["visit"] for row in stored) == sorted(row["visit"] for row in build_table(hits).to_pylist())


OUTSIDE_VALUES: dict[str, Any] = {
    "time": MIDNIGHT + 1,
    "site": "other",
    "method": "BREW",
    "route": "/jane",
    "kind": "secret",
    "status": 299,
    "size_bytes": 257,
    "duration_ms": 11,
    "elapsed_s": 7,
    "network": "198.51.100.7/32",
    "network_class": "jane",
    "country": "XX",
    "referrer": "jane.example",
    "channel": "rumour",
    "campaign": "jane",
    "browser": "Chrome 147",
    "os": "Windows 11",
    "device": "toaster",
    "bot": "jane",
    "language": "xx",
}


@pytest.mark.parametrize("name", OUTSIDE_VALUES)
def test_the_gate_for_tables_is_the_gate_for_rows(tmp_path: Path, name: str) -> None:
    """A row with a value outside the closed world of any column is left out of a table, and the others are taken."""
    wrong = hit()._replace(**{name: OUTSIDE_VALUES[name]})
    writer = SegmentWriter(tmp_path, vocabulary())
    assert writer.add(wrong) == OUTSIDE
    dropped = writer.add_table(build_table([hit(), wrong, hit(visit=None, step=None, elapsed_s=None)]))
    assert (dropped, writer.pending) == ({DropReason.OUTSIDE_VOCABULARY: 1}, 2)


def test_a_table_that_is_none_of_ours_is_refused_whole(tmp_path: Path) -> None:
    """Another column, a missing one, or a text that isn't UTF-8: nothing of it is taken."""
    good = build_table([hit()])
    broken = pa.array([b"\xff"], pa.binary()).cast(pa.string(), safe=False)
    place = good.column_names.index("route")
    for table in (
        good.append_column("raw", pa.array(["x"])),
        good.drop_columns(["route"]),
        good.set_column(place, good.schema.field("route"), pa.chunked_array([broken])),
    ):
        writer = SegmentWriter(tmp_path, vocabulary())
        assert (writer.add_table(table), writer.pending) == ({DropReason.OUTSIDE_VOCABULARY: 1}, 0)


def test_rows_and_tables_give_the_same_bytes(tmp_path: Path) -> None:
    """However rows come in, one by one, in a table or both, the segments are the same, and what is refused waits."""
    hits = [*random_hits(Random(5), 200, hours=3), *(each._replace(site="kids") for each in random_hits(Random(6), 50))]
    stored = []
    for rows_first in (0, 120, len(hits)):
        root = tmp_path / str(rows_first)
        writer = SegmentWriter(root, vocabulary("www", "kids"))
        for each in hits[:rows_first]:
            assert writer.add(each) is None
        if hits[rows_first:]:
            assert writer.add_table(build_table(hits[rows_first:])) == {}
        assert (writer.flush(), writer.pending) == (0, len(hits))  # there is no folder yet
        root.mkdir()
        assert writer.flush() == len(hits)
        stored.append({str(path.parent.relative_to(root)): path.read_bytes() for path in root.glob("hot/*/*/*/*")})
    assert stored[0] == stored[1] == stored[2]


def test_tables_are_bounded_and_late_like_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows of a table are taken as there is room for; those of a settled day are late."""
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    writer = SegmentWriter(tmp_path, vocabulary())
    assert writer.add_table(build_table([hit(), hit(), hit(HOUR_S), hit(HOUR_S)])) == {DropReason.DISK: 1}
    assert writer.flush() == 3
    settle(tmp_path, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    writer.add(hit(visit=2))
    assert (writer.flush(), writer.take_late()) == (0, 1)
    assert writer.add_table(build_table([hit(), hit(DAY_S)])) == {DropReason.LATE: 1}
