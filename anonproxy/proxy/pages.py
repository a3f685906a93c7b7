"""The proxy's own answers: a word for the visitor, nothing about addresses, software or the cause."""

from http import HTTPStatus
from typing import Final

_WORDS: Final = {
    HTTPStatus.BAD_REQUEST: "The request could not be understood.",
    HTTPStatus.MISDIRECTED_REQUEST: "There is no website of that name here.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request was too long.",
    HTTPStatus.BAD_GATEWAY: "The website does not answer just now. Please try again in a minute.",
    HTTPStatus.GATEWAY_TIMEOUT: "The website takes too long to answer just now. Please try again in a minute.",
}
STATUSES: Final = tuple(status.value for status in _WORDS)

_TEMPLATE: Final = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body style="font:1.1rem/1.5 sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem">
<h1>{title}</h1><p>{words}</p>
</body>
</html>
"""


def render_page(status: int, *, has_body: bool = True) -> bytes:
    """Render a whole HTTP/1.1 response after which the connection closes."""
    known = HTTPStatus(status)
    body = _TEMPLATE.format(title=known.phrase, words=_WORDS[known]).encode()
    head = (
        f"HTTP/1.1 {known.value} {known.phrase}\r\n"
        "Content-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    return head + body if has_body else head
