"""A lean master: mitmproxy's core with our addon's hooks. Nothing that prints, stores or replays is even imported."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from mitmproxy import ctx
from mitmproxy.options import Options
from mitmproxy.proxy.commands import StartHook
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.proxy.server import LiveConnectionHandler

from anonproxy.model.settings import Settings
from anonproxy.proxy.addon import HOOKS, OPTIONS, AnonproxyAddon

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
_WAITS_BEGIN: Final = {"server_connect": "connection", "request": "response"}
_WAITS_END: Final = {
    "server_connected": "connection",
    "server_connect_error": "connection",
    "responseheaders": "response",
    "error": "response",
}


class Visit(LiveConnectionHandler):
    """One visitor's connection."""

    def __init__(self, master: "LeanMaster", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer, master.options, master.mode)
        self._master = master
        self._waits: dict[str, asyncio.TimerHandle] = {}

    async def handle_hook(self, hook: StartHook) -> None:
        """Call the addon, and watch the site's patience."""
        if ended := self._waits.pop(_WAITS_END.get(hook.name, ""), None):
            ended.cancel()
        if begins := _WAITS_BEGIN.get(hook.name):
            self._waits[begins] = self._master.loop.call_later(self._master.upstream_timeout_s, self._give_up)
        if act := self._master.hooks.get(hook.name):
            act(*hook.args())

    def log(self, message: str, level: int = logging.INFO, exc_info: ExcInfo = None) -> None:
        """Say nothing; after a crash in the core hang up, so that nobody waits for an answer that can't come."""
        if level >= logging.ERROR:
            self._master.addon.count("faults")
            if (io := self.transports.get(self.client)) and io.handler:
                io.handler.cancel()

    def end_waits(self) -> None:
        """Stop watching: the visitor is gone."""
        for wait in self._waits.values():
            wait.cancel()

    def _give_up(self) -> None:
        """Hang up on a site that takes too long."""
        self._master.addon.expect_error(self.client, HTTPStatus.GATEWAY_TIMEOUT)
        for connection, io in self.transports.items():
            if connection is not self.client and io.handler:
                io.handler.cancel()


class LeanMaster:
    """Serves sites on sockets that were bound by somebody else; it needs a running event loop."""

    def __init__(self, settings: Settings, addon: AnonproxyAddon) -> None:
        self.addon = addon
        self.upstream_timeout_s = settings.proxy.upstream_timeout_s
        self.loop = asyncio.get_running_loop()
        self.loop.set_task_factory(asyncio.eager_task_factory)
        self.loop.set_exception_handler(lambda _loop, _context: addon.count("faults"))
        self.options = build_options()
        self.mode = ProxyMode.parse(f"reverse:{settings.sites[0].upstream}")  # each request then chooses its own
        self.hooks = build_hooks(settings, addon, self.options)
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Accept visitors."""
        for bound in sockets:
            # asyncio accepts as many at once as its backlog says: with more than one, the worker that wakes up first
            # would take all of a burst. The kernel's own backlog is set again afterwards.
            self._servers.append(await asyncio.start_server(self._serve, sock=bound, backlog=1))
            bound.listen(BACKLOG)

    def stop_accepting(self) -> None:
        """Leave new visitors to the other workers."""
        for server in self._servers:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(self, reader, writer)
        try:
            await visit.handle_client()
        finally:
            visit.end_waits()


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
