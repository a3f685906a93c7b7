"""The side of HTTP that visitors see: mitmproxy's, with our pages in place of its own."""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from h11._readers import ChunkedReader
from mitmproxy.connection import ConnectionState
from mitmproxy.http import HTTPFlow, Request
from mitmproxy.net.http.http1 import assemble_response_head
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
    RequestTrailers,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http1 import Http1Server

from anonproxy.model.vocabularies import NO_STATUS
from anonproxy.proxy.http2 import Http2Front
from anonproxy.proxy.limits import MAX_HEAD_BYTES, MAX_WAITING_BYTES
from anonproxy.proxy.pages import Pages, error_status
from anonproxy.proxy.upstream import SiteHttp, WithTrailers, is_end, is_interim, read_trailers, render_end

# What a front does with a request besides serving it: count it as malformed, or say where it is to go.
OnMalformed = Callable[[], None]
Redirect = Callable[[Request], str | None]

# What a request line may begin with: a method is a token (RFC 9110 section 5.6.2).
_STARTS: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
# A request's head as RFC 9112 sections 2 to 5 and RFC 9110 section 5.5 have it, where they leave no choice: lines end
# in CR LF, one space stands in each place, no header goes on in the next line, and no control byte stands anywhere,
# but a tab inside a value. What passes here is read by mitmproxy, and written anew for the site.
_HEAD: Final = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~\x80-\xff]+ HTTP/1\.[01]\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: *+(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])? *)?\r\n)*+\r\n"
)
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_END: Final = re.compile(rb"\n\r?\n")


class Http1Front(Http1Server):
    """One visitor's connection, on which one request runs at a time."""

    def __init__(
        self,
        context: Context,
        http: HttpLayer,
        on_malformed: OnMalformed,
        redirect: Redirect,
        max_body_bytes: int,
        pages: Pages,
    ) -> None:
        super().__init__(context)
        self._pages = pages
        self._max_body_bytes = max_body_bytes
        self._body_bytes = 0
        self._is_ended = False  # by trailers
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
        if isinstance(event, ResponseHeaders) and is_interim(event.response):
            yield commands.SendData(self.conn, assemble_response_head(event.response))
        elif isinstance(event, ResponseTrailers):
            self._is_ended = True
            yield commands.SendData(self.conn, render_end(event.trailers))
        elif isinstance(event, ResponseEndOfMessage) and (self._is_ended or self._has_no_body()):
            self._is_ended = False
            yield from self.mark_done(response=True)
        elif not isinstance(event, ResponseProtocolError):
            yield from super().send(event)
        elif self.conn.state & ConnectionState.CAN_WRITE:
            if self.response is None:
                yield self._page(error_status(self.http.streams[event.stream_id].flow))
            yield commands.CloseConnection(self.conn)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """Read a request's head; what isn't HTTP gets a page at once, and no request comes of it."""
        if isinstance(event, events.DataReceived) and (fault := self._find_fault()):
            yield from self._refuse(fault)
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

    def read_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Read a request's body, with its trailers; one that can't be read gets a page if nothing was sent yet."""
        if type(self.body_reader) is ChunkedReader:  # it has read nothing yet
            self.body_reader = WithTrailers()
        for command in super().read_body(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestData):
                self._body_bytes += len(command.event.data)
                if self._body_bytes > self._max_body_bytes:
                    yield from self._break_off(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return
            elif isinstance(command, commands.CloseConnection) and self._is_unreadable(event):
                yield from self._break_off(HTTPStatus.BAD_REQUEST)
                return
            elif is_end(command) and (trailers := read_trailers(self.body_reader)):
                yield ReceiveHttp(RequestTrailers(self.stream_id, trailers))
            yield command
        if self.state == self.read_body and len(self.buf) > MAX_HEAD_BYTES:  # of a chunk's own head, or of trailers
            yield from self._break_off(HTTPStatus.BAD_REQUEST)

    def _is_unreadable(self, event: events.Event) -> bool:
        """Tell, when mitmproxy hangs up on a request, whether that is because of what has just come."""
        return isinstance(event, events.DataReceived) and not self.request_done

    @property
    def is_full(self) -> bool:
        """Tell whether the visitor has sent enough ahead of the answer."""
        return self.state == self.wait and len(self.buf) > MAX_WAITING_BYTES

    def _has_no_body(self) -> bool:
        """Tell whether the answer ends with its head, whatever that says (RFC 9112 section 6.3)."""
        return self.response is not None and self.response.status_code in _WITHOUT_BODY

    def _find_fault(self) -> HTTPStatus | None:
        """Return why what has come is no request's head, nor the beginning of one."""
        if not self._is_promising():
            return HTTPStatus.BAD_REQUEST
        raw = bytes(self.buf)
        if not (end := _END.search(raw)):
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if len(raw) > MAX_HEAD_BYTES else None
        if not _HEAD.fullmatch(raw, 0, end.end()):
            return HTTPStatus.BAD_REQUEST
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if end.end() > MAX_HEAD_BYTES else None

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

    def _break_off(self, status: HTTPStatus) -> layer.CommandGenerator[None]:
        """End a request whose body has no end, or can't be read."""
        if self.response is None:
            yield self._page(status)
        yield ReceiveHttp(RequestProtocolError(self.stream_id, "", ErrorCode.REQUEST_TOO_LARGE))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def _page(self, status: int, location: str = "") -> commands.SendData:
        self.sent_status = int(status)
        has_body = self.request is None or self.request.method != "HEAD"
        return commands.SendData(self.conn, self._pages.render(status, has_body=has_body, location=location))


Front = Http1Front | Http2Front


def build_front(
    context: Context, on_malformed: OnMalformed, redirect: Redirect, max_body_bytes: int, pages: Pages
) -> tuple[HttpLayer, Front]:
    """Build the layer that speaks HTTP on a new connection, with our front before it."""
    http, context = SiteHttp(context, HTTPMode.transparent), context.fork()
    front: Front
    if context.client.alpn == b"h2":
        front = Http2Front(context, http, on_malformed, max_body_bytes, pages)
    else:
        front = Http1Front(context, http, on_malformed, redirect, max_body_bytes, pages)
    http.connections[context.client] = front
    return http, front
