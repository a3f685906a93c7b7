"""`anonproxy top`: addresses on a terminal, and nowhere else."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from anonproxy.anonymize.agent import name_agent
from anonproxy.audit.search import search
from anonproxy.proxy.control import control_name
from tests.support.marked_requests import HOST, Marks, head, talk
from tests.support.servers import ProxyProcess, run_nginx, run_proxy, wait_until

pytestmark = pytest.mark.slow

CONFIG: Final = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
workers = 2
trusted_proxies = ["127.0.0.1"]
max_requests_per_s = 1
max_requests_burst = 5
[[sites]]
name = "www"
upstream = "http://127.0.0.1:{origin}"
sitemap = ""
"""
NOBODY: Final = 65534
# What a stranger could send by hand.
ASK: Final = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1].replace("@", "\\0", 1))
    try:
        connection.sendall(b"top\\n")
        sys.stdout.buffer.write(connection.recv(65536))
    except ConnectionError:
        pass
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Serve a page with a real nginx."""
    with run_nginx(tmp_path_factory.mktemp("nginx"), {"index.html": b"<h1>Library</h1>"}) as port:
        yield port


@pytest.fixture
def proxy(tmp_path: Path, origin: int) -> Iterator[ProxyProcess]:
    """Run the real proxy."""
    with run_proxy(tmp_path / "proxy", CONFIG.format(origin=origin)) as process:
        yield process


def top(proxy: ProxyProcess, *options: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "anonproxy", "top", "--config", str(proxy.config), *options],
        stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip


def on_terminal(proxy: ProxyProcess, *options: str) -> str:
    """Run the command on a terminal; return what it showed."""
    controller, terminal = pty.openpty()
    try:
        done = top(proxy, *options, stdout=terminal)
        assert done.returncode == 0, done.stderr
        return os.read(controller, 1 << 16).decode()
    finally:
        os.close(controller)
        os.close(terminal)


def test_addresses_are_shown_and_never_written(proxy: ProxyProcess, tmp_path: Path) -> None:
    """Who asks most is seen with rate, errors and class; no byte of it is on disk, in the log or in the metrics."""
    marks = Marks()
    swarm, other = marks.address("address that asks most"), marks.address("address that asks once")
    word = marks.word("User-Agent")
    agent = f"{word} bot/1.0 (+http://{word}.example)"
    name = name_agent(agent)  # by chance, a word may have the name of a known bot in it
    for number in range(30):
        sent = head("GET", "/", f"X-Forwarded-For: {swarm}", f"User-Agent: {agent}")
        assert talk(proxy.port, sent).split()[1] in ({b"200"} if number < 5 else {b"200", b"429"})
    assert b" 404 " in talk(proxy.port, head("GET", "/nothing", f"X-Forwarded-For: {other}", "User-Agent: Lynx/2.9"))

    piped = top(proxy, "--json")
    assert "don't keep them" in piped.stderr
    told = json.loads(piped.stdout)
    assert [row["address"] for row in told["addresses"]] == [swarm, other]
    assert [row["requests"] for row in told["addresses"]] == [30, 1]
    assert [row["agent"] for row in told["addresses"]] == [name, "Text browser"]
    assert told["addresses"][1]["errors"] == 1
    assert told["total"]["requests"] == 31
    shown = on_terminal(proxy, "--once")
    assert swarm in shown
    assert name.startswith("bot: ")
    assert name in shown
    assert "never written" in shown
    assert word not in piped.stdout + shown

    kept = tmp_path / "kept"
    with kept.open("wb") as file:
        refused = top(proxy, "--json", stdout=file.fileno())
    assert (refused.returncode, kept.read_bytes()) == (2, b"")
    assert "not written to files" in refused.stderr
    assert "this is for a terminal" in top(proxy).stderr

    for pid in proxy.pids():
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), "no core dump of addresses"
    metrics = proxy.admin("/metrics")[1]
    assert not any(secret in metrics for secret in (swarm, other, word))
    wait_until(lambda: proxy.metrics()["anonproxy_hits_written_total"] == 31, 20, "31 rows")
    assert proxy.metrics()["anonproxy_limited_requests_total"] > 0
    assert proxy.stop() == 0
    found = search([*proxy.written_places, kept], marks.made)
    assert not found.hits
    assert found.pages > 0
    gone = top(proxy, "--json")
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "nothing runs with this configuration" in gone.stderr


def test_only_root_and_the_service_may_look(proxy: ProxyProcess) -> None:
    """Another user of the machine is told nothing, whatever program asks."""
    assert b" 200 " in talk(proxy.port, head("GET", "/", "X-Forwarded-For: 203.0.113.7"))
    name = control_name(proxy.config).replace("\0", "@", 1)
    for user, is_told in ((os.geteuid(), True), (NOBODY, False)):
        done = subprocess.run(
            ["/usr/bin/python3", "-c", ASK, name], capture_output=True, timeout=30, check=True, user=user, cwd="/"
        )
        assert (b"203.0.113.7" in done.stdout, bool(done.stdout)) == (is_told, is_told)


@pytest.mark.parametrize("setting", ['profile = "strict"', "[proxy]\ntop = false"], ids=["profile", "setting"])
def test_switched_off_nothing_is_remembered(tmp_path: Path, origin: int, setting: str) -> None:
    """With top = false, or the strict profile, there is nothing to show, and the answer says why."""
    config = CONFIG.format(origin=origin)
    config = config.replace("[proxy]", setting) if "[proxy]" in setting else f"{setting}\n{config}"
    with run_proxy(tmp_path / "proxy", config) as proxy:
        assert b" 200 " in talk(proxy.port, head("GET", "/", "X-Forwarded-For: 203.0.113.7"))
        refused = top(proxy, "--json")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "proxy.top is false" in refused.stderr
        assert HOST not in refused.stderr


def test_process_that_shows_addresses_cannot_be_looked_into() -> None:
    """From its first moment on it dumps no core, and nobody else of its user can read its memory."""
    code = (
        "import ctypes, resource\nfrom click.testing import CliRunner\nfrom anonproxy.cli import group\n"
        "CliRunner().invoke(group, ['top', '--config', 'nowhere.toml'])\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"  # PR_GET_DUMPABLE
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"(0, 0) 0\n"
