"""What several verbs share finds its files, or says in words why it can't."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534
PROJECT = Path(__file__).parents[2]
AS_ANOTHER = """
import os, sys
from pathlib import Path
from anonproxy.cli import options
from anonproxy.model.errors import OperatorError
options.DEFAULT_CONFIGS = tuple(map(Path, sys.argv[2:]))
os.setgroups([])
os.setuid(int(sys.argv[1]))
try:
    print(options.find_config(None))
except OperatorError as error:
    print(error)
"""


@pytest.fixture
def folders() -> Iterator[tuple[Path, Path]]:
    """Return a configuration in a folder that only its owner may enter, and one in a folder that is open to all."""
    with tempfile.TemporaryDirectory() as closed, tempfile.TemporaryDirectory() as opened:
        Path(opened).chmod(0o755)
        for folder in (closed, opened):
            (Path(folder) / "anonproxy.toml").write_text("")
        yield Path(closed, "anonproxy.toml"), Path(opened, "anonproxy.toml")


def find(*paths: Path) -> str:
    """Return what somebody without rights finds among the default places, or is told."""
    command = [sys.executable, "-c", AS_ANOTHER, str(NOBODY), *map(str, paths)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_configuration_that_one_may_not_see_is_no_fault(folders: tuple[Path, Path]) -> None:
    """A default place that one may not enter is passed over; where no other is left, one is told who may."""
    closed, opened = folders
    assert find(closed, opened) == str(opened)
    assert "no right to it" in find(closed)
    assert "as the user that runs anonproxy" in find(closed)
