"""Old logs, whole: lines in, settled days out. One process, or one of several with a range of days each.

    read_in_order     blocks of lines, from the log that is furthest behind
    parse_lines       raw columns
    prepare           the rules, which depend on nothing but the request
    Epoch             visits, whose numbers are in memory only; what k visitors share
    pass_gate         the closed world
    make_day          unlinked rows and totals

An epoch is closed once every log has come an hour past its end. A line that comes later than that is counted and left
out. A day is made once the epochs are closed that began before its end; raw lines and the numbers of visits never leave
the memory of the process that made them.

Several processes have nothing in common but the names of the files: each has a range of days, and makes an epoch that
reaches over the border for itself. As days hold no number of a session or visit, the result is that of a single
process.
"""

import math
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.anonymize.context import Context
from anonproxy.anonymize.rules import MAX_TIME_S
from anonproxy.ingest.countries import open_countries
from anonproxy.ingest.epoch import Epoch, prepare
from anonproxy.ingest.formats import Parsed, parse_lines
from anonproxy.ingest.sources import Source, TimedBlock, has_urls, read_in_order
from anonproxy.keys.ring import next_cut
from anonproxy.model.coded import encode, join
from anonproxy.model.hit import VisitMark
from anonproxy.model.settings import PrivacySettings, Settings, SiteSettings
from anonproxy.model.vocabularies import DropReason
from anonproxy.store.imports import Made, Shelf, make_day
from anonproxy.store.layout import DAY_S
from anonproxy.store.sql import add_date
from anonproxy.store.write import Entries, list_entries, pass_gate

# Servers log a request when it is over, some with the time at which it began; most downloads take less than an hour.
SLACK_S: Final = 3_600

# Raw texts that a cache remembers while logs are read: each day has mostly the visitors of the day before.
CACHED_TEXTS: Final = 65_536

# Line numbers of unreadable lines that are kept for each reason and file.
SHOWN_LINES: Final = 5

LOCAL_ZONE: Final = Path("/etc/localtime")


class Skip(StrEnum):
    """Why a line that could be read is in no day, beside what drops a request anywhere and what refuses a day."""

    NOT_ASKED = "not_asked_for"
    OUT_OF_ORDER = "out_of_order"
    DAMAGED = "damaged_file"


class Task(NamedTuple):
    """What one process has to do. It holds nothing secret and nothing that came from traffic."""

    settings: Settings
    sources: tuple[Source, ...]
    shelf: Shelf
    site: str | None = None  # the site of all lines, whatever host they name
    since: date = date.min
    until: date = date.max
    learned: Mapping[str, Sequence[str]] = {}  # the pages that the sites publish
    cuts: tuple[date, ...] = ()  # where the ranges of days begin, but for the first
    part: int = 0  # which of the ranges is this task's


class BlockRead(NamedTuple):
    """A block of a log is dealt with."""

    source: int
    read_bytes: int
    lines: int = 0
    ignored: int = 0
    rejected: Mapping[str, int] = {}
    rejected_lines: Mapping[str, tuple[int, ...]] = {}  # the numbers of the first ones in the file


class Lost(NamedTuple):
    """Lines that are in no day, by reason."""

    counts: Counter[str]


def import_days(task: Task) -> Iterator[BlockRead | Lost | Made]:
    """Read logs and make the days that are wanted, oldest first."""
    importer = _Importer(task)
    for timed in read_in_order(task.sources, find_zone(task.settings.privacy)):
        yield from importer.take(timed)
    yield from importer.finish()


@dataclass(slots=True)
class _Day:
    """The rows of a day of a site so far."""

    tables: list[pa.Table] = field(default_factory=list)
    entries: Entries = field(default_factory=dict)


class _NoVisits:
    """Takes the place of visits where rules are applied: they need none."""

    def mark(self, site: str, raw_parts: tuple[bytes, ...], time_s: float, is_pageview: bool) -> VisitMark | None:
        """Mark nothing."""
        return None

    def hand_over(self, site: str, raw_parts: tuple[bytes, ...], raw_next_parts: tuple[bytes, ...]) -> None:
        """Hand nothing over."""


