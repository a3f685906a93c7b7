"""Tests of reading."""

import threading
from pathlib import Path
from random import Random

import duckdb
import pytest

from anonproxy.model.columns import DAILY_COLUMNS, HIT_COLUMNS, VOCABULARY_COLUMNS
from anonproxy.model.errors import StoreError
from anonproxy.store import tables
from anonproxy.store.layout import days
from anonproxy.store.read import open_store
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle, settle_day
from tests.store.examples import DATE, DAY_S, MIDNIGHT, K, Notes, hit, random_hits, settings, visits, write
from tests.support.users import acting_as_nobody


def names(connection: duckdb.DuckDBPyConnection, view: str) -> list[str]:
    """Return the columns of a view."""
    return [row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()]


def test_a_missing_store_is_told(tmp_path: Path) -> None:
    """The message says what makes one."""
    with pytest.raises(StoreError, match=r"nothing there yet.*anonproxy run"):
        open_store(tmp_path / "store")


def test_who_may_not_read_is_told_who_may(tmp_path: Path) -> None:
    """Whether the store is asked for its rows or for what has changed."""
    root = tmp_path / "store"
    root.mkdir(mode=0o755)
    write(root, visits(12))
    (root / "hot").chmod(0)
    tmp_path.chmod(0o755)
    store = open_store(root)
    for ask in (store.version, store.connect):
        with acting_as_nobody(), pytest.raises(StoreError, match="Read as the user that runs anonproxy"):
            ask()
    (root / "hot").chmod(0o700)


def test_an_empty_store_has_the_same_columns_as_a_full_one(tmp_path: Path) -> None:
    """A report runs on the first day, and gives nothing."""
    (tmp_path / "empty").mkdir()
    write(tmp_path / "full", visits(12))
    settle(tmp_path / "full", MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    write(tmp_path / "full", visits(12, 2 * DAY_S))
    with open_store(tmp_path / "empty").connect() as empty, open_store(tmp_path / "full").connect() as full:
        assert names(empty, "hits") == [*(column.name for column in HIT_COLUMNS), "date", "is_pageview"]
        assert names(empty, "daily") == [column.name for column in DAILY_COLUMNS]
        assert names(empty, "vocabulary") == [*(column.name for column in VOCABULARY_COLUMNS), "date"]
        for view in ("hits", "daily", "vocabulary"):
            described = f"DESCRIBE {view}"
            assert empty.execute(described).fetchall() == full.execute(described).fetchall()
            assert empty.execute(f"SELECT * FROM {view}").fetchall() == []
            assert full.execute(f"SELECT * FROM {view}").fetchall() != []


def test_settled_and_hot_rows_are_one_view(tmp_path: Path) -> None:
    """Visits are null once they are gone, and the rest reads alike."""
    write(tmp_path, visits(12))
    settle(tmp_path, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    write(tmp_path, visits(3, 2 * DAY_S))
    with open_store(tmp_path).connect() as connection:
        found = connection.execute(
            "SELECT date::VARCHAR, count(*), count(visit), count(step), bool_and(is_pageview), min(hour(time)) "
            "FROM hits GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    assert found == [("2026-11-21", 12, 0, 0, True, 0), ("2026-11-23", 3, 3, 3, True, 0)]


def test_only_files_of_the_asked_days_and_sites_are_opened(tmp_path: Path) -> None:
    """A question about one day doesn't read the ninety others."""
    sites = ("www", "kids")
    write(tmp_path, [hit(day * DAY_S, site=site) for day in range(3) for site in sites], sites)
    settle(tmp_path, MIDNIGHT + 5 * DAY_S, settings(), K, Notes())
    with open_store(tmp_path).connect() as connection:
        for day in (f"{DATE}", "2026-11-23"):
            (tmp_path / f"hits/site=www/date={day}/hits.parquet").unlink()
        ask = "SELECT count(*), any_value(country) FROM hits WHERE date = ? AND site = ?"
        assert connection.execute(ask, ["2026-11-22", "www"]).fetchall() == [(1, "US")]
        assert connection.execute(ask, [DATE, "kids"]).fetchall() == [(1, "US")]
        with pytest.raises(duckdb.Error):
            connection.execute(ask, [DATE, "www"])


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM '/etc/hostname'",
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY hits TO '/tmp/anonproxy-test.csv'",
        "ATTACH '/tmp/anonproxy-test.db'",
        "EXPORT DATABASE '/tmp/anonproxy-test'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET temp_directory = '/tmp'",
        "SET lock_configuration = false",
        "RESET lock_configuration",
        "SELECT * FROM store",
    ],
)
def test_sql_can_do_nothing_but_read_the_views(tmp_path: Path, query: str) -> None:
    """No file, no network, no variable of this program, no way to unlock it."""
    store = open_store(tmp_path)
    with store.connect() as connection, pytest.raises(duckdb.Error):
        connection.execute(query).fetchall()
    assert not list(Path("/tmp").glob("anonproxy-test*"))


def test_nothing_is_ever_spilled(tmp_path: Path) -> None:
    """DuckDB's own default is a folder .tmp in the working directory."""
    with open_store(tmp_path).connect() as connection:
        assert connection.execute("SELECT current_setting('temp_directory')").fetchone() == ("",)


def test_a_newer_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of it is newer; the message says to upgrade."""
    with monkeypatch.context() as newer:
        newer.setattr(tables, "SCHEMA_VERSION", 2)
        write(tmp_path, visits(3))
        settle(tmp_path, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    with pytest.raises(StoreError, match="Upgrade anonproxy"):
        open_store(tmp_path).connect()


def test_broken_files_are_left_out_and_told(tmp_path: Path) -> None:
    """One bad file doesn't take the reports away."""
    write(tmp_path, visits(12))
    settle(tmp_path, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    write(tmp_path, [hit(2 * DAY_S), hit(3 * DAY_S)])
    bad = [tmp_path / f"hits/site=www/date={DATE}/hits.parquet", sorted(tmp_path.glob("hot/*/*/*/*.parquet"))[0]]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-4])
    store = open_store(tmp_path)
    with store.connect() as connection:
        assert connection.execute("SELECT count(*) FROM hits").fetchone() == (1,)
        assert connection.execute("SELECT visits FROM daily WHERE dimension = 'total' ORDER BY date").fetchall() == [
            (12,),
            (1,),
        ]
    assert store.unreadable == set(bad)


@pytest.mark.slow
def test_reading_while_the_store_changes_never_misses_or_doubles_a_row(tmp_path: Path) -> None:
    """Segments come, hours are sealed and a day settles, while a reader counts: it never sees fewer than before."""
    rows = random_hits(Random(9), 300, hours=3)
    write(tmp_path, rows[:10])
    written, failures = 10, []
    done = threading.Event()

    def change() -> None:
        nonlocal written
        try:
            for start in range(10, 300, 10):
                write(tmp_path, rows[start : start + 10])
                written += 10
                seal(tmp_path, MIDNIGHT + DAY_S, Notes())
            settle_day(days(tmp_path, "hot")[0], K, Notes())
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    changing = threading.Thread(target=change)
    changing.start()
    store = open_store(tmp_path)
    rounds = 0
    while not done.is_set():
        least = written
        with store.connect() as connection:
            found = connection.execute("SELECT count(*) FROM hits").fetchone()
        assert found
        assert least <= found[0] <= len(rows)
        rounds += 1
    changing.join()
    assert failures == []
    assert rounds > 3
