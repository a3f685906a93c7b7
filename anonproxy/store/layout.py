"""Where everything stands in a store, and which files count.

    hot/site=S/date=D/HH.parquet              a sealed hour: rows with visit numbers
    hot/site=S/date=D/HH.open/RANDOM.parquet  segments of the hour, seconds of traffic each
    hot/site=S/date=D/HH.closing/…            segments that are being merged
    hot/site=S/date=D/HH.RANDOM.broken        a file of the hour that couldn't be read, set aside
    hits/site=S/date=D/hits.parquet           unlinked rows of a settled day
    daily/site=S/date=D/daily.parquet         its totals
    vocabulary/site=S/date=D/vocabulary.parquet   every open value that the day's rows may hold

Dates and hours are those of the stored time, UTC. With `.tmp` behind it, a name is a file that isn't finished.
A day is settled once its `hits.parquet` is there; what still stands under `hot/` is then on its way out.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Self

Kind = Literal["hot", "hits", "daily", "vocabulary"]
KINDS: Final[tuple[Kind, ...]] = ("hot", "hits", "daily", "vocabulary")
# What else may stand in a store's folder: the audit's ledger, and what a file system of its own brings.
NEIGHBOURS: Final = frozenset({"ledger", "lost+found"})

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
SUFFIX: Final = ".parquet"
TEMPORARY: Final = ".tmp"

_DAY = r"site=(?P<site>[a-z0-9][a-z0-9_-]{0,31})/date=(?P<date>\d{4}-\d\d-\d\d)"
_HOUR = r"(?P<hour>[01]\d|2[0-3])"
_RANDOM = r"[0-9a-f]{16}"
_OURS: Final = re.compile(
    rf"""
      hot/{_DAY}/{_HOUR}\.(
          parquet(\.tmp)?
        | (open|closing)/{_RANDOM}\.parquet(\.tmp)?
        | {_RANDOM}\.broken
      )
    | (?P<kind>hits|daily|vocabulary)/{_DAY.replace("site>", "_site>").replace("date>", "_date>")}
      /(?P=kind)\.parquet(\.tmp)?
    """,
    re.VERBOSE | re.ASCII,
)
_SITE_FOLDER = re.compile(r"site=([a-z0-9][a-z0-9_-]{0,31})", re.ASCII)
_DATE_FOLDER = re.compile(r"date=(\d{4}-\d\d-\d\d)", re.ASCII)
_HOUR_NAME = re.compile(rf"{_HOUR}\.(parquet|parquet\.tmp|open|closing)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one site: what is settled and deleted as a whole."""

    root: Path
    site: str
    date: date

    @property
    def starts_at(self) -> int:
        """Give its first second.

        Units: unix seconds
        """
        return int(datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC).timestamp())

    @property
    def next(self) -> Self:
        """Give the day after it."""
        return type(self)(self.root, self.site, self.date + timedelta(days=1))

    def folder(self, kind: Kind) -> Path:
        """Give its folder in one part of the store."""
        return self.root / kind / f"site={self.site}" / f"date={self.date}"

    def file(self, kind: Kind) -> Path:
        """Give its file in one part of the store; hot has a file for each hour instead."""
        return self.folder(kind) / f"{kind}{SUFFIX}"

    @property
    def is_settled(self) -> bool:
        """Tell whether its rows are unlinked already, or even gone."""
        return self.file("hits").exists() or self.file("daily").exists()

    @property
    def is_live(self) -> bool:
        """Tell whether its rows are still those under `hot/`."""
        return not self.file("hits").exists()

    def hours(self) -> "list[Hour]":
        """List the hours that have files, sealed or not."""
        found = {match["hour"] for name in _names(self.folder("hot")) if (match := _HOUR_NAME.fullmatch(name))}
        return [Hour(self, int(hour)) for hour in sorted(found)]


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a day under `hot/`."""

    day: Day
    hour: int

    def _path(self, suffix: str) -> Path:
        return self.day.folder("hot") / f"{self.hour:02}{suffix}"

    @property
    def sealed(self) -> Path:
        """Name the file that all segments end up in."""
        return self._path(SUFFIX)

    @property
    def merged(self) -> Path:
        """Name the file that is about to take the place of the sealed one."""
        return self._path(SUFFIX + TEMPORARY)

    @property
    def open(self) -> Path:
        """Name the folder that segments are added to."""
        return self._path(".open")

    @property
    def closing(self) -> Path:
        """Name the folder of the segments that are in the merged file."""
        return self._path(".closing")

    def aside(self, random: str) -> Path:
        """Name a file of this hour that can't be read."""
        return self._path(f".{random}.broken")

    @property
    def starts_at(self) -> int:
        """Give its first second.

        Units: unix seconds
        """
        return self.day.starts_at + self.hour * HOUR_S

    def files(self) -> list[Path]:
        """List the files that hold each of its rows exactly once, at whatever instant a merge was cut short."""
        folders = [self.open, self.closing] if self.merged.exists() else [self.open]
        sealed = [self.sealed] if self.sealed.exists() else []
        return sealed + [segment for folder in folders for segment in segments(folder)]


def hour_at(root: Path, site: str, time_s: int) -> Hour:
    """Return the hour that a stored time belongs to."""
    moment = datetime.fromtimestamp(time_s, UTC)
    return Hour(Day(root, site, moment.date()), moment.hour)


def segments(folder: Path) -> list[Path]:
    """List the finished segments in an hour's folder."""
    return [folder / name for name in _names(folder) if re.fullmatch(rf"{_RANDOM}\.parquet", name, re.ASCII)]


def days(root: Path, kind: Kind) -> list[Day]:
    """List the days in one part of the store, oldest first."""
    found = []
    for site in _names(root / kind):
        if site_match := _SITE_FOLDER.fullmatch(site):
            for name in _names(root / kind / site):
                if day := parse_date(name):
                    found.append(Day(root, site_match[1], day))
    return sorted(found, key=lambda day: (day.date, day.site))


def parse_date(folder: str) -> date | None:
    """Parse the name of a day's folder; None when it is something else."""
    match = _DATE_FOLDER.fullmatch(folder)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def is_ours(root: Path, path: Path) -> bool:
    """Tell whether a file has a name that this software gives."""
    return _OURS.fullmatch(path.relative_to(root).as_posix()) is not None


def walk(folder: Path) -> Iterator[Path]:
    """List the files and links anywhere below a folder; links are not followed."""
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in sorted(names))
        yield from (Path(parent, name) for name in sorted(folders) if Path(parent, name).is_symlink())


def find_foreign(root: Path) -> list[Path]:
    """List what this software didn't put into a store. It is never read or deleted."""
    folders = {kind for kind in KINDS if (root / kind).is_dir()}
    top = [root / name for name in _names(root) if name not in NEIGHBOURS | folders]
    return top + [path for kind in KINDS for path in walk(root / kind) if path.is_symlink() or not is_ours(root, path)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
