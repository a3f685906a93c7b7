"""What is told of cells: of values that fewer than k visits share, only the rest that they make together.

- A thin cell is folded into `(other)`, which covers at least two cells: the smallest other cell of the dimension joins
  a single one, also where the dimension is a closed list. `(other)` itself may hold fewer than k visits: it can't be
  folded further, and nothing tells which of its values they had. A dimension with but one cell has nothing to join, and
  the total of the site is always told.
- Robots have no visits, so their requests decide.
- Searches, items and downloads name what `page` names, and gather no rest: laid beside the rest of `page` it would tell
  of what is hidden there.
"""

from collections.abc import Mapping

import pyarrow as pa

from anonproxy.model.vocabularies import OTHER
from anonproxy.store.count import PARTS_OF_PAGE, Cells, Counts, count_cells
from anonproxy.store.tables import SCHEMAS


def count_days(rows: pa.Table, k: int) -> pa.Table:
    """Make the rows of `daily` that rows of any days give.

    Shape:   rows as in the hot tier, with their date
    Reveals: counts of values that at least k visits shared
    """
    told = [
        (*place, value, *counts)
        for place, values in fold_cells(count_cells(rows), k).items()
        for value, counts in values.items()
    ]
    schema = SCHEMAS["daily"]
    columns = zip(*told, strict=True) if told else ([] for _ in schema)
    return pa.table(
        [pa.array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)], schema=schema
    )


def fold_cells(cells: Cells, k: int) -> Cells:
    """Fold thin cells.

    Reveals: counts of values that at least k visits shared
    """
    told: Cells = {}
    for place, values in cells.items():
        named = find_named(place.dimension, values, k)
        if place.dimension in PARTS_OF_PAGE:
            pages = find_named("page", cells[place._replace(dimension="page")], k)
            told[place] = {value: values[value] for value in named & pages}
        else:
            told[place] = gather_others(values, named)
    return told


def find_named(dimension: str, values: Mapping[str, Counts], k: int) -> frozenset[str]:
    """Find the values of a dimension that are told by name."""
    if dimension == "total":
        return frozenset(values)

    def weigh(value: str) -> tuple[int, str]:
        return (values[value].hits if dimension == "bot" else values[value].visits), value

    named = {value for value in values if value != OTHER and weigh(value)[0] >= k}
    others = values.keys() - named
    needs_company = len(others) == 1 and OTHER not in others and dimension not in PARTS_OF_PAGE
    return frozenset(named - {min(named, key=weigh)} if needs_company and named else named)


def gather_others(values: Mapping[str, Counts], named: frozenset[str]) -> dict[str, Counts]:
    """Make one cell of all that aren't named."""
    told = {value: values[value] for value in named}
    others = [counts for value, counts in values.items() if value not in named]
    return told | ({OTHER: Counts(*map(sum, zip(*others, strict=True)))} if others else {})
