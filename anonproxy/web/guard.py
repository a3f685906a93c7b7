"""What stands before every page: who may ask, by which name, and what each answer says to browsers and caches."""

import asyncio
import binascii
import sys
import traceback
from base64 import b64decode
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anonproxy.clock import Clock
from anonproxy.model.settings import WebSettings
from anonproxy.web.auth import Guesses, Sessions, is_password

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Passwords that are looked at at the same time: each takes 64 MiB.
LOOKS: Final = 2
# What only a server in front adds.
FORWARDED: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Figures are for those who may see them: no cache that is shared keeps them, and none after logging out.
NO_STORE: Final = "private, no-store"
HSTS: Final = "max-age=31536000"

type RenderError = Callable[[Request, HTTPStatus, str], Response]


class Gate:
    """Knows who may come in.

    Reveals: nothing; names of staff and their addresses are neither logged nor kept
    """

    def __init__(self, settings: WebSettings, clock: Clock) -> None:
        self.settings = settings
        self.sessions = Sessions(clock, settings.session_hours * 3600)
        self.guesses = Guesses(clock)
        self._looks = asyncio.Semaphore(LOOKS)

    @property
    def is_closed(self) -> bool:
        """Tell whether anybody has to show who they are."""
        return bool(self.settings.password_hash or self.settings.user_header)

    @property
    def has_password(self) -> bool:
        """Tell whether there is a password to log in with."""
        return bool(self.settings.password_hash)

    def cookie(self, request: Request) -> str:
        """Return the name of the session cookie; browsers take the longer one over HTTPS only, for one host."""
        return "__Host-anonproxy" if self.is_secure(request) else "anonproxy"

    def is_secure(self, request: Request) -> bool:
        """Tell whether the browser speaks HTTPS, with us or with the server in front."""
        return request.url.scheme == "https" or self.is_trusted(request)

    def is_trusted(self, request: Request) -> bool:
        """Tell whether a request comes through the server in front."""
        try:
            peer = ip_address(request.client.host if request.client else "")
        except ValueError:
            return False
        return any(peer in network for network in self.settings.trusted_proxies)

    def find_client(self, request: Request) -> str:
        """Find the address that guesses are counted by: the last one that the server in front saw."""
        forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        return forwarded if forwarded and self.is_trusted(request) else request.client.host if request.client else ""

    def is_known_host(self, request: Request) -> bool:
        """Tell whether a request names one of our hosts: a page of somebody else's may point its own name at us."""
        host = request.headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return name in LOCAL_HOSTS or any(
            known in {"*", name} or (known.startswith("*.") and name.endswith(known[1:]))
            for known in self.settings.allowed_hosts
        )

    def is_unforeseen_proxy(self, request: Request) -> bool:
        """Tell whether a server stands in front of a dashboard that anybody may look at who reaches it."""
        return not self.is_closed and any(name in request.headers for name in FORWARDED)

    def is_forged(self, request: Request) -> bool:
        """Tell whether a form was sent by a page of somebody else's."""
        origin = request.headers.get("origin")
        is_own = origin is None or origin.partition("://")[2].lower() == request.headers.get("host", "").lower()
        return not is_own or request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}

    async def lets_in(self, request: Request) -> bool:
        """Tell whether whoever asks may see figures."""
        if not self.is_closed:
            return True
        header = self.settings.user_header
        if header and self.is_trusted(request) and request.headers.get(header):
            return True
        if self.sessions.is_open(request.cookies.get(self.cookie(request), "")):
            return True
        password = read_basic(request.headers.get("authorization", ""))
        return bool(password) and await self.knows(request, password)

    async def knows(self, request: Request, password: str) -> bool:
        """Tell whether a password is right. Whoever has to wait is told that it is wrong, without a look at it."""
        client = self.find_client(request)
        if not self.has_password or self.guesses.wait_s(client) > 0:
            return False
        self.guesses.fail(client)  # first, so that guesses that are sent at once count, too
        async with self._looks:
            is_right = await run_in_threadpool(is_password, password, self.settings.password_hash)
        if not is_right:
            return False
        self.guesses.forget(client)
        return True


def read_basic(header: str) -> str:
    """Return the password of an Authorization header; the user's name doesn't matter."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


class Guard:
    """Lets in who may come in, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, gate: Gate, open_paths: frozenset[str], render_error: RenderError) -> None:
        self.app = app
        self.gate = gate
        self.open_paths = open_paths
        self.render_error = render_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        has_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", NO_STORE)
                if self.gate.is_secure(request):
                    headers["Strict-Transport-Security"] = HSTS
            await send(message)

        try:
            answer = await self._refuse(request)
            await (answer or self.app)(scope, receive, send_guarded)
        except Exception as error:  # its text may hold what was asked: only the place is told
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"anonproxy web: {type(error).__name__} in {where.name}:{where.lineno}", file=sys.stderr)  # noqa: T201
            if not has_begun:
                answer = self.render_error(request, HTTPStatus.INTERNAL_SERVER_ERROR, "")
                await answer(scope, receive, send_guarded)

    async def _refuse(self, request: Request) -> Response | None:
        """Return why a request isn't answered; None when it is."""
        gate, path = self.gate, request.url.path
        if not gate.is_known_host(request):
            return self.render_error(request, HTTPStatus.MISDIRECTED_REQUEST, "host")
        if gate.is_unforeseen_proxy(request):
            return self.render_error(request, HTTPStatus.FORBIDDEN, "proxy")
        if request.method not in {"GET", "HEAD"} and gate.is_forged(request):
            return self.render_error(request, HTTPStatus.FORBIDDEN, "forged")
        if path in self.open_paths or await gate.lets_in(request):
            return None
        if path.startswith("/api/") or not gate.has_password:
            return self.render_error(request, HTTPStatus.UNAUTHORIZED, "unknown")
        return RedirectResponse(request.url_for("login").include_query_params(next=read_target(request)), 303)


def read_target(request: Request) -> str:
    """Return the path and the query that were asked for."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def keep_local(target: str) -> str:
    """Return a target of this dashboard, where one was named; never a way out of it."""
    is_local = target[:1] == "/" and target[1:2] not in {"/", "\\"} and target.isprintable()
    return target if is_local else "/"
