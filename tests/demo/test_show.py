import http.client
import io
import re
import signal
import socket
import subprocess
import sys
from _thread import interrupt_main
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from urllib.parse import quote_plus, urlsplit

import pytest
from rich.console import Console

from anonproxy.demo.plan import RawMark, plan_showcase, plan_visits
from anonproxy.demo.show import (
    Scene,
    find_paths,
    list_facts,
    list_new_rows,
    make_folder,
    mark_red,
    render_row,
    render_scene,
    try_search,
    wait_until_written,
    watch,
)
from anonproxy.demo.stage import Stage, fetch, find_free_port, set_stage
from anonproxy.demo.traffic import Outcome
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.errors import OperatorError

ROW = {
    "time": datetime(2026, 11, 21, 18, tzinfo=UTC),
    "site": "millbrook",
    "method": "GET",
    "route": "/search",
    "kind": "search",
    "status": 200,
    "size_bytes": 2048,
    "duration_ms": 25,
    "visit": 7_000_123_456,
    "step": 3,
    "elapsed_s": 120,
    "network": "67.189.44.0/24",
    "network_class": "town",
    "country": "US",
    "referrer": "google.com",
    "channel": "search",
    "campaign": "autumn-reading",
    "browser": "Safari",
    "os": "iOS",
    "device": "phone",
    "bot": "library",
    "language": "es",
}
WITHIN_S = 120.0
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def test_scene_shows_every_column() -> None:
    """What is shown as written is the whole row: no column is left out."""
    [visit, *_] = plan_showcase(1).visits
    scene = Scene(visit, datetime(2026, 11, 21, 18, 3, 27, tzinfo=UTC), Outcome(Counter({200: 1}), 0, 2510), ROW)
    stored = " ".join(fact[2] for fact in list_facts(scene))
    shown = {**ROW, "time": "2026-11-21 18:00 UTC", "visit": "123456…", "step": "page 3", "size_bytes": "2,048 B"}
    assert set(shown) == {column.name for column in HIT_COLUMNS}
    assert [name for name, value in shown.items() if str(value) not in stored] == []


def test_scene_marks_all_secrets_red() -> None:
    """In every scene each secret that is shown is red, in whatever spelling, and nothing red is on the right."""
    for visit in plan_showcase(1).visits:
        scene = Scene(visit, datetime(2026, 11, 21, 18, 3, 27, tzinfo=UTC), Outcome(Counter({200: 1}), 0, 2510), ROW)
        shown = [mark_red(raw, visit.raw_marks) for _, raw, _ in list_facts(scene)]
        red = {text.plain[span.start : span.end] for text in shown for span in text.spans}
        for mark in visit.raw_marks:
            assert {mark.raw_value, quote_plus(mark.raw_value)} & red or mark.sort == "name"
        console = Console(record=True, width=100, file=io.StringIO())
        console.print(render_scene(scene))
        assert "67.189.44.0/24" in console.export_text()


def test_row_in_one_line() -> None:
    """While serving on, a row is one line with page, visit and place."""
    line = render_row(ROW).plain
    assert line.startswith("18:00  GET /search")
    for word in ("visit 123456…, page 3", "town", "Safari"):
        assert word in line


def test_new_rows_are_a_difference_of_multisets() -> None:
    """A row that equals an old one is still a new row."""
    row = (("route", "/"),)
    assert list_new_rows(Counter({row: 2}), Counter({row: 3})) == [{"route": "/"}]
    assert list_new_rows(Counter({row: 2}), Counter({row: 2})) == []


def test_paths_of_another_site() -> None:
    """Only pages of the same host are read, each once, without query; the home page always."""
    html = """
        <a href="/about">1</a><a class=x href="/about#team">2</a> <a href="http://lib.example/hours?x=1">3</a>
        <a href="//evil.example/">4</a> <a href="https://other.example/x">5</a>
        <a href="mailto:a@b">6</a> <a href="/">7</a>
    """
    assert find_paths(html, "lib.example") == ["/", "/about", "/hours"]


def test_search_finds_what_is_planted() -> None:
    """The control of the search finds every secret of a plan in each disguise."""
    marks = plan_visits(3, 20).marks()[::12]
    planted, found = try_search(marks)
    assert planted == found > 5


def test_folder_must_be_new_or_empty(tmp_path: Path) -> None:
    """A folder with something in it is refused, and left as it is."""
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OperatorError, match="not empty"):
        make_folder(tmp_path)
    with pytest.raises(OperatorError, match="can't be used"):
        make_folder(tmp_path / "file" / "below")


def test_red_even_when_nested() -> None:
    """A secret inside a longer one doesn't hide it."""
    text = mark_red(
        "q=agnes.bianchi%40post.example",
        [RawMark("name", "agnes.bianchi"), RawMark("e-mail", "agnes.bianchi@post.example")],
    )
    assert "agnes.bianchi%40post.example" in {text.plain[span.start : span.end] for span in text.spans}


