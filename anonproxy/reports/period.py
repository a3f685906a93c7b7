"""Periods as people write them: 2026-10, yesterday, last month, 30 days ago.

A word names a span of days. `--since` takes the first day of its span, `--until` the last. Days, weeks (from Monday)
and months are UTC, as the store is.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Final

from anonproxy.model.errors import OperatorError

# How far back a report looks when it isn't told.
DEFAULT_DAYS: Final = 30

# There was no web before and is no log from after. The calendar has room for as much on either side.
EARLIEST: Final = 1900
LATEST: Final = 2999

ONE_DAY: Final = timedelta(days=1)
MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EXAMPLES: Final = (
    '2026-11-21, 2026-11, 2026, today, yesterday, 7d, "30 days ago", "last month", "this week", october, or monday'
)


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """Days from the first to the last, both included; UTC."""

    since: date
    until: date

    def __str__(self) -> str:
        return str(self.since) if self.since == self.until else f"{self.since} to {self.until}"

    def __contains__(self, day: date) -> bool:
        return self.since <= day <= self.until

    @property
    def days(self) -> int:
        """Count its days."""
        return (self.until - self.since).days + 1

    @property
    def months(self) -> int:
        """Count its calendar months; 0 when it isn't made of whole ones."""
        if self.since.day != 1 or (self.until + ONE_DAY).day != 1:
            return 0
        return (self.until.year - self.since.year) * 12 + self.until.month - self.since.month + 1

    def previous(self) -> "Period":
        """Give the period before it: as many months if it is made of whole months, as many days otherwise."""
        until = self.since - ONE_DAY
        since = move_months(self.since, -self.months) if self.months else until - timedelta(days=self.days - 1)
        return Period(since, until)


def parse_period(since: str | None, until: str | None, today: date) -> Period:
    """Read a period by its two ends; without them, the last 30 days.

    Raises: OperatorError when one can't be read, or it ends before it begins
    """
    first = parse_span(since, today).since if since else None
    last = parse_span(until, today).until if until else today
    first = first or last - timedelta(days=DEFAULT_DAYS - 1)
    if last < first:
        raise OperatorError(f"the period ends ({last}) before it begins ({first}). Swap --since and --until")
    return Period(first, last)


def parse_span(text: str, today: date) -> Period:
    """Read the days that a word or two name.

    Raises: OperatorError with examples
    """
    words = " ".join(text.lower().split())
    for pattern, read in _FORMS:
        if found := re.fullmatch(pattern, words, re.ASCII):
            try:
                span = read(found, today)
            except (ValueError, OverflowError):
                break
            if span.since.year >= EARLIEST and span.until.year <= LATEST:
                return span
    close = get_close_matches(words, _KNOWN, n=1)
    meant = f'Did you mean "{close[0]}"? ' if close else ""
    raise OperatorError(f'can\'t read "{text[:40]}" as a day. {meant}Write {EXAMPLES}')


def move_months(day: date, months: int) -> date:
    """Go some months back or forth, to the same day or the last one of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def end_of_month(day: date) -> date:
    """Give the last day of a month."""
    return move_months(day.replace(day=1), 1) - ONE_DAY


def _day(day: date) -> Period:
    return Period(day, day)


def _week(day: date) -> Period:
    monday = day - timedelta(days=day.weekday())
    return Period(monday, monday + timedelta(days=6))


def _month(day: date) -> Period:
    return Period(day.replace(day=1), end_of_month(day))


def _quarter(day: date) -> Period:
    first = day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
    return Period(first, move_months(first, 3) - ONE_DAY)


def _year(day: date) -> Period:
    return Period(date(day.year, 1, 1), date(day.year, 12, 31))


_SPANS: Final = {"day": _day, "week": _week, "month": _month, "quarter": _quarter, "year": _year}


def _back(day: date, count: int, unit: str) -> date:
    """Go back some days, weeks, months, quarters or years."""
    if unit in {"day", "week"}:
        return day - timedelta(days=count * (7 if unit == "week" else 1))
    return move_months(day, -count * {"month": 1, "quarter": 3, "year": 12}[unit])


def _read_relative(found: re.Match[str], today: date) -> Period:
    unit = found["unit"]
    return _SPANS[unit](_back(today, int(found["which"] == "last"), unit))


def _read_last_days(found: re.Match[str], today: date) -> Period:
    """Read `7d` or `last 7 days`: today and those before it."""
    return Period(_back(today, int(found["count"]), found["unit"] or "day") + ONE_DAY, today)


def _read_ago(found: re.Match[str], today: date) -> Period:
    return _day(_back(today, int(found["count"]), found["unit"]))


def _read_quarter(found: re.Match[str], today: date) -> Period:
    return _quarter(date(int(found["year"]), int(found["quarter"]) * 3, 1))


def _read_named_month(found: re.Match[str], today: date) -> Period:
    """Read `october` or `oct 2026`: without a year, the latest that has begun."""
    number = next(n for n, name in enumerate(MONTHS, 1) if name.startswith(found["name"]))
    year = int(found["year"]) if found["year"] else today.year - (number > today.month)
    return _month(date(year, number, 1))


def _read_weekday(found: re.Match[str], today: date) -> Period:
    """Read `monday`: the latest one, today included."""
    number = next(n for n, name in enumerate(WEEKDAYS) if name.startswith(found["name"]))
    return _day(today - timedelta(days=(today.weekday() - number) % 7))


def _abbreviated(names: tuple[str, ...]) -> str:
    return "|".join(f"{name[:3]}(?:{name[3:]})?" if len(name) > 3 else name for name in names)


_UNIT: Final = r"(?P<unit>day|week|month|quarter|year)"
_FORMS: Final = (
    (r"today", lambda _, today: _day(today)),
    (r"yesterday", lambda _, today: _day(today - ONE_DAY)),
    (r"\d{4}-\d\d-\d\d", lambda found, _: _day(date.fromisoformat(found[0]))),
    (r"\d{4}-\d\d", lambda found, _: _month(date.fromisoformat(f"{found[0]}-01"))),
    (r"[12]\d{3}", lambda found, _: _year(date(int(found[0]), 1, 1))),
    (r"(?P<year>\d{4})-?q(?P<quarter>[1-4])", _read_quarter),
    (rf"(?P<which>last|this) {_UNIT}", _read_relative),
    (r"(?P<count>[1-9]\d{0,3})(?P<unit>)d", _read_last_days),
    (rf"last (?P<count>[1-9]\d{{0,3}}) {_UNIT}s?", _read_last_days),
    (rf"(?P<count>\d{{1,4}}) {_UNIT}s? ago", _read_ago),
    (rf"(?P<name>{_abbreviated(MONTHS)})(?: (?P<year>\d{{4}}))?", _read_named_month),
    (rf"(?:last )?(?P<name>{_abbreviated(WEEKDAYS)})", _read_weekday),
)
_KNOWN: Final = (
    "today", "yesterday", *MONTHS, *WEEKDAYS,
    *(f"{which} {unit}" for which in ("last", "this") for unit in _SPANS),
    *(f"{count} {unit}s ago" for count in (2, 3, 7, 30) for unit in _SPANS),
)  # fmt: skip
