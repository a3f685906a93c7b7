"""The addon in a stock mitmdump."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search
from anonproxy.proxy import mitmdump
from tests.proxy.conftest import HOST, PAGE, PATIENCE_S, can_connect, read_all, split_response, wait_until
from tests.support.ports import free_port

CONFIG = """\
[store]
path = "{store}"
[proxy]
trusted_proxies = ["127.0.0.0/8"]
[[sites]]
name = "www"
hosts = ["{host}"]
upstream = "http://127.0.0.1:{upstream}"
sitemap = ""
"""

Start = Callable[..., tuple[subprocess.Popen[bytes], int]]


@pytest.fixture
def start(tmp_path: Path, nginx: int) -> Iterator[Start]:
    """Give a way to start mitmdump with the addon and further arguments."""
    config = tmp_path / "anonproxy.toml"
    config.write_text(CONFIG.format(store=tmp_path / "store", host=HOST, upstream=nginx))
    started: list[subprocess.Popen[bytes]] = []

    def start_one(*arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("mitmdump")), "--mode", f"reverse:http://127.0.0.1:{nginx}",
                 "--listen-host", "127.0.0.1", "-p", str(port), "--set", f"confdir={tmp_path / 'mitmproxy'}",
                 "--set", f"anonproxy_config={config}", "-s", mitmdump.__file__, *arguments],
                stdout=said, stderr=said, cwd=tmp_path,
            )  # fmt: skip
        started.append(process)
        return process, port

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def ask(port: int, raw: bytes) -> tuple[int, bytes]:
    """Send bytes; return status and body of what comes back."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as visitor:
        visitor.sendall(raw)
        status, _, body = split_response(read_all(visitor))
        return status, body


@pytest.mark.slow
def test_stock_mitmdump_serves_records_and_says_nothing(start: Start, tmp_path: Path) -> None:
    """Pages are served, rows are written, and whatever visitors send, nothing of it is said or kept."""
    process, port = start("--set", "flow_detail=4", "-v")
    wait_until(lambda: process.poll() is not None or can_connect(port))
    headers = f"Host: {HOST}\r\nX-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n"
    assert ask(port, f"GET /page.html?q=hunter2 HTTP/1.1\r\n{headers}".encode()) == (200, PAGE)
    assert ask(port, b"hunter2 garbage\r\n\r\n")[0] == 400
    assert ask(port, b"\x16\x03\x01hunter2")[0] == 400
    assert ask(port, b"GET /hunter2 HTTP/1.1\r\nHost: hunter2.example\r\n\r\n")[0] == 421
    with socket.create_connection(("127.0.0.1", port)) as visitor:
        visitor.sendall(b"GET /hunter2 HT")
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    said = (tmp_path / "said").read_text().splitlines()
    (loading,) = (line for line in said if line != "anonproxy records what mitmdump serves")  # in either order
    assert loading.endswith(f"Loading script {mitmdump.__file__}")
    assert len(said) == 2
    assert any((tmp_path / "store" / "hot").rglob("*.parquet"))
    result = search([tmp_path], [Mark("secret", "hunter2"), Mark("address", "203.0.113.7")])
    assert not result.hits
    assert result.pages > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-w", "flows"), "save_stream_file"),
        (("--set", "hardump=flows.har"), "hardump"),
        (("-r", "flows"), "rfile"),
        (("--set", "anonproxy_config=/nonexistent.toml"), "OptionsError"),  # it is given twice
    ],
)
def test_options_that_keep_traffic_are_refused(
    start: Start, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """mitmdump doesn't start with an option that would write traffic to disk, or without a configuration."""
    process, port = start(*arguments)
    assert process.wait(PATIENCE_S) != 0
    assert said in (tmp_path / "said").read_text()
    assert not can_connect(port)
