"""Old logs, whole: what is in a log is in its days, whatever files it comes in and whoever reads them."""

import bz2
import gzip
import io
import lzma
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anonproxy.ingest import sources
from anonproxy.ingest.pipeline import BlockRead, Lost, Skip, Task, import_days
from anonproxy.ingest.run_import import Tally
from anonproxy.model.vocabularies import DropReason
from anonproxy.store.imports import Made, Refusal
from tests.support.invented_logs import NOW_S, Line, count_by_day, day, invent, plan, settings, write_log

DAY_S = 86_400


def run(task: Task) -> tuple[Tally, dict[tuple[str, date], Made]]:
    """Import in this process."""
    tally, days = Tally(task.sources), {}
    for message in import_days(task):
        tally.add(message)
        if isinstance(message, Made):
            days[message.site, message.date] = message
    assert tally.unaccounted == 0
    return tally, days


def read(made: Made, kind: Any) -> list[dict[str, Any]]:
    """Read a file of a day that was made."""
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(made.files[kind])).to_pylist()
    return rows


def totals(made: Made, dimension: str) -> dict[str, dict[str, Any]]:
    """Return one dimension of a day's totals."""
    return {row["value"]: row for row in read(made, "daily") if row["dimension"] == dimension}


@pytest.fixture
def log() -> list[Line]:
    """Return a log of three days."""
    return invent()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read logs in blocks of a few dozen lines."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 5_000)
    monkeypatch.setattr(sources, "LEAST_BLOCK_BYTES", 5_000)


CUT_S = 9 * 3_600  # 04:00 in New York, in November, as UTC


def true_visits(log: list[Line]) -> Counter[date]:
    """Count the visits of each day as one does with a pencil: a pause of half an hour or the cut ends one."""
    begun: Counter[date] = Counter()
    for person in {line.person for line in log} - {0}:
        visit: list[Line] = []
        for line in [*(line for line in log if line.person == person), None]:
            is_next = visit and (
                line is None
                or line.time_s - visit[-1].time_s > 1800
                or (line.time_s - CUT_S) // DAY_S != (visit[-1].time_s - CUT_S) // DAY_S
            )
            if is_next:
                begun[next((each for each in visit if each.status == 200), visit[0]).date] += 1
                visit = []
            if line:
                visit.append(line)
    return begun


def test_every_line_is_counted_as_what_it_is(tmp_path: Path, log: list[Line]) -> None:
    """Rows, visits, pages, statuses and robots of each day are those that one counts in the log itself."""
    tally, days = run(plan(settings(tmp_path), write_log(tmp_path / "a.log", log)))
    assert (tally.read, tally.written) == (len(log), len(log))
    assert {when: made.rows for (_, when), made in days.items()} == count_by_day(log)
    visits = true_visits(log)
    for (_, when), made in days.items():
        of_day = [line for line in log if line.date == when]
        people = [line for line in of_day if line.person]
        total, hits = totals(made, "total")[""], read(made, "hits")
        assert total["hits"] == len(people)
        assert total["pageviews"] == sum(line.status == 200 for line in people)
        assert total["visits"] == visits[when]
        assert Counter(row["status"] for row in hits) == Counter(line.status for line in of_day)
        assert Counter(row["bot"] for row in hits)["search"] == len(of_day) - len(people)
        assert {row["route"] for row in hits} >= {"/", "/events", "/about/1", "(unmatched)"}
        assert not any("private" in str(row) for row in hits)
    assert any(line.date != each.date for line in log for each in log if line.person == each.person)


def compress(path: Path, pack: Callable[[bytes], bytes]) -> Path:
    """Compress a log where it lies."""
    path.write_bytes(pack(path.read_bytes()))
    return path


def as_one(folder: Path, log: list[Line]) -> Iterator[Path]:
    """Write one file."""
    yield write_log(folder / "access.log", log)


def as_rotated(folder: Path, log: list[Line]) -> Iterator[Path]:
    """Write a rotated set, compressed in four ways, under names that are in no order of time."""
    size = len(log) // 5 + 1
    zstd = pa.Codec("zstd")
    packers = [
        lambda data: data,
        gzip.compress,
        bz2.compress,
        lzma.compress,
        lambda data: zstd.compress(data, asbytes=True),
    ]
    for number, pack in enumerate(packers):
        path = write_log(folder / f"access.log.{(number * 3) % 5}", log[number * size : (number + 1) * size])
        yield compress(path, pack)


def as_two_servers(folder: Path, log: list[Line]) -> Iterator[Path]:
    """Write the logs of two servers, between which visitors change."""
    yield write_log(folder / "one.log", log[::2])
    yield write_log(folder / "two.log", log[1::2])


