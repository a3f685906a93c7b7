"""Reports name nobody: what too few visits shared is folded."""

from importlib.resources import files

import pytest

from anonproxy.model.errors import OperatorError
from anonproxy.reports.run import GROUPS, LABELS, definitions, find_definition, fold_small_rows


def test_folds_small_rows_into_other() -> None:
    """Rows under k become part of one `(other)`; sums stay."""
    folded = fold_small_rows([("a", 12, 30), ("c", 3, 4), ("b", 9, 9), ("d", 10, 11)], 1, 10)
    assert folded == [("a", 12, 30), ("d", 10, 11), ("(other)", 12, 13)]


@pytest.mark.parametrize(
    "rows",
    [
        [("a", 20), ("b", 10), ("c", 12)],
        [("a", 20), ("b", 10), ("c", 5), ("d", 4)],
    ],
)
def test_what_is_folded_cannot_be_found_by_subtraction(rows: list[tuple[str, int]]) -> None:
    """A single small row, or few that come to less than k, take the smallest other one along."""
    folded = fold_small_rows(list(rows), 1, 11)
    assert ("b", 10) not in folded
    assert folded[-1][0] == "(other)"
    sizes = [row[1] for row in folded if isinstance(row[1], int)]
    assert sizes[-1] >= 11
    assert sum(sizes) == sum(size for _, size in rows)


def test_every_report_says_what_it_answers() -> None:
    """Each .sql file stands in the table of groups, has a title and a description, and reads only the views."""
    names = [path.name for path in files("anonproxy.reports").iterdir()]
    written = {name.removesuffix(".sql") for name in names if name.endswith(".sql")}
    assert written - {"cells"} == {name for names in GROUPS.values() for name in names}
    for definition in definitions():
        assert definition.title[:1].isupper()
        assert definition.description.endswith(".")
        assert bool(definition.dimension) != bool(definition.weight)
        assert "read_parquet" not in definition.sql
        assert ("FROM hits" in definition.sql) != ("FROM daily" in definition.sql)


def test_names_the_reports_there_are() -> None:
    """An unknown report is refused with the nearest, and the names of those there are."""
    with pytest.raises(OperatorError, match=r'did you mean "pages"\? There are: overview, days'):
        find_definition("page")


def test_labels_are_what_rows_are_about() -> None:
    """No label is a figure."""
    assert not LABELS & {"visits", "pageviews", "requests", "bytes", "bounce_percent", "seconds_per_visit"}
