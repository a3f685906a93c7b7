"""The writer, killed in earnest."""

import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from anonproxy.store.layout import find_foreign
from anonproxy.store.read import open_store
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from tests.store.examples import DAY_S, MIDNIGHT, K, Notes, settings
from tests.store.writer import BATCH

KILLS = 12
PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_again_and_again_no_written_row_is_lost_or_doubled(tmp_path: Path) -> None:
    """kill -9 at random moments of writing and sealing costs the rows that were in memory, and nothing else."""
    random = Random(4)
    root = tmp_path / "store"
    first, acknowledged = 1, set[int]()
    for _ in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.store.writer", str(root), str(first)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            for _ in range(random.randint(1, 8)):
                last = int(process.stdout.readline())
            time.sleep(random.random() / 50)
            process.kill()
            unread = process.stdout.read().split()
            last = int(unread[-1]) if unread else last
        acknowledged |= set(range(first, last + 1))
        first = last + 10 * BATCH
    seal(root, MIDNIGHT + DAY_S, Notes())
    with open_store(root).connect() as connection:
        found = [row[0] for row in connection.execute("SELECT visit FROM hits").fetchall()]
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    assert len(set(found) - acknowledged) <= KILLS * BATCH
    assert find_foreign(root) == []
    settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    with open_store(root).connect() as connection:
        assert connection.execute("SELECT count(*) FROM hits").fetchone() == (len(found),)
