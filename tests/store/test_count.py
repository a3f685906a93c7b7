"""What is released of rows, counted twice: by the store, and by SQL that shares nothing with it."""

import datetime
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from anonproxy.model.coded import code_texts
from anonproxy.store import sql
from anonproxy.store.count import count_cells
from anonproxy.store.fold import count_days
from anonproxy.store.tables import SCHEMAS, build_table
from anonproxy.store.unlink import unlink
from tests.store.examples import DATE, DAY_S, HOUR_S, hit, random_hits

K = 3
DAY = datetime.date.fromisoformat(DATE)
SEEDS = st.integers(0, 2**32)


def random_rows(seed: int, sites: tuple[str, ...] = ("www", "catalog"), days: int = 2) -> pa.Table:
    """Return rows of several sites and days; some visits reach from one day into the next."""
    random = Random(seed)
    tables = [
        sql.add_date(
            build_table([
                each._replace(site=site, time=each.time + number * DAY_S)
                for each in random_hits(random, random.choice([1, 9, 60]), hours=3)
            ]),
            DAY + datetime.timedelta(days=number),
        )
        for site in sites
        for number in range(days)
    ]  # fmt: skip
    return pa.concat_tables(tables)


def ask_sql(name: str, rows: pa.Table) -> pa.Table:
    """Ask the SQL of a file of this folder."""
    with sql.connect(rows) as connection:
        query = Path(__file__).with_name(f"{name}.sql").read_text()
        return connection.sql(query, params={"k": K}).to_arrow_table()


def code(rows: pa.Table) -> pa.Table:
    """Write texts as numbers, as an import has them."""
    return rows.cast(code_texts(rows.schema))


def as_sorted(table: pa.Table, kind: str) -> list[str]:
    """Return rows whatever their order."""
    schema = {"daily": SCHEMAS["daily"], "hits": SCHEMAS["hits"]}[kind]
    return sorted(map(repr, table.select(schema.names).cast(schema).to_pylist()))


@pytest.mark.parametrize("form", [lambda rows: rows, code], ids=["plain", "coded"])
@examples(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_totals_are_those_of_sql(form: Callable[[pa.Table], pa.Table], seed: int) -> None:
    """Every cell of any rows is the same, and what is folded as well."""
    rows = random_rows(seed)
    assert as_sorted(count_days(form(rows), K), "daily") == as_sorted(ask_sql("daily", rows), "daily")


@pytest.mark.parametrize("form", [lambda rows: rows, code], ids=["plain", "coded"])
@examples(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_unlinked_rows_are_those_of_sql(form: Callable[[pa.Table], pa.Table], seed: int) -> None:
    """The hour goes from the same rows, and nothing else changes."""
    rows = random_rows(seed, days=1)
    assert as_sorted(unlink(form(rows), K), "hits") == as_sorted(ask_sql("hits", rows), "hits")


def test_no_rows_are_no_cells() -> None:
    """A store without hot rows has no totals of them."""
    assert count_cells(sql.add_date(SCHEMAS["hot"].empty_table(), DAY)) == {}


def test_a_visit_without_a_page_counts_once_across_midnight() -> None:
    """It belongs to the day of its first row; on the next day its seconds tell that it goes on."""
    before = [hit(DAY_S - HOUR_S, visit=1, step=0, elapsed_s=0, kind="asset")]
    after = [hit(DAY_S, visit=1, step=0, elapsed_s=60, kind="asset")]
    first, second = DAY, DAY + datetime.timedelta(days=1)
    before_rows, after_rows = sql.add_date(build_table(before), first), sql.add_date(build_table(after), second)

    def count(rows: pa.Table, day: datetime.date) -> int:
        totals = [(place, values[""]) for place, values in count_cells(rows).items() if place.dimension == "total"]
        return sum(counts.visits for place, counts in totals if place.date == day)

    assert count(pa.concat_tables([before_rows, after_rows]), first) == 1
    assert count(after_rows, second) == 0
