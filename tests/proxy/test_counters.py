"""Numbers that several processes share."""

import os
import subprocess
import sys

import pytest

from anonproxy.proxy.counters import NAMES, Counters, settle_counts

COUNT_IN_CHILD = """
import sys
from anonproxy.proxy.counters import Counters
row = Counters(int(sys.argv[1])).workers[1]
for _ in range(1000):
    row.count("requests")
"""


def test_counts_of_another_process_are_seen() -> None:
    """What a child counts in its row, the supervisor reads."""
    counters = Counters.create(workers=2)
    subprocess.run([sys.executable, "-c", COUNT_IN_CHILD, str(counters.fd)], pass_fds=(counters.fd,), check=True)
    assert counters.workers[1]["requests"] == counters.total("requests") == 1000
    assert counters.workers[0]["requests"] == counters.writer["requests"] == 0
    os.close(counters.fd)


def test_names_are_closed() -> None:
    """A name that isn't in the list can't be counted."""
    counters = Counters.create(workers=1)
    with pytest.raises(KeyError):
        counters.writer.count("/secret")
    assert len(set(NAMES)) == len(NAMES)
    os.close(counters.fd)


def test_requests_that_nobody_will_write_are_dropped() -> None:
    """Once all processes have ended, each request was written or dropped."""
    counters = Counters.create(workers=2)
    counters.workers[0]["requests"], counters.workers[1]["requests"], counters.writer["written"] = 7, 5, 9
    counters.workers[1]["dropped_queue_full"] = 1
    settle_counts(counters)
    assert counters.dropped() | {"queue_full": 1, "writer_down": 2} == counters.dropped()
    os.close(counters.fd)
