"""The vocabulary of a store: the values that each site's open columns may hold, and the gate for hits."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.hit import Hit
from anonproxy.model.vocabularies import Origin


class Entry(NamedTuple):
    """One value that one column of one site may hold, in the order of `columns.VOCABULARY_COLUMNS`."""

    site: str
    column: str
    value: str
    origin: Origin
    visits: int | None = None  # for admitted values: the visits that had shown it by then


_CLOSED: Final = tuple(
    (index, column.values | {None} if column.nullable else column.values)
    for index, column in enumerate(HIT_COLUMNS)
    if column.values
)
_CLOSED_BY_NAME: Final = {HIT_COLUMNS[index].name: values for index, values in _CLOSED}
_NAMED: Final = tuple(
    (index, column.name, column.nullable)
    for index, column in enumerate(HIT_COLUMNS)
    if column.world in {"open", "configured"} and column.name != "site"
)


# What `Vocabulary.holds` can tell of: every column but the time and the number of the visit.
GUARDED_COLUMNS: Final = (*_CLOSED_BY_NAME, "site", *(name for _, name, _ in _NAMED))
_NULLABLE: Final = frozenset(name for _, name, nullable in _NAMED if nullable)


class Vocabulary:
    """The closed world of a store. A value is in it or can't be written."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._values: dict[tuple[str, str], set[str]] = {}
        self._entries: dict[str, dict[tuple[str, str], Entry]] = {}
        self.version = 0  # grows with each new value, so that a writer knows when to publish
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Allow a value. The first origin it came by is kept."""
        known = self._entries.setdefault(entry.site, {})
        if known.setdefault((entry.column, entry.value), entry) is entry:
            self._values.setdefault((entry.site, entry.column), set()).add(entry.value)
            self.version += 1

    def remove(self, site: str, column: str, value: str) -> None:
        """Forbid a value again, as at the end of the epoch that admitted it."""
        if self._entries.get(site, {}).pop((column, value), None):
            self._values[site, column].discard(value)
            self.version += 1

    def entries(self, site: str) -> list[Entry]:
        """Return a site's entries in canonical order."""
        return sorted(self._entries.get(site, {}).values())

    def holds(self, site: str | None, column: str, value: str | int | None) -> bool:
        """Tell whether a value is in the closed world of one column of a site."""
        if column in _CLOSED_BY_NAME:
            return value in _CLOSED_BY_NAME[column]
        if column == "site":
            return value in self._entries
        return (value is None and column in _NULLABLE) or value in self._values.get((str(site), column), ())

    def allows(self, hit: Hit) -> bool:
        """Tell whether every value of a hit is in the closed world."""
        return all(hit[index] in values for index, values in _CLOSED) and all(
            (hit[index] is None and nullable) or hit[index] in self._values.get((hit.site, name), ())
            for index, name, nullable in _NAMED
        )
