"""By nginx's own count it is known how many lines never came, over its restarts, and however busy it is."""

import pytest

from anonproxy.proxy.collect.status_page import Status, Tally, ask_status, parse_status
from tests.support.ports import free_port

PAGE = b"""Active connections: 3
server accepts handled requests
 16630948 16630948 31070465
Reading: 1 Writing: 2 Waiting: 5
"""


@pytest.mark.parametrize(
    ("page", "status"),
    [
        (PAGE, Status(31070465, 3)),
        (PAGE.replace(b"\n", b" \n"), Status(31070465, 3)),
        (b"<html>404</html>", None),
        (b"", None),
        (PAGE[:60], None),
    ],
)
def test_page_is_read(page: bytes, status: Status | None) -> None:
    """The page as nginx writes it is read, and anything else is no page."""
    assert parse_status(page) == status


def test_silence_is_no_status() -> None:
    """Where nobody answers there is no status, and nothing is raised."""
    assert ask_status(f"http://127.0.0.1:{free_port()}/") is None


@pytest.mark.parametrize(
    ("looks", "served", "missing"),
    [
        # Each look: nginx's requests, of which some run (our question always does), and lines that had come.
        ([(100, 1, 40)], 0, 0),  # what was before we looked is nobody's loss
        ([(100, 1, 40), (111, 1, 50)], 10, 0),  # ten requests, and our question
        ([(100, 1, 40), (111, 1, 48)], 10, 2),
        ([(100, 1, 40), (111, 3, 48)], 10, 0),  # two of them still run
        ([(100, 3, 40), (111, 1, 52)], 10, 0),  # two ran when we began
        ([(100, 1, 40), (111, 1, 48), (117, 1, 53)], 15, 2),
        ([(100, 1, 40), (111, 1, 48), (5, 1, 60), (11, 1, 64)], 15, 3),  # restarted: two before, one since
        ([(100, 1, 40), (111, 1, 55)], 10, 0),  # others send as well: nothing is missing that could be seen
    ],
)
def test_missing_lines_are_counted(looks: list[tuple[int, int, int]], served: int, missing: int) -> None:
    """What nginx has finished and no line has told of is missing; a restart of nginx changes nothing about that."""
    tally = Tally()
    for requests, running, lines in looks:
        tally.compare(Status(requests, running), lines)
    assert (tally.served, tally.missing) == (served, missing)
