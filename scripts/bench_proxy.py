"""Measure the proxy beside its peers: the site alone, nginx, a stock mitmdump, and anonproxy with everything on.

All of them stand before the same nginx, and wrk asks one after the other, round by round, so that whatever else the
machine does meets all of them. wrk and the site run on the same processors: where a proxy can use two, it shares them
with its own load. Processor time a request says more than requests a second, and is what machines agree about.
"""

import argparse
import contextlib
import datetime
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

START_S: Final = 30.0
STOP_S: Final = 30.0
CONNECTIONS: Final = 16
WIDTH: Final = 116
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# What a browser sends that the anonymiser has to look at.
HEADERS: Final = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept-Language: en-US,en;q=0.8,es;q=0.5",
    "Referer: https://library.example.org/events",
    "Cookie: PHPSESSID=5f0c3d2b1a; theme=dark",
    "X-Forwarded-For: 203.0.113.7",
)
PAGES: Final = {"small.html": 200, "page.html": 9_000}


class Scenario(NamedTuple):
    """What is asked for, and how."""

    name: str
    scheme: str
    page: str


SCENARIOS: Final = (
    Scenario("small page (200 B), keep-alive", "http", "small.html"),
    Scenario("page of 9 KB, keep-alive", "http", "page.html"),
    Scenario("page of 9 KB, keep-alive, TLS, HTTP/1.1", "https", "page.html"),
)

NGINX: Final = """\
daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log crit; user root;
events {{ worker_connections 512; }}
http {{
  access_log off; default_type text/html; keepalive_requests 1000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream site {{ server 127.0.0.1:{site}; keepalive 32; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl;
    ssl_certificate {folder}/site.pem; ssl_certificate_key {folder}/site.pem;
    {location}
  }}
}}
"""
SITE: Final = "root {folder}/www;"
REVERSE: Final = 'location / { proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection ""; }'

CONFIG: Final = """\
[store]
path = "{folder}/{name}-store"
[proxy]
listen = "127.0.0.1:{http}"
tls_listen = "127.0.0.1:{https}"
admin_listen = "127.0.0.1:{admin}"
workers = {workers}
trusted_proxies = ["127.0.0.1"]
max_requests_per_s = 100000
max_requests_burst = 1000000
[[proxy.certificates]]
certificate = "{folder}/site.pem"
key = "{folder}/site.pem"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:{site}"
referrer_policy = "same-origin"
sitemap = ""
"""


class Subject(NamedTuple):
    """What is measured: its processes, and where it answers."""

    name: str
    leader: int  # process id; its children count as well
    ports: dict[str, int]  # by scheme


class Cost(NamedTuple):
    """Processor time and memory of a subject's processes; the writer's apart."""

    serving_s: float
    writing_s: float
    memory_bytes: int


class Measured(NamedTuple):
    """One round."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    serving_ms: float  # processor time a request
    writing_ms: float
    memory_mib: float

    @property
    def total_ms(self) -> float:
        """Return all processor time of a request."""
        return self.serving_ms + self.writing_ms


def main() -> None:
    """Measure everything, round by round, and print medians."""
    parser = argparse.ArgumentParser(prog="scripts/bench proxy", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds a measurement (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of two seconds")
    parser.add_argument("--profile", action="store_true", help="say where a worker's time goes; needs py-spy from PyPI")
    options = parser.parse_args()
    rounds, seconds = (1, 2) if options.quick else (options.rounds, options.seconds)
    missing = [name for name in ("wrk", "nginx") if not shutil.which(name, path=PATH)]
    if missing:
        raise SystemExit(f"this needs {' and '.join(missing)}: sudo apt-get install {' '.join(missing)}")
    if options.profile and not shutil.which("py-spy", path=PATH):
        raise SystemExit("--profile needs py-spy: pip install py-spy")
    with tempfile.TemporaryDirectory(prefix="anonproxy-bench-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        prepare(folder)
        subjects = list(start_all(folder, running))
        results = measure_all(subjects, rounds, seconds)
        profile = measure_shares(subjects[-2], folder, 4 * seconds) if options.profile else {}
    console = Console(highlight=False, width=WIDTH)
    console.print(f"{os.cpu_count()} processors, shared with wrk and the site. Medians of {rounds} × {seconds} s.")
    for scenario in SCENARIOS:
        console.print(draw(scenario, {subject.name: results[subject.name, scenario] for subject in subjects}))
    if profile:
        console.print(draw_shares(profile))


# --- what is measured ---------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Write the pages, and a certificate with its key."""
    (folder / "www").mkdir()
    for name, size in PAGES.items():
        (folder / "www" / name).write_bytes(b"0123456789abcde\n" * (size // 16))
    for path in (folder, folder / "www"):
        path.chmod(0o755)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "library.example.org")])
    begins = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("library.example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    (folder / "site.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )


