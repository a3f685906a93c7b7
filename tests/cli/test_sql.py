"""`anonproxy sql`: one question of one's own, on the command line."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from anonproxy.cli import group
from anonproxy.model.errors import OperatorError
from anonproxy.store.settle import settle
from tests.store.examples import DAY_S, MIDNIGHT, K, Notes, settings, visits, write
from tests.support.servers import wait_until

QUERY = "SELECT date, visits FROM daily WHERE dimension = 'total' ORDER BY date"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with one settled day."""
    root = tmp_path_factory.mktemp("asked") / "store"
    write(root, visits(12))
    settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    return root


def sql(root: Path, *arguments: str, typed: str | None = None) -> Result:
    """Ask."""
    return CliRunner().invoke(group, ["sql", "--store", str(root), *arguments], input=typed)


def test_answers_as_a_table(root: Path) -> None:
    """The table has the names of the columns and the rows."""
    result = sql(root, QUERY)
    assert result.exit_code == 0, result.output
    head, _, row = result.output.strip().splitlines()
    assert head.split() == ["date", "visits"]
    assert row.split() == ["2026-11-21", "12"]


def test_answers_in_other_forms(root: Path) -> None:
    """CSV, JSON, Markdown and Parquet hold the same."""
    assert sql(root, QUERY, "--format", "csv").output == '"date","visits"\n2026-11-21,12\n'
    assert json.loads(sql(root, QUERY, "--format", "json").output) == [{"date": "2026-11-21", "visits": 12}]
    assert sql(root, QUERY, "--format", "markdown").output.splitlines()[2] == "| 2026-11-21 | 12 |"
    table = pq.read_table(io.BytesIO(sql(root, QUERY, "--format", "parquet").stdout_bytes))
    assert table.column("visits").to_pylist() == [12]


def test_reads_the_query_from_where_it_is(root: Path, tmp_path: Path) -> None:
    """From standard input, with or without a dash, and from a file."""
    file = tmp_path / "query.sql"
    file.write_text(QUERY)
    for result in (sql(root, typed=QUERY), sql(root, "-", typed=QUERY), sql(root, "--file", str(file))):
        assert "2026-11-21" in result.output


def test_wide_rows_are_listed(root: Path) -> None:
    """A row that doesn't fit stands with a line for each value."""
    lines = sql(root, "FROM hits LIMIT 1").output.splitlines()
    assert "route" in lines[3]
    assert lines[3].split() == ["route", "/"]


def test_cut_answers_say_so(root: Path) -> None:
    """What was left out is told beside the answer, not in it."""
    result = sql(root, "SELECT * FROM range(9)", "--rows", "2", "--format", "csv")
    assert result.stdout.split() == ['"range"', "0", "1"]
    assert "Only the first 2 rows" in result.stderr


def test_lists_the_columns_without_a_store() -> None:
    """The schema is the same everywhere, so no store is needed."""
    output = CliRunner().invoke(group, ["sql", "--schema"]).output
    for word in ("hits", "daily", "vocabulary", "network_class", "Class of device"):
        assert word in output


def test_mistakes_are_no_tracebacks(root: Path) -> None:
    """An error is a sentence, and its exit status says usage."""
    result = sql(root, "SELECT rout FROM hits")
    assert isinstance(result.exception, OperatorError)
    finished = subprocess.run(
        [sys.executable, "-m", "anonproxy", "sql", "--store", str(root), "SELECT rout FROM hits"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr == 'anonproxy: there is no column "rout" here. Did you mean "route"?\n'


def worked_s(pid: int) -> float:
    """Return how much processor time a process has had: starting takes one or two seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# DuckDB notices neither Ctrl-C nor a limit while it makes a single huge value.
STUBBORN = "SELECT length(repeat('x', 1000000000)) FROM range(1000)"


@pytest.mark.slow
def test_a_stubborn_query_ends_all_the_same(root: Path) -> None:
    """What can't be interrupted is ended with the process, soon after its time."""
    began = time.monotonic()
    finished = subprocess.run(
        [sys.executable, "-m", "anonproxy", "sql", "--store", str(root), "--timeout", "1", STUBBORN],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 2
    assert "anonproxy: " in finished.stderr
    assert "Traceback" not in finished.stderr
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_ctrl_c_ends_it(root: Path) -> None:
    """Ctrl-C ends a query that would go on for hours, without a traceback."""
    endless = "SELECT count(*) FROM range(1000000000000)"
    process = subprocess.Popen(
        [sys.executable, "-m", "anonproxy", "sql", "--store", str(root), "--timeout", "600", endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: worked_s(process.pid) > 3, 120, "the query at work")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "OperatorError" not in error