class _Importer:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._privacy = task.settings.privacy
        self._zone = find_zone(self._privacy)
        self._context = Context(task.settings, _NoVisits(), open_countries(task.settings.country), CACHED_TEXTS)
        self._home = find_home(task.settings, task.site) or ""
        for site, paths in task.learned.items():
            self._context.learn_routes(site, paths)
        self._epochs: dict[float, Epoch] = {}  # by their ends
        self._days: dict[tuple[date, str], _Day] = {}
        self._next_visit = 0
        self._closed_s = -math.inf  # epochs that end before this are closed
        self._lost: Counter[str] = Counter()

    def take(self, timed: TimedBlock) -> Iterator[BlockRead | Lost | Made]:
        """Take a block in, and make the days that are complete before it."""
        self._closed_s = max(self._closed_s, timed.from_s - SLACK_S)
        yield from self._close_epochs()
        task = self._task
        is_own = _part_of(_date(timed.from_s), task.cuts) == task.part
        if is_own or _reads(task.part, timed, task.cuts):
            parsed = parse_lines(timed.block.data, timed.block.format, zone=self._zone)
            self._take_rows(parsed.requests, timed, is_own=is_own)
            if is_own:
                yield _describe(timed, parsed)
        yield Lost(+self._lost)
        self._lost.clear()

    def finish(self) -> Iterator[Lost | Made]:
        """Close what is open, and make the days that are left."""
        self._closed_s = math.inf
        yield from self._close_epochs()
        yield Lost(+self._lost)

    def _take_rows(self, requests: pa.Table, timed: TimedBlock, *, is_own: bool) -> None:
        """Bring rows to their epochs, and count those that have none."""
        if not requests.num_rows:
            return
        is_credible = pc.and_(pc.greater_equal(requests["time_s"], 0), pc.less(requests["time_s"], MAX_TIME_S))
        if not pc.all(is_credible).as_py():
            self._lost[DropReason.BAD_TIME] += is_own * (requests.num_rows - requests.filter(is_credible).num_rows)
            requests = requests.filter(is_credible)
        times_s = requests["time_s"]
        ends_s = self._find_ends(times_s)
        days = pc.floor(pc.divide(times_s, DAY_S)).cast(pa.int64())
        wanted = {end_s for end_s in ends_s.unique().to_pylist() if end_s > self._closed_s and self._is_wanted(end_s)}
        pairs = (
            pa.table({"end": ends_s, "day": days})
            .group_by(["end", "day"], use_threads=False)
            .aggregate([([], "count_all")])
        )
        for end_s, day, count in zip(*(pairs[name].to_pylist() for name in ("end", "day", "count_all")), strict=True):
            self._count_row_group(_date(day * DAY_S), count, timed, is_own=is_own, is_kept=end_s in wanted)
        is_mine = pc.is_in(
            days,
            value_set=pa.array(
                [day for day in pairs["day"].unique().to_pylist() if self._is_mine(_date(day * DAY_S))], pa.int64()
            ),
        )
        is_kept = pc.is_in(ends_s, value_set=pa.array(sorted(wanted), pa.float64()))
        for is_chosen, counts in ((pc.and_(is_kept, is_mine), True), (pc.and_not(is_kept, is_mine), False)):
            self._prepare(requests.filter(is_chosen), counts=counts)

    def _count_row_group(self, when: date, count: int, timed: TimedBlock, *, is_own: bool, is_kept: bool) -> None:
        """Count the rows of a date that nobody will make a day of; who makes the day counts the others."""
        part = _part_of(when, self._task.cuts)
        if part != self._task.part:
            if is_own and not _reads(part, timed, self._task.cuts):
                self._lost[Skip.OUT_OF_ORDER] += count
        elif not is_kept:
            self._lost[self._refuse_date(when) or Skip.OUT_OF_ORDER] += count

    def _prepare(self, requests: pa.Table, *, counts: bool) -> None:
        """Apply the rules to rows, and bring each to its epoch."""
        if not requests.num_rows:
            return
        prepared = prepare(self._name_hosts(requests), self._context)
        if counts:
            self._lost.update(prepared.dropped)
        ends_s = self._find_ends(prepared.rows["time_s"])
        epochs = ends_s.unique().to_pylist()
        for end_s in epochs:
            rows = prepared.filter(pc.equal(ends_s, end_s)) if len(epochs) > 1 else prepared
            epoch = self._epochs.get(end_s)
            if epoch is None:
                epoch = self._epochs[end_s] = Epoch(self._privacy, pc.min(rows.rows["time_s"]).as_py())
            epoch.add(rows)

    def _name_hosts(self, requests: pa.Table) -> pa.Table:
        """Give lines a host by which their site is found, where they name none or all are of one site."""
        requests = name_hosts(requests, self._home.encode())
        if self._task.site is None:
            return requests
        hosts = encode(requests["raw_host"].combine_chunks())
        named = hosts.map(lambda raw: raw if self._is_of_site(raw) else self._home.encode()).gather(pa.binary())
        return requests.set_column(requests.column_names.index("raw_host"), "raw_host", named)

    def _is_of_site(self, raw_host: bytes) -> bool:
        found = self._context.find_site(raw_host.decode("utf-8", "surrogateescape"))
        return found is not None and found[1].name == self._task.site

    def _close_epochs(self) -> Iterator[Made]:
        """Close the epochs that are over, and make the days that have all their rows."""
        for end_s in sorted(end_s for end_s in self._epochs if end_s <= self._closed_s):
            hits = self._epochs.pop(end_s).close(self._context, self._next_visit)
            self._next_visit += hits.num_rows  # there can't be more visits than rows
            for (site, when), rows in _split_days(hits):
                allowed = pass_gate(rows, self._context.vocabulary)
                if self._is_mine(when):
                    self._lost[DropReason.OUTSIDE_VOCABULARY] += rows.num_rows - allowed.num_rows
                day = self._days.setdefault((when, site), _Day())
                day.tables.append(add_date(allowed, when))
                day.entries.update(list_entries(self._context.vocabulary, site))
            self._context.forget_admitted()
        for when, site in sorted(self._days):
            if self._is_complete(when):
                yield from self._make(when, site)

    def _make(self, when: date, site: str) -> Iterator[Made]:
        day, next_day = self._days.pop((when, site)), self._days.get((when + ONE_DAY, site), _Day())
        rows = pa.concat_tables(day.tables)
        if not self._is_mine(when) or not rows.num_rows:
            return
        if refusal := self._refuse_date(when) or self._task.shelf.refuse(site, when):
            self._lost[refusal] += rows.num_rows
            return
        next_rows = pa.concat_tables([rows.slice(0, 0), *next_day.tables])
        yield make_day(site, when, rows, next_rows, day.entries, self._privacy.k, self._task.shelf)

    def _find_ends(self, times_s: pa.ChunkedArray) -> pa.ChunkedArray:
        """Find the end of the epoch that each time lies in."""
        ends_s = pa.chunked_array([pa.nulls(len(times_s), pa.float64())])
        while ends_s.null_count:
            first_s = pc.min(times_s.filter(pc.is_null(ends_s))).as_py()
            end_s = self._end_of_epoch(first_s)
            is_in = pc.and_(pc.greater_equal(times_s, first_s), pc.less(times_s, end_s))
            ends_s = pc.if_else(is_in, end_s, ends_s)
        return ends_s

    def _end_of_epoch(self, time_s: float) -> float:
        privacy = self._privacy
        zone = None if privacy.time_zone == "local" else ZoneInfo(privacy.time_zone)
        return next_cut(time_s, privacy.epoch_cut, zone, privacy.epoch_hours * 3600)

    def _is_complete(self, when: date) -> bool:
        """Tell whether all epochs are closed that began before the end of a day."""
        return self._end_of_epoch(_starts_at(when + ONE_DAY) - 1) <= self._closed_s

    def _is_mine(self, when: date) -> bool:
        return _part_of(when, self._task.cuts) == self._task.part

    def _is_wanted(self, end_s: float) -> bool:
        """Tell whether an epoch, which lasts a day at most, holds rows of a day that is to be made."""
        dates = {_date(end_s - DAY_S), _date(end_s - 1)}
        return any(self._is_mine(when) and self._refuse_date(when) is None for when in dates)

    def _refuse_date(self, when: date) -> str | None:
        """Say why no site's day of a date is made."""
        task = self._task
        if not task.since <= when <= task.until:
            return Skip.NOT_ASKED
        refusals = [task.shelf.refuse(site.name, when) for site in task.settings.sites]
        return refusals[0] if all(refusals) else None


