"""Millbrook Public Library: a small, ordinary library website to put a proxy in front of.

It knows nothing of anonproxy, writes no log, and answers with relative redirects, so that it works behind any host
and port.
"""

import argparse
import csv
import io
import socket
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlencode

import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from anonproxy.demo.library import RESULTS_PER_PAGE, Book, read_library
from anonproxy.demo.patrons import SESSION_COOKIE, Patron, Sessions, is_card
from anonproxy.demo.pdf import render_pdf

NAME = "Millbrook Public Library"
BODY_BYTES_AT_MOST = 65_536
LIBRARY = read_library()
TEMPLATES = Environment(loader=PackageLoader("anonproxy.demo"), autoescape=True, undefined=StrictUndefined)
TEMPLATES.globals.update(library=LIBRARY, name=NAME)

NOTICES = {
    "/contact/thanks": ("Thank you", "We have your message and will answer within two working days."),
    "/forgot/sent": ("Look in your mailbox", "If that address belongs to a card, a link is on its way to it."),
    "/reset/done": ("Your PIN is changed", "You can log in with it now."),
    "/signed-out": ("You are logged out", "On a shared computer, closing the window is a good habit, too."),
}


def page(request: Request, template: str, status: int = 200, **values: object) -> Response:
    """Render one page; the shared frame needs to know where we are and whether somebody is logged in."""
    patron = find_patron(request)
    html = TEMPLATES.get_template(template).render(here=request.url.path, patron=patron, **{"query": "", **values})
    answer = HTMLResponse(html, status)
    answer.headers["Cache-Control"] = "private, no-store" if patron else "public, max-age=60"
    return answer


def go(target: str) -> Response:
    """Answer a form with the page to look at next."""
    return RedirectResponse(target, 303)


def not_found() -> HTTPException:
    """Make the 404 that any handler may raise."""
    return HTTPException(404)