def as_members(folder: Path, log: list[Line]) -> Iterator[Path]:
    """Write a file of two compressed pieces, as `cat a.gz b.gz` makes it."""
    text = "".join(f"{line.text}\n" for line in log).encode()
    half = text.find(b"\n", len(text) // 2) + 1
    path = folder / "access.log.gz"
    path.write_bytes(gzip.compress(text[:half]) + gzip.compress(text[half:]))
    yield path


def as_disordered(folder: Path, log: list[Line]) -> Iterator[Path]:
    """Write lines up to twenty minutes from where they belong."""
    moved = sorted(enumerate(log), key=lambda item: item[1].time_s + (item[0] * 7919 % 1200))
    yield write_log(folder / "access.log", [line for _, line in moved])


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("write", [as_one, as_rotated, as_two_servers, as_members, as_disordered])
def test_the_days_are_the_same_whatever_the_files(
    tmp_path: Path, log: list[Line], small_blocks: None, write: Callable[..., Iterator[Path]], parts: int
) -> None:
    """To the byte, and whether one process reads them or three; visit numbers and keys leave no trace."""
    del small_blocks
    expected = run(plan(settings(tmp_path), write_log(tmp_path / "whole.log", log)))[1]
    folder = tmp_path / "logs"
    folder.mkdir()
    task = plan(settings(tmp_path), *write(folder, log))
    cuts = tuple(day(number) for number in range(1, parts))
    tally, days = Tally(task.sources), {}
    for part in range(parts):
        for message in import_days(task._replace(cuts=cuts, part=part)):
            tally.add(message)
            if isinstance(message, Made):
                assert (message.site, message.date) not in days
                days[message.site, message.date] = message
    assert (tally.read, tally.written, tally.lost.total()) == (len(log), len(log), 0)
    assert tally.read_bytes == sum(source.size_bytes for source in task.sources)
    assert days == expected


REFUSED = [
    ({"now_s": NOW_S + 800 * DAY_S}, {Refusal.TOO_OLD: (0, 1, 2)}),
    ({"now_s": NOW_S - 10 * DAY_S + 4 * 3_600}, {Refusal.NOT_OVER: (1, 2)}),
    ({"since": day(1)}, {Skip.NOT_ASKED: (0,)}),
    ({"until": day(1)}, {Skip.NOT_ASKED: (2,)}),
    ({"taken": {("www", day(1)): Refusal.IMPORTED}}, {Refusal.IMPORTED: (1,)}),
    ({"taken": {("www", day(0)): Refusal.RECORDED}}, {Refusal.RECORDED: (0,)}),
]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("changes", "expected"), REFUSED)
def test_days_that_are_not_made_are_counted(
    tmp_path: Path, log: list[Line], changes: dict[str, Any], expected: dict[str, tuple[int, ...]], parts: int
) -> None:
    """What there is no room for is counted by its reason; the days beside it are what they would be."""
    whole = run(plan(settings(tmp_path), write_log(tmp_path / "a.log", log)))[1]
    by_day = count_by_day(log)
    task = plan(settings(tmp_path), tmp_path / "a.log", **changes)
    tally, days = Tally(task.sources), {}
    for part in range(parts):
        for message in import_days(task._replace(cuts=(day(2),)[: parts - 1], part=part)):
            tally.add(message)
            if isinstance(message, Made):
                days[message.date] = message
    missing = {day(number) for numbers in expected.values() for number in numbers}
    assert tally.lost == {
        reason: sum(by_day[day(number)] for number in numbers) for reason, numbers in expected.items()
    }
    assert days.keys() == by_day.keys() - missing
    assert all(days[when] == whole["www", when] for when in days)


def test_what_is_too_old_for_single_rows_is_kept_as_totals(tmp_path: Path, log: list[Line]) -> None:
    """A day from before `hits_days` has its totals and the words in them, and no row."""
    write_log(tmp_path / "a.log", log)
    recent = run(plan(settings(tmp_path), tmp_path / "a.log"))[1]["www", day(0)]
    old = run(plan(settings(tmp_path), tmp_path / "a.log", now_s=NOW_S + 100 * DAY_S))[1]["www", day(0)]
    assert (set(recent.files), set(old.files)) == ({"vocabulary", "hits", "daily"}, {"vocabulary", "daily"})
    assert old.files["daily"] == recent.files["daily"]
    held = {row["value"] for row in read(old, "daily")}
    assert {row["value"] for row in read(old, "vocabulary")} <= held
    assert len(read(old, "vocabulary")) < len(read(recent, "vocabulary"))


