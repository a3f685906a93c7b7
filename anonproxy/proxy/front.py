"""The side of HTTP/1.1 that visitors see: mitmproxy's, with our pages in place of its own."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.layers.http._events import HttpEvent, ResponseProtocolError
from mitmproxy.proxy.layers.http._http1 import Http1Server

from anonproxy.proxy.pages import render_page

# nginx refuses a head beyond four buffers of 8 KiB as well (large_client_header_buffers).
MAX_HEAD_BYTES: Final = 32 * 1024
# What a request line may begin with: a method is a token (RFC 9110 section 5.6.2).
_STARTS: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class WithoutTrailers(ChunkedReader):
    """Reads a chunked body to its end, and forgets the trailers that may follow it."""

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        event = super().__call__(buf)
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) else event


class Front(Http1Server):
    """One visitor's connection: `error_status` is the page to send should the present request fail."""

    def __init__(self, context: Context, on_malformed: Callable[[], None]) -> None:
        super().__init__(context)
        self.error_status: int = HTTPStatus.BAD_GATEWAY.value
        self.sent_status: int = 0  # of a page that has been sent; the connection ends after one
        self._on_malformed = on_malformed

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        """Send a part of the response; a failure becomes our page if nothing has been sent yet."""
        if not isinstance(event, ResponseProtocolError):
            yield from super().send(event)
        elif self.conn.state & ConnectionState.CAN_WRITE:
            if self.response is None:
                yield self._page(self.error_status)
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
            else:
                yield command
        if self.state == self.read_headers and len(self.buf) > MAX_HEAD_BYTES:
            yield from self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a request's body; trailers are left out (RFC 9110 section 6.5.1), as mitmproxy can't carry them."""
        if type(self.body_reader) is ChunkedReader:  # it has read nothing yet
            self.body_reader = WithoutTrailers()
        yield from super().read_body(event)

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

    def _page(self, status: int) -> commands.SendData:
        self.sent_status = int(status)
        has_body = self.request is None or self.request.method != "HEAD"
        return commands.SendData(self.conn, render_page(status, has_body=has_body))


def build_front(context: Context, on_malformed: Callable[[], None]) -> tuple[HttpLayer, Front]:
    """Build the layer that speaks HTTP on a new connection, with our front before it."""
    http = HttpLayer(context, HTTPMode.transparent)
    front = Front(context.fork(), on_malformed)
    http.connections[context.client] = front
    return http, front
