"""Start and stop the real things: nginx as a library's site, `anonproxy run` in front of it."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.support.ports import free_port

READY_WITHIN_S: Final = 30.0
STOPPED_WITHIN_S: Final = 30.0

NGINX_CONF: Final = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type text/html;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/pages;
        location = /login {{ return 302 /account?ticket=$arg_card; }}
        location = /session {{ add_header Set-Cookie "CGISESSID=$arg_session; HttpOnly"; return 200 "welcome"; }}
        location = /private {{ add_header Cache-Control private; return 200 "yours"; }}
        location / {{ try_files $uri $uri/index.html =404; error_page 405 =200 $uri; }}
    }}
}}
"""


def wait_until(is_true: Callable[[], bool], within_s: float, what: str) -> None:
    """Look again and again until something is true, and fail with its name when the time is over."""
    deadline = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < deadline, f"{what} did not happen within {within_s} s"
        time.sleep(0.05)


def is_listening(port: int) -> bool:
    """Tell whether someone accepts connections on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def run_nginx(folder: Path, pages: dict[str, bytes], port: int = 0) -> Iterator[int]:
    """Serve pages with a real nginx that logs nothing, and give its port."""
    port = port or free_port()
    for name, content in pages.items():
        path = folder / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in (folder, *folder.parents):  # nginx serves as nobody; pytest's folders are the owner's alone
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_CONF.format(folder=folder, port=port))
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    process = subprocess.Popen(["nginx", "-c", str(conf), "-e", str(folder / "start.log")], env=environment)
    try:
        wait_until(lambda: is_listening(port), READY_WITHIN_S, "nginx listening")
        yield port
    finally:
        process.terminate()
        process.wait(STOPPED_WITHIN_S)


class ProxyProcess:
    """`anonproxy run` as an operator starts it, with what it prints and where it may write under our eyes."""

    verb = "run"

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.temporary = folder / "tmp"
        self.output = folder / "output.log"
        self.port = free_port()
        self.admin_port = free_port()
        self._config = folder / "anonproxy.toml"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self._config.write_text(
            config.format(store=self.store, port=self.port, admin_port=self.admin_port), encoding="utf-8"
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        """Return the configuration file."""
        return self._config

    @property
    def written_places(self) -> list[Path]:
        """Return every place that the proxy may have written to."""
        return [self.store, self.temporary, self.output]

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        self.launch()
        wait_until(self.is_ready, READY_WITHIN_S, f"anonproxy ready ({self.output})")

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it in a session of its own."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "anonproxy", self.verb, "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.temporary,
                env={**os.environ, "TMPDIR": str(self.temporary), "HOME": str(self.temporary)},
                start_new_session=True,
            )
        return self.process

    def is_ready(self) -> bool:
        """Tell whether /readyz says so; fail at once when the process has ended."""
        assert self.process is not None
        assert self.process.poll() is None, f"anonproxy ended: {self.output.read_text(errors='replace')}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.admin("/readyz")[0] == 200
        return False

    def admin(self, path: str) -> tuple[int, str]:
        """Ask the admin listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Return the metrics by name and labels, as they are printed."""
        lines = self.admin("/metrics")[1].splitlines()
        found = (re.fullmatch(r"(\S+) ([0-9.e+-]+)", line) for line in lines if not line.startswith("#"))
        return {match[1]: float(match[2]) for match in found if match}

    def pids(self) -> list[int]:
        """Return the process ids of the supervisor and of everything it started."""
        assert self.process is not None
        session = os.getsid(self.process.pid)
        return [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdecimal() and _session_of(int(path.name)) == session
        ]

    def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: bytes | None = None
    ) -> int:
        """Send a request through the proxy and return the status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def stop(self) -> int:
        """Ask it to stop as systemd would, and return its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOPPED_WITHIN_S)

    def kill(self) -> None:
        """Kill everything at once, as a power cut would."""
        assert self.process is not None
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(STOPPED_WITHIN_S)


class CollectProcess(ProxyProcess):
    """`anonproxy collect`, likewise; a `{port}` in its configuration is one where it may take lines."""

    verb = "collect"

    @property
    def socket(self) -> Path:
        """Return the place of its AF_UNIX socket, if the configuration names `{store}.sock`."""
        return self.store.with_suffix(".sock")


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


@contextlib.contextmanager
def run_proxy(folder: Path, config: str) -> Iterator[ProxyProcess]:
    """Run a proxy for the length of a test; whatever happens, nothing of it is left running."""
    folder.mkdir(parents=True, exist_ok=True)
    proxy = ProxyProcess(folder, config)
    try:
        proxy.start()
        yield proxy
    finally:
        if proxy.process and proxy.process.poll() is None:
            proxy.kill()


# How many datagrams may wait at an AF_UNIX socket that is made now: ten by the kernel, 512 by Debian's systemd.
DATAGRAMS: Final = Path("/proc/sys/net/unix/max_dgram_qlen")
DATAGRAMS_OF_DEBIAN: Final = 512


@contextlib.contextmanager
def run_collect(folder: Path, config: str) -> Iterator[CollectProcess]:
    """Run a collector for the length of a test; whatever happens, nothing of it is left running.

    With ten places a busy machine loses lines, as it may; so it gets those that it has on Debian, if we may set them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if int(DATAGRAMS.read_text()) < DATAGRAMS_OF_DEBIAN:
            DATAGRAMS.write_text(str(DATAGRAMS_OF_DEBIAN))
    collector = CollectProcess(folder, config)
    try:
        collector.start()
        yield collector
    finally:
        if collector.process and collector.process.poll() is None:
            collector.kill()
