"""Every report counted from scratch, in plain Python, from our own record of the traffic.

Nothing here is shared with what is tested. The rules are those of docs/reports.md.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from tests.reports.traffic import Seen

OTHER: Final = "(other)"
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

type Rows = list[tuple[Any, ...]]


@dataclass
class Cell:
    """What one value has on one day."""

    requests: int = 0
    pageviews: int = 0
    visits: set[Any] = field(default_factory=set)
    bounces: int = 0
    seconds: int = 0


@dataclass
class Figures:
    """Sums of cells, in which visits have become numbers."""

    requests: int = 0
    pageviews: int = 0
    visits: int = 0
    bounces: int = 0
    seconds: int = 0
    days: set[date] = field(default_factory=set)


@dataclass
class Visit:
    """A visit, as its requests tell it."""

    site: str
    requests: list[Seen]

    @property
    def pages(self) -> list[Seen]:
        """List the pages that it looked at."""
        return [seen for seen in self.requests if seen.is_pageview]

    @property
    def day(self) -> date:
        """Give the day of its first page, or of its first request if it saw none."""
        return (self.pages or self.requests)[0].day

    @property
    def seconds(self) -> int:
        """Give its length."""
        return max(seen.elapsed_s for seen in self.requests)


class Count:
    """Our record, counted for a period and perhaps a site."""

    def __init__(self, record: Iterable[Seen], since: date, until: date, site: str | None, k: int) -> None:
        self.k, self.since, self.until = k, since, until
        self.all_days = [s for s in record if site in {None, s.site}]
        self.seen = [s for s in self.all_days if since <= s.day <= until]
        self.people = [s for s in self.seen if not s.bot]
        by_visit = defaultdict(list)
        for s in self.people:
            if s.visit is not None:
                by_visit[s.visit].append(s)
        self.visits = {number: Visit(requests[0].site, requests) for number, requests in by_visit.items()}

    def cells(self, value_of: Callable[[Seen], str | None]) -> dict[tuple[date, str], dict[str, Cell]]:
        """Count people's requests by day, site and value."""
        days: dict[tuple[date, str], dict[str, Cell]] = defaultdict(lambda: defaultdict(Cell))
        for s in self.people:
            value = value_of(s)
            if value is not None:
                cell = days[s.day, s.site][value]
                cell.requests += 1
                cell.pageviews += s.is_pageview
                if s.visit is not None and s.visit not in cell.visits:
                    cell.visits.add(s.visit)
                    visit = self.visits[s.visit]
                    cell.bounces += len(visit.pages) == 1
                    cell.seconds += visit.seconds
        return days

    def fold(self, cells: dict[str, Cell], size: Callable[[Cell], int]) -> dict[str, list[Cell]]:
        """Fold the cells of one day and site: below k visits they become (other), and never one alone."""
        thin = {value for value, cell in cells.items() if value == OTHER or size(cell) < self.k}
        rest = set(cells) - thin
        if len(thin) == 1 and thin != {OTHER} and rest:
            companion = min(rest, key=lambda value: (size(cells[value]), value))
            thin.add(companion)
            rest.remove(companion)
        folded: dict[str, list[Cell]] = {value: [cells[value]] for value in rest}
        if thin:
            folded[OTHER] = [cells[value] for value in thin]
        return folded

    def total(
        self,
        value_of: Callable[[Seen], str | None],
        size: Callable[[Cell], int] = lambda cell: len(cell.visits),
        folds: bool = True,
        key: Callable[[date, str], Any] = lambda day, value: value,
    ) -> dict[Any, Figures]:
        """Sum up the folded cells of all days by value."""
        sums: dict[Any, Figures] = defaultdict(Figures)
        for (day, _), cells in self.cells(value_of).items():
            folded = self.fold(cells, size) if folds else {value: [cell] for value, cell in cells.items()}
            for value, parts in folded.items():
                figures = sums[key(day, value)]
                for cell in parts:
                    figures.requests += cell.requests
                    figures.pageviews += cell.pageviews
                    figures.visits += len(cell.visits)
                    figures.bounces += cell.bounces
                    figures.seconds += cell.seconds
                figures.days.add(day)
        return sums

    def first(self, s: Seen, name: str) -> Any:
        """Give how the visit of a request came: what its first page has. Without one, what the request itself has."""
        visit = self.visits.get(s.visit) if s.visit is not None else None
        if visit and visit.pages:
            return getattr(visit.pages[0], name)
        return getattr(s, name)