async def read_form(request: Request) -> dict[str, str]:
    """Read a URL-encoded body; of repeated fields the last counts."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_AT_MOST:
            raise HTTPException(413)
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def find_patron(request: Request) -> Patron | None:
    """Find the patron whose session cookie this is."""
    sessions: Sessions = request.app.state.sessions
    return sessions.find(request.cookies.get(SESSION_COOKIE))


def find_book(text: str) -> Book:
    """Find a book by its record number."""
    book = LIBRARY.books.get(int(text)) if text.isascii() and text.isdecimal() and len(text) < 9 else None
    if book is None:
        raise not_found()
    return book


# Pages that say the same to everyone


async def home(request: Request) -> Response:
    """Show the front page."""
    fresh = [book for book in LIBRARY.books.values() if book.number % 9 == 2][:6]
    return page(request, "home.html", fresh=fresh)


def plain(template: str) -> Callable[[Request], object]:
    """Make a page that needs nothing but its template."""

    async def show(request: Request) -> Response:
        return page(request, template)

    return show


def one_of(template: str, things: dict[str, object]) -> Callable[[Request], object]:
    """Make a page for one named thing, and a 404 for any other name."""

    async def show(request: Request) -> Response:
        thing = things.get(request.path_params["slug"])
        if thing is None:
            raise not_found()
        return page(request, template, it=thing)

    return show


async def topic_page(request: Request) -> Response:
    """Show one page of a topic."""
    topic = LIBRARY.topics.get(request.path_params["topic"])
    for it in topic.pages if topic else []:
        if it.slug == request.path_params["slug"]:
            return page(request, "topic_page.html", topic=topic, it=it)
    raise not_found()


async def notice(request: Request) -> Response:
    """Show a short message after a form."""
    title, text = NOTICES[request.url.path]
    return page(request, "notice.html", title=title, text=text)


# The catalogue


async def search(request: Request) -> Response:
    """Search the catalogue, or show its shelves."""
    query = request.query_params.get("q", "").strip()[:200]
    wanted = request.query_params.get("page", "1")
    found = LIBRARY.search(query)
    last = max(1, -(-len(found) // RESULTS_PER_PAGE))
    number = min(int(wanted), last) if wanted.isascii() and wanted.isdecimal() and 0 < len(wanted) < 5 else 1
    shown = found[(max(number, 1) - 1) * RESULTS_PER_PAGE :][:RESULTS_PER_PAGE]
    links = [(each, "/search?" + urlencode({"q": query, "page": each})) for each in range(1, last + 1)]
    return page(request, "search.html", query=query, found=len(found), shown=shown, number=number, links=links)


async def record(request: Request) -> Response:
    """Show one title."""
    book = find_book(request.path_params["number"])
    return page(request, "record.html", it=book, alike=LIBRARY.list_alike(book)[:6])


async def availability(request: Request) -> Response:
    """Tell as data how many copies are in."""
    book = find_book(request.query_params.get("record", ""))
    return JSONResponse({"record": book.number, "copies": book.copies, "available": book.available})


async def place_hold(request: Request) -> Response:
    """Put a title on hold for whoever is logged in; others log in first."""
    book = find_book((await read_form(request)).get("record", ""))
    patron = find_patron(request)
    if patron is None:
        return go("/login?" + urlencode({"next": f"/record/{book.number}"}))
    patron.place_hold(book.number)
    return go("/account/holds")


# The account


async def login(request: Request) -> Response:
    """Show the login form."""
    return page(request, "login.html", following=request.query_params.get("next", ""), wrong=False)


async def log_in(request: Request) -> Response:
    """Check card and PIN, open a session, and lead on to where the reader came from."""
    form = await read_form(request)
    following = form.get("next", "")
    barcode, pin = form.get("barcode", ""), form.get("pin", "")
    if not is_card(barcode, pin):
        return page(request, "login.html", 401, following=following, wrong=True)
    session_id = request.app.state.sessions.open(Patron(card_ending=barcode[-4:]))
    answer = go(following if is_own_page(following) else "/account")
    answer.set_cookie(SESSION_COOKIE, session_id, httponly=True, samesite="lax")
    return answer


def is_own_page(target: str) -> bool:
    """Tell whether a redirect stays on this site: no other host, no scheme, no backslash trick."""
    return target.startswith("/") and not target.startswith(("//", "/\\")) and not URL(target).netloc


async def log_out(request: Request) -> Response:
    """End the session."""
    request.app.state.sessions.close(request.cookies.get(SESSION_COOKIE))
    answer = go("/signed-out")
    answer.delete_cookie(SESSION_COOKIE)
    return answer


def account_page(template: str) -> Callable[[Request], object]:
    """Make a page that only a logged-in patron sees."""

    async def show(request: Request) -> Response:
        if find_patron(request) is None:
            return go("/login?" + urlencode({"next": request.url.path}))
        return page(request, template)

    return show


async def forgot(request: Request) -> Response:
    """Take the address that a new link should go to; nothing is sent."""
    await read_form(request)
    return go("/forgot/sent")


async def reset(request: Request) -> Response:
    """Show the form for a new PIN."""
    return page(request, "reset.html", token=request.query_params.get("token", ""))


async def change_pin(request: Request) -> Response:
    """Take a new PIN."""
    await read_form(request)
    return go("/reset/done")


async def contact(request: Request) -> Response:
    """Take a question for the librarians."""
    await read_form(request)
    return go("/contact/thanks")


# Files and feeds


async def download(request: Request) -> Response:
    """Send a file."""
    name = request.path_params["name"]
    if name == "catalogue.csv":
        return Response(render_catalogue(), media_type="text/csv")
    it = LIBRARY.downloads.get(name)
    if it is None:
        raise not_found()
    return Response(render_pdf(it.title, it.lines), media_type="application/pdf")


def render_catalogue() -> str:
    """Write the catalogue as a table."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("record", "title", "author", "year", "shelf"))
    table.writerows((it.number, it.title, it.author, it.year, it.shelf) for it in LIBRARY.books.values())
    return text.getvalue()


def list_public_pages() -> list[str]:
    """List the paths of the sitemap: what everyone may read, and neither records nor readers' lists nor accounts."""
    return [
        *("/", "/hours", "/events", "/kids", "/kids/storytime", "/topics", "/news", "/downloads", "/lists"),
        *("/contact", "/privacy", "/search"),
        *(f"/hours/{slug}" for slug in LIBRARY.branches),
        *(f"/events/{slug}" for slug in LIBRARY.events),
        *(f"/topics/{slug}" for slug in LIBRARY.topics),
        *(f"/topics/{topic.slug}/{it.slug}" for topic in LIBRARY.topics.values() for it in topic.pages),
        *(f"/news/{slug}" for slug in LIBRARY.articles),
        *(f"/downloads/{name}" for name in (*LIBRARY.downloads, "catalogue.csv")),
    ]


