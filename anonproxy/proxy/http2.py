"""The side of HTTP/2 that visitors see: mitmproxy's, with our pages in place of its own, and limits that it lacks."""

from collections.abc import Callable
from http import HTTPStatus

import h2.errors
import h2.events
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import SendData
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import DropStream, HttpLayer
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseEndOfMessage,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http2 import Http2Server

from anonproxy.model.vocabularies import NO_STATUS
from anonproxy.proxy.headers import mask_trailers
from anonproxy.proxy.limits import MAX_HEAD_BYTES, MAX_RESETS, MAX_STREAMS
from anonproxy.proxy.pages import Pages, error_status, expect_error


class Http2Front(Http2Server):
    """One visitor's connection, on which several requests may run at once."""

    def __init__(
        self,
        context: Context,
        http: HttpLayer,
        on_malformed: Callable[[], None],
        max_body_bytes: int,
        pages: Pages,
    ) -> None:
        super().__init__(context)
        self._pages = pages
        self._max_body_bytes = max_body_bytes
        self._body_bytes: dict[int, int] = {}  # of requests that still come in
        self.http = http
        self._on_malformed = on_malformed
        self._resets = 0
        self.h2_conn.local_settings.max_concurrent_streams = MAX_STREAMS
        self.h2_conn.local_settings.acknowledge()

    def goodbye(self) -> bytes:
        """Return what tells the visitor to begin no more requests; those that run go on (RFC 9113 section 6.8)."""
        return GoAwayFrame(0, self.h2_conn.highest_inbound_stream_id, ErrorCodes.NO_ERROR).serialize()

    def page_status(self, flow: HTTPFlow) -> int:
        """Return the status of the page that a failed request gets, or NO_STATUS when nobody is there to get one."""
        stream_id = self._find_stream(flow)
        return error_status(flow) if stream_id and self.is_open_for_us(stream_id) else NO_STATUS

    def waiting_bytes(self, flow: HTTPFlow) -> int:
        """Return how much of a response waits until the visitor takes it."""
        waiting = self.h2_conn.stream_buffers.get(self._find_stream(flow) or 0, ())
        return sum(len(chunk.data) for chunk in waiting)

    def flow_of(self, connection: object) -> HTTPFlow | None:
        """Return the request that a connection to the site serves."""
        flows = (stream.flow for stream in self.http.streams.values() if hasattr(stream, "flow"))
        return next((flow for flow in flows if flow.server_conn is connection), None)

    def _find_stream(self, flow: HTTPFlow) -> int | None:
        streams = self.http.streams.items()
        return next((number for number, stream in streams if getattr(stream, "flow", None) is flow), None)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError):
            yield from self._fail(event.stream_id)
            return
        if isinstance(event, ResponseTrailers):
            event.trailers.fields = tuple((name.lower(), value) for name, value in event.trailers.fields)
        yield from super()._handle_event(event)
        if isinstance(event, ResponseEndOfMessage) and self.is_closed(event.stream_id):
            self._drop(event.stream_id)

    def handle_h2_event(self, event: h2.events.Event) -> CommandGenerator[bool]:
        """Take one event of the visitor's; return whether the connection is over."""
        match event:
            case h2.events.RequestReceived(stream_id=int(stream_id)) if _size(event) > MAX_HEAD_BYTES:
                self._on_malformed()
                yield from self._answer(stream_id, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, has_body=True)
                return False
            case h2.events.StreamReset():
                self._resets += 1
                if self._resets > MAX_RESETS:
                    yield from self.protocol_error("", ErrorCodes.ENHANCE_YOUR_CALM)
                    return True
        commands = super().handle_h2_event(event)
        try:
            while True:
                command = next(commands)
                received = command.event if isinstance(command, ReceiveHttp) else None
                if isinstance(received, RequestHeaders):
                    _note_end(received)
                if isinstance(received, RequestTrailers):
                    received.trailers.fields = mask_trailers(received.trailers.fields)
                if isinstance(received, RequestData) and self._is_too_much(received):
                    yield from self._break_off(received.stream_id)
                else:
                    yield command
        except StopIteration as end:
            return bool(end.value)

    def protocol_error(self, message: str, error_code: int = ErrorCodes.PROTOCOL_ERROR) -> CommandGenerator[None]:
        """End the connection without repeating what was received."""
        self._on_malformed()
        self.h2_conn.close_connection(error_code)
        yield SendData(self.conn, self.h2_conn.data_to_send())
        yield from self.close_connection("")

    def _fail(self, stream_id: int) -> CommandGenerator[None]:
        """Send our page if nothing has been sent yet, else break off; either way the request is over."""
        if self.is_open_for_us(stream_id):
            flow = self.http.streams[stream_id].flow
            yield from self._answer(stream_id, error_status(flow), has_body=flow.request.method != "HEAD")
        self._drop(stream_id)
        yield DropStream(stream_id)

    def _is_too_much(self, event: RequestData) -> bool:
        """Count a body's bytes, and tell whether there are more than may be."""
        self._body_bytes[event.stream_id] = self._body_bytes.get(event.stream_id, 0) + len(event.data)
        return self._body_bytes[event.stream_id] > self._max_body_bytes

    def _break_off(self, stream_id: int) -> CommandGenerator[None]:
        """End a request whose body has no end."""
        if stream := self.http.streams.get(stream_id):
            expect_error(stream.flow, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            yield ReceiveHttp(RequestProtocolError(stream_id, "", ErrorCode.REQUEST_TOO_LARGE))
            yield from self._answer(stream_id, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, has_body=True)
        self._drop(stream_id)

    def _drop(self, stream_id: int) -> None:
        self.streams.pop(stream_id, None)
        self._body_bytes.pop(stream_id, None)

    def _answer(self, stream_id: int, status: int, *, has_body: bool) -> CommandGenerator[None]:
        """Send a page, and take no more of the request (RFC 9113 section 8.1); break off an answer that has begun."""
        if not self.is_open_for_us(stream_id) or self.h2_conn.streams[stream_id].state_machine.headers_sent:
            if not self.is_closed(stream_id):
                self.h2_conn.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)
                yield SendData(self.conn, self.h2_conn.data_to_send())
            return
        body = self._pages.body(status)
        fields = [(b":status", b"%d" % status), *self._pages.fields(status)]
        self.h2_conn.send_headers(stream_id, fields, end_stream=not has_body)
        if has_body:
            self.h2_conn.send_data(stream_id, body, end_stream=True)
        if not self.is_closed(stream_id) and stream_id not in self.h2_conn.stream_buffers:
            self.h2_conn.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        yield SendData(self.conn, self.h2_conn.data_to_send())


def _size(event: h2.events.RequestReceived) -> int:
    return sum(len(name) + len(value) for name, value in event.headers or ())


def _note_end(event: RequestHeaders) -> None:
    """Mark a request that has no body: only the frame said so, and the site must be told in HTTP/1.1's way."""
    if event.end_stream:
        event.request.timestamp_end = event.request.timestamp_start