def percent(part: float, whole: float) -> float:
    """Give a share in whole percent."""
    return float(_round(100 * part / whole))


def _round(value: float, digits: int = 0) -> float:
    scale: int = 10**digits
    return int(value * scale + 0.5) / scale


def _breakdown(value_of: Callable[[Count, Seen], str | None]) -> Callable[[Count], Rows]:
    def rows(count: Count) -> Rows:
        sums = count.total(lambda s: value_of(count, s))
        return [(value, f.visits, f.pageviews) for value, f in sums.items()]

    return rows


def _column(name: str) -> Callable[[Count], Rows]:
    return _breakdown(lambda count, s: str(getattr(s, name)))


def _origin(name: str, internal: str) -> Callable[[Count], Rows]:
    """Count by how a visit came. A page of no visit that was reached from the site itself is (other)."""

    def value_of(count: Count, s: Seen) -> str:
        value = str(count.first(s, name))
        goes_on = s.visit is not None and bool(count.visits[s.visit].pages)
        return value if value != internal or goes_on else OTHER

    def rows(count: Count) -> Rows:
        return [row for row in _breakdown(value_of)(count) if row[0] != internal]

    return rows


def _page(kind: str) -> Callable[[Count], Rows]:
    """Count the pages of a kind that are named among all pages of their day. There is no rest."""

    def rows(count: Count) -> Rows:
        pages = count.cells(lambda s: s.page if s.is_pageview else None)
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for place, cells in count.cells(lambda s: s.page if s.is_pageview and s.kind == kind else None).items():
            named = count.fold(pages[place], lambda cell: len(cell.visits)).keys() - {OTHER}
            for value in named & {value for value, cell in cells.items() if len(cell.visits) >= count.k}:
                sums[value][0] += len(cells[value].visits)
                sums[value][1] += cells[value].pageviews
        return [(value, *figures) for value, figures in sums.items()]

    return rows


def _requests(value_of: Callable[[Seen], str | None]) -> Callable[[Count], Rows]:
    def rows(count: Count) -> Rows:
        return [(value, f.requests, f.visits) for value, f in count.total(value_of).items()]

    return rows


def _ends(end: int) -> Callable[[Count], dict[str, list[Any]]]:
    """Count visits by their first (0) or last (-1) page."""

    def sums(count: Count) -> dict[str, list[Any]]:
        days: dict[tuple[date, str], dict[str, Cell]] = defaultdict(lambda: defaultdict(Cell))
        for number, visit in count.visits.items():
            if visit.pages:
                cell = days[visit.day, visit.site][visit.pages[end].page]
                cell.visits.add(number)
                cell.bounces += len(visit.pages) == 1
                cell.seconds += visit.seconds
        found: dict[str, list[Any]] = defaultdict(lambda: [0, 0, 0])
        for cells in days.values():
            for value, parts in count.fold(cells, lambda cell: len(cell.visits)).items():
                for cell in parts:
                    found[value][0] += len(cell.visits)
                    found[value][1] += cell.bounces
                    found[value][2] += cell.seconds
        return found

    return sums


def _entry(count: Count) -> Rows:
    return [(v, n, percent(b, n), _round(s / n)) for v, (n, b, s) in _ends(0)(count).items()]


def _exit(count: Count) -> Rows:
    return [(v, n) for v, (n, _, _) in _ends(-1)(count).items()]


def _overview(count: Count) -> Rows:
    f = count.total(lambda s: "", folds=False).get("", Figures())
    bots = len(count.seen) - len(count.people)
    if not f.visits:
        return [(0, f.pageviews, None, None, None, f.requests + bots, bots)]
    per_visit = _round(f.pageviews / f.visits, 1)
    seconds = _round(f.seconds / f.visits)
    return [(f.visits, f.pageviews, per_visit, percent(f.bounces, f.visits), seconds, f.requests + bots, bots)]


