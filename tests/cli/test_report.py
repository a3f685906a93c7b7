"""Reports give the figures of the traffic that was recorded, and hide small groups."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from anonproxy.anonymize.request import RawRequest
from anonproxy.cli import group
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.parse_settings import parse_settings

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
    assert list(csv.DictReader(io.StringIO(result.output))) == [{"status": "200", "hits": "64", "visits": "34"}]


def test_terminal_shows_the_reports(config: Path) -> None:
    """Without a name the usual reports are shown, with what is hidden and why."""
    result = report(config)
    assert result.exit_code == 0, result.output
    for text in ("Which pages people look at", "google.com", "fewer than 10 visits", "by robots"):
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
