"""Days that come whole from elsewhere: a site's old logs.

    1  write vocabulary.parquet
    2  write hits.parquet and daily.parquet, those that retention still allows, under temporary names
    3  journal the digests of both
    4  rename hits.parquet.tmp to hits.parquet, then daily.parquet.tmp to daily.parquet     from here on it is imported

Killed before 3, the day isn't imported, and the next import of it begins anew; killed before 4 is done, whoever opens
the store next goes on with it: what stands in the journal comes to pass. Rows with visit numbers never reach the disk.
A day is imported once: it can't be added to, since nothing tells which of its visits go on.
"""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from anonproxy.model.settings import StoreSettings
from anonproxy.store.disk import publish, remove, rename, write_temporary
from anonproxy.store.layout import TEMPORARY, Day, Kind, days
from anonproxy.store.purge import expires_at
from anonproxy.store.seal import Journal
from anonproxy.store.settle import fold_day, settles_at
from anonproxy.store.tables import render_parquet
from anonproxy.store.write import Entries, render_vocabulary, trim_entries

IMPORTED: Final = "imported"
TIERS: Final[tuple[Kind, ...]] = ("hits", "daily")  # in the order in which they appear


class Refusal(StrEnum):
    """Why a day is not imported."""

    TOO_OLD = "too_old"
    NOT_OVER = "not_over"
    IMPORTED = "imported_before"
    RECORDED = "recorded_live"


class Made(NamedTuple):
    """A day as it will lie in the store."""

    site: str
    date: date
    rows: int
    files: dict[Kind, bytes]


# The days that the ledger says were imported, with the digests of their tiers, the one that is written last at the end.
Imported = Mapping[tuple[str, date], Mapping[Kind, str]]


class Shelf(NamedTuple):
    """Which days there is room for, as far as the store and its settings tell."""

    now: int
    store: StoreSettings
    taken: Mapping[tuple[str, date], Refusal]

    def refuse(self, site: str, when: date) -> Refusal | None:
        """Say why a day of a site can't be imported."""
        return self.refuse_date(when) or self.taken.get((site, when))

    def refuse_date(self, when: date) -> Refusal | None:
        """Say why a day can't be imported whatever the site."""
        day = Day(Path(), "", when)
        if self.now < settles_at(day, self.store):
            return Refusal.NOT_OVER
        return None if self.tiers(when) else Refusal.TOO_OLD

    def tiers(self, when: date) -> tuple[Kind, ...]:
        """List the tiers that a day may still be in."""
        day = Day(Path(), "", when)
        return tuple(kind for kind in TIERS if self.now < expires_at(day, kind, self.store))


def find_taken(root: Path, imported: Imported) -> dict[tuple[str, date], Refusal]:
    """List the days that the store has already, and whether they were imported."""
    found = {day for kind in ("hot", *TIERS) for day in days(root, kind)}
    judged = {(day.site, day.date): refuse_taken(day, imported) for day in found}
    return {day: refusal for day, refusal in judged.items() if refusal}


def refuse_taken(day: Day, imported: Imported) -> Refusal | None:
    """Say why a day can't be imported that the store has already; of an imported one the last tier must be there."""
    if day.folder("hot").exists():
        return Refusal.RECORDED
    if written := imported.get((day.site, day.date)):
        return Refusal.IMPORTED if day.file(list(written)[-1]).exists() else None
    return Refusal.RECORDED if day.is_settled else None


def make_day(
    site: str, when: date, rows: pa.Table, next_rows: pa.Table, entries: Entries, k: int, shelf: Shelf
) -> Made:
    """Make a day's files of its rows and of those of the next day, where visits go on.

    Shape: rows as in the hot tier, with their date
    """
    tiers = shelf.tiers(when)
    tables = fold_day(Day(Path(), site, when), rows, next_rows if next_rows.num_rows else None, k, tiers)
    kept = entries if "hits" in tiers else trim_entries(entries, tables["daily"])
    files = {kind: render_parquet(table, kind) for kind, table in tables.items()}
    return Made(site, when, rows.num_rows, {"vocabulary": render_vocabulary(kept), **files})


def write_day(root: Path, made: Made, journal: Journal) -> dict[Kind, str]:
    """Write an imported day, and return the digests of its tiers.

    Raises: OSError, and then the day isn't imported
    """
    day = Day(root, made.site, made.date)
    publish(root, day.file("vocabulary"), made.files["vocabulary"], day.starts_at)
    digests = {kind: sha256(made.files[kind]).hexdigest() for kind in TIERS if kind in made.files}
    temporary: dict[Kind, Path] = {}
    try:
        for kind in digests:
            temporary[kind] = write_temporary(root, day.file(kind), made.files[kind], day.starts_at)
        told = {f"{kind}_sha256": digest for kind, digest in digests.items()}
        journal(IMPORTED, {"site": made.site, "date": str(made.date), "rows": made.rows, **told})
    except OSError:
        for path in temporary.values():
            remove(root, path, day.starts_at)
        raise
    for kind, path in temporary.items():
        rename(root, path, day.file(kind), day.starts_at)
    return digests


def finish_days(root: Path, imported: Imported) -> None:
    """Give the files of each day their names that a crash has left under temporary ones, where the ledger tells them.

    Raises: OSError
    """
    for (site, when), written in imported.items():
        day = Day(root, site, when)
        for kind, digest in written.items():
            path = day.file(kind)
            temporary = path.with_name(path.name + TEMPORARY)
            if temporary.exists() and sha256(temporary.read_bytes()).hexdigest() == digest:
                rename(root, temporary, path, day.starts_at)
