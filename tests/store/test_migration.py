"""Tests that a store outlives the version that wrote it, and that one from the future is refused."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from anonproxy.model.columns import SCHEMA_VERSION
from anonproxy.model.errors import StoreError
from anonproxy.store.lock import StoreLock
from anonproxy.store.purge import purge
from anonproxy.store.read import open_store
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from anonproxy.store.tables import SCHEMAS
from anonproxy.store.version import verify_version
from tests.store.examples import DATE, DAY_S, MIDNIGHT, K, Notes, settings, tree
from tests.store.freeze import FROZEN

VERSIONS = [f"schema-{version}" for version in range(1, SCHEMA_VERSION + 1)]

# date, time, route, network, campaign, rows, visits, last step
HITS = [
    ("2026-11-21", "2026-11-21 00:00:00", "/café", "203.0.113.0/24", None, 3, 0, None),
    ("2026-11-21", "2026-11-21 09:00:00", "/", None, None, 12, 0, None),
    ("2026-11-21", "2026-11-21 09:00:00", "/events", None, None, 12, 0, None),
    ("2026-11-23", "2026-11-23 00:00:00", "/", None, "autumn", 12, 12, 1),
    ("2026-11-23", "2026-11-23 01:00:00", "/", None, None, 1, 0, None),
]
# date, dimension, value, hits, pageviews, visits, bounces, seconds
DAILY = [
    ("2026-11-21", "exit", "(other)", 15, 15, 15, 3, 720),
    ("2026-11-21", "page", "(other)", 15, 15, 15, 3, 720),
    ("2026-11-21", "page", "/events", 12, 12, 12, 0, 720),
    ("2026-11-21", "total", "", 27, 27, 15, 3, 720),
    ("2026-11-23", "exit", "/", 12, 12, 12, 12, 0),
    ("2026-11-23", "page", "/", 13, 13, 12, 12, 0),
    ("2026-11-23", "total", "", 13, 13, 12, 12, 0),
]


def read(root: Path) -> tuple[list[Any], list[Any]]:
    """Return the rows of a store in the terms of the tables above."""
    with open_store(root).connect() as connection:
        return (
            connection.execute(
                "SELECT date::VARCHAR, time::VARCHAR, route, network, campaign, count(*), count(visit), max(step) "
                "FROM hits GROUP BY ALL ORDER BY ALL"
            ).fetchall(),
            connection.execute(
                "SELECT date::VARCHAR, * EXCLUDE (date, site) FROM daily "
                "WHERE dimension IN ('exit', 'page', 'total') ORDER BY ALL"
            ).fetchall(),
        )


def test_every_version_has_a_frozen_store() -> None:
    """Whoever changes the schema keeps a store of it: python -m tests.store.freeze."""
    assert sorted(path.name for path in FROZEN.iterdir()) == VERSIONS


def test_columns_change_only_with_the_version() -> None:
    """The newest frozen store has the columns of today; other columns need another SCHEMA_VERSION and another store."""
    for kind, schema in SCHEMAS.items():
        for path in (FROZEN / VERSIONS[-1] / kind).rglob("*.parquet"):
            assert pq.read_schema(path).names == schema.names


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_every_version_is_read(version: str) -> None:
    """Settled, sealed and open rows, and nothing is left out as broken."""
    assert read(FROZEN / version) == (HITS, DAILY)
    store = open_store(FROZEN / version)
    assert store.dataset("vocabulary").count_rows() == 30
    assert store.unreadable == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_every_version_lives_on(version: str, tmp_path: Path) -> None:
    """It is locked, sealed, settled and purged like one of today, and nothing of it is foreign."""
    root = tmp_path / "store"
    shutil.copytree(FROZEN / version, root)
    lock = StoreLock(root)
    verify_version(root)
    seal(root, MIDNIGHT + 3 * DAY_S, Notes())
    assert read(root) == (HITS, DAILY)
    settle(root, MIDNIGHT + 4 * DAY_S, settings(), K, Notes())
    hits, daily = read(root)
    assert [(row[0], sum(each[5] for each in hits if each[0] == row[0])) for row in hits[::3]] == [
        (DATE, 27),
        ("2026-11-23", 13),
    ]
    assert daily == DAILY
    assert purge(root, MIDNIGHT + 92 * DAY_S, settings(), K, Notes()) == []
    assert {path.split("/")[0] for path in tree(root) if DATE in path} >= {"daily"}
    assert not any(path.startswith(f"hits/site=www/date={DATE}") for path in tree(root))
    lock.release()


@pytest.mark.parametrize("kind", ["hot", "hits", "daily", "vocabulary"])
def test_a_newer_file_is_refused_with_the_remedy(kind: str, tmp_path: Path) -> None:
    """In whatever part of the store it stands, reading and writing are refused, and nothing is changed."""
    root = tmp_path / "store"
    shutil.copytree(FROZEN / VERSIONS[-1], root)
    path = max((root / kind).rglob("*.parquet"))
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({"anonproxy.schema": str(SCHEMA_VERSION + 1)}), path)
    before = tree(root)
    remedy = rf"newer anonproxy \(schema {SCHEMA_VERSION + 1}, .*Upgrade anonproxy"
    with pytest.raises(StoreError, match=remedy):
        open_store(root).connect()
    with pytest.raises(StoreError, match=remedy):
        open_store(root).dataset("hits")
    with pytest.raises(StoreError, match=remedy):
        verify_version(root)
    assert tree(root) == before
