"""The proxy's own answers: a word for the visitor, nothing about addresses, software or the cause."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from mitmproxy.http import HTTPFlow

from anonproxy.model.errors import OperatorError

_WORDS: Final = {
    HTTPStatus.MOVED_PERMANENTLY: "The website is at the same address with https.",
    HTTPStatus.PERMANENT_REDIRECT: "The website is at the same address with https.",
    HTTPStatus.BAD_REQUEST: "The request could not be understood.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "What was sent is too large.",
    HTTPStatus.MISDIRECTED_REQUEST: "There is no website of that name here.",
    HTTPStatus.TOO_MANY_REQUESTS: "There were too many requests from your network. Please wait a moment and try again.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request was too long.",
    HTTPStatus.BAD_GATEWAY: "The website does not answer just now. Please try again in a minute.",
    HTTPStatus.GATEWAY_TIMEOUT: "The website takes too long to answer just now. Please try again in a minute.",
}
STATUSES: Final = tuple(status.value for status in _WORDS)

# What an operator's own pages are called, and how large they may be: they stay in memory.
ANY_ERROR: Final = "error"
OWN_NAMES: Final = (*(str(status) for status in STATUSES if status >= HTTPStatus.BAD_REQUEST), ANY_ERROR)
OWN_SUFFIX: Final = ".html"
MAX_OWN_BYTES: Final = 65_536

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

Fields = tuple[tuple[bytes, bytes], ...]


def expect_error(flow: HTTPFlow, status: HTTPStatus) -> None:
    """Say which page a request gets should it fail."""
    flow.metadata[_EXPECTED] = status.value


def error_status(flow: HTTPFlow) -> int:
    """Return the status of the page that a request gets should it fail."""
    status: int = flow.metadata.get(_EXPECTED, HTTPStatus.BAD_GATEWAY.value)
    return status


class Pages:
    """The pages of a proxy: an operator's own where there are some, sent as they are, and plain ones for the rest."""

    def __init__(self, own: Mapping[str, str], retry_after_s: int) -> None:
        self._bodies = {status: (_find_own(own, status) or _render_body(status)).encode() for status in STATUSES}
        self._retry_after = b"%d" % retry_after_s

    def body(self, status: int) -> bytes:
        """Return the page for a status."""
        return self._bodies[status]

    def fields(self, status: int) -> Fields:
        """Return the headers of a page, in the lower case that HTTP/2 wants."""
        is_limit = status == HTTPStatus.TOO_MANY_REQUESTS
        return (
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", b"%d" % len(self._bodies[status])),
            (b"cache-control", b"no-store"),
            *(((b"retry-after", self._retry_after),) if is_limit else ()),
        )

    def render(self, status: int, *, has_body: bool = True, location: str = "") -> bytes:
        """Render a whole HTTP/1.1 response after which the connection closes."""
        moved = ((b"location", location.encode("utf-8", "surrogateescape")),) if location else ()
        fields = b"".join(
            b"%s: %s\r\n" % (name.title(), value)
            for name, value in (*self.fields(status), *moved, (b"connection", b"close"))
        )
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode() + fields + b"\r\n"
        return head + self._bodies[status] if has_body else head


def read_own_pages(folder: str) -> dict[str, str]:
    """Read an operator's own pages, by the names of their files without the ending; "" is no folder.

    Raises: OperatorError with everything that is wrong with them
    """
    if not folder:
        return {}
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.suffix == OWN_SUFFIX)
        problems = list(_find_problems(paths))
        if not problems:
            return {path.stem: path.read_text("utf-8") for path in paths}
    except OSError:
        problems = ["the folder, or a file in it, can't be read. Check path, owner and mode"]
    raise OperatorError("\n".join(f"proxy.error_pages: {problem}" for problem in problems))


def _find_problems(paths: list[Path]) -> Iterator[str]:
    names = ", ".join(f"{name}{OWN_SUFFIX}" for name in OWN_NAMES)
    if not paths:
        yield f"there is no page in the folder. Write at least one of {names}"
    for path in paths:
        if path.stem not in OWN_NAMES:
            yield f"{path.name} is never shown. The names of pages are {names}"
        elif not 0 < path.stat().st_size <= MAX_OWN_BYTES:
            yield f"{path.name} is empty, or larger than {MAX_OWN_BYTES // 1024} KiB"
        elif not _is_text(path):
            yield f"{path.name} is not UTF-8"


def _is_text(path: Path) -> bool:
    try:
        path.read_text("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _find_own(own: Mapping[str, str], status: int) -> str:
    return own.get(str(status)) or (own.get(ANY_ERROR, "") if status >= HTTPStatus.BAD_REQUEST else "")


def _render_body(status: int) -> str:
    known = HTTPStatus(status)
    return _TEMPLATE.format(title=known.phrase, words=_WORDS[known])
