"""The side of HTTP that the site sees: mitmproxy's, with what it lacks.

Interim answers and trailers pass, a request that met a connection which the site was just closing is sent again, and an
answer that two readers could understand differently goes no further.
"""

import re
from typing import Any, Final

import h11
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.connection import ConnectionState
from mitmproxy.http import Headers, Request, Response
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import HttpClient, HttpLayer, HttpStream, RegisterHttpConnection, SendHttp
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client

from anonproxy.proxy.headers import Fields, mask_trailers

# An answer's head beyond this is no answer; nginx allows 4 to 8 KiB by default, and sites are tuned for more.
MAX_ANSWER_HEAD_BYTES: Final = 256 * 1024

# Methods that a site may get twice without harm (RFC 9110 section 9.2.2), of those that browsers send without a body.
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# The line before a chunk (RFC 9112 section 7.1): a size of less than 2^63, as nginx has it, and maybe extensions, which
# are forgotten. Some sites pad it with spaces.
_CHUNK: Final = re.compile(rb"0*+[0-7]?[0-9A-Fa-f]{0,15}[\t ]*(?:;[\t -~\x80-\xff]*)?")
# What must not stand in a header (RFC 9110 section 5.5): it would end it for some readers.
_BREAK: Final = re.compile(rb"[\x00\r\n]")


class ConnectionReset(events.ConnectionClosed):
    """The other side broke off, which isn't the same as coming to an end."""


class StaleConnection(ResponseProtocolError):
    """The site closed a connection that had served before, without a word about this request."""


class WithTrailers(ChunkedReader):
    """Reads a chunked body to its end, and keeps the trailers that may follow it."""

    def __init__(self) -> None:
        super().__init__()
        self.trailers: Fields = ()

    def __call__(self, buf: ReceiveBuffer) -> h11.Data | h11.EndOfMessage | None:
        if not self._reading_trailer and not self._bytes_in_chunk:
            begin = len(self._bytes_to_discard)  # which end the chunk before
            end = buf._data.find(b"\r\n", begin)
            if end >= 0 and not _CHUNK.fullmatch(buf._data, begin, end):
                raise h11.RemoteProtocolError("not the size of a chunk")
        event = super().__call__(buf)
        if isinstance(event, h11.EndOfMessage):
            self.trailers = self.trailers or tuple(event.headers.raw_items())  # h11 calls itself
            return h11.EndOfMessage()
        return event


class Http1Site(Http1Client):
    """One connection to the site, on which one request runs at a time."""

    _served = 0  # requests before the one that runs
    _is_ended = False  # by trailers

    def send(self, event: HttpEvent) -> CommandGenerator[None]:
        """Send a part of the request."""
        if isinstance(event, RequestTrailers):
            if self.request is not None and is_chunked(self.request):
                self._is_ended = True
                yield commands.SendData(self.conn, render_end(event.trailers))
        elif isinstance(event, RequestEndOfMessage) and self._is_ended:
            self._is_ended = False
            yield from self.mark_done(request=True)
        elif not isinstance(event, RequestData) or event.data:  # an empty chunk would be the last one
            yield from super().send(event)

    def read_headers(self, event: events.ConnectionEvent) -> CommandGenerator[None]:
        """Read an answer's head; interim ones (1xx) may come before it."""
        more: events.ConnectionEvent | None = event
        while more:
            event, more = more, None
            is_silent = isinstance(event, events.ConnectionClosed) and not self.buf
            for command in super().read_headers(event):
                received = command.event if isinstance(command, ReceiveHttp) else None
                if is_silent and self._served and isinstance(received, ResponseProtocolError):
                    yield ReceiveHttp(StaleConnection(received.stream_id, "", received.code))
                    continue
                yield command
                if isinstance(received, ResponseHeaders) and is_interim(received.response):
                    self.response, more = None, events.DataReceived(self.conn, b"")
                    break
        if self.state == self.read_headers and len(self.buf) > MAX_ANSWER_HEAD_BYTES:
            yield commands.CloseConnection(self.conn)
            if self.stream_id is not None:
                yield ReceiveHttp(ResponseProtocolError(self.stream_id, "", ErrorCode.GENERIC_SERVER_ERROR))

    def read_body(self, event: events.Event) -> CommandGenerator[None]:
        """Read an answer's body, with its trailers; one that ends with the connection must not end by a reset."""
        if type(self.body_reader) is ChunkedReader:  # it has read nothing yet
            self.body_reader = WithTrailers()
        if self.response_done and isinstance(event, events.DataReceived):
            return  # more than was promised, while the request is still being sent: it isn't part of any answer
        if isinstance(event, ConnectionReset) and self.stream_id is not None:
            yield commands.CloseConnection(self.conn)
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, "", ErrorCode.GENERIC_SERVER_ERROR))
            return
        for command in super().read_body(event):
            if is_end(command) and self.stream_id is not None and (trailers := read_trailers(self.body_reader)):
                yield ReceiveHttp(ResponseTrailers(self.stream_id, trailers))
            yield command
        if isinstance(event, events.ConnectionClosed) and self.conn.state & ConnectionState.CAN_WRITE:
            yield commands.CloseConnection(self.conn)

    def mark_done(self, *, request: bool = False, response: bool = False) -> CommandGenerator[None]:
        """Note that a part is complete."""
        self._served += response
        yield from super().mark_done(request=request, response=response)


