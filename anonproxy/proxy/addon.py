"""The mitmproxy addon: choose the site, keep the visitor's address from it, hand one raw request to the sink for each.

The same addon works in our own master and in a stock mitmdump. Serving never depends on it: whatever goes wrong in a
hook is counted, and the page is served.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from mitmproxy.connection import Client, ConnectionState
from mitmproxy.http import HTTPFlow, Request
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.tcp import TCPFlow

from anonproxy.anonymize.address import mask_address, parse_client
from anonproxy.anonymize.request import RawRequest
from anonproxy.clock import Clock, now
from anonproxy.model.settings import Settings
from anonproxy.model.vocabularies import NO_STATUS
from anonproxy.proxy.client_address import choose_client, is_trusted
from anonproxy.proxy.front import Front, build_front
from anonproxy.proxy.headers import add_headers, is_private, mask_headers, read_headers
from anonproxy.proxy.sites import Sites, Upstream

Sink = Callable[[RawRequest], None]
Count = Callable[[str], None]

# What stands in for the visitor's address in mitmproxy, which would print it.
NOWHERE: Final = ("0.0.0.0", 0)  # noqa: S104 - nothing is bound to it

# Streamed bytes pass; a WebSocket is passed through as bytes, so that its messages aren't kept.
OPTIONS: Final[dict[str, object]] = {
    "connection_strategy": "lazy",
    "keep_host_header": True,
    "rawtcp": True,
    "websocket": False,
    "store_streamed_bodies": False,
    "validate_inbound_headers": True,
}
# The events of mitmproxy that the addon takes part in.
HOOKS: Final = (
    "client_connected",
    "next_layer",
    "requestheaders",
    "responseheaders",
    "response",
    "error",
    "tcp_message",
    "client_disconnected",
)


@dataclass(slots=True, repr=False)
class _Visitor:
    """One connection: its raw address, and its requests that aren't finished. None stands for one we failed to read."""

    raw_peer: str
    is_trusted: bool
    front: Front | None = None
    unfinished: dict[str, RawRequest | None] = field(default_factory=dict)


def _guarded[Event](hook: Callable[["AnonproxyAddon", Event], None]) -> Callable[["AnonproxyAddon", Event], None]:
    """Count what goes wrong in a hook and forget it: its text may hold the request, and the page must be served."""

    @functools.wraps(hook)
    def guarded(addon: "AnonproxyAddon", event: Event) -> None:
        try:
            hook(addon, event)
        except Exception:
            addon.count("faults")

    return guarded


def is_ambiguous(request: Request) -> bool:
    """Tell whether two servers could take a request for different hosts' (RFC 9112 section 3.2)."""
    hosts = len(request.headers.get_all("host"))
    return hosts > 1 or (hosts == 0 and request.is_http11)


