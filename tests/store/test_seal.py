"""Tests of sealing: the same rows, the same bytes, whatever happens on the way."""

import tempfile
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonproxy.model.hit import Hit
from anonproxy.store import seal as module
from anonproxy.store.layout import days
from anonproxy.store.seal import GRACE_S, recover, seal
from anonproxy.store.tables import read_rows
from tests.store.examples import DATE, HOUR_S, MIDNIGHT, Notes, hit, random_hits, tree, visits, write
from tests.store.kill import deaths, killed_after

OVER = MIDNIGHT + HOUR_S + GRACE_S
FOLDER = f"hot/site=www/date={DATE}"
ROWS = random_hits(Random(2), 60, hours=1)


def write_segments(root: Path, parts: Sequence[Sequence[Hit]]) -> None:
    """Write rows as several segments."""
    for part in parts:
        write(root, part)


def sealed(root: Path) -> dict[str, bytes]:
    """Return what stands under hot/ with bytes."""
    return {name: data for name, data in tree(root).items() if name.startswith("hot/")}


def count_rows(root: Path) -> int:
    """Count the rows that stand in the files that count."""
    files = [path for day in days(root, "hot") for hour in day.hours() for path in hour.files()]
    return sum(read_rows(path, "hot").num_rows for path in files)


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.lists(st.integers(0, len(ROWS)), max_size=5), st.booleans())
def test_any_order_and_any_segments_give_the_same_bytes(seed: int, cuts: list[int], halfway: bool) -> None:
    """Neither arrival, nor flushes, nor merges before the end leave a trace in a sealed hour."""
    with tempfile.TemporaryDirectory() as folder:
        once, often = Path(folder, "once"), Path(folder, "often")
        write(once, ROWS)
        seal(once, OVER, Notes())
        shuffled = Random(seed).sample(ROWS, len(ROWS))
        bounds = [0, *sorted(cuts), len(ROWS)]
        parts = [shuffled[start:end] for start, end in pairwise(bounds)]
        for part in parts:
            write(often, part)
            if halfway:
                seal(often, OVER, Notes())
        seal(often, OVER, Notes())
        assert sealed(often) == sealed(once)
        assert list(sealed(once)) == [f"{FOLDER}/00.parquet"]


def test_an_hour_is_sealed_when_it_is_over(tmp_path: Path) -> None:
    """Not before its last rows can have been flushed; and then the journal says so, once."""
    write(tmp_path, [hit(0), hit(HOUR_S)])
    notes = Notes()
    seal(tmp_path, OVER - 1, notes)
    assert notes == []
    seal(tmp_path, OVER, notes, dry_run=True)
    assert not (tmp_path / FOLDER / "00.parquet").exists()
    seal(tmp_path, OVER, notes)
    seal(tmp_path, OVER, notes)
    file = f"{FOLDER}/00.parquet"
    digest = sha256((tmp_path / file).read_bytes()).hexdigest()
    assert notes == [("sealed", {"file": file}), ("sealed", {"file": file, "sha256": digest})]
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["00.parquet", "01.open"]
    assert (tmp_path / FOLDER / "00.parquet").stat().st_mtime == MIDNIGHT


def test_many_segments_are_merged_while_the_hour_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each segment shows what arrived together, so they don't pile up."""
    monkeypatch.setattr(module, "MANY_SEGMENTS", 3)
    notes = Notes()
    write_segments(tmp_path, [[hit(visit=1)], [hit(visit=2)]])
    seal(tmp_path, MIDNIGHT, notes)
    assert not (tmp_path / FOLDER / "00.parquet").exists()
    write(tmp_path, [hit(visit=3)])
    seal(tmp_path, MIDNIGHT, notes)
    assert read_rows(tmp_path / FOLDER / "00.parquet", "hot").num_rows == 3
    assert notes.events() == ["sealed"]


def test_late_rows_join_a_sealed_hour(tmp_path: Path) -> None:
    """A sealed hour takes what comes after, as if it had been there before."""
    write(tmp_path / "late", ROWS[:50])
    seal(tmp_path / "late", OVER, Notes())
    write(tmp_path / "late", ROWS[50:])
    seal(tmp_path / "late", OVER, Notes())
    write(tmp_path / "once", ROWS)
    seal(tmp_path / "once", OVER, Notes())
    assert sealed(tmp_path / "late") == sealed(tmp_path / "once")


