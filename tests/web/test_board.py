"""The report in one file says what the dashboard says, and needs nothing but itself."""

from datetime import date
from pathlib import Path

import pytest

from anonproxy.reports.period import Period
from anonproxy.reports.run import Query
from anonproxy.reports.session import Session
from anonproxy.web.board import render_board
from anonproxy.web.words import LANGUAGES
from tests.store.examples import visits, write
from tests.web.served import NOW, ZONE
from tests.web.test_pages import Links, read_rows

TODAY = NOW.date()


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_file_is_all(session: Session, language: str) -> None:
    """Nothing is loaded, run or linked, in any language, and the browser is told so."""
    page = render_board(session, Query(Period(date(2026, 11, 1), TODAY)), ZONE, TODAY, language)
    links = Links(page)
    assert not links.forbidden
    assert not links.links
    assert not links.loaded
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert f'<html lang="{language}"' in page
    assert "url(" not in page
    assert len(page) < 300_000


def test_it_says_what_the_reports_say(session: Session) -> None:
    """Figures and rows are those of the reports; the month is named."""
    page = render_board(session, Query(Period(date(2026, 11, 1), date(2026, 11, 30))), ZONE, TODAY)
    [overview] = session.report("overview", "2026-11-01", "2026-11-30").records()
    assert f'<td class="figure">{overview["visits"]:,}</td>' in page
    assert "November 2026" in page
    assert len(read_rows(page, "pages")) == min(8, len(session.report("pages", "2026-11-01", "2026-11-30").rows))


def test_it_compares_with_a_year_ago_where_it_can(tmp_path: Path) -> None:
    """The month before and the same month a year ago stand beside, each if there are figures of it."""
    write(tmp_path / "store", [*visits(30), *visits(20, at_s=-25 * 86_400), *visits(40, at_s=-365 * 86_400)])
    session = Session(tmp_path / "store")
    november = render_board(session, Query(Period(date(2026, 11, 1), date(2026, 11, 30))), ZONE, TODAY)
    assert "Before: October 2026" in november
    assert "A year ago: November 2025" in november
    assert "+50%" in november
    october = render_board(session, Query(Period(date(2026, 10, 1), date(2026, 10, 31))), ZONE, TODAY)
    assert "Before:" not in october


def test_a_month_without_figures_says_so(session: Session) -> None:
    """A month before the first visit is a page, too."""
    page = render_board(session, Query(Period(date(2020, 1, 1), date(2020, 1, 31))), ZONE, TODAY)
    assert "There are no figures for January 2020." in page
