"""A visitor of the demonstration site: calls the application directly, keeps cookies, follows nothing by itself."""

import asyncio
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.applications import Starlette

from anonproxy.demo.site import build_site


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(slots=True)
class Visitor:
    site: Starlette
    host: str = "library.millbrook.example"
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, target: str) -> Answer:
        return self.send("GET", target, b"")

    def post(self, target: str, **form: str) -> Answer:
        return self.send("POST", target, urlencode(form).encode())

    def send(self, method: str, target: str, body: bytes) -> Answer:
        answer = Answer()
        asyncio.run(self.call(method, target, body, answer))
        for name, value in answer.headers.items():
            if name == "set-cookie":
                self.cookies |= {cookie.key: cookie.value for cookie in SimpleCookie(value).values()}
        return answer

    async def call(self, method: str, target: str, body: bytes, answer: Answer) -> None:
        waiting = [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            if not waiting:  # the visitor stays and says nothing more
                await asyncio.Event().wait()
            return waiting.pop()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                answer.body += message["body"]

        url = urlsplit(target)
        headers = {"host": self.host, "cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": url.path,
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "http_version": "1.1",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value],
        }
        await self.site(scope, receive, send)


@pytest.fixture
def visitor() -> Visitor:
    """Somebody new, in front of a site where nobody is logged in."""
    return Visitor(build_site())