@pytest.mark.slow
def test_killed_at_any_step_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """At each step a reader finds every row once, and the next run ends with the bytes of an undisturbed one.

    The second kill falls into the recovery from the first.
    """
    write(tmp_path / "once", ROWS)
    seal(tmp_path / "once", OVER, Notes())
    steps = [(first, second) for first in range(24) for second in (1, 6)]
    for first, second in steps:
        root = tmp_path / f"{first}-{second}"
        write(root, ROWS[:20])
        seal(root, OVER, Notes())
        write_segments(root, [ROWS[20:40], ROWS[40:]])
        for step in (first, second):
            with killed_after(step) as fate:
                seal(root, OVER, Notes())
            assert count_rows(root) == len(ROWS)
        seal(root, OVER, Notes())
        assert sealed(root) == sealed(tmp_path / "once")
    assert not fate.came
    assert first > 10


def test_rows_that_come_between_a_kill_and_the_recovery_are_kept(tmp_path: Path) -> None:
    """A writer that starts after a crash may write before anything is mended."""
    for step in deaths():
        root = tmp_path / str(step)
        write(root, ROWS[:30])
        with killed_after(step) as fate:
            seal(root, OVER, Notes())
        write(root, ROWS[30:])
        assert count_rows(root) == len(ROWS)
        seal(root, OVER, Notes())
        assert count_rows(root) == len(ROWS)
        assert len(sealed(root)) == 1
        if not fate.came:
            break
    assert step > 10


def test_a_torn_merge_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    """A merged file that was cut short is discarded: the segments still count."""
    write(tmp_path, ROWS)
    hour = days(tmp_path, "hot")[0].hours()[0]
    hour.merged.write_bytes(b"PAR1 torn")
    recover(hour, Notes())
    assert not hour.merged.exists()
    assert count_rows(tmp_path) == len(ROWS)


def test_a_broken_file_is_set_aside_and_told(tmp_path: Path) -> None:
    """It isn't deleted, and it doesn't keep the others from being sealed."""
    write_segments(tmp_path, [visits(3), visits(4)])
    segment = sorted((tmp_path / FOLDER / "00.open").iterdir())[0]
    lost = read_rows(segment, "hot").num_rows
    broken = segment.read_bytes()[:-10]
    segment.write_bytes(broken)
    notes = Notes()
    seal(tmp_path, OVER, notes)
    assert notes.events() == ["set_aside", "sealed"]
    told = notes[0][1]
    aside = tmp_path / str(told["file"])
    assert aside.suffix == ".broken"
    assert aside.read_bytes() == broken
    assert told["from"] == segment.relative_to(tmp_path).as_posix()
    assert told["sha256"] == sha256(broken).hexdigest()
    assert count_rows(tmp_path) == 7 - lost


def test_what_others_put_among_the_segments_is_kept(tmp_path: Path) -> None:
    """Foreign files survive the merge, under a folder that is foreign too, and don't stop the next one."""
    for round_ in range(2):
        write(tmp_path, visits(3, first=round_ * 3))
        (tmp_path / FOLDER / "00.open" / "notes.txt").write_text("mine")
        seal(tmp_path, OVER, Notes())
    assert count_rows(tmp_path) == 6
    kept = sorted((tmp_path / FOLDER).rglob("notes.txt"))
    assert [path.read_text() for path in kept] == ["mine", "mine"]
    assert all(".foreign." in path.parent.name for path in kept)


def test_one_bad_hour_doesnt_keep_the_others(tmp_path: Path) -> None:
    """The error comes when all the rest is done."""
    write(tmp_path, [hit(0), hit(HOUR_S)])
    (tmp_path / FOLDER / "00.parquet.tmp").mkdir()
    with pytest.raises(OSError, match="directory"):
        seal(tmp_path, OVER + HOUR_S, Notes())
    assert (tmp_path / FOLDER / "01.parquet").exists()
