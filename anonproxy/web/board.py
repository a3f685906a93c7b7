"""A report for people who don't use a dashboard: one file with everything in it, to mail, keep and print.

It is made from the dashboard's own templates and shows no more than that.
"""

from dataclasses import dataclass, replace
from datetime import date, tzinfo
from typing import Final

from anonproxy import __version__
from anonproxy.reports.period import Period, move_months
from anonproxy.reports.run import Query
from anonproxy.reports.session import Session
from anonproxy.web import figures
from anonproxy.web.pages import STYLE, TEMPLATES
from anonproxy.web.panels import PANELS
from anonproxy.web.question import Question
from anonproxy.web.words import LANGUAGES, Words, read_words

# What a board asks for, each with its first rows.
SHOWN: Final = (
    "pages", "searches", "downloads", "channels", "referrers", "campaigns", "networks", "languages", "devices",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of an earlier period beside ours."""

    title: str
    period: Period
    tiles: dict[str, figures.Tile]


def render_board(session: Session, query: Query, zone: tzinfo, today: date, language: str = LANGUAGES[0]) -> str:
    """Render a period, best a month, compared with the one before and the same a year ago, as one HTML file.

    Reveals: what the session's reports reveal
    """
    words = read_words(language)
    question = Question(query.period, "", query.site, query.where)
    overview = session.run("overview", query)
    return TEMPLATES.get_template("board.html").render(
        t=words,
        style=STYLE.decode(),
        question=question,
        is_told=figures.is_told(overview),
        tiles=figures.list_tiles(words, overview, session.run("overview", query.previous())),
        comparisons=list_comparisons(session, query, words),
        previous=query.previous().period,
        chart=figures.lay_out_time(session, question, words, zone),
        panels=[figures.fill_panel(PANELS[name], session.run(name, query), overview) for name in SHOWN],
        countries=figures.fill_panel(PANELS["countries"], session.run("countries", query), overview),
        world=figures.lay_out_world(session.run("countries", query)),
        week=figures.lay_out_week(session.run("weekday_hours", query), zone),
        zone=str(zone),
        metric=figures.choose_metric(question, overview),
        k=session.k,
        today=today,
        version=__version__,
    )


def list_comparisons(session: Session, query: Query, words: Words) -> list[Comparison]:
    """Compare with the period before and the same a year ago, as far as there are figures."""
    now = session.run("overview", query)
    year_ago = Period(move_months(query.period.since, -12), move_months(query.period.until, -12))
    found = []
    for title, period in (("month_before", query.previous().period), ("year_before", year_ago)):
        earlier = session.run("overview", replace(query, period=period))
        if figures.is_told(earlier):
            tiles = {tile.name: tile for tile in figures.list_tiles(words, now, earlier)}
            found.append(Comparison(title, period, tiles))
    return found
