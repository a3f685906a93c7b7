"""Deletion: whole files, once anything in them is older than its tier allows.

A day is as old as its first second. What is still hot past its time is settled first; if even that fails it is deleted
all the same, since keeping visit numbers is the greater harm. Each deletion is journalled before it happens.
What this software didn't write is never deleted.
"""

import os
from calendar import monthrange
from datetime import UTC, datetime
from pathlib import Path

from anonproxy.model.settings import StoreSettings
from anonproxy.store.disk import remove, remove_folder
from anonproxy.store.layout import DAY_S, HOUR_S, KINDS, TEMPORARY, Day, Kind, days, find_foreign, is_ours, walk
from anonproxy.store.seal import Journal, recover
from anonproxy.store.settle import settle_day
from anonproxy.store.write import trim_vocabulary


def purge(root: Path, now: int, store: StoreSettings, k: int, journal: Journal, *, dry_run: bool = False) -> list[Path]:
    """Delete what is older than its tier allows and what a crash left unfinished; return the files that aren't ours.

    Raises: OSError
    """
    for kind in KINDS:
        for day in days(root, kind):
            if now >= expires_at(day, kind, store):
                expire(day, kind, k, journal, dry_run=dry_run)
    purge_unfinished(root, journal, dry_run=dry_run)
    return find_foreign(root)


def expires_at(day: Day, kind: Kind, store: StoreSettings) -> int:
    """Return the time from which a day's files may not be kept.

    Units: unix seconds
    """
    match kind:
        case "hot":
            return day.starts_at + store.hot_hours * HOUR_S
        case "hits":
            return day.starts_at + store.hits_days * DAY_S
        case "daily" | "vocabulary":
            years, month = divmod(day.date.month - 1 + store.daily_months, 12)
            year, month = day.date.year + years, month + 1
            last = min(day.date.day, monthrange(year, month)[1])  # there is no 31 February
            return int(datetime(year, month, last, tzinfo=UTC).timestamp())


def expire(day: Day, kind: Kind, k: int, journal: Journal, *, dry_run: bool) -> None:
    """Delete a day's files of one kind; hot rows are settled first where that can be done.

    Raises: OSError
    """
    if kind == "hot" and day.is_live:
        if dry_run:
            journal("settled", {"site": day.site, "date": str(day.date)})
            return
        try:
            settle_day(day, k, journal)
        except Exception:  # whatever it is, it keeps no visit numbers
            journal("settle_failed", {"site": day.site, "date": str(day.date)})
    if any(is_ours(day.root, path) for path in walk(day.folder(kind))):
        journal("purged", {"tier": kind, "site": day.site, "date": str(day.date)})
    if not dry_run:
        if kind == "hits":  # first, so that a crash in between leaves rows that are too old, and are found again
            trim_vocabulary(day)
        remove_day(day, kind)


def remove_day(day: Day, kind: Kind) -> None:
    """Delete a day's files of one kind, and the folders that are empty then.

    Raises: OSError
    """
    folder = day.folder(kind)
    for path in walk(folder):
        if is_ours(day.root, path):
            remove(day.root, path, day.starts_at)
    for parent, _, _ in os.walk(folder, topdown=False):
        remove_folder(day.root, Path(parent), day.starts_at)


def purge_unfinished(root: Path, journal: Journal, *, dry_run: bool) -> None:
    """Delete temporary files, after those that a merge still needs have got their names.

    Raises: OSError
    """
    if not dry_run:
        for hour in (hour for day in days(root, "hot") for hour in day.hours()):
            recover(hour, journal)
    for kind in KINDS:
        for day in days(root, kind):
            for path in walk(day.folder(kind)):
                if path.name.endswith(TEMPORARY) and is_ours(root, path):
                    journal("purged", {"file": path.relative_to(root).as_posix()})
                    if not dry_run:
                        remove(root, path, day.starts_at)
