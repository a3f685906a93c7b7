"""A lean master: mitmproxy's core with our addon's hooks. Nothing that prints, stores or replays is even imported."""

import asyncio
import logging
import socket
import ssl
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from mitmproxy import ctx
from mitmproxy.connection import Connection, Server
from mitmproxy.http import HTTPFlow
from mitmproxy.options import Options
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import StartHook
from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import LiveConnectionHandler
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from anonproxy.anonymize.client_address import is_trusted_peer
from anonproxy.model.settings import Settings
from anonproxy.proxy.addon import HOOKS, OPTIONS, AnonproxyAddon
from anonproxy.proxy.front import Front, Http1Front
from anonproxy.proxy.http2 import Http2Front
from anonproxy.proxy.limits import MAX_STREAMS, MAX_WAITING_BYTES, address_key
from anonproxy.proxy.pages import expect_error
from anonproxy.proxy.upstream import ConnectionReset

Hooks = dict[str, Callable[[Any], None]]
ExcInfo = Literal[True] | tuple[type[BaseException], BaseException, TracebackType | None] | None

# Connections that may wait to be accepted; as nginx (listen … backlog=511).
BACKLOG: Final = 511

# Options of mitmproxy that its server addon would register, with the values that a reverse proxy needs.
_CORE_OPTIONS: Final[dict[str, object]] = {
    **OPTIONS,
    "stream_large_bodies": None,  # every body is streamed
    "body_size_limit": None,
    "normalize_outbound_headers": True,
    "proxy_debug": False,
}

# The site gets `upstream_timeout_s` for each of two things: hooks that begin the wait, and hooks that end it.
_WAITS_BEGIN: Final = frozenset({"server_connect", "request"})
_WAITS_END: Final = frozenset({"server_connected", "server_connect_error", "responseheaders", "error"})

# The visitor gets `header_timeout_s`, then `idle_timeout_s`, for each head and `request_timeout_s` for each body.
_HEAD: Final = "head"
_BODY: Final = "body"
_REQUEST_HOOKS: Final = frozenset({"requestheaders", "request", "response", "error"})


