"""Reports give the figures of the traffic that was recorded, and hide small groups."""

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from anonproxy.anonymize.request import RawRequest
from anonproxy.cli import group
from anonproxy.cli.report import describe_zone
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.parse_settings import parse_settings
from anonproxy.reports.run import definitions

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
DAY = "2026-11-20"
CONFIG = """\
[store]
path = "{store}"
[privacy]
time_zone = "UTC"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:9"
sitemap = ""
[[sites.routes]]
path = "/events"
"""
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.6 Mobile/15E148 Safari/604.1"
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record 30 people who look at two pages, 12 of them by phone, 4 who leave at once, and 20 requests of a robot."""
    folder = tmp_path_factory.mktemp("reported")
    path = folder / "anonproxy.toml"
    path.write_text(CONFIG.format(store=folder / "store"))
    recorder = Recorder(parse_settings(path.read_text(), "test"), clock=lambda: NOON)
    for person in range(34):
        agent = IPHONE if person < 12 else FIREFOX
        for step, target in enumerate(["/", "/events?q=secret"][: 2 if person < 30 else 1]):
            recorder.record(
                RawRequest(
                    NOON + step,
                    f"203.0.{person}.7",
                    raw_host="www.example.org",
                    raw_target=target,
                    status=200,
                    raw_user_agent=agent,
                    raw_referrer="https://www.google.com/search?q=secret" if person < 20 and not step else "",
                )
            )
    for _ in range(20):
        recorder.record(RawRequest(NOON, "192.0.2.9", raw_target="/", status=200, raw_user_agent="Googlebot/2.1"))
    recorder.close()
    return path


def report(config: Path, *arguments: str) -> Result:
    """Run a report over the recorded day."""
    return CliRunner().invoke(group, ["report", "--config", str(config), "--since", DAY, "--until", DAY, *arguments])


def rows(config: Path, name: str) -> list[dict[str, object]]:
    """Return the rows of one report, as a program would read them."""
    result = report(config, name, "--format", "json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, object]] = json.loads(result.output)["reports"][name]
    return found


def test_overview_counts_people_and_robots(config: Path) -> None:
    """Visits, pages and bounces are those of people; robots are told apart."""
    assert rows(config, "overview") == [
        {
            "visits": 34,
            "pageviews": 64,
            "pages_per_visit": 1.9,
            "bounce_percent": 12.0,
            "seconds_per_visit": 0.0,
            "requests": 84,
            "robot_requests": 20,
        }
    ]


def test_pages(config: Path) -> None:
    """Pages come by the number of their visits."""
    assert rows(config, "pages") == [
        {"page": "/", "visits": 34, "pageviews": 34},
        {"page": "/events", "visits": 30, "pageviews": 30},
    ]


def test_breakdowns_add_up(config: Path) -> None:
    """Devices and sources add up to all visits; where nobody linked here, people came directly."""
    assert rows(config, "devices") == [
        {"device": "desktop", "visits": 22, "pageviews": 40},
        {"device": "phone", "visits": 12, "pageviews": 24},
    ]
    assert rows(config, "referrers") == [
        {"referrer": "google.com", "visits": 20, "pageviews": 40},
        {"referrer": "(direct)", "visits": 14, "pageviews": 24},
    ]


def test_csv_is_what_a_spreadsheet_reads(config: Path) -> None:
    """CSV of one report is one table with a header."""
    result = report(config, "status", "--format", "csv")
    assert list(csv.DictReader(io.StringIO(result.output))) == [{"status": "200", "requests": "64", "visits": "34"}]


def test_terminal_shows_the_reports(config: Path) -> None:
    """Without a name the usual reports are shown, with what is hidden and why."""
    result = report(config)
    assert result.exit_code == 0, result.output
    for text in ("Pages", "google.com", "fewer than 10 visits", "robots"):
        assert text in result.output
    assert "secret" not in result.output


def test_another_day_is_empty(config: Path) -> None:
    """A day without visits says so instead of showing empty tables."""
    result = CliRunner().invoke(
        group, ["report", "--config", str(config), "--since", "2026-01-01", "--until", "2026-01-02"]
    )
    assert result.exit_code == 0, result.output
    assert "Nothing in this period for" in result.output


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A wrong path is an error that says what to do."""
    result = CliRunner().invoke(group, ["report", "--store", str(tmp_path / "nowhere")])
    assert "nothing there yet" in str(result.exception)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(config: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything fits, from a telephone to a wall, compared or not; and where there is room there are bars."""
    monkeypatch.setenv("COLUMNS", str(width))
    for arguments in (("all",), ("all", "--compare"), ("pages", "entry", "--where", "device=phone")):
        result = report(config, *arguments)
        assert result.exit_code == 0, result.output
        assert max(map(len, result.output.splitlines())) <= width
    assert "█" in report(config, "pages").output


def test_compares_with_the_period_before_or_another(config: Path) -> None:
    """The day before had nobody; compared with itself, nothing has changed."""
    assert "beside 2026-11-19" in report(config, "pages", "--compare").output
    assert "+0 %" in report(config, "pages", "--compare", DAY).output
    assert "beside 2026-11-19" in report(config, "--compare", "pages").output  # meant as the report
    found = json.loads(report(config, "overview", "--compare", DAY, "--format", "json").output)["reports"]["overview"][
        0
    ]
    assert found["previous_visits"] == found["visits"] == 34


def test_markdown_is_a_table(config: Path) -> None:
    """Figures stand to the right, and nothing in a label breaks the table."""
    lines = report(config, "pages", "--format", "markdown").output.splitlines()
    assert lines[0] == "## Pages"
    assert lines[4:8] == [
        "| page | visits | pageviews |",
        "| --- | --: | --: |",
        "| / | 34 | 34 |",
        "| /events | 30 | 30 |",
    ]


def test_parquet_holds_one_report(config: Path) -> None:
    """One report is a file; several aren't."""
    table = pq.read_table(io.BytesIO(report(config, "pages", "--format", "parquet").stdout_bytes))
    assert table.to_pylist()[0] == {"page": "/", "visits": 34, "pageviews": 34}
    assert "holds one report" in str(report(config, "--format", "parquet").exception)


def test_html_is_one_file_for_the_board(config: Path) -> None:
    """It needs nothing from elsewhere, and runs nothing."""
    page = report(config, "--format", "html").output
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert not re.search(r"<script|<link[^>]+href=|src=|@import|url\((?!['\"]?data:)", page)
    assert "secret" not in page
    assert "leave names" in str(report(config, "pages", "--format", "html").exception)


def test_filters_narrow_down(config: Path) -> None:
    """The pages of phones are counted by page views; a filter that isn't one is refused."""
    output = report(config, "pages", "--where", "device=phone", "--format", "json").output
    assert json.loads(output)["where"] == {"device": "phone"}
    assert "a filter is a column and a value" in str(report(config, "--where", "device").exception)
    assert "did you mean" in str(report(config, "--where", "devise=phone").exception)
    assert (
        "Not known of a part of the visits, or too few: Transfer."
        in report(config, "transfer", "-w", "device=phone").output
    )


def test_brackets_are_text(config: Path) -> None:
    """A filter that a terminal library would take for a style is shown as it was written."""
    result = report(config, "pages", "--where", "route=/a[/b]")
    assert result.exit_code == 0, result.exception
    assert "route /a[/b]" in result.output


def test_lists_all_reports(config: Path) -> None:
    """Each is named with what it answers."""
    output = CliRunner().invoke(group, ["report", "list"]).output
    assert all(definition.name in output for definition in definitions())


def test_what_is_misspelled_is_guessed(config: Path) -> None:
    """Names, days and sites are answered with what could have been meant."""
    assert 'did you mean "referrers"' in str(report(config, "referers").exception)
    assert "There are: www" in str(report(config, "pages", "--site", "ww").exception)
    assert 'Did you mean "last month"' in str(report(config, "--since", "last moth").exception)


ZONES = {
    "UTC": "",
    "America/New_York": ": a day begins at 19:00 by your clocks (America/New_York)",
    "Asia/Kolkata": ": a day begins at 05:30 by your clocks (Asia/Kolkata)",
}


@pytest.mark.parametrize("zone", ZONES)
def test_says_when_a_day_begins(zone: str) -> None:
    """Days are UTC; where clocks differ, that is told in their terms."""
    assert describe_zone(zone, NOON) == ZONES[zone]
