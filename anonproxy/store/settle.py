"""From a day of linked rows to unlinked rows and daily totals.

    1  write daily.parquet and hits.parquet under temporary names
    2  journal the digests of both
    3  rename daily.parquet.tmp to daily.parquet
    4  rename hits.parquet.tmp to hits.parquet      from here on the day is settled
    5  delete the day's folder under hot/

Killed before 4, it begins anew, and the same rows give the same files; killed after 4, only 5 is left to do.

A day settles as soon as its last visit has ended: visit numbers are kept no longer than they are needed, which is
always less than `hot_hours`. Of a visit that crosses midnight the next day's rows are still there by then.

What is released of a day say `fold`, of its totals, and `unlink`, of its rows.
"""

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.model.settings import StoreSettings
from anonproxy.store import sql
from anonproxy.store.disk import remove, remove_folder, rename, write_temporary
from anonproxy.store.fold import count_days
from anonproxy.store.layout import DAY_S, HOUR_S, Day, Kind, days
from anonproxy.store.seal import GRACE_S, Journal, discard, merge, read_hour, recover
from anonproxy.store.tables import render_parquet
from anonproxy.store.unlink import unlink

# The longest that a visit can be configured to last: what begins before midnight is over by then.
LONGEST_VISIT_S: Final = 4 * HOUR_S

# A day that begins later than this from now was recorded by a clock that was wrong. When it will be over says nothing
# about how long its visit numbers were kept, so it settles at once. It isn't deleted: the clock may be wrong now.
FUTURE_S: Final = 2 * DAY_S


def settle(root: Path, now: int, store: StoreSettings, k: int, journal: Journal, *, dry_run: bool = False) -> None:
    """Settle each day whose visits are over.

    Reveals: counts of values that at least k visits shared, and rows that belong to no visit
    Raises:  OSError once all days were tried
    """
    failures = []
    for day in days(root, "hot"):
        try:
            if day.is_live and (now >= settles_at(day, store) or is_future(day, now)):
                if dry_run:
                    journal("settled", {"site": day.site, "date": str(day.date)})
                else:
                    settle_day(day, k, journal)
            elif not day.is_live and not dry_run:
                remove_hot(day)
        except OSError as error:
            failures.append(error)
    if failures:
        raise failures[0]


def settles_at(day: Day, store: StoreSettings) -> int:
    """Return the time at which a day settles.

    Units: unix seconds
    """
    return day.starts_at + min(DAY_S + LONGEST_VISIT_S + GRACE_S, store.hot_hours * HOUR_S)


def is_future(day: Day, now: int) -> bool:
    """Tell whether a day can't have begun yet."""
    return day.starts_at > now + FUTURE_S


def settle_day(day: Day, k: int, journal: Journal) -> None:
    """Settle one day, whatever the time.

    Raises: OSError, and then the day is still as it was
    """
    for hour in day.hours():
        recover(hour, journal)
        if hour.open.exists():
            merge(hour, journal)
    rows = read_day(day, journal)
    if rows is not None:
        tables = fold_day(day, rows, read_day(day.next, journal), k)
        files = {kind: render_parquet(table, kind) for kind, table in tables.items()}
        temporary = {
            kind: write_temporary(day.root, day.file(kind), data, day.starts_at) for kind, data in files.items()
        }
        digests = {f"{kind}_sha256": sha256(data).hexdigest() for kind, data in files.items()}
        journal("settled", {"site": day.site, "date": str(day.date), "rows": rows.num_rows, **digests})
        for kind, path in temporary.items():
            rename(day.root, path, day.file(kind), day.starts_at)
    remove_hot(day)


def read_day(day: Day, journal: Journal) -> pa.Table | None:
    """Read a day's hot rows; None when there are none."""
    tables = [table for hour in day.hours() for table in read_hour(hour, journal)]
    return sql.add_date(pa.concat_tables(tables), day.date) if tables else None


# The totals first: a day is settled once its hits are there.
SETTLED: Final[tuple[Kind, ...]] = ("daily", "hits")


def fold_day(
    day: Day, rows: pa.Table, next_rows: pa.Table | None, k: int, kinds: Collection[Kind] = SETTLED
) -> dict[Kind, pa.Table]:
    """Make a day's settled tables of its rows and, where visits go on after midnight, those of the next day."""
    tables: dict[Kind, pa.Table] = {}
    if "daily" in kinds:
        goes_on = rows if next_rows is None else pa.concat_tables([rows, keep_visits(next_rows, rows)])
        totals = count_days(goes_on, k)
        tables["daily"] = totals.filter(pc.equal(totals["date"], day.date))
    if "hits" in kinds:
        tables["hits"] = unlink(rows, k)
    return tables


def keep_visits(next_rows: pa.Table, rows: pa.Table) -> pa.Table:
    """Keep the rows of visits that go on: no other row of the next day counts in this one."""
    return next_rows.filter(pc.is_in(next_rows["visit"], value_set=rows["visit"].unique(), skip_nulls=True))


def remove_hot(day: Day) -> None:
    """Delete a day's hot files, but for those that were set aside.

    Raises: OSError
    """
    for hour in day.hours():
        for folder in (hour.open, hour.closing):
            if folder.exists():
                discard(hour, folder)
        for path in (hour.merged, hour.sealed):
            remove(day.root, path, day.starts_at)
    remove_folder(day.root, day.folder("hot"), day.starts_at)