async def sitemap(request: Request) -> Response:
    """Tell crawlers which pages are public."""
    xml = TEMPLATES.get_template("sitemap.xml").render(base=str(request.base_url), paths=list_public_pages())
    return Response(xml, media_type="application/xml")


async def feed(request: Request) -> Response:
    """Send the news as a feed."""
    xml = TEMPLATES.get_template("feed.xml").render(base=str(request.base_url))
    return Response(xml, media_type="application/atom+xml")


async def robots(request: Request) -> Response:
    """Tell crawlers which pages are private."""
    rules = "User-agent: *\nDisallow: /account\nDisallow: /login\nDisallow: /reset\n"
    return PlainTextResponse(f"{rules}Sitemap: {request.base_url}sitemap.xml\n")


async def icon(request: Request) -> Response:
    """Lead old browsers to the icon."""
    return RedirectResponse("/static/mark.svg", 301)


async def health(request: Request) -> Response:
    """Say that the site is up."""
    return PlainTextResponse("ok\n")


TROUBLES = {
    404: (
        "That page isn't on our shelves",
        "It may have moved. The catalogue and the menu above know where most things are.",
    ),
    405: ("That isn't how this page works", "Please go back and use the form or the link on the page."),
}


async def trouble(request: Request, error: Exception) -> Response:
    """Show an error in plain words."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    title, text = TROUBLES.get(status, ("Something went wrong", "Please try again in a minute."))
    return page(request, "notice.html", status, title=title, text=text)


ROUTES = [
    Route("/", home),
    Route("/hours", plain("hours.html")),
    Route("/hours/{slug}", one_of("branch.html", {**LIBRARY.branches})),
    Route("/events", plain("events.html")),
    Route("/events/{slug}", one_of("event.html", {**LIBRARY.events})),
    Route("/kids", plain("kids.html")),
    Route("/kids/storytime", plain("storytime.html")),
    Route("/topics", plain("topics.html")),
    Route("/topics/{slug}", one_of("topic.html", {**LIBRARY.topics})),
    Route("/topics/{topic}/{slug}", topic_page),
    Route("/news", plain("news.html")),
    Route("/news/{slug}", one_of("article.html", {**LIBRARY.articles})),
    Route("/lists", plain("lists.html")),
    Route("/lists/{slug}", one_of("list.html", {**LIBRARY.lists})),
    Route("/privacy", plain("privacy.html")),
    Route("/search", search),
    Route("/record/{number}", record),
    Route("/api/availability", availability),
    Route("/hold", place_hold, methods=["POST"]),
    Route("/login", login, methods=["GET"]),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
    Route("/account", account_page("account.html")),
    Route("/account/checkouts", account_page("checkouts.html")),
    Route("/account/holds", account_page("holds.html")),
    Route("/forgot", plain("forgot.html"), methods=["GET"]),
    Route("/forgot", forgot, methods=["POST"]),
    Route("/reset", reset, methods=["GET"]),
    Route("/reset", change_pin, methods=["POST"]),
    Route("/contact", plain("contact.html"), methods=["GET"]),
    Route("/contact", contact, methods=["POST"]),
    *(Route(path, notice) for path in NOTICES),
    Route("/downloads", plain("downloads.html")),
    Route("/downloads/{name}", download),
    Route("/sitemap.xml", sitemap),
    Route("/feed.xml", feed),
    Route("/robots.txt", robots),
    Route("/favicon.ico", icon),
    Route("/health", health),
    Mount("/static", StaticFiles(directory=Path(str(files("anonproxy.demo") / "static")))),
]


def build_site() -> Starlette:
    """Make the website, with nobody logged in."""
    site = Starlette(routes=ROUTES, exception_handlers={HTTPException: trouble, 500: trouble})
    site.router.redirect_slashes = False  # its redirects name the host, and a proxy's host is not ours
    site.state.sessions = Sessions()
    return site


def serve(host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve the website until a signal ends it; port 0 takes a free one. The address is printed first."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        sys.stdout.write(f"{NAME} on http://{host}:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        settings = uvicorn.Config(
            build_site(),
            access_log=False,
            log_level="critical",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
        )
        uvicorn.Server(settings).run(sockets=[listener])


def main() -> None:
    """Read the command line and serve."""
    options = argparse.ArgumentParser(prog="python -m anonproxy.demo.site", description=f"Serve {NAME}.")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    chosen = options.parse_args()
    serve(chosen.host, chosen.port)


if __name__ == "__main__":
    main()