def _in_time(key: Callable[[date, str], Any]) -> Callable[[Count], dict[Any, Figures]]:
    return lambda count: count.total(lambda s: "", folds=False, key=key)


def _days(count: Count) -> Rows:
    return [(k, f.visits, f.pageviews) for k, f in sorted(_in_time(lambda day, _: day)(count).items())]


def _months(count: Count) -> Rows:
    return [(k, f.visits, f.pageviews) for k, f in sorted(_in_time(lambda day, _: f"{day:%Y-%m}")(count).items())]


def _weekdays(count: Count) -> Rows:
    found = _in_time(lambda day, _: day.weekday())(count)
    return [(WEEKDAYS[k], f.visits, f.pageviews, len(f.days)) for k, f in sorted(found.items())]


def _weekday_hours(count: Count) -> Rows:
    sums = count.total(lambda s: s.hour, key=lambda day, value: (WEEKDAYS[day.weekday()], value))
    return [(*key, f.visits, f.pageviews) for key, f in sums.items()]


def _errors(count: Count) -> Rows:
    return [row for row in _requests(lambda s: str(s.status))(count) if row[0] != OTHER and int(row[0]) >= 400]


def _bots(count: Count) -> Rows:
    days: dict[tuple[date, str], dict[str, Cell]] = defaultdict(lambda: defaultdict(Cell))
    for s in count.seen:
        if s.bot:
            days[s.day, s.site][s.bot].requests += 1
    sums: Counter[str] = Counter()
    for cells in days.values():
        for value, parts in count.fold(cells, lambda cell: cell.requests).items():
            sums[value] += sum(cell.requests for cell in parts)
    return list(sums.items())


def add_up(count: Count, named: Iterable[tuple[str, Seen]]) -> tuple[Rows, dict[str, int]]:
    """Add up requests, to the nearest k, and their bytes: of each month's days in stretches of k requests or more."""
    days: dict[tuple[str, str], dict[date, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    for value, seen in named:
        days[seen.site, value][seen.day].append(seen)
    told: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for (_, value), by_day in days.items():
        stretch: list[Seen] = []
        for day in sorted(by_day):
            stretch = [seen for seen in stretch if seen.day.month == day.month] + by_day[day]
            if len(stretch) >= count.k:
                if all(count.since <= seen.day <= count.until for seen in stretch):
                    told[value] += int(len(stretch) / count.k + 0.5) * count.k
                    sizes[value] += sum(seen.size_bytes for seen in stretch)
                stretch = []
    there_are = sum(count.since <= day <= count.until and len(seen) for d in days.values() for day, seen in d.items())
    rest = there_are - told.total()
    return [*told.items(), *([(OTHER, rest)] if rest > 0 else [])], sizes


def _response_times(count: Count) -> Rows:
    return add_up(count, ((str(s.duration_ms), s) for s in count.all_days if s.is_pageview and not s.bot))[0]


def count_transfer(count: Count) -> tuple[Rows, dict[str, int]]:
    """Count requests by kind, and sum up exact lengths."""
    return add_up(count, ((s.kind, s) for s in count.all_days))


EXPECTED: Final[dict[str, Callable[[Count], Rows]]] = {
    "overview": _overview,
    "days": _days,
    "months": _months,
    "weekdays": _weekdays,
    "hours": _column("hour"),
    "weekday_hours": _weekday_hours,
    "pages": _breakdown(lambda count, s: s.page if s.is_pageview else None),
    "entry": _entry,
    "exit": _exit,
    "kinds": _column("kind"),
    "searches": _page("search"),
    "items": _page("item"),
    "downloads": _page("download"),
    "channels": _origin("channel", "internal"),
    "referrers": _origin("referrer", "(internal)"),
    "campaigns": _breakdown(lambda count, s: count.first(s, "campaign")),
    "countries": _column("country"),
    "networks": _column("network_class"),
    "languages": _column("language"),
    "devices": _column("device"),
    "browsers": _column("browser"),
    "systems": _column("os"),
    "status": _requests(lambda s: str(s.status)),
    "errors": _errors,
    "broken_links": _requests(lambda s: s.referrer if s.status == 404 else None),
    "failing_pages": _requests(lambda s: s.page if s.status == 500 else None),
    "response_times": _response_times,
    "bots": _bots,
}
