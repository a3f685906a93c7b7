"""The Debian package, installed on a fresh Debian 13 with a live systemd: units, sandbox and program as they ship."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search, search_bytes
from tests.ingest.recorders import count_events, values
from tests.packaging.machine import PATIENCE_S, Machine, booted, bootstrap, build_package
from tests.proxy.conftest import write_certificate
from tests.support.invented_logs import invent, write_log
from tests.support.servers import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can boot a machine"),
]

HOST = "library.example.org"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"
TERM = "jane-doe"
MARKS = (Mark("search term", TERM), *(Mark("address", f"198.51.100.{number}") for number in range(1, 101)))
# Where services and systemd may write; what they write to memory, the journal among it, is packed first.
PACKED = "srv/run.tar"
WRITTEN = (PACKED, "var/lib/anonproxy", "var/lib/nginx", "var/log", "var/tmp", "tmp", "etc/anonproxy", "root")
UNITS = (
    "anonproxy.socket",
    "anonproxy-collect.socket",
    "anonproxy.service",
    "anonproxy-collect.service",
    "anonproxy-web.service",
)
STORE = "/var/lib/anonproxy"
SITE = """
server {
    listen 127.0.0.1:8081;
    access_log off;
    location / { return 200 "a page\\n"; }
}
"""
CONFIG = f"""
[store]
path = "{STORE}"
flush_s = 0.5
[proxy]
trusted_proxies = ["127.0.0.1"]
{{proxy}}
[collect]
status_page = "http://127.0.0.1:9903/"
[privacy]
k = 5
[[sites]]
name = "www"
hosts = ["{HOST}"]
upstream = "http://127.0.0.1:8081"
sitemap = ""
routes = [{{{{path = "/events"}}}}]
"""


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Boot a fresh Debian, install the package as an operator does, and take it away in the end: nothing of ours runs
    then, and the library's figures stay.
    """
    folder = tmp_path_factory.mktemp("debian")
    root = folder / "root"
    with ThreadPoolExecutor() as pool:
        making = pool.submit(bootstrap, root)
        package = build_package(folder)
        making.result()
    package.rename(root / "srv" / "anonproxy.deb")
    (root / "etc/nginx/sites-enabled/default").unlink()
    (root / "etc/nginx/conf.d/site.conf").write_text(SITE)
    with booted(root) as machine:
        assert "anonproxy: edit /etc/anonproxy/anonproxy.toml" in machine.run(
            "dpkg -i --force-unsafe-io /srv/anonproxy.deb"
        )
        yield machine
        configure(machine)
        machine.run("systemctl enable --now anonproxy anonproxy-web; systemctl enable anonproxy-collect.socket")
        assert visit(machine, 6) == ["200"] * 6
        machine.run("dpkg --remove anonproxy")
        assert machine.run("pgrep -f ^/opt/anonproxy || true") == ""
        assert stored(machine) == [("/events", 200)] * 6
    shutil.rmtree(root)  # a gigabyte


@pytest.fixture
def machine(debian: Machine) -> Iterator[Machine]:
    """Give the machine with a configuration and nothing of ours started, and see that nothing is left of anyone."""
    configure(debian)
    try:
        yield debian
    finally:
        journal = debian.run("journalctl --sync; journalctl --no-pager --output=export --all")
        debian.run(f"tar --create --file /{PACKED} /run || true")  # what changes meanwhile is packed as it is then
        written = search([debian.root / place for place in WRITTEN], MARKS)
        debian.run(
            f"systemctl disable --now {' '.join(UNITS)}; systemctl reset-failed; rm -rf /etc/systemd/system/anon*"
        )
        debian.run(
            f"rm -rf {STORE}/* /etc/nginx/conf.d/anonproxy.conf; systemctl daemon-reload; systemctl reload nginx"
        )
    assert not search_bytes(journal.encode(), MARKS).hits
    assert not written.hits
    assert {each.place for each in written.unopened} == {"systemd journal"}  # which journalctl has read
    assert "suppressed" not in journal, journal


def configure(machine: Machine, proxy: str = "") -> None:
    """Write the configuration."""
    machine.write("/etc/anonproxy/anonproxy.toml", CONFIG.format(proxy=proxy))


