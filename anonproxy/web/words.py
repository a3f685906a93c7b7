"""What pages say: one TOML file a language, and numbers, dates and names as its readers write them."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final

from babel import Locale
from babel.dates import format_date, format_interval, format_skeleton, format_time, get_day_names
from babel.numbers import format_decimal, format_percent
from markupsafe import Markup

from anonproxy.model.vocabularies import DURATION_BUCKETS_MS, UNKNOWN_COUNTRY

MINUS: Final = "\u2212"
# The first is for whoever wants none of the others.
LANGUAGES: Final = ("en", "de", "es")


@dataclass(frozen=True, slots=True)
class Words:
    """A language: called with a key and the values in the text, it gives the text.

    Texts are HTML: what is put into them is escaped.
    """

    language: str
    locale: Locale
    messages: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> Markup:
        """Return a text. With `n` among the values, the singular or plural of it."""
        number = values.get("n")
        if isinstance(number, int | float):
            key = f"{key}.{'one' if self.locale.plural_form(number) == 'one' else 'other'}"
            values["n"] = self.number(number)
        return Markup(self.messages[key]).format(**values)  # noqa: S704 - our own texts; what is filled in is escaped

    def value(self, dimension: str, value: object) -> str:
        """Return how a stored value is called: a country or a language by its name, words of ours translated."""
        text = str(value)
        match dimension:
            case "country" if text in self.locale.territories and text != UNKNOWN_COUNTRY:
                return str(self.locale.territories[text])
            case "language" if text in self.locale.languages:
                name: str = self.locale.languages[text]
                return name[:1].upper() + name[1:]
            case "from_ms" if text.isdecimal():
                return self.wait(int(text))
            case "day":
                return self.day(date.fromisoformat(text))
            case "month":
                return self.month(date.fromisoformat(f"{text}-01"))
            case _:
                return self.messages.get(f"value.{dimension}.{text}") or self.messages.get(f"value.any.{text}") or text

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number with its thousands apart, as 12,345 or 12.345."""
        return format_decimal(round(value, digits), locale=self.locale)

    def figure(self, column: str, value: float) -> str:
        """Return a figure as its column wants it written."""
        match column:
            case "bytes":
                return self.size(value)
            case "seconds_per_visit":
                return self.duration(value)
            case "bounce_percent":
                return self.percent(value / 100)
            case _:
                return self.number(value, 1 if column.endswith("_per_visit") else 0)

    def size(self, size_bytes: float) -> str:
        """Return a number of bytes as 1.5 GB."""
        power = min(4, int(math.log(size_bytes, 1000))) if size_bytes >= 1 else 0
        return f"{self.number(size_bytes / 1000**power, 1 if power else 0)} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"

    def percent(self, share: float) -> str:
        """Return a share of 1 as percent; small ones with a digit."""
        digits = 1 if 0 < share < 0.0995 else 0
        return format_percent(round(share, digits + 2), locale=self.locale, decimal_quantization=False)

    def change(self, share: float) -> str:
        """Return a change as percent with its sign; a large one as so many times."""
        if share >= 9.995:
            return f"× {self.number(share + 1)}"
        percent = round(share * 100)
        return f"{'+' if percent > 0 else MINUS if percent < 0 else ''}{self.percent(abs(percent) / 100)}"

    def wait(self, from_ms: int) -> str:
        """Return a bucket of durations as 100–250 ms or 1–2.5 s."""
        bounds = [bound for bound in DURATION_BUCKETS_MS if bound >= from_ms][:2]
        unit, size = ("s", 1000) if from_ms >= 1000 else ("ms", 1)
        texts = [self.number(bound / size, 1) for bound in bounds]
        return f"{'–'.join(texts)} {unit}" if len(texts) > 1 else f"≥ {texts[0]} {unit}"

    def duration(self, seconds: float) -> str:
        """Return a time span as 1 min 51 s."""
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"

    def day(self, day: date) -> str:
        """Return a day with its weekday, as Sat, Nov 21."""
        return format_skeleton("MMMEd", day, locale=self.locale)

    def full_day(self, day: date) -> str:
        """Return a day with its year."""
        return format_date(day, "long", locale=self.locale)

    def short_day(self, day: date) -> str:
        """Return a day as Nov 21."""
        return format_skeleton("MMMd", day, locale=self.locale)

    def month(self, day: date) -> str:
        """Return a month with its year."""
        return format_skeleton("yMMMM", day, locale=self.locale)

    def hour(self, moment: datetime) -> str:
        """Return an hour as 3:00 PM or 15:00."""
        return format_time(moment, "short", locale=self.locale)

    def span(self, since: date, until: date) -> str:
        """Return a period as short as it can be said: a day, a month, a year, or from when to when."""
        after = until + timedelta(days=1)
        if since == until:
            return self.full_day(since)
        if since.day == after.day == 1 and (after - since).days <= 31:
            return self.month(since)
        if (since.month, since.day, until.month, until.day) == (1, 1, 12, 31) and since.year == until.year:
            return str(since.year)
        return format_interval(since, until, "yMMMd", locale=self.locale)

    def weekdays(self, width: str = "abbreviated") -> list[str]:
        """Return the names of the weekdays from Monday."""
        names = get_day_names(width, locale=self.locale)  # type: ignore[arg-type]  # babel lists its widths as literals
        return [names[index] for index in range(7)]


@cache
def read_words(language: str) -> Words:
    """Read a language from the package, once."""
    text = files(__package__).joinpath("words", f"{language}.toml").read_text(encoding="utf-8")
    return Words(language, Locale.parse(language), dict(_flatten(tomllib.loads(text))))


def _flatten(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        pairs += _flatten(value, f"{name}.") if isinstance(value, dict) else [(name, value.strip())]
    return pairs


def choose_language(accepted: str, chosen: str | None) -> str:
    """Return the language that was chosen, else the first in Accept-Language that there is, else the first we have."""
    wanted = [chosen or ""]
    ranges = [part.strip().partition(";q=") for part in accepted.split(",")]
    wanted += [tag for tag, _, _ in sorted(ranges, key=lambda it: -_quality(it[2]))]
    subtags = (tag.strip().lower().partition("-")[0] for tag in wanted)
    return next((subtag for subtag in subtags if subtag in LANGUAGES), LANGUAGES[0])


def _quality(text: str) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 0.0