@contextmanager
def patience(end: Callable[[], None]) -> Iterator[None]:
    """End what takes too long, so that nobody waits for its words."""
    timer = Timer(WITHIN_S, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def demo(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `anonproxy demo` as people do, and end it."""
    command = [sys.executable, "-m", "anonproxy", "demo", "--port", str(find_free_port()), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            with patience(process.terminate):
                yield process
        finally:
            process.terminate()


def read_until(process: "subprocess.Popen[str]", word: str) -> str:
    """Read what is said, up to and with the line that holds a word."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if word in line:
            return said
    raise AssertionError(said)


def read_rest(process: "subprocess.Popen[str]") -> tuple[str, int]:
    """Read to the end; return what was said and the exit status."""
    said, _ = process.communicate(timeout=WITHIN_S)
    return said, process.returncode


def is_listening(url: str) -> bool:
    """Tell whether something answers there."""
    place = urlsplit(url)
    with closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=5)) as line:
        try:
            line.request("GET", "/")
            return line.getresponse().status == 200
        except OSError:
            return False


@pytest.mark.slow
def test_whole_story(tmp_path: Path) -> None:
    """The demonstration with --exit tells all five parts, finds no secret, ends with 0 and leaves nothing running."""
    with demo("--exit", "--visits", "60", "--store", str(tmp_path / "demo")) as process:
        said, status = read_rest(process)
    assert status == 0, said
    for part in (
        "1  What came in",
        "2  What the webmaster",
        "3  What the auditor",
        "4  Whether anything",
        "5  Where it is",
    ):
        assert part in said
    sent = re.search(r"60 visits made ([\d,]+) requests", said)
    assert sent is not None
    assert f"{sent[1]} rows were written, 0 dropped" in said
    assert re.search(r"\d+ secrets were looked for, none found", said)
    addresses = re.findall(r"http://127\.0\.0\.1:\d+", said)
    assert not any(is_listening(address) for address in addresses[:2])
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"anonproxy.toml", "store", "proxy.log", "site.log"}
    assert (tmp_path / "demo" / "site.log").read_text().count("\n") == 1


@pytest.mark.slow
def test_own_visit_is_shown(tmp_path: Path) -> None:
    """Without --exit it serves on, shows one's own visit as it is written, and ends cleanly at Ctrl-C."""
    with demo("--visits", "20", "--store", str(tmp_path / "demo")) as process:
        said = read_until(process, "Ctrl-C ends it")
        urls = re.findall(r"http://127\.0\.0\.1:\d+", said)
        place = urlsplit(urls[1])
        with closing(http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)) as line:
            line.request("GET", "/search?q=my-own-secret", headers={"User-Agent": FIREFOX})
            assert line.getresponse().status == 200
        row = read_until(process, "GET /search")
        process.send_signal(signal.SIGINT)
        rest, status = read_rest(process)
    assert "my-own-secret" not in row + rest
    assert "Firefox" in row
    assert not any(is_listening(url) for url in urls[:2])
    assert status in (0, 1), rest


class EagerVisitor(io.StringIO):
    """A screen whose reader visits at once when invited, and presses Ctrl-C at the row of that visit."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    def write(self, text: str) -> int:
        if "Ctrl-C ends it" in text:
            counts = self._stage.read_counts()
            fetch(self._stage.proxy_port, "/search?q=at+once")
            wait_until_written(self._stage, counts.requests + 1)
        was_there = self.has_row
        written = super().write(text)
        if self.has_row and not was_there:
            raise KeyboardInterrupt
        return written

    @property
    def has_row(self) -> bool:
        return "GET /search" in self.getvalue()


@pytest.mark.slow
def test_visit_made_at_once_is_shown(tmp_path: Path) -> None:
    """Who visits as soon as they are invited sees their row, even if it is written before anybody looks for it."""
    with set_stage(tmp_path, find_free_port(), None) as stage:
        visitor = EagerVisitor(stage)
        with patience(interrupt_main):
            watch(Console(file=visitor), stage)
    assert visitor.has_row


@pytest.mark.slow
def test_site_of_ones_own(tmp_path: Path) -> None:
    """--site reads public pages only: nothing is posted, and no row is an account page."""
    command = [sys.executable, "-m", "anonproxy.demo.site"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as site:
        assert site.stdout is not None
        url = site.stdout.readline().split()[-1]
        with demo("--exit", "--site", url, "--visits", "40", "--store", str(tmp_path / "demo")) as process:
            said, status = read_rest(process)
        assert is_listening(url)
        site.terminate()
    assert status == 0, said
    assert "POST" not in said
    assert re.search(r"40 visits made \d+ requests: [\d,]+ × 200", said)


@pytest.mark.slow
def test_trouble_is_told(tmp_path: Path) -> None:
    """A port that is taken, a folder or a site that can't be, end the demonstration with 2 and a reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = (
            ("--site", "not-an-address", "not the address of a site"),
            ("--store", "/proc/nowhere", "can't be used"),
            ("--port", str(taken.getsockname()[1]), "something else listens there"),
        )
        for number, (option, value, reason) in enumerate(cases):
            with demo("--exit", "--store", str(tmp_path / str(number)), option, value) as process:
                said, status = read_rest(process)
            assert status == 2
            assert reason in said
            assert "Traceback" not in said