ONE_DAY: Final = timedelta(days=1)


def find_zone(privacy: PrivacySettings) -> tzinfo:
    """Find the time zone of logs that don't name theirs: the library's."""
    if privacy.time_zone != "local":
        return ZoneInfo(privacy.time_zone)
    try:
        with LOCAL_ZONE.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


ABSOLUTE: Final = re.compile(rb"https?://(?:[^/?#@]*@)?([^/?#]*)", re.IGNORECASE)


def name_hosts(requests: pa.Table, home: bytes) -> pa.Table:
    """Take the host out of whole URLs, as EZproxy logs them, where no field names it; else it is the home.

    Source: RFC 9112 section 3.2.2
    """
    if "raw_host" in requests.column_names:
        return requests
    hosts = pa.repeat(pa.scalar(home, pa.binary()), requests.num_rows)
    if has_urls(requests):
        targets = encode(requests["raw_target"].combine_chunks())
        found = targets.map(lambda raw: named[1] if (named := ABSOLUTE.match(raw)) else home)
        hosts = found.gather(pa.binary())
    return requests.append_column("raw_host", hosts)


def find_home(settings: Settings, site: str | None) -> str | None:
    """Give the host that lines are of which name none; None when it could be any of several sites."""
    candidates = [each for each in settings.sites if site in {None, each.name}]
    default = [each for each in candidates if not each.hosts or "*" in each.hosts]
    chosen = next(iter(default or candidates)) if default or len(candidates) == 1 else None
    return _host_of(chosen) if chosen else None