def test_lines_that_are_far_from_their_time_are_counted(tmp_path: Path, log: list[Line], small_blocks: None) -> None:
    """A line that comes long after its day is left out and counted; it doesn't change another day."""
    del small_blocks
    whole = run(plan(settings(tmp_path), write_log(tmp_path / "a.log", log)))[1]
    strays = [line for line in log if line.date == day(0)][:3]
    tally, days = run(plan(settings(tmp_path), write_log(tmp_path / "a.log", [*log, *strays])))
    assert tally.lost == {Skip.OUT_OF_ORDER: 3}
    assert days == whole


def test_lines_go_to_the_site_of_their_host(tmp_path: Path) -> None:
    """A log of virtual hosts is split; strangers are counted; `site` says whose a line without one is."""
    sites = [
        {"name": "www", "hosts": ["www.example.org"], "upstream": "http://127.0.0.1:9"},
        {"name": "kids", "hosts": ["*.kids.example.org"], "upstream": "http://127.0.0.1:9"},
    ]
    config = settings(tmp_path, sites=sites)
    parts = {
        host: invent(days=1, seed=seed, host=host)
        for seed, host in enumerate(("www.example.org", "a.kids.example.org", "elsewhere.example"))
    }
    log = sorted((line for part in parts.values() for line in part), key=lambda line: line.time_s)
    write_log(tmp_path / "a.log", log)
    tally, days = run(plan(config, tmp_path / "a.log", until=day(0)))
    lost = {host: count_by_day(lines)[day(0)] for host, lines in parts.items()}
    assert tally.lost[DropReason.UNKNOWN_SITE] == len(parts["elsewhere.example"])
    assert {site: made.rows for (site, _), made in days.items()} == {
        "www": lost["www.example.org"],
        "kids": lost["a.kids.example.org"],
    }
    tally, days = run(plan(config, tmp_path / "a.log", until=day(0), site="kids"))
    assert {site: made.rows for (site, _), made in days.items()} == {"kids": sum(lost.values())}
    write_log(tmp_path / "b.log", invent(days=1))
    assert {site for site, _ in run(plan(config, tmp_path / "b.log", site="kids"))[1]} == {"kids"}


BROKEN = (
    "",
    "no line of a log",
    '203.0.113.9 - - [99/Foo/2026:12:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "x"',
    "\x00\x01\x02 binary \x7f",
    'me - - [TIME] "GET / HTTP/1.1" 200 5 "-" "x"',
    f'203.0.113.9 - - [TIME] "GET /{"a" * 100_000} HTTP/1.1" 200 5 "-" "x"',
)


@pytest.mark.parametrize("parts", [1, 2])
def test_lines_that_cant_be_read_are_counted_by_number(tmp_path: Path, small_blocks: None, parts: int) -> None:
    """Broken lines cost themselves and nothing else; numbers are those of the file, whoever reads it."""
    del small_blocks
    log = invent(days=2)
    texts = [line.text for line in log]
    places = range(40, 40 * (len(BROKEN) + 1), 40)
    for place, text in zip(places, BROKEN, strict=True):
        texts.insert(place, text.replace("TIME", log[place].text.partition("[")[2].partition("]")[0]))
    path = tmp_path / "a.log"
    path.write_text("\n".join(texts) + "\n203.0.113.9 - - [10/Nov", encoding="utf-8")
    task = plan(settings(tmp_path), path)
    tally = Tally(task.sources)
    for part in range(parts):
        for message in import_days(task._replace(cuts=(day(1),)[: parts - 1], part=part)):
            tally.add(message)
    assert tally.read == len(texts) + 1
    assert (tally.written, tally.ignored, tally.unaccounted) == (len(log), 1, 0)
    assert tally.lost == {DropReason.BAD_ADDRESS: 1, DropReason.OVERSIZED: 1}
    numbers = sorted(number for kept in tally.rejected_lines[path].values() for number in kept)
    assert numbers == [places[1] + 1, places[2] + 1, places[3] + 1, len(texts) + 1]


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path, log: list[Line]) -> None:
    """What a half compressed file still gives is imported, and where it ends is said."""
    text = "".join(f"{line.text}\n" for line in log).encode()
    path = tmp_path / "a.log.gz"
    path.write_bytes(gzip.compress(text)[:-2_000])
    tally, _ = run(plan(settings(tmp_path), path))
    assert 0 < tally.written < len(log)
    assert tally.rejected[Skip.DAMAGED] == 1


def test_messages_hold_no_line() -> None:
    """What a reader says beside days are numbers, reasons and nothing else."""
    assert BlockRead.__annotations__.keys() == {
        "source",
        "read_bytes",
        "lines",
        "ignored",
        "rejected",
        "rejected_lines",
    }
    assert Lost.__annotations__.keys() == {"counts"}
    assert Made.__annotations__.keys() == {"site", "date", "rows", "files"}
