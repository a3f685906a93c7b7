"""Spark and DuckDB give the same answers from the same .sql files."""

from collections.abc import Iterator
from datetime import date
from random import Random

import pytest

from anonproxy.model.errors import OperatorError
from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, Report, definitions, run_report
from anonproxy.reports.session import Session
from anonproxy.reports.spark import SparkReports, open_spark
from tests.reports.test_count import by_label
from tests.reports.traffic import invent, record

pytestmark = pytest.mark.slow

K = 10
WHOLE = Period(date(2026, 10, 29), date(2026, 10, 30))
EVERYTHING = Query(WHOLE)
PART = Query(Period(date(2026, 10, 30), date(2026, 10, 31)), "www")
# What is worked out from powers of two; everything else is a count.
APPROXIMATE = {"bytes"}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, SparkReports]]:
    """Record two days, let them settle, and open them with both."""
    root = tmp_path_factory.mktemp("sparked") / "store"
    record(root, list(invent(Random(3), 2, 100)), settles=True)
    spark = open_spark(str(root), K, {"spark.master": "local[2]", "spark.sql.shuffle.partitions": "1"})
    yield Session(root, K), spark
    spark.stop()


@pytest.mark.parametrize(
    ("name", "query"),
    [*((definition.name, EVERYTHING) for definition in definitions()), ("pages", PART), ("privacy", PART)],
)
def test_figures_are_the_same(engines: tuple[Session, SparkReports], name: str, query: Query) -> None:
    """Each report has the same columns and rows in the same order; approximate figures differ by 2 % at most."""
    session, spark = engines
    with session.connect() as connection:
        here, there = run_report(connection, name, query, K), spark.run(name, query)
    assert there.columns == here.columns
    assert list(by_label(there.rows)) == list(by_label(here.rows))
    assert rounded(there) == rounded(here)
    for ours, theirs in zip(here.records(), there.records(), strict=True):
        for column in APPROXIMATE & set(here.columns):
            assert theirs[column] == (ours[column] and pytest.approx(ours[column], rel=0.02))


def rounded(report: Report) -> list[dict[str, object]]:
    """Return what has to be equal: Spark's decimals are figures like any other."""
    return [
        {name: value if isinstance(value, str | date | None) else float(value) for name, value in row.items()}
        for row in ({n: v for n, v in row.items() if n not in APPROXIMATE} for row in report.records())
    ]


def test_filters_are_refused(engines: tuple[Session, SparkReports]) -> None:
    """What only DuckDB does is refused in words."""
    with pytest.raises(OperatorError, match="leave --engine spark away"):
        engines[1].run("pages", Query(WHOLE, None, (("country", "US"),)))
