"""Serve the dashboard: one process, no access log."""

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import WebSettings

# Requests at a time; a library's staff is smaller.
CONCURRENCY: Final = 64
STOP_S: Final = 5


class Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def configure(app: ASGIApp, certificate: str = "", key: str = "") -> uvicorn.Config:
    """Say how to serve: nothing is logged about who looks, and no header of theirs is believed."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the guard reads them itself, and believes trusted_proxies only
        lifespan="off",
        ws="none",
        limit_concurrency=CONCURRENCY,
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=certificate or None,
        ssl_keyfile=key or None,
    )


def serve(app: ASGIApp, settings: WebSettings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises: OperatorError when it can't listen
    """
    # Its errors quote requests. What goes wrong in our own pages, the guard says without them.
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    logging.getLogger("uvicorn").propagate = False
    host, _, port = settings.listen.rpartition(":")
    address = host.strip("[]"), int(port)
    try:
        config = configure(app, settings.certificate, settings.key)
        config.load()
        listener = socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    except OSError as error:
        raise OperatorError(
            f"{settings.listen}: the dashboard can't listen there, or can't read its certificate ({error.strerror}). "
            "Set web.listen, or web.certificate and web.key"
        ) from None
    url = f"{'https' if settings.certificate else 'http'}://{host}:{listener.getsockname()[1]}"
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(listener):
        Server(config, lambda: say(url)).run([listener])
