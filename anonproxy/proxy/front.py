"""The side of HTTP that visitors see: mitmproxy's, with our pages in place of its own."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import ConnectionState
from mitmproxy.http import HTTPFlow, Request
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    HttpEvent,
    RequestData,
    RequestHeaders,
    RequestProtocolError,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Server

from anonproxy.model.vocabularies import NO_STATUS
from anonproxy.proxy.http2 import Http2Front
from anonproxy.proxy.limits import MAX_HEAD_BYTES
from anonproxy.proxy.pages import error_status, render_page

# What a front does with a request besides serving it: count it as malformed, or say where it is to go.
OnMalformed = Callable[[], None]
Redirect = Callable[[Request], str | None]

# What a request line may begin with: a method is a token (RFC 9110 section 5.6.2).
_STARTS: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class WithoutTrailers(ChunkedReader):
    """Reads a chunked body to its end, and forgets the trailers that may follow it."""

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        event = super().__call__(buf)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


class Http1Front(Http1Server):
    """One visitor's connection, on which one request runs at a time."""

    def __init__(
        self, context: Context, http: HttpLayer, on_malformed: OnMalformed, redirect: Redirect, max_body_bytes: int
    ) -> None:
        super().__init__(context)
        self._max_body_bytes = max_body_bytes
        self._body_bytes = 0
        self.sent_status: int = NO_STATUS  # of a page that has been sent; the connection ends after one
        self.http = http
        self._on_malformed = on_malformed
        self._redirect = redirect

    def page_status(self, flow: HTTPFlow) -> int:
        """Return the status of the page that a failed request got or gets; NO_STATUS when nobody is there."""
        is_there = self.conn.state & ConnectionState.CAN_WRITE
        return self.sent_status or (error_status(flow) if is_there else NO_STATUS)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send a part of the response; a failure becomes our page if nothing has been sent yet."""
        if not isinstance(event, ResponseProtocolError):
            yield from super().send(event)
        elif self.conn.state & ConnectionState.CAN_WRITE:
            if self.response is None:
                yield self._page(error_status(self.http.streams[event.stream_id].flow))
            yield commands.CloseConnection(self.conn)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request's head; what isn't HTTP gets a page at once, and no request comes of it."""
        if isinstance(event, events.DataReceived) and not self._is_promising():
            yield from self._refuse(HTTPStatus.BAD_REQUEST)
            return
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):  # mitmproxy's page quotes the request line
                yield self._page(HTTPStatus.BAD_REQUEST)
            elif isinstance(command, commands.Log):  # its words quote what was received: no request came of it
                self._on_malformed()
            elif location := self._find_redirect(command):
                yield from self._send_elsewhere(location)
                return
            elif isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
                self._body_bytes = 0
                yield command
            else:
                yield command
        if self.state == self.read_headers and len(self.buf) > MAX_HEAD_BYTES:
            yield from self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a request's body; trailers are left out (RFC 9110 section 6.5.1), as mitmproxy can't carry them."""
        if type(self.body_reader) is ChunkedReader:  # it has read nothing yet
            self.body_reader = WithoutTrailers()
        for command in super().read_body(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestData):
                self._body_bytes += len(command.event.data)
                if self._body_bytes > self._max_body_bytes:
                    yield from self._break_off(command.event.stream_id)
                    return
            yield command

    def _is_promising(self) -> bool:
        """Skip blank lines (RFC 9112 section 2.2), and tell whether the rest may become a request."""
        while (start := bytes(self.buf)[:1]) in {b"\r", b"\n"}:
            self.buf.maybe_extract_at_most(1)
        return not start or start[0] in _STARTS

    def _refuse(self, status: HTTPStatus) -> layer.CommandGenerator[None]:
        self._on_malformed()
        yield self._page(status)
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def _find_redirect(self, command: commands.Command) -> str | None:
        """Return where a request that has just been read is to go."""
        if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
            return self._redirect(command.event.request)
        return None

    def _send_elsewhere(self, location: str) -> layer.CommandGenerator[None]:
        """Answer in the site's stead; a method that changes things must not become GET (RFC 9110 section 15.4)."""
        is_read = self.request is not None and self.request.method in {"GET", "HEAD"}
        yield self._page(HTTPStatus.MOVED_PERMANENTLY if is_read else HTTPStatus.PERMANENT_REDIRECT, location)
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def _break_off(self, stream_id: int) -> layer.CommandGenerator[None]:
        """End a request whose body has no end."""
        if self.response is None:
            yield self._page(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        yield ReceiveHttp(RequestProtocolError(stream_id, "", ErrorCode.REQUEST_TOO_LARGE))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def _page(self, status: int, location: str = "") -> commands.SendData:
        self.sent_status = int(status)
        has_body = self.request is None or self.request.method != "HEAD"
        return commands.SendData(self.conn, render_page(status, has_body=has_body, location=location))


Front = Http1Front | Http2Front


def build_front(
    context: Context, on_malformed: OnMalformed, redirect: Redirect, max_body_bytes: int
) -> tuple[HttpLayer, Front]:
    """Build the layer that speaks HTTP on a new connection, with our front before it."""
    http, context = HttpLayer(context, HTTPMode.transparent), context.fork()
    front: Front
    if context.client.alpn == b"h2":
        front = Http2Front(context, http, on_malformed, max_body_bytes)
    else:
        front = Http1Front(context, http, on_malformed, redirect, max_body_bytes)
    http.connections[context.client] = front
    return http, front
