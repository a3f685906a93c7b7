"""What nginx's stub_status says, and by it how many requests no line has told of.

Source: https://nginx.org/en/docs/http/ngx_http_stub_status_module.html
"""

import http.client
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

TIMEOUT_S: Final = 2.0
MAX_PAGE_BYTES: Final = 4096

PAGE: Final = re.compile(rb"\s(\d+) (\d+) (\d+) *\s+Reading: (\d+) Writing: (\d+) Waiting: (\d+)")


class Status(NamedTuple):
    """How many requests nginx has begun to serve since it started, and how many of them aren't finished."""

    requests: int
    running: int


def parse_status(page: bytes) -> Status | None:
    """Read the page; None if it isn't one. The request for it is among those that aren't finished."""
    found = PAGE.search(page)
    return Status(int(found[3]), int(found[4]) + int(found[5])) if found else None


def ask_status(url: str) -> Status | None:
    """Ask for the page; None when there is no answer, or another one."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        return parse_status(connection.getresponse().read(MAX_PAGE_BYTES))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Tally:
    """Compares what nginx has served with the lines that have come, over its restarts.

    What was missing when nginx was last seen before a restart stays missing; what it served in the seconds between is
    not known to anybody.
    """

    def __init__(self) -> None:
        self._before: Status | None = None
        self._finished_then = 0  # by nginx, and lines that had come, when the comparison began
        self._lines_then = 0
        self._asked = 0  # nobody logs our own questions
        self._missing_then = 0
        self.served = 0
        self.missing = 0

    def compare(self, status: Status, lines: int) -> None:
        """Take in what nginx says, and how many lines have come until now."""
        before, self._before = self._before, status
        finished = status.requests - status.running
        if before is None or status.requests < before.requests:
            self._finished_then, self._lines_then = finished, lines
            self._asked, self._missing_then = 0, self.missing
            return
        self._asked += 1
        self.served += status.requests - before.requests - 1
        expected = finished - self._finished_then - self._asked
        self.missing = self._missing_then + max(0, expected - (lines - self._lines_then))
