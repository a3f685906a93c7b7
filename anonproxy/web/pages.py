"""The pages: each takes a request, asks for reports, and fills in a template."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, tzinfo
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qs, quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from anonproxy.clock import Clock
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.reports.run import FILTERS, Report, definitions
from anonproxy.reports.session import Session
from anonproxy.web import figures
from anonproxy.web.guard import Gate, keep_local, read_target
from anonproxy.web.panels import PANELS, SECTIONS
from anonproxy.web.question import Question, list_presets, parse_question
from anonproxy.web.words import LANGUAGES, Words, choose_language, read_words

THEMES: Final = ("auto", "light", "dark")
REFRESHES: Final = ("off", "on")
# What a visitor of the dashboard may choose, each kept in a cookie of its name.
PREFERENCES: Final[Mapping[str, tuple[str, ...]]] = {"theme": THEMES, "lang": LANGUAGES, "refresh": REFRESHES}
YEAR_S: Final = 365 * 86_400
REFRESH_S: Final = 15
# What can't be seen, and what the figures mean: sections of a page, in order.
TOPICS: Final = (
    "other", "unlisted", "redacted", "searches", "people", "path", "place", "time", "optout", "filters", "robots",
    "live",
)  # fmt: skip
TERMS: Final = ("visit", "pageview", "bounce", "duration", "source", "share", "period")
# A form with a password in it is no longer than this.
MAX_FORM_BYTES: Final = 4_096

TEMPLATES: Final = Environment(
    loader=PackageLoader("anonproxy.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
STYLE: Final = files("anonproxy.web").joinpath("static", "style.css").read_bytes()
ICON: Final = files("anonproxy.web").joinpath("static", "icon.svg").read_bytes()
STYLE_NAME: Final = f"/style-{sha256(STYLE).hexdigest()[:12]}.css"

# Why the figures of this moment aren't there.
type TellLive = Callable[[str | None], Mapping[str, Any]]


class Pages:
    """All pages of one store."""

    def __init__(self, session: Session, zone: tzinfo, clock: Clock, gate: Gate, tell_live: TellLive) -> None:
        self._session = session
        self._zone = zone
        self._clock = clock
        self._gate = gate
        self._tell_live = tell_live

    # Figures

    def dashboard(self, request: Request) -> Response:
        """Show everything about a period at a glance."""
        question, words = self._ask(request), choose_words(request)
        query, run = question.query, self._session.run
        overview = run("overview", query)
        if not figures.is_told(overview):
            return self._render(request, "untold.html", question=question, span=self._session.span())
        reports = {name: run(name, query) for name in PANELS}
        return self._render(
            request,
            "dashboard.html",
            question=question,
            previous=query.previous().period,
            tiles=figures.list_tiles(words, overview, run("overview", query.previous())),
            robots=figures.first_row(overview)["robot_requests"],
            chart=figures.lay_out_time(self._session, question, words, self._zone),
            panels={name: figures.fill_panel(PANELS[name], report, overview) for name, report in reports.items()},
            sections=SECTIONS,
            metric=figures.choose_metric(question, overview),
            world=figures.lay_out_world(reports["countries"]),
            week=figures.lay_out_week(run("weekday_hours", query), self._zone),
        )

    def report(self, request: Request) -> Response:
        """Show all rows and figures of one report, beside those of the period before."""
        question, name = self._ask(request), request.path_params["name"]
        report = self._session.compare(name, question.query)
        return self._render(
            request,
            "report.html",
            question=question,
            previous=question.query.previous().period,
            table=figures.lay_out_table(report),
            panel=PANELS.get(name),
            name=name,
        )

    def live(self, request: Request) -> Response:
        """Show what happens just now."""
        site = request.query_params.get("site") or None
        refresh = request.cookies.get("refresh", REFRESHES[0])
        told: Mapping[str, Any] = {}
        if site is None or site in self._sites():
            try:
                told = self._tell_live(site)
            except OperatorError:
                told = {}
        answer = self._render(
            request,
            "live.html",
            told=told,
            chart=figures.lay_out_minutes(told),
            site=site,
            refresh=refresh,
            every_s=REFRESH_S,
        )
        if refresh == "on":  # the visitor has asked for it, and can stop it (WCAG 2.2.1, 2.2.2)
            answer.headers["Refresh"] = str(REFRESH_S)
        return answer

    def hidden(self, request: Request) -> Response:
        """Say what can't be seen here, and why."""
        return self._render(request, "hidden.html", topics=TOPICS, terms=TERMS)

    # For programs

    def api(self, request: Request) -> Response:
        """Explain the API, from the reports themselves."""
        return self._render(
            request, "api.html", definitions=definitions(), filters=FILTERS, host=request.headers["host"]
        )

    def as_json(self, request: Request) -> Response:
        """Answer one report as JSON."""
        report = self._answer(request)
        query = report.query
        return JSONResponse(
            {
                "report": report.name,
                "title": report.title,
                "description": report.description,
                "since": query.period.since.isoformat(),
                "until": query.period.until.isoformat(),
                "site": query.site,
                "where": dict(query.where),
                "k": self._session.k,
                "counted": report.counted,
                "rows": json.loads(json.dumps(report.records(), default=date.isoformat)),
            }
        )

    def as_csv(self, request: Request) -> Response:
        """Answer one report as CSV, for a spreadsheet."""
        report = self._answer(request)
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(report.columns)
        writer.writerows([[disarm(value) for value in row] for row in report.rows])
        period = report.query.period
        name = f"{report.name}-{period.since}-{period.until}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)

    def _answer(self, request: Request) -> Report:
        question, name = self._ask(request), request.path_params["name"]
        is_compared = request.query_params.get("compare", "") not in {"", "0"}
        return self._session.compare(name, question.query) if is_compared else self._session.run(name, question.query)

    # Who looks, and how

    def login(self, request: Request, status: HTTPStatus = HTTPStatus.OK, problem: str = "") -> Response:
        """Ask for the password."""
        target = keep_local(request.query_params.get("next", "/"))
        return self._render(request, "login.html", status, target=target, problem=problem)

    async def log_in(self, request: Request) -> Response:
        """Begin a session for whoever knows the password."""
        form = await read_form(request)
        if not await self._gate.knows(request, form.get("password", "")):
            wait_s = self._gate.guesses.wait_s(self._gate.find_client(request))
            problem, status = ("wait", HTTPStatus.TOO_MANY_REQUESTS) if wait_s > 0 else ("wrong", HTTPStatus.FORBIDDEN)
            answer = self.login(request, status, problem)
            if wait_s > 0:
                answer.headers["Retry-After"] = str(int(wait_s) + 1)
            return answer
        answer = RedirectResponse(keep_local(form.get("next", "/")), HTTPStatus.SEE_OTHER)
        answer.set_cookie(
            self._gate.cookie(request),
            self._gate.sessions.begin(),
            max_age=self._gate.settings.session_hours * 3600,
            secure=self._gate.is_secure(request),
            httponly=True,
            samesite="strict",
        )
        return answer

    async def log_out(self, request: Request) -> Response:
        """End a session."""
        name = self._gate.cookie(request)
        self._gate.sessions.end(request.cookies.get(name, ""))
        answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(name, secure=self._gate.is_secure(request), httponly=True, samesite="strict")
        return answer

    def prefer(self, request: Request) -> Response:
        """Remember a choice in a cookie, and go back."""
        answer = RedirectResponse(keep_local(request.query_params.get("back", "/")), HTTPStatus.SEE_OTHER)
        for name, allowed in PREFERENCES.items():
            value = request.query_params.get(name, "")
            if value in allowed:
                answer.set_cookie(
                    name, value, max_age=YEAR_S, secure=self._gate.is_secure(request), httponly=True, samesite="strict"
                )
        return answer

    def icon(self, request: Request) -> Response:
        """Give the sign that browsers show beside the title."""
        return Response(ICON, media_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})

    def style(self, request: Request) -> Response:
        """Give the style sheet, whose name changes with it."""
        return Response(STYLE, media_type="text/css", headers={"Cache-Control": f"public, max-age={YEAR_S}, immutable"})

    def render_error(self, request: Request, status: HTTPStatus, reason: str, detail: str = "") -> Response:
        """Say that something can't be shown, to a person or a program."""
        words = choose_words(request)
        if request.url.path.startswith("/api/"):
            text = detail or words(f"error.{reason or 'fault'}").striptags()
            return JSONResponse({"error": text}, status, {"WWW-Authenticate": "Basic"} if status == 401 else None)
        return self._render(request, "error.html", status, reason=reason or "fault", detail=detail)

    def handle_operator_error(self, request: Request, error: Exception) -> Response:
        """Answer a question that makes no sense."""
        if isinstance(error, StoreError):
            return self.render_error(request, HTTPStatus.SERVICE_UNAVAILABLE, "store", str(error))
        is_unknown = "name" in request.path_params and not is_report(request.path_params["name"])
        if is_unknown:
            return self.render_error(request, HTTPStatus.NOT_FOUND, "missing")
        return self.render_error(request, HTTPStatus.BAD_REQUEST, "question", str(error))

    def handle_missing(self, request: Request, error: Exception) -> Response:
        """Answer for a page that there isn't."""
        status = HTTPStatus(getattr(error, "status_code", HTTPStatus.NOT_FOUND))
        return self.render_error(request, status, "missing" if status == HTTPStatus.NOT_FOUND else "fault")

    def _sites(self) -> tuple[str, ...]:
        """List the sites; none on a page that says why the store can't be read."""
        try:
            return self._session.sites()
        except StoreError:
            return ()

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    def _ask(self, request: Request) -> Question:
        return parse_question(request.query_params, self._today(), self._session.sites())

    def _render(self, request: Request, template: str, status: int = HTTPStatus.OK, **values: Any) -> Response:
        words, here, today = choose_words(request), read_target(request), self._today()
        theme = request.cookies.get("theme", THEMES[0])
        question = values.get("question")
        html = TEMPLATES.get_template(template).render(
            t=words,
            path=request.url.path,
            here=quote(here, safe=""),
            theme=theme if theme in THEMES else THEMES[0],
            themes=THEMES,
            languages=LANGUAGES,
            style=STYLE_NAME,
            is_closed=self._gate.is_closed,
            has_password=self._gate.has_password,
            today=today,
            sites=self._sites(),
            presets=list_presets(question, today) if question else {},
            k=self._session.k,
            zone=str(self._zone),
            **values,
        )
        return HTMLResponse(html, status, {"Content-Language": words.language, "Vary": "Accept-Language, Cookie"})


def choose_words(request: Request) -> Words:
    """Return the words of the language that the visitor of the dashboard wants."""
    return read_words(choose_language(request.headers.get("accept-language", ""), request.cookies.get("lang")))


def is_report(name: str) -> bool:
    """Tell whether there is a report of a name."""
    return any(definition.name == name for definition in definitions())


async def read_form(request: Request) -> dict[str, str]:
    """Read a short form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM_BYTES:
            return {}
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}


def disarm(value: object) -> object:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@"} else value
