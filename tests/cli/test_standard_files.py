"""A program that is started without standard files takes none of its own files for one of them."""

import subprocess
import sys
from pathlib import Path

import pytest

OPEN = """
import os, sys
from anonproxy.cli import open_standard_files
open_standard_files()
with open(sys.argv[1], "wb") as file:
    print("not into the file", flush=True)
    print("nor this", file=sys.stderr, flush=True)
    sys.exit(file.fileno() if sys.stdin.read() == "" else 0)
"""


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_goes_into_no_file(closed: str, tmp_path: Path) -> None:
    """Closed files are opened again, and lead nowhere; a file that is opened afterwards is none of them."""
    path = tmp_path / "rows"
    call = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", OPEN, str(path)]
    assert subprocess.run(call, timeout=60, check=False, stdin=subprocess.DEVNULL).returncode > 2
    assert path.read_bytes() == b""


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_verbs_work_without_them(closed: str) -> None:
    """A verb ends as it would."""
    call = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "anonproxy", "report", "-c", "/nowhere.toml"]
    assert subprocess.run(call, timeout=60, check=False, stdin=subprocess.DEVNULL).returncode == 2