def start_all(folder: Path, running: contextlib.ExitStack) -> Iterator[Subject]:
    """Start everything; it ends with the stack."""
    site = free_ports()
    yield start_nginx(folder, running, "site alone", site, SITE.format(folder=folder), site["http"])
    yield start_nginx(folder, running, "nginx", free_ports(), REVERSE, site["http"])
    yield start_mitmdump(folder, running, site["http"])
    for workers in (1, 2):
        yield start_anonproxy(folder, running, workers, site["http"])


def start_nginx(
    folder: Path, running: contextlib.ExitStack, name: str, ports: dict[str, int], location: str, site: int
) -> Subject:
    """Start an nginx with one worker, as the site or before it."""
    config = folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=folder, name=name.split()[0], location=location, site=site, **ports))
    return start(folder, running, name, ports, ["nginx", "-c", str(config), "-e", str(folder / "start.log")])


def start_mitmdump(folder: Path, running: contextlib.ExitStack, site: int) -> Subject:
    """Start a mitmdump as it comes, silent; it tells TLS from plain HTTP by itself."""
    port = free_ports()["http"]
    program = str(Path(sys.executable).with_name("mitmdump"))
    command = [program, "-q", "--mode", f"reverse:http://127.0.0.1:{site}", "--listen-host", "127.0.0.1"]
    command += ["-p", str(port), "--certs", f"*={folder}/site.pem", "--set", f"confdir={folder}/mitmproxy"]
    return start(folder, running, "mitmdump", {"http": port, "https": port}, command)


def start_anonproxy(folder: Path, running: contextlib.ExitStack, workers: int, site: int) -> Subject:
    """Start anonproxy with everything on."""
    ports, admin = free_ports(), free_ports()["http"]
    name = f"anonproxy-{workers}"
    config = folder / f"{name}.toml"
    config.write_text(CONFIG.format(folder=folder, name=name, workers=workers, site=site, admin=admin, **ports))
    command = [sys.executable, "-m", "anonproxy", "run", "--config", str(config)]
    subject = start(folder, running, f"anonproxy, {workers} worker{'s' * (workers > 1)}", ports, command)
    wait_for(admin, b"GET /readyz HTTP/1.1\r\n\r\n", b" 200 ")
    return subject