class Visit(LiveConnectionHandler):
    """One visitor's connection."""

    def __init__(self, master: "LeanMaster", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer, master.options, master.mode)
        # mitmproxy opens a connection to the site for each request of HTTP/2.
        self.max_conns = defaultdict(lambda: asyncio.Semaphore(MAX_STREAMS))
        self._master = master
        self._waits: dict[str, asyncio.TimerHandle] = {}
        self._running: set[str] = set()  # requests whose answers aren't complete
        self._await(_HEAD, master.proxy.header_timeout_s, self.client)
        self._moved = asyncio.Event()
        self._visitor = self.transports[self.client]
        if tls := writer.get_extra_info("ssl_object"):
            self.client.tls = True
            self.client.timestamp_tls_setup = self.client.timestamp_start
            self.client.alpn = (tls.selected_alpn_protocol() or "").encode()

    async def handle_hook(self, hook: StartHook) -> None:
        """Call the addon, and watch the site's patience."""
        if hook.name in _WAITS_END:
            self._end_wait(_subject(hook).id)
        if hook.name in _WAITS_BEGIN and not is_answered(subject := _subject(hook)):
            self._waits[subject.id] = self._master.loop.call_later(
                self._master.proxy.upstream_timeout_s, self._give_up, subject
            )
        if hook.name == "server_disconnected":
            self._forget(hook)
        if act := self._master.hooks.get(hook.name):
            act(*hook.args())
        if hook.name in _REQUEST_HOOKS:
            self._be_patient(hook.name, _subject(hook))

    def log(self, message: str, level: int = logging.INFO, exc_info: ExcInfo = None) -> None:
        """Say nothing; after a crash in the core hang up, so that nobody waits for an answer that can't come."""
        if level >= logging.ERROR:
            self._master.addon.count("faults")
            self._hang_up(self.client)

    async def server_event(self, event: events.Event) -> None:
        """Hand an event to mitmproxy; a connection that broke off hasn't come to its end."""
        if isinstance(event, events.ConnectionClosed) and self._is_broken(event.connection):
            event = ConnectionReset(event.connection)
        await super().server_event(event)
        self._moved.set()

    async def drain_writers(self) -> None:
        """Read on once what was read before is on its way.

        HTTP/2 keeps what a visitor doesn't take in memory of its own: whoever reads from the site waits for that, too.
        HTTP/1.1 keeps what a visitor sends ahead of an answer: reading that goes on when the answer is complete.
        """
        await super().drain_writers()  # type: ignore[no-untyped-call]  # mitmproxy leaves this one out
        front, is_visitor = self._master.addon.front(self.client), asyncio.current_task() is self._handler(self.client)
        while self._must_wait(front, is_visitor):
            self._moved.clear()
            await self._moved.wait()

    def _must_wait(self, front: Front | None, is_visitor: bool) -> bool:
        if isinstance(front, Http1Front):
            return is_visitor and front.is_full
        if front is None or is_visitor or not (flow := self._flow_of_task(front)):
            return False
        return front.waiting_bytes(flow) > MAX_WAITING_BYTES

    def _is_broken(self, connection: Connection) -> bool:
        io = self.transports.get(connection)
        return io is not None and isinstance(io.reader, asyncio.StreamReader) and io.reader.exception() is not None

    def say_goodbye(self) -> None:
        """Tell a visitor who speaks HTTP/2 to send further requests elsewhere."""
        front, writer = self._master.addon.front(self.client), self._visitor.writer
        if isinstance(front, Http2Front) and isinstance(writer, asyncio.StreamWriter):
            writer.write(front.goodbye())

    def close(self) -> None:
        """Stop watching, and close what is open still: mitmproxy forgets to when it is cancelled as it takes data."""
        for wait in self._waits.values():
            wait.cancel()
        for io in (self._visitor, *self.transports.values()):
            if io.writer:
                io.writer.close()

    def _be_patient(self, hook: str, flow: HTTPFlow | Server) -> None:
        """Watch how long the visitor takes for the body of a request, and for the head of the next."""
        if hook == "requestheaders":
            self._running.add(flow.id)
            self._end_wait(_HEAD)
            self._await(f"{_BODY} {flow.id}", self._master.proxy.request_timeout_s, self.client)
            return
        if hook != "response":
            self._end_wait(f"{_BODY} {flow.id}")
        if hook != "request":
            self._running.discard(flow.id)
            if not self._running and not is_websocket(flow):
                self._await(_HEAD, self._master.proxy.idle_timeout_s, self.client)

    def _await(self, name: str, seconds: float, connection: Connection) -> None:
        """Hang up on a connection unless the wait is ended in time."""
        self._end_wait(name)
        self._waits[name] = self._master.loop.call_later(seconds, self._hang_up, connection)

    def _end_wait(self, name: str) -> None:
        if wait := self._waits.pop(name, None):
            wait.cancel()

    def _forget(self, hook: StartHook) -> None:
        """Let go of a connection to the site: with HTTP/2 there is one for each request, and mitmproxy keeps them."""
        front, site = self._master.addon.front(self.client), _subject(hook)
        if isinstance(front, Http2Front) and isinstance(site, Server) and front.flow_of(site) is None:
            front.http.connections.pop(site, None)

    def _flow_of_task(self, front: Http2Front) -> HTTPFlow | None:
        task = asyncio.current_task()
        site = next((connection for connection, io in self.transports.items() if io.handler is task), None)
        return front.flow_of(site) if site else None

    def _give_up(self, subject: HTTPFlow | Server) -> None:
        """Hang up on a site that takes too long to be reached, or to answer."""
        late = self._waiting_for(subject) if isinstance(subject, Server) else [subject]
        for flow in late:
            expect_error(flow, HTTPStatus.GATEWAY_TIMEOUT)
        self._hang_up(subject if isinstance(subject, Server) else subject.server_conn)

    def _waiting_for(self, server: Server) -> list[HTTPFlow]:
        """Return the requests that wait for a connection."""
        front = self._master.addon.front(self.client)
        if front is None:
            return []
        http = front.http
        sources = [http.command_sources.get(command) for command in http.waiting_for_establishment.get(server, ())]
        return [stream.flow for stream in sources if isinstance(stream, HttpStream)]

    def _handler(self, connection: Connection) -> "asyncio.Task[None] | None":
        io = self.transports.get(connection)
        return io.handler if io else None

    def _hang_up(self, connection: Connection) -> None:
        if handler := self._handler(connection):
            handler.cancel()


def _subject(hook: StartHook) -> HTTPFlow | Server:
    """Return what a hook is about: the connection to a site, or a request."""
    [about] = hook.args()
    subject: HTTPFlow | Server = about.server if isinstance(about, ServerConnectionHookData) else about
    return subject


def is_answered(subject: HTTPFlow | Server) -> bool:
    """Tell whether the site has answered already, as it may before it has the whole request."""
    return isinstance(subject, HTTPFlow) and subject.response is not None


