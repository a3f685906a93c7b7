"""`anonproxy web` serves the figures, tells what happens in the running proxy, and refuses to be open to everybody."""

import http.client
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from anonproxy.anonymize.request import RawRequest
from anonproxy.cli import group
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.parse_settings import parse_settings
from anonproxy.web.auth import is_password
from tests.store.examples import tree
from tests.support.servers import wait_until

CONFIG = """\
[store]
path = "{store}"
[privacy]
time_zone = "America/New_York"
[web]
listen = "127.0.0.1:0"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:9"
sitemap = ""
"""
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration."""
    path = tmp_path / "anonproxy.toml"
    path.write_text(CONFIG.format(store=tmp_path / "store"))
    return path


@contextmanager
def web(config: Path, log: Path) -> Iterator[int]:
    """Run the verb in a process of its own; yield its port, and end it as systemd does."""
    with log.open("w") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "anonproxy", "web", "--config", str(config)],
            stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        wait_until(lambda: "http://" in log.read_text() or child.poll() is not None, 60, "the dashboard's start")
        found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None, log.read_text()
        yield int(found[1])
    finally:
        child.terminate()
        assert child.wait(30) in {0, -15}


def fetch(port: int, target: str) -> str:
    """Ask for a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", target, headers={"Accept-Language": "en"})
    return connection.getresponse().read().decode()


@pytest.mark.slow
def test_shows_what_is_recorded_and_what_happens_now(config: Path, tmp_path: Path) -> None:
    """Visitors of this minute are on the live page, from memory; looking at pages writes nothing, and logs nothing."""
    recorder = Recorder(parse_settings(config.read_text(), "test"))
    try:
        for person in range(12):
            request = RawRequest(
                recorder._clock(), f"203.0.{person}.7", raw_host="any", status=200, raw_user_agent=FIREFOX
            )
            recorder.record(request)
        recorder._flush()
        before = tree(tmp_path / "store")
        with web(config, tmp_path / "log") as port:
            assert '<span class="figure">12</span>' in fetch(port, "/live")
            assert '<span class="figure">12</span>' in fetch(port, "/?period=today")
            assert "No such" not in fetch(port, "/report/pages")
        assert tree(tmp_path / "store") == before
    finally:
        recorder.close()
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_prints_a_password_as_a_setting() -> None:
    """What is printed goes into the configuration as it is, and doesn't hold the password."""
    result = CliRunner().invoke(group, ["web", "--set-password"], input="library card\nlibrary card\n")
    assert result.exit_code == 0
    found = re.search(r'^password_hash = "(.+)"$', result.output, re.MULTILINE)
    assert found is not None
    assert "library card" not in result.output
    assert is_password("library card", found[1])


def test_says_what_is_missing_for_others_to_look(config: Path) -> None:
    """To listen for others without a password is refused with every step that makes it safe."""
    config.write_text(config.read_text().replace("127.0.0.1:0", "0.0.0.0:9902"))
    result = CliRunner().invoke(group, ["web", "--config", str(config)])
    assert result.exit_code != 0
    assert "allowed_hosts" in str(result.exception)


def test_a_port_that_is_taken_is_no_riddle(config: Path, tmp_path: Path) -> None:
    """A port that somebody else has is named with the setting."""
    (tmp_path / "store").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(group, ["web", "--config", str(config), "--listen", address])
    assert "web.listen" in str(result.exception)
