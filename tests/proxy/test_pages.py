"""The proxy's own pages."""

import pytest

from anonproxy.proxy.pages import STATUSES, render_page
from tests.proxy.conftest import split_response


@pytest.mark.parametrize("status", STATUSES)
def test_pages_are_whole_responses(status: int) -> None:
    """Each page says its status and length, isn't cached, and ends the connection; HEAD gets the same without body."""
    got, head, body = split_response(render_page(status))
    assert got == status
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Cache-Control: no-store" in head
    assert b"Connection: close" in head
    assert render_page(status, has_body=False) == head + b"\r\n\r\n"
