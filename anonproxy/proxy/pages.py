"""The proxy's own answers: a word for the visitor, nothing about addresses, software or the cause."""

from http import HTTPStatus
from typing import Final

from mitmproxy.http import HTTPFlow

_WORDS: Final = {
    HTTPStatus.MOVED_PERMANENTLY: "The website is at the same address with https.",
    HTTPStatus.PERMANENT_REDIRECT: "The website is at the same address with https.",
    HTTPStatus.BAD_REQUEST: "The request could not be understood.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "What was sent is too large.",
    HTTPStatus.MISDIRECTED_REQUEST: "There is no website of that name here.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request was too long.",
    HTTPStatus.BAD_GATEWAY: "The website does not answer just now. Please try again in a minute.",
    HTTPStatus.GATEWAY_TIMEOUT: "The website takes too long to answer just now. Please try again in a minute.",
}
STATUSES: Final = tuple(status.value for status in _WORDS)

# Where a request carries the status of its page.
_EXPECTED: Final = "anonproxy_status"

_TEMPLATE: Final = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body style="font:1.1rem/1.5 sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem">
<h1>{title}</h1><p>{words}</p>
</body>
</html>
"""


def expect_error(flow: HTTPFlow, status: HTTPStatus) -> None:
    """Say which page a request gets should it fail."""
    flow.metadata[_EXPECTED] = status.value


def error_status(flow: HTTPFlow) -> int:
    """Return the status of the page that a request gets should it fail."""
    status: int = flow.metadata.get(_EXPECTED, HTTPStatus.BAD_GATEWAY.value)
    return status


def render_body(status: int) -> bytes:
    """Render the page for a status."""
    known = HTTPStatus(status)
    return _TEMPLATE.format(title=known.phrase, words=_WORDS[known]).encode()


def page_fields(body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of a page, in the lower case that HTTP/2 wants."""
    return (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    )


def render_page(status: int, *, has_body: bool = True, location: str = "") -> bytes:
    """Render a whole HTTP/1.1 response after which the connection closes."""
    body = render_body(status)
    moved = ((b"location", location.encode("utf-8", "surrogateescape")),) if location else ()
    fields = b"".join(
        b"%s: %s\r\n" % (name.title(), value) for name, value in (*page_fields(body), *moved, (b"connection", b"close"))
    )
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() + fields + b"\r\n"
    return head + body if has_body else head