def start(folder: Path, running: contextlib.ExitStack, name: str, ports: dict[str, int], command: list[str]) -> Subject:
    """Start a program, and wait until it serves pages."""
    with (folder / "output.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder, env={**os.environ, "PATH": PATH})
    running.callback(end, process)
    wait_for(ports["http"], b"GET /small.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b" 200 ")
    return Subject(name, process.pid, ports)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a program, one way or the other."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def free_ports() -> dict[str, int]:
    """Return two ports of loopback that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return {"http": one.getsockname()[1], "https": other.getsockname()[1]}


def wait_for(port: int, question: bytes, answer: bytes) -> None:
    """Wait until a question gets its answer."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), START_S) as connection:
            connection.sendall(question)
            if answer in connection.recv(4096):
                return
        time.sleep(0.1)
    raise SystemExit("something did not start; all ports are of loopback, is one of them blocked?")


# --- measuring ----------------------------------------------------------------------------------------------------


def measure_all(subjects: list[Subject], rounds: int, seconds: int) -> dict[tuple[str, Scenario], Measured]:
    """Measure every subject in every scenario, again and again, and return the medians."""
    found: dict[tuple[str, Scenario], list[Measured]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        steps = progress.add_task("measuring", total=rounds * len(SCENARIOS) * len(subjects))
        for _ in range(rounds):
            for scenario in SCENARIOS:
                for subject in subjects:
                    progress.update(steps, description=f"{subject.name}: {scenario.name}")
                    found.setdefault((subject.name, scenario), []).append(measure(subject, scenario, seconds))
                    progress.advance(steps)
    return {key: Measured(*map(median, zip(*each, strict=True))) for key, each in found.items()}


def measure(subject: Subject, scenario: Scenario, seconds: int) -> Measured:
    """Let wrk ask for a while; the first second is for warming up."""
    run_wrk(subject, scenario, 1)
    before = read_cost(subject)
    requests, per_s, p50_ms, p99_ms = run_wrk(subject, scenario, seconds)
    after = read_cost(subject)
    return Measured(
        per_s,
        p50_ms,
        p99_ms,
        1000 * (after.serving_s - before.serving_s) / requests,
        1000 * (after.writing_s - before.writing_s) / requests,
        after.memory_bytes / 2**20,
    )


def run_wrk(subject: Subject, scenario: Scenario, seconds: int) -> tuple[int, float, float, float]:
    """Run wrk; return requests, requests a second, and the latencies of half and of 99 % of them in milliseconds."""
    url = f"{scenario.scheme}://127.0.0.1:{subject.ports[scenario.scheme]}/{scenario.page}"
    headers = [word for header in HEADERS for word in ("-H", header)]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "20s", "--latency", *headers, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": PATH}).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"{subject.name} failed requests:\n{said}")
    requests, per_s = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec:\s+([\d.]+)", said)
    p50, p99 = (re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", said) for share in (50, 99))
    if not (requests and per_s and p50 and p99):
        raise SystemExit(f"wrk says something that isn't understood:\n{said}")
    scale = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    p50_ms, p99_ms = (float(found[1]) * scale[found[2]] for found in (p50, p99))
    return int(requests[1]), float(per_s[1]), p50_ms, p99_ms


def read_cost(subject: Subject) -> Cost:
    """Read what the kernel has counted for a subject's processes."""
    serving = writing = memory = 0
    for pid in find_family(subject.leader):
        folder = Path(f"/proc/{pid}")
        ticks = sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
        if b"anonproxy.proxy.writer" in read_command(pid):
            writing += ticks
        else:
            serving += ticks
        memory += read_share(folder)
    return Cost(serving / TICKS_PER_S, writing / TICKS_PER_S, memory)


def read_share(folder: Path) -> int:
    """Return a process's memory; what several share is divided among them."""
    found = re.search(r"^Pss:\s+(\d+)", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def find_family(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in find_family(int(child)))]


# --- where the time goes ------------------------------------------------------------------------------------------

SAMPLES_PER_S: Final = 200
FRAME: Final = re.compile(r"\((.*?)(?::\d+)?\)$")
# Whose a moment is: the innermost of these that is at work, with what it calls of Python itself. The first that fits.
OWNERS: Final = (
    ("anonproxy: handing over", re.compile(r"anonproxy/proxy/(channel|counters|records|worker)\.py")),
    ("anonproxy: top and rate limit", re.compile(r"anonproxy/proxy/(talkers|limits)\.py")),
    ("anonproxy: addresses and headers", re.compile(r"anonproxy/(anonymize|proxy/(headers|sites))\b")),
    ("anonproxy: conduct as a server", re.compile(r"anonproxy/")),
    ("mitmproxy", re.compile(r"mitmproxy/")),
    ("asyncio and the network", re.compile(r"asyncio/")),
)


def measure_shares(subject: Subject, folder: Path, seconds: int) -> dict[str, float]:
    """Look at a worker again and again while it is asked for pages, and return whose its time is."""
    [worker] = [pid for pid in find_family(subject.leader) if b"anonproxy.proxy.worker" in read_command(pid)]
    raw = folder / "profile"
    command = ["py-spy", "record", "-p", str(worker), "-d", str(seconds), "-r", str(SAMPLES_PER_S), "-F"]
    environment = {**os.environ, "PATH": PATH}
    with subprocess.Popen([*command, "-f", "raw", "-o", str(raw)], env=environment, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as looking:  # fmt: skip
        run_wrk(subject, SCENARIOS[1], seconds + 1)
        looking.wait()
    shares = dict.fromkeys((name for name, _ in OWNERS), 0)
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        shares[find_owner(stack.split(";"))] += int(count)
    return {name: number / sum(shares.values()) for name, number in shares.items()}


def find_owner(frames: list[str]) -> str:
    """Name whose a moment is; what stands in none of these files is the event loop's."""
    paths = [found[1] for found in map(FRAME.search, reversed(frames)) if found]
    owners = (name for path in paths for name, pattern in OWNERS if pattern.search(path))
    return next(owners, OWNERS[-1][0])


def read_command(pid: int) -> bytes:
    """Return what a process was started with."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


# --- showing ------------------------------------------------------------------------------------------------------


def draw(scenario: Scenario, measured: dict[str, Measured]) -> Table:
    """Draw a table; ratios are to mitmdump."""
    table = Table(box=box.SIMPLE_HEAD, title=scenario.name, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("requests/s", "×", "p50 ms", "p99 ms", "CPU ms/request", "×", "writer's", "memory MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    stock = measured["mitmdump"]
    for name, each in measured.items():
        table.add_row(
            name,
            f"{each.requests_per_s:,.0f}",
            f"{each.requests_per_s / stock.requests_per_s:.2f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
            f"{each.total_ms:.3f}",
            f"{each.total_ms / stock.total_ms:.2f}",
            f"{each.writing_ms:.3f}" if each.writing_ms else "",
            f"{each.memory_mib:,.0f}",
        )
    return table


def draw_shares(shares: dict[str, float]) -> Table:
    """Draw whose a worker's time is."""
    title = f"Where a worker's time goes: {SCENARIOS[1].name}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("%", justify="right")
    for name, share in shares.items():
        table.add_row(name, f"{100 * share:.1f}")
    return table


if __name__ == "__main__":
    main()
