"""Tests of opening the store with other programs: what docs/reading-the-store.md says works."""

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pytest

import anonproxy
from anonproxy.model.columns import DAILY_COLUMNS, HIT_COLUMNS, VOCABULARY_COLUMNS
from anonproxy.store.settle import settle
from tests.store.examples import DATE, DAY_S, MIDNIGHT, K, Notes, settings, visits, write

DOCS = Path(__file__).parents[2] / "docs" / "reading-the-store.md"
SHOWN = "/var/lib/anonproxy"
# Not installed for the tests, being as large as everything else together.
UNTRIED = re.compile("polars|pyspark|s3://")


def examples(language: str) -> list[str]:
    """Return what the page tells to run."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if not UNTRIED.search(block)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store with settled and hot days."""
    root = tmp_path_factory.mktemp("stores") / "store"
    write(root, visits(12) + visits(13, DAY_S))
    settle(root, MIDNIGHT + 3 * DAY_S, settings(), K, Notes())
    write(root, visits(11, 3 * DAY_S))
    return root


def test_importing_the_package_loads_nothing() -> None:
    """Not even the libraries that reading takes; they come with `open_store`."""
    script = (
        "import sys, anonproxy; before = set(sys.modules); anonproxy.open_store;"
        "assert not before & {'pyarrow', 'duckdb', 'pydantic', 'importlib.metadata'};"
        "assert set(sys.modules) > {'pyarrow', 'duckdb'}; assert anonproxy.__version__[0].isdigit();"
        "assert not hasattr(anonproxy, 'open_shop')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("example", examples("python"))
def test_each_python_example_runs(example: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands on the page, on a store in another place."""
    assert SHOWN in example
    exec(compile(example.replace(SHOWN, str(store)), DOCS.name, "exec"), {})
    assert re.search(r"\b(12|25|36)\b", capsys.readouterr().out)


@pytest.mark.parametrize("example", examples("sh"))
def test_each_duckdb_command_runs(example: str, store: Path) -> None:
    """The command line's SQL, in the same DuckDB without the command line."""
    match = re.fullmatch(r'duckdb -c "(.*)"\n', example, re.DOTALL)
    assert match
    rows = duckdb.execute(match[1].replace(SHOWN, str(store))).fetchall()
    assert [(str(date), page, count) for date, page, count in rows] == [(DATE, "/", 12), ("2026-11-22", "/", 13)]


def test_the_page_shows_every_way() -> None:
    """Four ways in Python and one on the command line are run; if an example goes, this test says so."""
    assert len(examples("python")) == 4
    assert len(examples("sh")) == 1


def test_datasets_hold_what_the_views_do(store: Path) -> None:
    """Settled and hot alike, with the declared columns and the date."""
    opened = anonproxy.open_store(store)
    hits, daily, vocabulary = (opened.dataset(name) for name in ("hits", "daily", "vocabulary"))
    assert hits.schema.names == [*(column.name for column in HIT_COLUMNS), "date"]
    assert daily.schema.names == [column.name for column in DAILY_COLUMNS]
    assert vocabulary.schema.names == [*(column.name for column in VOCABULARY_COLUMNS), "date"]
    assert hits.count_rows() == 36
    assert hits.to_table(filter=pc.is_valid(pc.field("visit"))).num_rows == 11
    total = daily.to_table(["visits"], filter=pc.field("dimension") == "total").column("visits")
    assert sorted(total.to_pylist()) == [11, 12, 13]
    with opened.connect() as connection:
        for name, dataset in (("hits", hits), ("daily", daily), ("vocabulary", vocabulary)):
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (dataset.count_rows(),)


def test_days_that_are_still_hot_are_counted_with_the_asked_k(store: Path) -> None:
    """A dataset of `daily` shows no more than the view does."""
    pages = anonproxy.open_store(store, k=20).dataset("daily").to_table(filter=pc.field("dimension") == "page")
    assert sorted(set(pages.column("value").to_pylist())) == ["(other)", "/"]


def test_a_dataset_opens_only_the_files_that_a_filter_leaves(tmp_path: Path) -> None:
    """A question about one day doesn't read the others."""
    write(tmp_path, visits(12) + visits(13, DAY_S))
    settle(tmp_path, MIDNIGHT + 3 * DAY_S, settings(), K, Notes())
    hits = anonproxy.open_store(tmp_path).dataset("hits")
    (tmp_path / f"hits/site=www/date={DATE}/hits.parquet").unlink()
    day = pc.scalar("2026-11-22").cast("date32")
    assert hits.count_rows(filter=pc.field("date") == day) == 13
    with pytest.raises(FileNotFoundError):
        hits.count_rows()
