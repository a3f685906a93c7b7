"""The mitmproxy addon: choose the site, keep the visitor's address from it, hand one raw request to the sink for each.

The same addon works in our own master and in a stock mitmdump. Serving never depends on it: whatever goes wrong in a
hook is counted, and the page is served.
"""

import functools
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow, Request
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.tcp import TCPFlow

from anonproxy.anonymize.client_address import ClientChoice, choose_client, is_trusted_peer
from anonproxy.anonymize.request import RawRequest
from anonproxy.clock import Clock, now, steady
from anonproxy.model.settings import Settings
from anonproxy.proxy.front import Front, build_front
from anonproxy.proxy.headers import (
    add_headers,
    describe_visitor,
    drop_hops,
    guard_referrer,
    is_private,
    mask_headers,
    read_headers,
    read_set_cookies,
)
from anonproxy.proxy.limits import ANY_SIZE, MIB, RateLimit, address_key
from anonproxy.proxy.pages import Pages, expect_error
from anonproxy.proxy.records import Count, Records, Sink, Visitor
from anonproxy.proxy.sites import Sites, locate_https

# What stands in for the visitor's address in mitmproxy, which would print it.
NOWHERE: Final = ("0.0.0.0", 0)  # noqa: S104 - nothing is bound to it

# Bodies are streamed; a WebSocket passes as bytes, so that its messages aren't kept.
OPTIONS: Final[dict[str, object]] = {
    "connection_strategy": "lazy",
    "keep_host_header": True,
    "rawtcp": True,
    "websocket": False,
    "store_streamed_bodies": False,
    "validate_inbound_headers": True,
}
# The events of mitmproxy that the addon takes part in, in the order of a visit.
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

# A method, a path and a host that every server understands alike: nginx knows methods in capitals only, and servers
# differ in what they make of a "#" in a path.
_METHOD: Final = re.compile(rb"[A-Z_-]+")
_PATH: Final = re.compile(rb"/[^\x00-\x20\x7f#]*")
_HOST: Final = re.compile(r"[^\x00-\x20\x7f\"<>\\^`{|}/?#@,]+")


def _guarded[Event](hook: Callable[["AnonproxyAddon", Event], None]) -> Callable[["AnonproxyAddon", Event], None]:
    """Count what goes wrong in a hook and forget it: its text may hold the request, and the page must be served."""

    @functools.wraps(hook)
    def guarded(addon: "AnonproxyAddon", event: Event) -> None:
        try:
            hook(addon, event)
        except Exception:
            addon.count("faults")

    return guarded