def visit(machine: Machine, number: int, url: str = "http://127.0.0.1:8080", options: str = "") -> list[str]:
    """Open a page as visitors with an address each, and return the status of each answer."""
    return machine.run(
        f"for number in $(seq {number}); do curl {options} --silent --output /dev/null --max-time 10 --insecure "
        f"--write-out '%{{http_code}}\\n' --header 'Host: {HOST}' --user-agent '{FIREFOX}' "
        f'--header "X-Forwarded-For: 198.51.100.$number" "{url}/events?q={TERM}" || true; done'
    ).split()


def stored(machine: Machine, columns: str = "route, status") -> list[tuple[Any, ...]]:
    """Return the rows that are on its disk."""
    return values(machine.root / STORE.lstrip("/"), columns)


def main_pid(machine: Machine, unit: str = "anonproxy") -> int:
    """Return the process that systemd started."""
    return int(machine.run(f"systemctl show --value --property MainPID {unit}"))


def main_state(machine: Machine, unit: str = "anonproxy") -> str:
    """Return what systemd thinks of a service."""
    return machine.run(f"systemctl show --value --property ActiveState {unit}").strip()


def test_the_service_serves_and_records(machine: Machine) -> None:
    """Started it is ready, stopped everything is written, and an audit by root finds nothing of anyone."""
    machine.run("anonproxy check")
    machine.run("systemctl start anonproxy")
    assert visit(machine, 7) == ["200"] * 7
    wait_until(lambda: "live visits   7" in machine.run("anonproxy keys status"), PATIENCE_S, "the visits")
    audit = machine.run("anonproxy audit --look-in /var/log/nginx")
    assert "21 pass" in audit, audit
    machine.run("systemctl stop anonproxy")
    assert stored(machine) == [("/events", 200)] * 7
    assert machine.run("systemctl show --value --property Result,NRestarts anonproxy").split() == ["success", "0"]


def test_a_reload_says_what_became_of_it(machine: Machine) -> None:
    """systemctl waits until the new configuration is in force; one that is wrong fails the reload, not the service."""
    machine.run("systemctl start anonproxy")
    configure(machine, 'listen = "127.0.0.1:8082"')
    machine.run("systemctl reload anonproxy")
    assert visit(machine, 1, "http://127.0.0.1:8082") == ["200"]
    configure(machine, 'listen = "127.0.0.1:8081"')
    machine.run("systemctl reload anonproxy", is_fine=False)
    assert "something else listens there" in machine.run("journalctl --sync; journalctl --output=cat --unit=anonproxy")
    assert visit(machine, 1, "http://127.0.0.1:8082") == ["200"]


def test_what_ends_is_started_again(machine: Machine) -> None:
    """Whichever process is killed, and if the first stops answering systemd, pages come back by themselves."""
    machine.write("/etc/systemd/system/anonproxy.service.d/watchdog.conf", "[Service]\nWatchdogSec=3\n")
    machine.run("systemctl daemon-reload; systemctl start anonproxy")
    for process in ("proxy.writer", "proxy.worker"):
        machine.run(f"pkill -KILL -f {process}")
        wait_until(lambda: visit(machine, 1) == ["200"], PATIENCE_S, f"a new {process}")
    for signal in ("KILL", "STOP"):
        first = main_pid(machine)
        machine.run(f"kill -{signal} {first}")
        wait_until(lambda before=first: main_pid(machine) not in {0, before}, PATIENCE_S, f"an end by {signal}")  # type: ignore[misc]  # mypy doesn't know a lambda's default
        wait_until(lambda: visit(machine, 1) == ["200"], PATIENCE_S, f"pages after {signal}")
    wait_until(lambda: main_state(machine) == "active", PATIENCE_S, "a service that is ready")


def test_systemd_opens_the_ports(machine: Machine) -> None:
    """The service needs no privilege for :80 and :443, and nobody is refused while it is started anew."""
    chain, key = map(Path, write_certificate(machine.root / "srv", HOST).values())
    certificate = '[[proxy.certificates]]\ncertificate = "/etc/anonproxy/chain.pem"\nkey = "/etc/anonproxy/key.pem"\n'
    configure(machine, f'listen = "[::]:80"\ntls_listen = "[::]:443"\nredirect_to_https = true\n{certificate}')
    machine.run(f"install -m 600 /srv/{chain.name} /etc/anonproxy/chain.pem")
    machine.run(f"install -m 600 /srv/{key.name} /etc/anonproxy/key.pem")
    assert "can't be read by the user that anonproxy runs as" in machine.run("anonproxy check", is_fine=False)
    machine.run("cd /etc/anonproxy; chgrp anonproxy *.pem; chmod 640 *.pem; anonproxy check")
    machine.run("systemctl start anonproxy.socket")
    assert visit(machine, 1, "http://127.0.0.1") == ["301"]
    with ThreadPoolExecutor() as pool:
        visiting = pool.submit(visit, machine, 100, f"https://{HOST}", f"--resolve {HOST}:443:127.0.0.1")
        machine.run("systemctl restart anonproxy")
        assert visiting.result() == ["200"] * 100


