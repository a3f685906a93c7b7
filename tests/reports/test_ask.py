"""One SELECT is answered. Whatever else is tried is refused, in words, and leaves nothing behind."""

import os
import time
from pathlib import Path

import pytest

from anonproxy.model.errors import OperatorError
from anonproxy.reports.ask import COLUMNS, Limits, ask
from anonproxy.store.read import Store, open_store
from anonproxy.store.settle import settle
from tests.store.examples import DAY_S, MIDNIGHT, K, Notes, settings, tree, visits, write

SECRET = "a word that stands in a file outside"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with a settled and a hot day, and beside it a file that nobody may read."""
    place = tmp_path_factory.mktemp("asked")
    write(place / "store", visits(12))
    settle(place / "store", MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    write(place / "store", visits(12, 2 * DAY_S, first=100))
    (place / "secret.csv").write_text(f"word\n{SECRET}\n")
    return place


@pytest.fixture(scope="module")
def store(place: Path) -> Store:
    """Open the store."""
    return open_store(place / "store", K)


ANSWERED = {
    "SELECT count(*) FROM hits": [(24,)],
    "SELECT count(*) FROM hits;": [(24,)],
    "-- a remark\nFROM daily SELECT sum(visits) WHERE dimension = 'total'": [(24,)],
    "WITH days AS (SELECT DISTINCT date FROM hits) SELECT count(*) FROM days": [(2,)],
    "SELECT count(*) FROM vocabulary WHERE \"column\" = 'campaign'": [(2,)],
    "SELECT * FROM range(3)": [(0,), (1,), (2,)],
    "SELECT unnest([1, 2])": [(1,), (2,)],
    "VALUES (1)": [(1,)],
    "SELECT ';'": [(";",)],
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT max(i) FROM n": [(3,)],
}


@pytest.mark.parametrize("query", ANSWERED)
def test_a_select_is_answered(store: Store, query: str) -> None:
    """Whatever a SELECT can say over the views is answered."""
    answer = ask(store, query, Limits())
    assert [tuple(row.values()) for row in answer.rows.to_pylist()] == ANSWERED[query]
    assert not answer.is_cut


# What is tried, and a part of the words that it is refused with. {} is the folder.
ATTACKS = {
    # writing
    "COPY hits TO '{}/out.csv'": "only SELECT",
    "COPY (SELECT 1) TO '{}/out.parquet' (FORMAT parquet)": "only SELECT",
    "EXPORT DATABASE '{}/out'": "only SELECT",
    "ATTACH '{}/out.duckdb' AS x": "only SELECT",
    "CREATE TABLE x AS SELECT 1": "only SELECT",
    "CREATE OR REPLACE VIEW hits AS SELECT 1": "only SELECT",
    "CREATE MACRO f(x) AS x": "only SELECT",
    "CREATE PERSISTENT SECRET x (TYPE s3)": "only SELECT",
    "DROP VIEW hits": "only SELECT",
    "DELETE FROM daily": "only SELECT",
    "INSERT INTO daily SELECT * FROM daily": "only SELECT",
    "CHECKPOINT": "only SELECT",
    "SELECT * FROM force_checkpoint()": "force_checkpoint",
    "SELECT * FROM enable_logging(storage_path := '{}')": "enable_logging",
    "PREPARE x AS SELECT 1": "only SELECT",
    # reading
    "SELECT * FROM '{}/secret.csv'": "disabled",
    'SELECT * FROM "{}/secret.csv"': "disabled",
    "SELECT * FROM read_csv('{}/secret.csv')": "read_csv",
    "SELECT * FROM read_text('{}/secret.csv')": "read_text",
    "SELECT * FROM read_blob('{}/*')": "read_blob",
    "SELECT * FROM glob('{}/*')": "glob",
    "SELECT * FROM read_parquet('{}/store/**/*.parquet')": "read_parquet",
    "SELECT * FROM parquet_metadata('{}/x')": "parquet_metadata",
    "SELECT * FROM sniff_csv('{}/secret.csv')": "sniff_csv",
    "FROM hits, LATERAL (SELECT * FROM read_text('{}/secret.csv'))": "read_text",
    "SELECT (SELECT content FROM read_text('{}/secret.csv'))": "read_text",
    "WITH x AS (FROM read_text('{}/secret.csv')) SELECT * FROM hits": "read_text",
    "SELECT 1 WHERE EXISTS (FROM READ_TEXT('{}/secret.csv'))": "read_text",
    "SELECT * FROM main.read_text('{}/secret.csv')": "read_text",
    "SELECT * FROM query('SELECT * FROM read_text(''{}/secret.csv'')')": "query",
    "SELECT * FROM query_table('{}/secret.csv')": "query_table",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))": "json_execute_serialized_sql",
    "FROM place": "does not exist",
    "FROM store": "does not exist",
    "SELECT * FROM tables": "does not exist",
    "SELECT getenv('HOME')": "does not exist",
    "SELECT * FROM arrow_scan(1, 2, 3)": "arrow_scan",
    "SELECT * FROM python_arrow_scan(1, 2, 3, 4)": "python_arrow_scan",
    "SELECT * FROM pandas_scan(1)": "pandas_scan",
    "SELECT * FROM duckdb_settings()": "duckdb_settings",
    "SELECT * FROM duckdb_secrets()": "duckdb_secrets",
    "SELECT * FROM which_secret('s3://x', 's3')": "which_secret",
    # the network
    "INSTALL httpfs": "LOAD or INSTALL",
    "LOAD httpfs": "LOAD or INSTALL",
    "SELECT * FROM 'https://example.org/x.parquet'": "disabled",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')": "read_parquet",
    # the locks
    "SET enable_external_access = true": "only SELECT",
    "SET temp_directory = '{}'": "only SELECT",
    "RESET lock_configuration": "only SELECT",
    "PRAGMA enable_profiling": "only SELECT",
    "PRAGMA database_list": "only SELECT",
    "CALL duckdb_settings()": "only SELECT",
    "USE memory": "only SELECT",
    # several at once, or none
    "SELECT 1; SELECT 2": "2 statements",
    "SELECT 1; COPY hits TO '{}/out.csv'": "2 statements",
    "": "no statements",
    "  -- nothing": "no statements",
    "PIVOT daily ON dimension USING sum(visits)": "several in one",
    "EXPLAIN ANALYZE SELECT 1": "only SELECT",
    "not SQL at all": "syntax error",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_else_is_done(place: Path, store: Store, attack: str) -> None:
    """It is refused in words, nothing is read that isn't the store's, and nothing is written anywhere."""
    before = tree(place)
    with pytest.raises(OperatorError) as refused:
        ask(store, attack.replace("{}", str(place)), Limits(seconds=20))
    assert ATTACKS[attack] in str(refused.value)
    assert SECRET not in str(refused.value)
    assert tree(place) == before
    assert not [name for name in os.listdir() if name.startswith((".tmp", "duckdb"))]


LOOPS = (
    "SELECT count(*) FROM range(1000000000000)",
    "SELECT max(i) FROM generate_series(1, 1000000000000) t(i)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
    "SELECT count(*) FROM hits a, hits b, hits c, hits d, hits e, hits f, hits g, hits h",
    "SELECT sleep_ms(60000)",
)


@pytest.mark.parametrize("query", LOOPS)
def test_what_does_not_end_is_ended(store: Store, query: str) -> None:
    """A query that would go on for hours is stopped when its time is over."""
    began = time.monotonic()
    with pytest.raises(OperatorError, match=r"no answer within 0.5 s.*--timeout"):
        ask(store, query, Limits(seconds=0.5))
    assert time.monotonic() - began < 30


HUNGRY = (
    "SELECT list(i) FROM range(100000000) t(i)",
    "SELECT string_agg(i::VARCHAR) FROM range(1000000000) t(i)",
    "SELECT i, count(*) FROM range(100000000) t(i) GROUP BY i ORDER BY 2",
)


@pytest.mark.parametrize("query", HUNGRY)
def test_what_needs_too_much_memory_is_stopped(store: Store, query: str) -> None:
    """There is no disk to spill to: it ends, with words for how to go on."""
    with pytest.raises(OperatorError, match=r"more than 100 MB of memory.*--memory"):
        ask(store, query, Limits(seconds=60, memory_mb=100))


def test_what_gives_too_many_rows_is_cut(store: Store) -> None:
    """Rows past the limit are never made, and it is told that there were more."""
    answer = ask(store, "SELECT * FROM range(1000000000000)", Limits(seconds=20, rows=5))
    assert answer.is_cut
    assert answer.rows.num_rows == 5


MISTAKES = {
    "SELECT rout FROM hits": 'there is no column "rout" here. Did you mean "route"?',
    "SELECT xyzzy FROM hits": 'there is no column "xyzzy" here. `anonproxy sql --schema` lists the columns',
    "SELECT * FROM hist": "Table with name hist does not exist! There are: hits, daily, vocabulary",
    "SELCT 1": 'syntax error at or near "SELCT"',
}


@pytest.mark.parametrize("query", MISTAKES)
def test_mistakes_are_explained(store: Store, query: str) -> None:
    """An error says what is wrong, where, and what could have been meant."""
    with pytest.raises(OperatorError) as refused:
        ask(store, query, Limits())
    assert str(refused.value).splitlines()[0] == MISTAKES[query]


def test_the_listing_is_of_the_columns_that_there_are(store: Store) -> None:
    """Each table is listed with the columns that a query finds in it."""
    for view, columns in COLUMNS.items():
        rows = ask(store, f"SELECT * FROM {view} LIMIT 0", Limits()).rows
        assert rows.column_names == [column.name for column in columns]
