"""From segments to one file for each hour.

    1  write HH.parquet.tmp: the rows of HH.parquet, if there is one, and of all segments in HH.open
    2  rename HH.open to HH.closing        from here on the merged file counts
    3  journal the digest of HH.parquet.tmp
    4  rename HH.parquet.tmp to HH.parquet
    5  delete HH.closing

Each step is on disk before the next. Killed between 1 and 2, the merged file is discarded, and it begins anew; later,
it goes on with 3 or with 5. So a file never has its final name before its digest stands in the journal, and what stands
there comes to pass: at worst it is told twice. The bytes of the result depend on the rows alone, so hours may be merged
early, and again when rows come late: an hour that is still open is merged too once it has many segments, which
show what arrived together. Where times are stored as days, all rows stand at hour 00; what comes after one o'clock is
late for it, and joins it each time.
"""

import os
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

import pyarrow as pa

from anonproxy.store.disk import hide_left_times, remove, remove_folder, rename, write_temporary
from anonproxy.store.layout import HOUR_S, KINDS, Hour, days, is_ours, segments, walk
from anonproxy.store.tables import BrokenFile, read_rows, render_parquet

Journal = Callable[[str, Mapping[str, str | int]], None]

# Rows of an hour may still be pending when it is over: the longest flush window is a minute, and a clock may be a
# little off.
GRACE_S: Final = 120

# Five minutes of segments at the default flush window.
MANY_SEGMENTS: Final = 60


def seal(root: Path, now: int, journal: Journal, *, dry_run: bool = False, every_hour: bool = False) -> None:
    """Merge the segments of each hour that is over, and of each that has many; hide what a crash left of times.

    Those of every hour are merged if wanted: rows that come later join them at the next time.

    Raises: OSError once all hours were tried
    """
    if not dry_run:
        for kind in KINDS:
            hide_left_times(root / kind)
    failures = []
    for hour in (hour for day in days(root, "hot") if day.is_live for hour in day.hours()):
        is_over = now >= hour.starts_at + HOUR_S + GRACE_S
        try:
            if not dry_run:
                recover(hour, journal)
            count = len(segments(hour.open))
            if count >= MANY_SEGMENTS or ((is_over or every_hour) and hour.open.exists()):
                if not dry_run:
                    merge(hour, journal)
                elif count:
                    journal("sealed", {"file": hour.sealed.relative_to(root).as_posix()})
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def recover(hour: Hour, journal: Journal) -> None:
    """Finish a merge that was cut short.

    Raises: OSError
    """
    root = hour.day.root
    if hour.closing.exists():
        if hour.merged.exists():
            digest = sha256(hour.merged.read_bytes()).hexdigest()
            journal("sealed", {"file": hour.sealed.relative_to(root).as_posix(), "sha256": digest})
            rename(root, hour.merged, hour.sealed, hour.starts_at)
        discard(hour, hour.closing)
    elif hour.merged.exists():
        remove(root, hour.merged, hour.starts_at)


def merge(hour: Hour, journal: Journal) -> None:
    """Merge an hour's segments into its sealed file.

    Raises: OSError, and then the same rows are still there
    """
    recover(hour, journal)
    root = hour.day.root
    tables = read_hour(hour, journal)
    if tables:
        data = render_parquet(pa.concat_tables(tables), "hot")
        write_temporary(root, hour.sealed, data, hour.starts_at)
    if hour.open.exists():
        rename(root, hour.open, hour.closing, hour.starts_at)
    recover(hour, journal)


def read_hour(hour: Hour, journal: Journal) -> list[pa.Table]:
    """Read an hour's rows; a file that can't be read is set aside, for whoever wants to know what happened to it.

    Raises: OSError
    """
    tables = []
    for path in hour.files():
        try:
            tables.append(read_rows(path, "hot"))
        except BrokenFile:
            root, aside = hour.day.root, hour.aside(os.urandom(8).hex())
            names = {"file": aside.relative_to(root).as_posix(), "from": path.relative_to(root).as_posix()}
            journal("set_aside", {**names, "sha256": sha256(path.read_bytes()).hexdigest()})
            rename(root, path, aside, hour.starts_at)
    return tables


def discard(hour: Hour, folder: Path) -> None:
    """Delete a folder of segments. What isn't ours in it stays, in a folder under a name that isn't ours either.

    Raises: OSError
    """
    root = hour.day.root
    for path in walk(folder):
        if is_ours(root, path):
            remove(root, path, hour.starts_at)
    if not remove_folder(root, folder, hour.starts_at):
        rename(root, folder, folder.with_name(f"{folder.name}.foreign.{os.urandom(8).hex()}"), hour.starts_at)