class AnonproxyAddon:
    """Turn each request that passes into one `RawRequest` for the sink, aborted and failed ones included."""

    name = "anonproxy"

    def __init__(self, settings: Settings, sink: Sink, count: Count, clock: Clock = now) -> None:
        self.count = count
        self._settings = settings
        self._sink = sink
        self._clock = clock
        self._sites = Sites(settings)
        self._visitors: dict[str, _Visitor] = {}

    @property
    def unfinished(self) -> int:
        """Return the number of requests that are being served."""
        return sum(len(visitor.unfinished) for visitor in self._visitors.values())

    @_guarded
    def client_connected(self, client: Client) -> None:
        """Take the address before mitmproxy can print it."""
        raw_peer, client.peername = client.peername[0], NOWHERE
        self.count("connected")
        self._visitors[client.id] = _Visitor(raw_peer, is_trusted(raw_peer, self._settings.proxy.trusted_proxies))

    @_guarded
    def next_layer(self, next_layer: NextLayer) -> None:
        """Speak HTTP on every connection: TLS on a plain port is not HTTP, and is told so."""
        context = next_layer.context
        if context.server.address is None:  # mitmproxy wants one before the first request has chosen its own
            context.server.address = self._sites.first[1:]
        next_layer.layer, front = build_front(context, lambda: self.count("malformed"))
        self._visitors[context.client.id].front = front

    @_guarded
    def requestheaders(self, flow: HTTPFlow) -> None:
        """Route the request, mask its headers, begin its record."""
        visitor = self._visitors[flow.client_conn.id]
        visitor.unfinished[flow.id] = None
        fields = flow.request.headers.fields
        flow.request.headers.fields = mask_headers(fields, is_peer_trusted=visitor.is_trusted)
        read = read_headers(fields)
        raw_host = flow.request.authority or read[b"host"]
        choice = choose_client(
            visitor.raw_peer, read[b"x-forwarded-for"], read[b"forwarded"], self._settings.proxy.trusted_proxies
        )
        visitor.unfinished[flow.id] = RawRequest(
            time_s=flow.request.timestamp_start,
            raw_client=choice.raw_client,
            raw_host=raw_host,
            raw_method=flow.request.method,
            raw_target=flow.request.path,
            raw_cookie=read[b"cookie"],
            raw_user_agent=read[b"user-agent"],
            raw_referrer=read[b"referer"],
            raw_accept_language=read[b"accept-language"],
            is_opted_out="1" in (read[b"sec-gpc"].strip(), read[b"dnt"].strip()),
        )
        self._route(flow, raw_host)
        flow.request.headers.fields = add_headers(
            flow.request.headers.fields, self._forwarded(raw_host, choice.raw_client)
        )

    @_guarded
    def responseheaders(self, flow: HTTPFlow) -> None:
        """Note the status, and count the bytes as they pass."""
        response, request = flow.response, self._visitors[flow.client_conn.id].unfinished.get(flow.id)
        if response is None:
            return
        response.stream = True
        if request is not None:
            request.status = response.status_code
            request.is_private = is_private(response.headers.get("cache-control", ""))

            def measure(chunk: bytes) -> bytes:
                request.size_bytes += len(chunk)
                return chunk

            response.stream = measure

    @_guarded
    def response(self, flow: HTTPFlow) -> None:
        """Finish the record after the last byte, or after the handshake of a WebSocket."""
        self._finish(self._visitors[flow.client_conn.id], flow.id)

    @_guarded
    def error(self, flow: HTTPFlow) -> None:
        """Finish the record of a request that failed: with the page we send, or 0 when nobody is there to get one."""
        visitor = self._visitors[flow.client_conn.id]
        request = visitor.unfinished.get(flow.id)
        if request is not None and not request.status and visitor.front:
            is_there = flow.client_conn.state & ConnectionState.CAN_WRITE
            request.status = visitor.front.sent_status or (visitor.front.error_status if is_there else NO_STATUS)
        self._finish(visitor, flow.id)

    @_guarded
    def tcp_message(self, flow: TCPFlow) -> None:
        """Keep nothing of what passes through a WebSocket."""
        flow.messages.clear()

    @_guarded
    def client_disconnected(self, client: Client) -> None:
        """Finish what the visitor left unfinished, and forget the visitor."""
        self.count("disconnected")
        visitor = self._visitors.pop(client.id)
        for flow_id in tuple(visitor.unfinished):
            self._finish(visitor, flow_id)

    def expect_error(self, client: Client, status: HTTPStatus) -> None:
        """Say which page the visitor's present request gets, as it is about to fail."""
        if (visitor := self._visitors.get(client.id)) and visitor.front:
            visitor.front.error_status = status.value

    def done(self) -> None:
        """Finish everything: the process ends."""
        for visitor in self._visitors.values():
            for flow_id in tuple(visitor.unfinished):
                self._finish(visitor, flow_id)

    def _route(self, flow: HTTPFlow, raw_host: str) -> None:
        """Send the request to its site with streamed bodies, or refuse it."""
        upstream = self._sites.choose(raw_host)
        if flow.error or is_ambiguous(flow.request):
            self.expect_error(flow.client_conn, HTTPStatus.BAD_REQUEST)
        elif upstream is None:
            self.expect_error(flow.client_conn, HTTPStatus.MISDIRECTED_REQUEST)
        else:
            self.expect_error(flow.client_conn, HTTPStatus.BAD_GATEWAY)
            self._forward(flow, raw_host, upstream)
            return
        if not flow.error:  # else mitmproxy refuses it already, and shows it to us for the record
            flow.kill()

    def _forward(self, flow: HTTPFlow, raw_host: str, upstream: Upstream) -> None:
        flow.request.stream = True
        if flow.request.authority:  # absolute-form: the site gets origin-form and the host that was meant
            flow.request.authority, flow.request.headers["host"] = "", raw_host
        # The setters of host and port would rewrite the Host header.
        flow.request.data.host, flow.request.data.port = upstream.host, upstream.port
        flow.request.scheme = upstream.scheme

    def _forwarded(self, raw_host: str, raw_client: str) -> list[tuple[bytes, bytes]]:
        """Return what the site may know of the connection, and of the visitor as far as the settings allow."""
        additions = [
            (b"X-Forwarded-Proto", b"http"),
            (b"X-Forwarded-Host", raw_host.encode("utf-8", "surrogateescape")),
        ]
        if self._settings.proxy.forward_client == "truncated" and (address := parse_client(raw_client)):
            privacy = self._settings.privacy
            network = mask_address(address, privacy.ipv4_prefix, privacy.ipv6_prefix)[0]
            additions.append((b"X-Forwarded-For", network.partition("/")[0].encode()))
        return additions

    def _finish(self, visitor: _Visitor, flow_id: str) -> None:
        """Hand over a record exactly once; a second call for the same request finds nothing to do."""
        if flow_id not in visitor.unfinished:
            return
        request = visitor.unfinished.pop(flow_id)
        self.count("requests")
        try:
            if request is None:
                raise LookupError("the request could not be read")
            request.duration_s = max(0.0, self._clock() - request.time_s)
            self._sink(request)
        except Exception:
            self.count("dropped_internal_error")
