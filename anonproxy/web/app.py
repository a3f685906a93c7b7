"""The application: which address is which page, and what stands before them."""

from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from anonproxy.clock import Clock, now
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.model.settings import WebSettings
from anonproxy.reports.session import Session
from anonproxy.web.guard import Gate, Guard
from anonproxy.web.pages import STYLE_NAME, Pages, TellLive


def build_app(
    session: Session, settings: WebSettings, zone: tzinfo, tell_live: TellLive | None = None, clock: Clock = now
) -> Starlette:
    """Build the application over a store.

    Reveals: what the session's reports reveal, to whoever the settings let in
    """
    gate = Gate(settings, clock)
    pages = Pages(session, zone, clock, gate, tell_live or nothing_runs)
    return Starlette(
        routes=[
            Route("/", pages.dashboard),
            Route("/report/{name}", pages.report),
            Route("/live", pages.live),
            Route("/hidden", pages.hidden),
            Route("/api", pages.api),
            Route("/api/{name}.json", pages.as_json),
            Route("/api/{name}.csv", pages.as_csv),
            Route("/login", pages.login, name="login"),
            Route("/login", pages.log_in, methods=["POST"]),
            Route("/logout", pages.log_out, methods=["POST"]),
            Route("/prefer", pages.prefer),
            Route("/icon.svg", pages.icon),
            Route(STYLE_NAME, pages.style),
        ],
        middleware=[
            Middleware(
                Guard,
                gate=gate,
                open_paths=frozenset({"/login", "/prefer", "/icon.svg", STYLE_NAME}),
                render_error=pages.render_error,
            )
        ],
        exception_handlers={OperatorError: pages.handle_operator_error, HTTPException: pages.handle_missing},
    )


def nothing_runs(site: str | None) -> Mapping[str, Any]:
    """Answer for a store into which nothing is recorded."""
    raise StoreError("nothing records into this store")
