"""Health and metrics."""

import asyncio
import functools
import os
from collections.abc import Iterator
from http import HTTPStatus

import pytest
from prometheus_client.parser import text_string_to_metric_families

from anonproxy.model.vocabularies import DropReason
from anonproxy.proxy.admin import answer, handle_admin, render_metrics
from anonproxy.proxy.counters import Counters


@pytest.fixture
def counters() -> Iterator[Counters]:
    """Give the counters of a writer and two workers that have seen some work."""
    made = Counters.create(workers=2)
    made.writer["written"], made.writer["dropped_bad_address"] = 5, 1
    for row, requests in zip(made.workers, (6, 4), strict=True):
        row["requests"], row["sent"], row["seen"], row["connected"] = requests, requests - 1, requests - 1, 3
    made.workers[1]["begun"], made.workers[1]["lost"] = 5, 1
    made.workers[0]["dropped_queue_full"] = made.workers[1]["dropped_writer_down"] = 1
    yield made
    os.close(made.fd)


def samples(counters: Counters) -> dict[tuple[str, ...], float]:
    """Read the metrics back with Prometheus' own parser."""
    families = text_string_to_metric_families(render_metrics(counters))
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_metrics_are_prometheus_text_with_closed_labels(counters: Counters) -> None:
    """Every sample is read by Prometheus' parser; labels are drop reasons and steps of work on the store."""
    read = samples(counters)
    assert {key[1] for key in read if key[0] == "anonproxy_dropped_total"} == {reason.value for reason in DropReason}
    assert {key[1] for key in read if key[0] == "anonproxy_store_failures_total"} == {
        "flush",
        "seal",
        "publish",
        "settle",
        "purge",
    }
    assert all(len(key) <= 2 for key in read)
    assert read["anonproxy_connections",] == 6


def test_counts_add_up(counters: Counters) -> None:
    """Requests are what was written, waits, is under way or was dropped."""
    read = samples(counters)
    dropped = sum(value for key, value in read.items() if key[0] == "anonproxy_dropped_total")
    parts = ("anonproxy_hits_written_total", "anonproxy_pending_rows", "anonproxy_queued_requests")
    assert read["anonproxy_requests_total",] == sum(read[part,] for part in parts) + dropped == 10


@pytest.mark.parametrize(("writer", "worker", "status"), [(0, 0, 503), (1, 0, 503), (0, 1, 503), (1, 1, 200)])
def test_ready_means_served_and_written(counters: Counters, writer: int, worker: int, status: int) -> None:
    """/readyz wants the writer and at least one worker; /healthz only this process."""
    counters.writer["ready"], counters.workers[1]["ready"] = writer, worker
    assert answer("/readyz", counters)[0] == status
    assert answer("/healthz", counters)[0] == HTTPStatus.OK
    assert answer("/secret", counters)[0] == HTTPStatus.NOT_FOUND
    assert "secret" not in answer("/secret", counters)[2]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"POST /healthz HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed\r\n"),
        (b"\xff\xfe\r\n\r\n", b"HTTP/1.1 4"),
        (b"GET /" + b"x" * 20_000, b""),
    ],
)
def test_listener_answers_and_closes(counters: Counters, raw: bytes, expected: bytes) -> None:
    """One connection is one answer; nonsense gets none or an error, and no connection stays."""

    async def ask() -> bytes:
        server = await asyncio.start_server(functools.partial(handle_admin, counters), "127.0.0.1", 0, limit=8192)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(raw)
            writer.write_eof()
            try:
                received = await reader.read()
            except ConnectionResetError:  # it was closed with bytes unread
                received = b""
            writer.close()
            return received

    assert asyncio.run(ask()).startswith(expected)
