"""Measure nginx with its log sent to `anonproxy collect`, beside one that writes a file, and one without a log.

Rounds alternate, so that whatever else the machine does meets all alike. What counts is the ratio: machines differ.
"""

import argparse
import contextlib
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the tests' helpers, which start the real things

from anonproxy.cli.front_collect import LINES
from anonproxy.proxy.collect.status_page import Status, ask_status
from tests.support.servers import CollectProcess, free_port, is_listening, run_collect, wait_until

CONFIG: Final = """\
[store]
path = "{store}"
[proxy]
admin_listen = "127.0.0.1:{admin_port}"
[collect]
listen = ["udp:127.0.0.1:{port}", "unix:{store}.sock"]
[[sites]]
name = "www"
upstream = "http://127.0.0.1:1"
sitemap = ""
routes = [{{ path = "/events/{{event}}" }}]
"""
NGINX: Final = """\
daemon off; worker_processes {workers}; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    map $http_cookie $anonproxy_cookie {{
        default '';
        "~(?:^|; *)(?<found>PHPSESSID=[^;]+)" $found;
    }}
    map $sent_http_set_cookie $anonproxy_set_cookie {{ default ''; }}
    map $http_sec_gpc$http_dnt $anonproxy_opted_out {{ default 0; ~1 1; }}
    log_format anonproxy "{line}";
    server {{
        listen 127.0.0.1:{port};
        access_log {log};
        location / {{ return 200 "{page}"; }}
        location = /status {{ access_log off; stub_status; }}
    }}
}}
"""
# Some visitors with their browsers, cookies and habits; each thread of wrk goes round.
WRK: Final = """\
local requests, turn = {}, 0
function init()
  for n = 1, 2000 do
    requests[n] = wrk.format("GET", "/events/" .. (n * 7919 % 300) .. "?page=" .. n, {
      ["Host"] = "library.example.org",
      ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:" .. (100 + n % 40) .. ".0) Gecko/20100101 Firefox/140.0",
      ["Cookie"] = "theme=dark; PHPSESSID=" .. string.format("%032x", n % 500),
      ["Referer"] = "https://www.google.com/",
      ["Accept-Language"] = "en-US,en;q=0.5",
    })
  end
end
function request()
  turn = turn % 2000 + 1
  return requests[turn]
end
"""
PAGE_BYTES: Final = 3000  # as much as fits into one line of its configuration
SETTLED_WITHIN_S: Final = 120.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


class Way(NamedTuple):
    """One thing that nginx may do with its log, and whether the collector gets it."""

    name: str
    log: str
    collects: bool = False


class Round(NamedTuple):
    """What happened in one round: requests that nginx finished, and what became of their lines."""

    requests_per_s: float
    served: int
    lines: int
    receiver_s: float
    writer_s: float


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench collect", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a round (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="open connections (default: %(default)s)")
    parser.add_argument("--nginx-workers", type=int, default=1, help="nginx's processes (default: %(default)s)")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="anonproxy-bench-") as name,
        run_collect(Path(name, "c"), CONFIG) as collector,
    ):
        folder = Path(name)
        for path in (folder, collector.folder):
            path.chmod(0o755)  # nginx sends as another user
        ways = (
            Way("no log", "off"),
            Way("log file", f"{folder}/access.log anonproxy"),
            Way("collect, udp", f"syslog:server=127.0.0.1:{collector.port},nohostname anonproxy", collects=True),
            Way("collect, unix", f"syslog:server=unix:{collector.socket},nohostname anonproxy", collects=True),
        )
        rounds: dict[Way, list[Round]] = {way: [] for way in ways}
        with contextlib.ExitStack() as servers:
            ports = {way: servers.enter_context(run_nginx(folder, way, options.nginx_workers)) for way in ways}
            for number in range(options.rounds):
                for way in ways:
                    print(
                        f"\rround {number + 1} of {options.rounds}: {way.name}  ", end="", file=sys.stderr, flush=True
                    )
                    rounds[way].append(run_round(way, ports[way], collector, folder, options))
        print(file=sys.stderr)
        show(rounds)


