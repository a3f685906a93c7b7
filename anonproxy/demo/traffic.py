"""Sends planned visits through a proxy with real sockets, a few at a time, as small HTTP/1.1 browsers would."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

import h11

from anonproxy.demo.plan import FORM, HOST, Request, Visit

READ_BYTES = 65_536
ANSWER_WITHIN_S = 30.0


@dataclass(slots=True)
class Outcome:
    """What came back: answers by status, requests without one, and the cookies that the site gave."""

    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    size_bytes: int = 0
    raw_session_ids: set[str] = field(default_factory=set, repr=False)

    @property
    def answered(self) -> int:
        return self.statuses.total()


async def send_visits(
    visits: Iterable[Visit],
    host: str,
    port: int,
    *,
    at_once: int = 12,
    site_host: str = HOST,
    on_request: Callable[[], None] = lambda: None,
) -> Outcome:
    """Send every visit to the proxy at this address, each over a connection of its own, some at the same time."""
    outcome, turn = Outcome(), asyncio.Semaphore(at_once)

    async def send(visit: Visit) -> None:
        async with turn:
            await Browser(visit, host, port, site_host, outcome, on_request).run()

    async with asyncio.TaskGroup() as group:
        for visit in visits:
            group.create_task(send(visit))
    return outcome


class Browser:
    """One visitor's browser: a connection that it keeps, and the cookies that the site set."""

    def __init__(
        self, visit: Visit, host: str, port: int, site_host: str, outcome: Outcome, on_request: Callable[[], None]
    ) -> None:
        self.visit, self.site_host, self.outcome, self.on_request = visit, site_host, outcome, on_request
        self.address = (host, port)
        self.cookies: SimpleCookie = SimpleCookie()
        for name, value in visit.raw_headers:
            if name == "Cookie":
                self.cookies.load(value)
        self.line: Line | None = None

    async def run(self) -> None:
        for request in self.visit.requests:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await self.send(request)
            except (OSError, TimeoutError, EOFError, h11.RemoteProtocolError):
                self.outcome.unanswered += 1
                self.hang_up()
            self.on_request()
        self.hang_up()

    async def send(self, request: Request) -> None:
        """Send one request and read its whole answer, over the connection that is open or a new one."""
        if self.line is None:
            self.line = Line(*await asyncio.open_connection(*self.address))
        answer = await self.line.exchange(request, self.write_headers(request))
        self.outcome.statuses[answer.status] += 1
        self.outcome.size_bytes += answer.size_bytes
        for name, value in answer.headers:
            if name == b"set-cookie":
                self.take_cookie(value.decode("latin-1"))
        if not self.line.reuse():
            self.hang_up()

    def write_headers(self, request: Request) -> list[tuple[str, str]]:
        headers = [("Host", self.site_host), *(pair for pair in self.visit.raw_headers if pair[0] != "Cookie")]
        if self.cookies:
            headers.append(("Cookie", "; ".join(f"{each.key}={each.value}" for each in self.cookies.values())))
        if request.raw_referer:
            headers.append(("Referer", request.raw_referer))
        if request.method in ("POST", "PUT"):
            headers += [("Content-Type", FORM), ("Content-Length", str(len(request.raw_body)))]
        return headers

    def take_cookie(self, text: str) -> None:
        try:
            given = SimpleCookie(text)
        except CookieError:
            return
        for name, cookie in given.items():
            self.cookies[name] = cookie.value
            if len(cookie.value) >= 16:  # shorter ones are settings, not identifiers
                self.outcome.raw_session_ids.add(cookie.value)

    def hang_up(self) -> None:
        if self.line is not None:
            self.line.writer.close()
            self.line = None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    size_bytes: int


class Line:
    """One connection, and the state of HTTP/1.1 on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h11.Connection(h11.CLIENT)

    async def exchange(self, request: Request, headers: list[tuple[str, str]]) -> Answer:
        question = h11.Request(method=request.method, target=request.raw_target, headers=headers)
        body = [h11.Data(request.raw_body)] if request.raw_body else []
        events = (question, *body, h11.EndOfMessage())
        self.writer.write(b"".join(self.http.send(event) or b"" for event in events))
        await self.writer.drain()
        head, size_bytes = None, 0
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.reader.read(READ_BYTES))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                size_bytes += len(event.data)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return Answer(head.status_code, list(head.headers), size_bytes)
            elif isinstance(event, h11.ConnectionClosed):
                raise EOFError

    def reuse(self) -> bool:
        """Make ready for the next request; tell whether the other side allows it."""
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
            return True
        return False