def test_collect_records_what_nginx_serves(machine: Machine) -> None:
    """By what `front nginx --collect` prints, each request of nginx is a row; none is lost while the service is started
    anew, if systemd holds its socket.
    """
    write_certificate(machine.root / "etc/nginx", HOST)
    machine.run("systemctl start anonproxy-collect; anonproxy check --collect")
    machine.run(
        "anonproxy front nginx --collect --certificate /etc/nginx/site.pem --key /etc/nginx/site.key "
        "> /etc/nginx/conf.d/anonproxy.conf; nginx -t; systemctl reload nginx"
    )
    url, options = f"https://{HOST}", f"--resolve {HOST}:443:127.0.0.1"
    wait_until(lambda: visit(machine, 1, url, options) == ["200"], PATIENCE_S, "the new configuration of nginx")
    wait_until(lambda: len(stored(machine)) == 1, PATIENCE_S, "its row")
    assert visit(machine, 20, url, options) == ["200"] * 20
    machine.run("systemctl reload anonproxy-collect")
    assert visit(machine, 20, url, options) == ["200"] * 20
    machine.run("systemctl stop anonproxy-collect")
    assert stored(machine) == [("/events", 200)] * 41
    assert machine.run("systemctl show --value --property Result,NRestarts anonproxy-collect").split() == [
        "success",
        "0",
    ]

    machine.run("systemctl start anonproxy-collect.socket; systemctl restart nginx")
    assert visit(machine, 20, url, options) == ["200"] * 20
    with ThreadPoolExecutor() as pool:
        visiting = pool.submit(visit, machine, 100, url, options)
        machine.run("systemctl restart anonproxy-collect")
        assert visiting.result() == ["200"] * 100
    machine.run("systemctl stop anonproxy-collect.socket anonproxy-collect")
    assert stored(machine) == [("/events", 200)] * 161


def test_an_import_and_the_dashboard_beside_the_service(machine: Machine) -> None:
    """Root imports a log by several processes while the service records; the dashboard shows both, and the present."""
    two_weeks_ago = datetime.now(UTC).date() - timedelta(days=14)
    write_log(machine.root / "srv" / "access.log", invent(days=3, people=12, first=two_weeks_ago))
    machine.run("systemctl start anonproxy anonproxy-web")
    assert visit(machine, 12) == ["200"] * 12
    said = machine.run("anonproxy ingest --jobs 2 --format combined /srv/access.log")
    assert "3 days of www" in said, said
    assert machine.run(f"find {STORE} -not -user anonproxy") == ""
    assert "21 pass" in machine.run("anonproxy audit")
    wait_until(lambda: _answers(machine, "/"), PATIENCE_S, "the dashboard")
    assert "Pageviews in half an hour" in machine.run("curl --silent http://127.0.0.1:9902/live"), "told by the proxy"
    machine.run("systemctl stop anonproxy anonproxy-web")
    assert count_events(machine.root / STORE.lstrip("/"))["imported"] == 3


def _answers(machine: Machine, path: str) -> bool:
    asked = machine.run(
        f"curl --silent --output /dev/null --write-out '%{{http_code}}' http://127.0.0.1:9902{path} || true"
    )
    return asked == "200"


def test_an_upgrade_goes_on(machine: Machine) -> None:
    """The package can be installed over itself while it runs, and what was recorded is written."""
    machine.run("systemctl start anonproxy")
    assert visit(machine, 6) == ["200"] * 6
    before = main_pid(machine)
    machine.run("dpkg -i --force-unsafe-io /srv/anonproxy.deb")
    wait_until(lambda: main_pid(machine) not in {0, before}, PATIENCE_S, "the new one")
    assert visit(machine, 1) == ["200"]
    machine.run("systemctl stop anonproxy")
    assert stored(machine) == [("/events", 200)] * 7