@contextlib.contextmanager
def run_nginx(folder: Path, way: Way, workers: int) -> Iterator[int]:
    """Run nginx with its log going one way; give its port."""
    port = free_port()
    home = folder / re.sub(r"\W+", "-", way.name)
    home.mkdir()
    home.chmod(0o777)
    conf = home / "nginx.conf"
    line = "\\t".join(LINES["nginx"])
    conf.write_text(
        NGINX.format(folder=home, port=port, log=way.log, line=line, page="x" * PAGE_BYTES, workers=workers)
    )
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    process = subprocess.Popen(["nginx", "-c", str(conf), "-e", str(home / "start.log")], env=environment)
    try:
        wait_until(lambda: is_listening(port), 10, "nginx listening")
        yield port
    finally:
        process.terminate()
        process.wait()


def run_round(way: Way, port: int, collector: CollectProcess, folder: Path, options: argparse.Namespace) -> Round:
    """Let wrk ask for some seconds, and wait until every line that has come is on disk."""
    script = folder / "requests.lua"
    script.write_text(WRK)
    served, lines, cpu_s = finished(port), count_lines(collector), processor_s(collector)
    asked = subprocess.run(
        ["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}", "-s", str(script), f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Requests/sec:\s+([\d.]+)", asked.stdout)
    if not found:
        raise SystemExit(f"wrk says something else than expected:\n{asked.stdout}")
    time.sleep(0.5)  # until connections that wrk left are closed
    if way.collects:
        wait_until(lambda: is_settled(collector), SETTLED_WITHIN_S, "everything written")
    (Path(folder) / "access.log").unlink(missing_ok=True)
    return Round(
        float(found[1]),
        finished(port) - served - 1,  # the question itself
        count_lines(collector) - lines,
        *(after - before for before, after in zip(cpu_s, processor_s(collector), strict=True)),
    )


def finished(port: int) -> int:
    """Return how many requests nginx has finished."""
    status = ask_status(f"http://127.0.0.1:{port}/status")
    if not isinstance(status, Status):
        raise SystemExit("nginx doesn't tell its status")
    return status.requests - status.running


def count_lines(collector: CollectProcess) -> int:
    """Return how many lines have come."""
    return int(collector.metrics()["anonproxy_requests_total"])


def is_settled(collector: CollectProcess) -> bool:
    """Tell whether every line that has come has become a row, or been dropped."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        metrics = collector.metrics()
        return not metrics["anonproxy_queued_requests"] and not metrics["anonproxy_pending_rows"]
    return False


def processor_s(collector: CollectProcess) -> tuple[float, float]:
    """Return the processor time of the receiver and of the writer."""
    times = {"receiver": 0.0, "writer": 0.0}
    for pid in collector.pids():
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/cmdline").read_text().strip("\0").rpartition(".")[2]
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if name in times:
                times[name] = (int(fields[11]) + int(fields[12])) / TICKS
    return times["receiver"], times["writer"]


def show(rounds: dict[Way, list[Round]]) -> None:
    """Print what was measured, beside nginx without a log."""
    base = [one.requests_per_s for one in next(iter(rounds.values()))]
    print(f"{'nginx with':16}{'requests/s':>12}{'ratio':>8}{'requests':>12}{'lost':>8}{'receiver':>10}{'writer':>10}")
    for way, each in rounds.items():
        ratio = statistics.median(one.requests_per_s / before for one, before in zip(each, base, strict=True))
        row = f"{way.name:16}{statistics.median(one.requests_per_s for one in each):12,.0f}{ratio:8.2f}"
        served = sum(one.served for one in each)
        row += f"{served:12,}"
        if way.collects:
            row += f"{served - sum(one.lines for one in each):8,}"
            row += f"{1e6 * sum(one.receiver_s for one in each) / served:7.1f} µs"
            row += f"{1e6 * sum(one.writer_s for one in each) / served:7.1f} µs"
        print(row)
    print("lost: requests of nginx's stub_status without a line. Processor time is that of one request.")


if __name__ == "__main__":
    main()
