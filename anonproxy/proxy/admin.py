"""Health and metrics, on a listener of their own: numbers and closed names, nothing about any request."""

import asyncio
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final

from anonproxy.proxy.counters import Counters

READ_TIMEOUT_S: Final = 5.0
MAX_HEAD_BYTES: Final = 8192
_TEXT: Final = "text/plain; charset=utf-8"
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"  # Prometheus text exposition format

# Sample name, type, help, and where the number comes from. The names follow Prometheus' naming practices.
METRICS: Final[tuple[tuple[str, str, str, Callable[[Counters], int]], ...]] = (
    ("anonproxy_requests_total", "counter", "Requests that were answered, failed or were left by the visitor.",
     lambda counters: counters.total("requests")),
    ("anonproxy_running_requests", "gauge", "Requests that are being served.", Counters.running),
    ("anonproxy_lost_requests_total", "counter", "Requests that a worker was serving when it was killed.",
     lambda counters: counters.total("lost")),
    ("anonproxy_limited_requests_total", "counter", "Requests beyond the rate limit, which were answered with 429.",
     lambda counters: counters.total("limited")),
    ("anonproxy_hits_written_total", "counter", "Anonymised rows on disk.", lambda counters: counters.total("written")),
    ("anonproxy_pending_rows", "gauge", "Anonymised rows in memory, waiting for the next flush.",
     Counters.pending),
    ("anonproxy_queued_requests", "gauge", "Requests on their way from the workers to the writer.", Counters.queued),
    ("anonproxy_malformed_total", "counter", "Connections that did not speak HTTP; no request came of them.",
     lambda counters: counters.total("malformed")),
    ("anonproxy_redirects_total", "counter", "Requests that were sent on to HTTPS; they count when they come there.",
     lambda counters: counters.total("redirected")),
    ("anonproxy_refused_connections_total", "counter", "Connections beyond those that one address may have.",
     lambda counters: counters.total("refused")),
    ("anonproxy_faults_total", "counter", "Errors of our own while serving; the pages were served.",
     lambda counters: counters.total("faults")),
    ("anonproxy_connections", "gauge", "Visitors' connections that are open.",
     lambda counters: counters.total("connected") - counters.total("disconnected")),
    ("anonproxy_workers", "gauge", "Workers that accept connections.",
     lambda counters: sum(row["ready"] for row in counters.workers)),
    ("anonproxy_kernel_lost_total", "counter", "Log lines that found the buffer of a listener of `collect` full.",
     lambda counters: counters.writer["kernel_lost"]),
    ("anonproxy_server_requests_total", "counter", "Requests that nginx says it served, while `collect` watches it.",
     lambda counters: counters.writer["server_requests"]),
    ("anonproxy_missing_requests", "gauge", "Requests that nginx has served, and no line has told of.",
     lambda counters: counters.writer["missing"]),
    ("anonproxy_writer_ready", "gauge", "1 while requests are taken down.", lambda counters: counters.writer["ready"]),
)  # fmt: skip
STORE_FAILURES: Final = ("flush", "seal", "settle", "purge", "publish")


def is_ready(counters: Counters) -> bool:
    """Tell whether pages are served and written down."""
    return bool(counters.writer["ready"]) and any(row["ready"] for row in counters.workers)


def render_metrics(counters: Counters) -> str:
    """Render every counter in Prometheus' text format."""
    return "\n".join(_metric_lines(counters)) + "\n"


def _metric_lines(counters: Counters) -> Iterator[str]:
    for name, kind, meaning, read in METRICS:
        yield from _head(name, kind, meaning)
        yield f"{name} {read(counters)}"
    name = "anonproxy_dropped_total"
    yield from _head(name, "counter", "Requests that were counted but not written.")
    for reason, number in counters.dropped().items():
        yield f'{name}{{reason="{reason}"}} {number}'
    name = "anonproxy_store_failures_total"
    yield from _head(name, "counter", "Work on the store that failed and is tried again.")
    for step in STORE_FAILURES:
        yield f'{name}{{step="{step}"}} {counters.total(f"{step}_failed")}'


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def answer(target: str, counters: Counters) -> tuple[HTTPStatus, str, str]:
    """Return status, content type and body for a path."""
    match target:
        case "/healthz":
            return HTTPStatus.OK, _TEXT, "alive\n"
        case "/readyz" if is_ready(counters):
            return HTTPStatus.OK, _TEXT, "ready\n"
        case "/readyz":
            return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, "not ready\n"
        case "/metrics":
            return HTTPStatus.OK, _METRICS, render_metrics(counters)
        case _:
            return HTTPStatus.NOT_FOUND, _TEXT, "/healthz /readyz /metrics\n"


async def handle_admin(counters: Counters, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request and close."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            head = await reader.readuntil(b"\r\n\r\n")
            method, _, rest = head.partition(b" ")
            target = rest.partition(b" ")[0].partition(b"?")[0].decode("ascii", "replace")
            status, content_type, body = answer(target, counters)
            if method not in {b"GET", b"HEAD"}:
                status, content_type, body = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, "GET\n"
            writer.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {content_type}\r\n"
                f"Content-Length: {len(body.encode())}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
                f"{'' if method == b'HEAD' else body}".encode()
            )
            await writer.drain()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # whoever asked is gone, or did not speak HTTP
    finally:
        writer.close()
