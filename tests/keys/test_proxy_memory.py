"""What is left of a key in the memory of a running proxy: nothing, in the writer, the workers or the supervisor.

The proxy runs as it is. Its random source is a file here: in a mount namespace of its own, whose /dev/urandom the test
has written. So the test knows the keys, and no process of the proxy ever tells them.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonproxy.ingest.control import ask
from tests.keys.test_memory import derive, find_in_memory
from tests.support.servers import ProxyProcess, run_nginx, run_proxy, wait_until

pytestmark = pytest.mark.slow

CONFIG = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
listen = "127.0.0.1:{{port}}"
admin_listen = "127.0.0.1:{{admin_port}}"
trusted_proxies = ["127.0.0.1"]
workers = 2
[[sites]]
name = "www"
upstream = "http://127.0.0.1:{origin}"
sitemap = ""
"""
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


# Starts Python where /dev/urandom is another file, for itself and its children only.
WRAPPER = """\
#!/bin/sh
exec unshare --mount --propagation private sh -c 'mount --bind {source} /dev/urandom && exec {python} "$@"' sh "$@"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give the file that the proxy's keys come from."""
    path = tmp_path / "random"
    path.write_bytes(os.urandom(32))
    return path


@pytest.fixture
def proxy(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyProcess]:
    """Run a proxy that takes its keys from the file."""
    wrapper = tmp_path / "python"
    wrapper.write_text(WRAPPER.format(source=source, python=sys.executable))
    wrapper.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(wrapper))
    with (
        run_nginx(tmp_path / "nginx", {"index.html": b"<h1>Library</h1>"}) as origin,
        run_proxy(tmp_path / "proxy", CONFIG.format(origin=origin)) as process,
    ):
        yield process


def processes(proxy: ProxyProcess) -> dict[str, list[int]]:
    """Return the process ids by what they are."""
    found: dict[str, list[int]] = {"writer": [], "worker": [], "supervisor": []}
    for pid in proxy.pids():
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        role = next((role for role in found if f"anonproxy.proxy.{role}".encode() in arguments), "supervisor")
        found[role].append(pid)
    return found


def test_no_process_of_the_proxy_keeps_a_key(proxy: ProxyProcess, source: Path) -> None:
    """Before, only the writer has the two subkeys; after `anonproxy keys rotate` nobody has anything of them."""
    old = derive(source.read_bytes())
    for number in range(100):
        proxy.get("/", {"User-Agent": FIREFOX, "X-Forwarded-For": f"198.51.100.{number + 1}"})
    wait_until(lambda: ask(proxy.store, "status")["live_visits"] == 100, 20, "100 visits")
    roles = processes(proxy)
    assert {role: len(pids) for role, pids in roles.items()} == {"writer": 1, "worker": 2, "supervisor": 1}
    everybody = [pid for pids in roles.values() for pid in pids]
    control = {"control": b"anonproxy.proxy"}  # in everybody's memory, so that a blind search is noticed
    assert {pid: find_in_memory(pid, old | control) for pid in everybody} == {
        pid: {"tag", "visit", "control"} if pid in roles["writer"] else {"control"} for pid in everybody
    }
    source.write_bytes(os.urandom(32))
    ask(proxy.store, "rotate")
    assert {pid: find_in_memory(pid, old) for pid in everybody} == {pid: set() for pid in everybody}
    assert find_in_memory(roles["writer"][0], derive(source.read_bytes())) == {"tag", "visit"}