def is_websocket(subject: HTTPFlow | Server) -> bool:
    """Tell whether the connection now speaks another protocol."""
    return isinstance(subject, HTTPFlow) and subject.response is not None and subject.response.status_code == 101


class LeanMaster:
    """Serves sites on sockets that were bound by somebody else; it needs a running event loop."""

    def __init__(self, settings: Settings, addon: AnonproxyAddon) -> None:
        self.addon = addon
        self.proxy = settings.proxy
        self._addresses: Counter[bytes] = Counter()  # connections of each; it lives as long as they do
        self.loop = asyncio.get_running_loop()
        self.loop.set_task_factory(asyncio.eager_task_factory)
        self.loop.set_exception_handler(lambda _loop, _context: addon.count("faults"))
        self.options = build_options()
        self.mode = ProxyMode.parse(f"reverse:{settings.sites[0].upstream}")  # each request then chooses its own
        self.hooks = build_hooks(settings, addon, self.options)
        self._servers: list[asyncio.Server] = []
        self._leaving: list[asyncio.Task[None]] = []
        self._visits: set[Visit] = set()

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Accept visitors, over TLS if there is a context for it."""
        for bound in sockets:
            # asyncio accepts as many at once as its backlog says: with more than one, the worker that wakes up first
            # would take all of a burst. The kernel's own backlog is set again afterwards.
            self._servers.append(await self._open(bound, tls))
            bound.listen(BACKLOG)

    async def _open(self, bound: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
        patience_s = self.proxy.header_timeout_s if tls else None
        return await asyncio.start_server(
            self._receive, sock=bound, backlog=1, ssl=tls, ssl_handshake_timeout=patience_s
        )

    def stop_accepting(self) -> None:
        """Leave new visitors, and what those who are here want next, to the other workers."""
        self.addon.is_leaving = True
        for server in self._servers:
            server.close()
            self._leaving.append(self.loop.create_task(server.wait_closed()))
        for visit in self._visits:
            visit.say_goodbye()

    @property
    def has_visitors(self) -> bool:
        """Tell, once nobody is accepted any more, whether somebody is connected or about to be: TLS takes a while."""
        return not all(task.done() for task in self._leaving)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a visitor who hasn't too many connections already; the address is forgotten with the last of them."""
        raw_peer = (writer.get_extra_info("peername") or ("",))[0]
        limit = 0 if is_trusted_peer(raw_peer, self.proxy) else self.proxy.max_connections
        key = address_key(raw_peer) if limit else None
        if key is None:
            await self._serve(reader, writer)
        elif self._addresses[key] >= limit:
            self.addon.count("refused")
            writer.transport.abort()
        else:
            self._addresses[key] += 1
            try:
                await self._serve(reader, writer)
            finally:
                self._addresses[key] -= 1
                if not self._addresses[key]:
                    del self._addresses[key]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(self, reader, writer)
        self._visits.add(visit)
        try:
            await visit.handle_client()
        finally:
            self._visits.discard(visit)
            visit.close()


def build_options() -> Options:
    """Return mitmproxy's options as a reverse proxy needs them."""
    options = Options()
    for name, value in _CORE_OPTIONS.items():
        if name not in options:
            options.add_option(name, Any, value, "")
    options.update(**OPTIONS)
    return options


def build_hooks(settings: Settings, addon: AnonproxyAddon, options: Options) -> Hooks:
    """Return what to call on each event of mitmproxy's core."""
    hooks: Hooks = {name: getattr(addon, name) for name in HOOKS}
    if any(site.upstream.startswith("https:") for site in settings.sites):
        # Imported only here: it brings all of mitmproxy's other addons along. Its other hooks aren't called, as they
        # would make a certificate authority and write its key to disk.
        from mitmproxy.addons.tlsconfig import TlsConfig

        tls = TlsConfig()
        tls.load(options)
        options.update(**find_authorities())
        ctx.options = options  # where it reads them
        hooks["tls_start_server"] = tls.tls_start_server
    return hooks


def find_authorities() -> dict[str, str]:
    """Return the options that make TLS trust what this machine trusts (SSL_CERT_FILE and SSL_CERT_DIR count).

    On a machine that names none, mitmproxy's own list is used.
    """
    paths = ssl.get_default_verify_paths()
    file, folder = paths.cafile, paths.capath
    has_certificates = folder is not None and any(Path(folder).iterdir())
    return {
        **({"ssl_verify_upstream_trusted_ca": file} if file else {}),
        **({"ssl_verify_upstream_trusted_confdir": folder} if folder and has_certificates else {}),
    }