def _host_of(site: SiteSettings) -> str:
    named = [host for host in site.hosts if host != "*"]
    return next((host for host in named if "*" not in host), named[0].replace("*", "www") if named else "")


def _part_of(when: date, cuts: tuple[date, ...]) -> int:
    """Say in whose range a date lies."""
    return bisect(cuts, when)


def _reads(part: int, timed: TimedBlock, cuts: tuple[date, ...]) -> bool:
    """Tell whether the process that has a range of days reads a block, also for epochs that reach over the border."""
    from_s = _starts_at(cuts[part - 1] - ONE_DAY) if part else -math.inf
    until_s = _starts_at(cuts[part] + ONE_DAY) if part < len(cuts) else math.inf
    return timed.from_s - SLACK_S < until_s and timed.until_s + SLACK_S > from_s


def _describe(timed: TimedBlock, parsed: Parsed) -> BlockRead:
    block = timed.block
    rejected = {str(reason): numbers for reason, numbers in parsed.rejected.items()}
    if block.is_damaged:
        rejected[Skip.DAMAGED] = [parsed.lines + 1]
    return BlockRead(
        block.source,
        block.read_bytes,
        parsed.lines + block.is_damaged,  # nobody knows how many lines there would have been
        parsed.ignored,
        {reason: len(numbers) for reason, numbers in rejected.items()},
        {
            reason: tuple(block.first_line + number - 1 for number in numbers[:SHOWN_LINES])
            for reason, numbers in rejected.items()
        },
    )


def _split_days(hits: pa.Table) -> Iterator[tuple[tuple[str, date], pa.Table]]:
    days = pc.divide(hits["time"].cast(pa.int64()), DAY_S)
    places = join([encode(days), encode(hits["site"])])
    for number, (day, site) in enumerate(places.values):
        yield (site, _date(day * DAY_S)), hits.filter(pc.equal(places.codes, number))


def _date(time_s: float) -> date:
    return datetime.fromtimestamp(time_s, UTC).date()


def _starts_at(when: date) -> float:
    return datetime(when.year, when.month, when.day, tzinfo=UTC).timestamp()
