"""What a page is asked: a period, a site, filters. The address of the page says all of it, so that it can be kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from anonproxy.model.errors import OperatorError
from anonproxy.reports.period import Period, move_months, parse_period, parse_span
from anonproxy.reports.run import FILTERS, Query

# In the order of the period picker.
PERIODS: Final = ("today", "7d", "30d", "month", "12m")
DEFAULT_PERIOD: Final = "30d"
METRICS: Final = ("visits", "pageviews")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and how the address said it."""

    period: Period
    name: str = DEFAULT_PERIOD  # of the period, as in the address; "" for one between two dates
    site: str | None = None
    where: tuple[tuple[str, str], ...] = ()
    metric: str = METRICS[0]

    @property
    def query(self) -> Query:
        """Return what reports are asked."""
        return Query(self.period, self.site, self.where)

    def link(self, path: str = "/") -> str:
        """Return the address of a page that is asked the same."""
        query = urlencode(self.fields())
        return f"{path}?{query}" if query else path

    def fields(self, *, without: Iterable[str] = ()) -> list[tuple[str, str]]:
        """List the fields of the address; what is as usual is left out."""
        period = (
            [("period", self.name)]
            if self.name
            else [("since", str(self.period.since)), ("until", str(self.period.until))]
        )
        fields = period if self.name != DEFAULT_PERIOD else []
        fields += [("site", self.site)] if self.site else []
        fields += [("where", f"{column}={value}") for column, value in self.where]
        fields += [("metric", self.metric)] if self.metric != METRICS[0] else []
        return [field for field in fields if field[0] not in without]

    def narrowed(self, column: str, value: str) -> "Question":
        """Ask for one value of a column only."""
        return replace(self, where=(*(pair for pair in self.where if pair[0] != column), (column, value)))

    def widened(self, column: str) -> "Question":
        """Ask for all values of a column again."""
        return replace(self, where=tuple(pair for pair in self.where if pair[0] != column))

    def at(self, site: str | None) -> "Question":
        """Ask for a site, or for all."""
        return replace(self, site=site)

    def showing(self, metric: str) -> "Question":
        """Ask for another figure in the chart."""
        return replace(self, metric=metric)

    def within(self, since: date, until: date) -> "Question":
        """Ask for another period."""
        return replace(self, period=Period(since, until), name="")

    def beside(self, steps: int) -> "Question":
        """Ask for the period so many steps later, or with a negative number earlier."""
        period = self.period
        if period.since.day == 1 and self.name in {"month", f"{period.since:%Y-%m}"}:
            name = f"{move_months(period.since, steps):%Y-%m}"
            return replace(self, period=parse_span(name, period.since), name=name)
        step = steps * timedelta(days=period.days)
        return self.within(period.since + step, period.until + step)


def parse_question(parameters: QueryParams, today: date, sites: Iterable[str]) -> Question:
    """Read the query of an address.

    Raises: OperatorError in words for the reader of the page
    """
    name = parameters.get("period", "" if parameters.get("since") else DEFAULT_PERIOD)
    period = parse_name(name, today) if name else parse_period(parameters.get("since"), parameters.get("until"), today)
    site = parameters.get("site") or None
    if site and site not in sites:
        raise OperatorError("there is no such site")
    where = dict(pair.split("=", 1) for pair in parameters.getlist("where") if "=" in pair)
    if not where.keys() <= set(FILTERS):
        raise OperatorError("there is no such filter")
    metric = parameters.get("metric", METRICS[0])
    return Question(period, name, site, tuple(where.items()), metric if metric in METRICS else METRICS[0])


def parse_name(name: str, today: date) -> Period:
    """Read the name of a period; the days of it that are still to come are left out."""
    match name:
        case "month":
            period = parse_span("this month", today)
        case "12m":
            period = Period(move_months(today.replace(day=1), -11), today)
        case _:
            period = parse_span(name, today)
    return replace(period, until=max(period.since, min(period.until, today)))


def list_presets(question: Question, today: date) -> Mapping[str, Question]:
    """Return the question over each period of the picker."""
    return {name: replace(question, period=parse_name(name, today), name=name) for name in PERIODS}