class Exchange(HttpStream):
    """One request and its answer."""

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> CommandGenerator[None]:
        """Pass interim answers on (RFC 9110 section 15.2), and begin the answer unless it is ambiguous.

        One that ends when the site closes gets chunks, as from nginx: a broken one can't pass for whole then.
        """
        response = event.response
        response.headers.fields = unfold(response.headers.fields)
        if is_ambiguous(self.flow.request, response):
            yield commands.CloseConnection(self.flow.server_conn)
            broken = ResponseProtocolError(self.stream_id, "", ErrorCode.RESPONSE_VALIDATION_FAILED)
            yield from self.handle_protocol_error(broken)
        elif not is_interim(response):
            if self.flow.request.is_http11 and not event.end_stream and not is_framed(response):
                response.http_version, response.headers["Transfer-Encoding"] = "HTTP/1.1", "chunked"
            yield from super().state_wait_for_response_headers(event)
        elif response.status_code != 100 and not self.flow.request.is_http10:  # mitmproxy itself has said 100
            yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """End the exchange; but a request that the site can't have answered is sent once more, as browsers do."""
        if not isinstance(event, StaleConnection) or not self._can_repeat():
            yield from super().handle_protocol_error(event)
        elif (yield from self.make_server_connection()):
            yield SendHttp(RequestHeaders(self.stream_id, self.flow.request, True), self.context.server)
            yield SendHttp(RequestEndOfMessage(self.stream_id), self.context.server)

    def _can_repeat(self) -> bool:
        request = self.flow.request
        return self.client_state == self.state_done and request.method in _REPEATABLE and not request.raw_content


class SiteHttp(HttpLayer):
    """A visitor's HTTP, with our side of each connection to a site."""

    def make_stream(self, stream_id: int) -> CommandGenerator[None]:
        """Begin a request."""
        self.streams[stream_id] = Exchange(self.context.fork(), stream_id)
        yield from self.event_to_child(self.streams[stream_id], events.Start())

    def register_connection(self, command: RegisterHttpConnection) -> CommandGenerator[None]:
        """Begin to speak on a connection to the site."""
        if not command.err:
            layer: Any = self.connections[command.connection]
            while not isinstance(layer, HttpClient):  # TLS lies before it
                layer = layer.child_layer
            if type(layer.child_layer) is Http1Client:
                layer.child_layer = Http1Site(layer.context)
                layer._handle_event = layer.child_layer.handle_event
                yield from layer.child_layer.handle_event(events.Start())
        yield from super().register_connection(command)


def is_interim(response: Response) -> bool:
    """Tell whether the answer itself is still to come (RFC 9110 section 15.2)."""
    return 100 <= response.status_code < 200 and response.status_code != 101


def is_chunked(message: Request | Response) -> bool:
    """Tell whether a body comes in chunks; it can have trailers then."""
    return "chunked" in message.headers.get("transfer-encoding", "").lower()


def is_framed(response: Response) -> bool:
    """Tell whether an answer says where it ends."""
    return "content-length" in response.headers or "transfer-encoding" in response.headers


def is_end(command: commands.Command) -> bool:
    """Tell whether a message has been read to its end."""
    return isinstance(command, ReceiveHttp) and isinstance(command.event, RequestEndOfMessage | ResponseEndOfMessage)


def is_ambiguous(request: Request, response: Response) -> bool:
    """Tell whether two visitors could understand an answer differently; nginx refuses the same."""
    values = [value for _, value in response.headers.fields]
    coding = response.headers.get("transfer-encoding", "chunked")
    is_unasked = response.status_code == 101 and "upgrade" not in request.headers
    return is_unasked or coding.lower() != "chunked" or _BREAK.search(b"".join(values)) is not None


def unfold(fields: Fields) -> Fields:
    """Return the headers with their values on one line each (RFC 9112 section 5.2)."""
    if b"\r\n " not in b"".join([value for _, value in fields]):
        return fields
    return tuple((name, value.replace(b"\r\n ", b" ")) for name, value in fields)


def read_trailers(reader: object) -> Headers | None:
    """Return the trailers of a body that may pass."""
    fields = mask_trailers(reader.trailers) if isinstance(reader, WithTrailers) else ()
    return Headers(fields) if fields else None


def render_end(trailers: Headers) -> bytes:
    """Render the end of a chunked body."""
    return b"0\r\n" + bytes(trailers) + b"\r\n"