class AnonproxyAddon:
    """Turn each request that passes into one `RawRequest` for the sink, aborted and failed ones included."""

    name = "anonproxy"

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        count: Count,
        clock: Clock = now,
        own_pages: Mapping[str, str] | None = None,
    ) -> None:
        self.count = count
        self.rate_limit = RateLimit(settings.proxy.max_requests_per_s, settings.proxy.max_requests_burst)
        self._pages = Pages(own_pages or {}, self.rate_limit.retry_after_s)
        self.records = Records(sink, count, clock)
        self._settings = settings
        self._sites = Sites(settings)
        self.is_leaving = False  # then connections end with the answer that is on its way
        self._fronts: dict[str, Front] = {}
        self._max_body_bytes = settings.proxy.max_body_mib * MIB or ANY_SIZE

    @_guarded
    def client_connected(self, client: Client) -> None:
        """Take the address before mitmproxy can print it."""
        raw_peer, client.peername = client.peername[0] if client.peername else "", NOWHERE
        trusted = is_trusted_peer(raw_peer, self._settings.proxy)
        self.records.open(client.id, Visitor(raw_peer, trusted))

    @_guarded
    def next_layer(self, next_layer: NextLayer) -> None:
        """Speak HTTP on every connection: TLS on a plain port is not HTTP, and is told so."""
        context = next_layer.context
        if context.server.address is None:  # mitmproxy wants one before the first request has chosen its own
            context.server.address = self._sites.first[1:]
        redirect = self._redirect if self._wants_tls(context.client) else lambda _request: None
        next_layer.layer, front = build_front(
            context, lambda: self.count("malformed"), redirect, self._max_body_bytes, self._pages
        )
        self._fronts[context.client.id] = front

    @_guarded
    def requestheaders(self, flow: HTTPFlow) -> None:
        """Mask the request's headers, begin its record, send it to its site."""
        visitor = self.records.visitor(flow.client_conn.id)
        self.records.begin(flow.client_conn.id, flow.id)
        read, fields = read_headers(flow.request.headers.fields), flow.request.headers.fields
        flow.request.headers.fields = mask_headers(fields, is_peer_trusted=visitor.is_trusted)
        proxy, raw_host = self._settings.proxy, flow.request.authority or read[b"host"]
        client = choose_client(visitor.raw_peer, read[b"x-forwarded-for"], read[b"forwarded"], proxy)
        visitor.unfinished[flow.id] = RawRequest(
            time_s=flow.request.timestamp_start,
            raw_client=client.raw_client,
            raw_host=raw_host,
            raw_method=flow.request.method,
            raw_target=flow.request.path,
            raw_cookie=read[b"cookie"],
            raw_user_agent=read[b"user-agent"],
            raw_referrer=read[b"referer"],
            raw_accept_language=read[b"accept-language"],
            is_opted_out="1" in (read[b"sec-gpc"].strip(), read[b"dnt"].strip()),
        )
        self._route(flow, raw_host, is_admitted=self._admits(visitor, client))
        additions = describe_visitor(self._settings, raw_host, client.raw_client, is_tls=flow.client_conn.tls)
        flow.request.headers.fields = add_headers(flow.request.headers.fields, additions)

    @_guarded
    def responseheaders(self, flow: HTTPFlow) -> None:
        """Note the status, and count the bytes as they pass."""
        if flow.response is None:
            return
        flow.response.stream = True
        flow.response.headers.fields = drop_hops(flow.response.headers.fields)
        if (
            self.is_leaving
            and not flow.request.is_http2
            and flow.response.status_code != HTTPStatus.SWITCHING_PROTOCOLS
        ):
            flow.response.headers["connection"] = "close"
        if request := self.records.request(flow.client_conn.id, flow.id):
            request.status = flow.response.status_code
            request.is_private = is_private(flow.response.headers.get("cache-control", ""))
            request.raw_set_cookie = read_set_cookies(flow.response.headers.fields)
            flow.response.stream = functools.partial(_measure, request)
            if self._sites.guards_referrers(request.raw_host):
                flow.response.headers.fields = guard_referrer(flow.response.headers.fields)

    @_guarded
    def response(self, flow: HTTPFlow) -> None:
        """Finish the record after the last byte, or after the handshake of a WebSocket."""
        self.records.finish(flow.client_conn.id, flow.id)

    @_guarded
    def error(self, flow: HTTPFlow) -> None:
        """Finish the record of a request that failed: with the page we send, or 0 when nobody is there to get one."""
        client = flow.client_conn
        if (request := self.records.request(client.id, flow.id)) and not request.status:
            request.status = self._fronts[client.id].page_status(flow)
        self.records.finish(client.id, flow.id)

    @_guarded
    def tcp_message(self, flow: TCPFlow) -> None:
        """Keep nothing of what passes through a WebSocket."""
        flow.messages.clear()

    @_guarded
    def client_disconnected(self, client: Client) -> None:
        """Finish what the visitor left unfinished, and forget the visitor."""
        self._fronts.pop(client.id, None)
        self.records.close(client.id)

    def done(self) -> None:
        """Finish everything: the process ends."""
        self.records.close_all()

    def front(self, client: Client) -> Front | None:
        """Return the visitor's side of a connection, once it speaks HTTP."""
        return self._fronts.get(client.id)

    def _wants_tls(self, client: Client) -> bool:
        """Tell whether a visitor came without TLS and is to come back with it."""
        return self._settings.proxy.redirect_to_https and not client.tls

    def _redirect(self, request: Request) -> str | None:
        """Return where a request that came without TLS is to go; None for hosts that aren't ours, or aren't named."""
        raw_host = request.authority or request.headers.get("host", "")
        if not raw_host or is_ambiguous(request) or self._sites.choose(raw_host) is None:
            return None
        self.count("redirected")
        return locate_https(self._settings.proxy.tls_listen, raw_host, request.path)

    def _admits(self, visitor: Visitor, client: ClientChoice) -> bool:
        """Count a request against the rate limit; what a trusted proxy asks of itself is exempt."""
        if not self.rate_limit.is_on or (visitor.is_trusted and not client.hop):
            return True
        key = address_key(client.raw_client)
        return key is None or self.rate_limit.admit(key, steady())

    def _route(self, flow: HTTPFlow, raw_host: str, *, is_admitted: bool) -> None:
        """Send the request to its site with its body streamed, or refuse it."""
        request = flow.request
        if flow.error:  # mitmproxy refuses it already, and shows it to us for the record
            expect_error(flow, HTTPStatus.BAD_REQUEST)
        elif is_ambiguous(request) or (not raw_host and self._wants_tls(flow.client_conn)):  # then: come back whereto?
            expect_error(flow, HTTPStatus.BAD_REQUEST)
            flow.kill()
        elif not is_admitted:
            self.count("limited")
            expect_error(flow, HTTPStatus.TOO_MANY_REQUESTS)
            flow.kill()
        elif declared_bytes(request) > self._max_body_bytes:
            expect_error(flow, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            flow.kill()
        elif (upstream := self._sites.choose(raw_host)) is None:
            expect_error(flow, HTTPStatus.MISDIRECTED_REQUEST)
            flow.kill()
        else:
            expect_error(flow, HTTPStatus.BAD_GATEWAY)
            request.stream = True
            if request.authority:  # absolute-form, or HTTP/2: the site gets origin-form and the host that was meant
                request.authority, request.headers["host"] = "", raw_host
            if request.is_http10:  # which knows no interim answer (RFC 9110 section 10.1.1)
                request.headers.pop("expect", None)
            if is_open_ended(request):
                request.headers["transfer-encoding"] = "chunked"
            # The setters of host and port would rewrite the Host header.
            request.data.host, request.data.port, request.scheme = upstream.host, upstream.port, upstream.scheme


def is_ambiguous(request: Request) -> bool:
    """Tell whether two servers could understand a request differently; mitmproxy has looked at Content-Length.

    Source: RFC 9112 sections 3.2 and 6.1 for host and body, RFC 9113 sections 8.2.1 and 8.3.1 for HTTP/2's fields
    """
    hosts = request.headers.get_all("host")
    host = request.authority or "".join(hosts)
    if request.is_http2:
        is_named = len(hosts) <= 1
        is_framed = request.timestamp_end is None or request.headers.get("content-length", "0") == "0"  # its word
    else:
        is_named = len(hosts) == 1 or (not hosts and request.is_http10)
        is_framed = request.headers.get("transfer-encoding", "chunked").lower() == "chunked"
    is_asterisk = request.data.method == b"OPTIONS" and request.data.path == b"*"
    return not (
        is_named
        and is_framed
        and _METHOD.fullmatch(request.data.method)
        and (is_asterisk or _PATH.fullmatch(request.data.path))
        and (_HOST.fullmatch(host) or (not hosts and request.is_http10))
    )


def declared_bytes(request: Request) -> int:
    """Return the size of a body as the request's head says it, 0 when it doesn't."""
    return int(request.headers.get("content-length", "0"))


def is_open_ended(request: Request) -> bool:
    """Tell whether a request of HTTP/2 has a body whose length nobody has said."""
    return request.is_http2 and request.timestamp_end is None and "content-length" not in request.headers


def _measure(request: RawRequest, chunk: bytes) -> bytes:
    request.size_bytes += len(chunk)
    return chunk
