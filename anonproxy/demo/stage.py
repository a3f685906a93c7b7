"""The stage of the demonstration: a folder, the site, and anonproxy in front of it, each in a process of its own."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

from anonproxy.demo.library import CONTENT
from anonproxy.demo.plan import HOST
from anonproxy.model.errors import OperatorError

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 25.0
POLL_S = 0.1
LIKED_PORT = 8080
LOCAL_HOSTS = ("127.0.0.1", "localhost")
LAST_WORDS = 6


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything is while the demonstration runs."""

    folder: Path
    site_url: str
    proxy_port: int
    admin_port: int

    @property
    def config(self) -> Path:
        return self.folder / "anonproxy.toml"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def proxy_url(self) -> str:
        return f"http://127.0.0.1:{self.proxy_port}"

    def read_counts(self) -> "Counts":
        """Ask the running proxy how many requests it has seen, written, dropped and holds in memory."""
        text = fetch(self.admin_port, "/metrics")
        return Counts(
            requests=read_metric(text, "anonproxy_requests_total"),
            written=read_metric(text, "anonproxy_hits_written_total"),
            dropped=read_metric(text, "anonproxy_dropped_total"),
        )


@dataclass(frozen=True, slots=True)
class Counts:
    requests: int
    written: int
    dropped: int


def read_metric(text: str, name: str) -> int:
    """Read a number from Prometheus' text format; with labels it is the sum over them."""
    return sum(int(float(value)) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE))


@contextlib.contextmanager
def set_stage(folder: Path, port: int | None, site_url: str | None) -> Iterator[Stage]:
    """Start the site, unless there is one already, and anonproxy in front of it; stop both at the end.

    Raises: OperatorError when something doesn't start
    """
    hosts: tuple[str, ...] = ()
    extra = ""
    with contextlib.ExitStack() as children:
        if site_url is None:
            log = folder / "site.log"
            site = children.enter_context(run_child("the site", ["anonproxy.demo.site"], log))
            site_url = wait_for("the site", site, log, lambda: find_address(log))
            hosts, extra = (HOST, *LOCAL_HOSTS), (CONTENT / "millbrook.toml").read_text(encoding="utf-8")
        stage = Stage(folder, site_url, choose_port(port), find_free_port())
        stage.config.write_text(render_config(stage, hosts) + extra, encoding="utf-8")
        log = folder / "proxy.log"
        proxy = children.enter_context(run_child("anonproxy", ["anonproxy", "run", "--config", str(stage.config)], log))
        wait_for("anonproxy", proxy, log, lambda: is_ready(stage.admin_port))
        yield stage


def render_config(stage: Stage, hosts: tuple[str, ...]) -> str:
    """Fill in the configuration. A JSON string or list of strings is a TOML one, too."""
    values = {
        "store": str(stage.store),
        "listen": f"127.0.0.1:{stage.proxy_port}",
        "admin_listen": f"127.0.0.1:{stage.admin_port}",
        "name": "millbrook" if hosts else "site",
        "hosts": list(hosts),
        "upstream": stage.site_url,
    }
    template = Template((CONTENT / "anonproxy.toml").read_text(encoding="utf-8"))
    return template.substitute({name: json.dumps(value) for name, value in values.items()})


@contextlib.contextmanager
def run_child(name: str, module: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module, and end it with the block. Ctrl-C reaches us alone, so that the order of ending is ours."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", *module], stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise OperatorError(f"{name} did not stop within {STOPPED_WITHIN_S:.0f} s and was ended by force") from None
        finally:  # a second Ctrl-C comes here, too
            if child.poll() is None:
                child.kill()
                child.wait()


def wait_for[T](name: str, child: subprocess.Popen[bytes], log: Path, look: Callable[[], T]) -> T:
    """Wait until there is an answer.

    Raises: OperatorError with the last lines of the log, when the child ends or takes too long
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and child.poll() is None:
        if found := look():
            return found
        time.sleep(POLL_S)
    said = "".join(f"\n  {line}" for line in log.read_text().splitlines()[-LAST_WORDS:])
    how = f"ended with status {child.returncode}" if child.returncode is not None else "does not answer"
    raise OperatorError(f"{name} {how}. Its last words:{said or ' none'}")


def find_address(log: Path) -> str:
    """Find the address that the site printed, once it has."""
    line, ended, _ = log.read_text().partition("\n")
    return line.split()[-1] if ended else ""


def is_ready(admin_port: int) -> bool:
    """Tell whether the proxy serves and writes."""
    try:
        return fetch(admin_port, "/readyz") == "ready\n"
    except OSError:
        return False


def fetch(port: int, path: str, host: str = "127.0.0.1") -> str:
    """Fetch something small from this machine."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(line):
        line.request("GET", path, headers={"Host": host})
        return line.getresponse().read().decode(errors="replace")


def choose_port(port: int | None) -> int:
    """Return the port that was asked for, else the one that people expect, else a free one."""
    if port is not None:
        return port
    try:
        with socket.create_server(("127.0.0.1", LIKED_PORT)):
            return LIKED_PORT
    except OSError:
        return find_free_port()


def find_free_port() -> int:
    """Find a port on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def host_of(url: str) -> str:
    """Return the host, and the port where it isn't the usual one, as a Host header names it."""
    return urlsplit(url).netloc.rpartition("@")[2]
