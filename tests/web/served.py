"""A dashboard on a real socket, and somebody who asks it."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import uvicorn

from anonproxy.model.settings import WebSettings
from anonproxy.reports.session import Session
from anonproxy.web.app import build_app
from anonproxy.web.pages import TellLive
from anonproxy.web.server import configure
from tests.support.servers import wait_until

NOW = datetime(2026, 11, 21, 20, 46, tzinfo=UTC)
ZONE = ZoneInfo("America/New_York")
BUSY: dict[str, Any] = {
    "k": 10, "time": int(NOW.timestamp()), "visits": 87, "visits_now": 23,
    "minutes": [number % 7 + 3 for number in range(30)], "pages": [["/events", 40], ["/hours", 10]],
}  # fmt: skip


@dataclass
class World:
    """What the dashboard's clock says, and the running proxy."""

    time_s: float = NOW.timestamp()
    live: dict[str, Any] = field(default_factory=lambda: dict(BUSY))

    def clock(self) -> float:
        """Return the date."""
        return self.time_s

    def tell_live(self, site: str | None) -> Mapping[str, Any]:
        """Answer as the running proxy."""
        return self.live


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: str


@dataclass
class Dashboard:
    """A dashboard that can be asked."""

    port: int
    world: World

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, target: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
        """Ask for a page; an underscore in the name of a header stands for a dash."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())


@contextlib.contextmanager
def serving(session: Session, tell_live: TellLive | None = None, **settings: Any) -> Iterator[Dashboard]:
    """Serve a dashboard from a thread."""
    world = World()
    app = build_app(session, WebSettings(**settings), ZONE, tell_live or world.tell_live, world.clock)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(configure(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, 30, "the dashboard's start")
            yield Dashboard(listener.getsockname()[1], world)
        finally:
            server.should_exit = True
            thread.join()
