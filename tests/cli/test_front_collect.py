"""What `front --collect` prints works in the real servers: they serve the site, and each request becomes the row that
it should, while no address, session or search term reaches a disk, the site or a log."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search
from anonproxy.cli.front import TEMPLATES, render_collect
from anonproxy.cli.front_collect import LINES, WAYS, match_networks
from anonproxy.ingest.formats import find_format
from anonproxy.model.errors import OperatorError
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.settings import Settings
from tests.cli.test_front import (
    FORGED,
    HOST,
    VISITOR,
    VISITOR_NETWORK,
    Front,
    Site,
    ask,
    connect,
    connect_tls,
    head_of,
    post_h2,
    read_all,
    run_front,
)  # fmt: skip
from tests.ingest.recorders import FIREFOX, values
from tests.support.ports import free_port
from tests.support.servers import STOPPED_WITHIN_S, CollectProcess, run_collect, wait_until

CONFIG: Final = """\
[store]
path = "{{store}}"
flush_s = 0.2
[proxy]
admin_listen = "127.0.0.1:{{admin_port}}"
forward_client = "truncated"
[collect]
listen = ["unix:{{store}}.sock", "udp:127.0.0.1:{{port}}", "tcp:127.0.0.1:{{port}}"]
format = "{format}"
status_page = "http://127.0.0.1:{status_port}/"
[privacy]
time_resolution = "1h"
[[sites]]
name = "www"
hosts = ["{host}"]
upstream = "http://127.0.0.1:{upstream}"
sitemap = ""
routes = [{{{{path = "/events"}}}}, {{{{path = "/private"}}}}, {{{{path = "/form"}}}}, {{{{path = "/begin"}}}}]
"""
SECRETS: Final = {
    "visitor's address": VISITOR,
    "forged address": FORGED,
    "search term": "hunter2zebra",
    "session": "5e551017cafe5e551017cafe",
    "second session": "bead0b0e55e55ed0be0d",
    "other cookie": "m0nster-cookie-value",
    "password": "Basic-YWxhZGRpbjpvcGVuc2VzYW1l",
    "agent": "UnheardOfBrowser-77aa88bb",
    "referring page": "secret-diary-of-a-reader",
}
MARKS: Final = [Mark(label, secret) for label, secret in SECRETS.items()]
PATIENCE_S: Final = 60.0
COLUMNS: Final = "method, route, kind, status, browser, os, language, referrer, visit IS NULL"


class CookieSite(Site):
    """A site that gives sessions, and calls some pages private."""

    def end_headers(self) -> None:
        """Add what the page asks for."""
        if self.path.startswith("/private"):
            self.send_header("Cache-Control", "private, max-age=0")
        if self.path.startswith("/begin"):
            self.send_header("Set-Cookie", f"PHPSESSID={SECRETS['second session']}; Path=/; HttpOnly")
        super().end_headers()


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """Run the website; give its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), CookieSite) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextlib.contextmanager
def collecting(server: str, folder: Path, site: int) -> Iterator[tuple[CollectProcess, Front]]:
    """Run a collector, and a server that sends its log there."""
    config = CONFIG.format(format=WAYS[server].format, host=HOST, upstream=site, status_port=free_port())
    with run_collect(folder / "collect", config) as collector:
        (folder / "server").mkdir()
        for path in (folder, folder / "collect"):
            path.chmod(0o755)  # servers send as another user
        with run_front(server, folder / "server", collector.config, "--collect") as at:
            yield collector, at


def get(port: int, target: str, *headers: str) -> tuple[int, dict[str, Any]]:
    """Ask over TLS and HTTP/1.1; return status and what the site heard."""
    with connect_tls(port, "http/1.1") as visitor:
        visitor.sendall(head_of(f"GET {target} HTTP/1.1", "Connection: close", *headers))
        head, _, body = read_all(visitor).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else {}


def written_by_the_server(at: Front) -> list[Path]:
    """List what the server may have written: everything in its folder but what we gave it."""
    given = {at.printed, *(at.folder / name for name in ("chain.pem", "key.pem", "bundle.pem", "main.conf"))}
    return [path for path in at.folder.rglob("*") if path.is_file() and path not in given]


def is_counted(collector: CollectProcess, at: Front) -> bool:
    """Ask once more, and tell whether nginx's count has been seen to rise."""
    assert get(at.https, "/events")[0] == 200
    return collector.metrics()["anonproxy_server_requests_total"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("server", TEMPLATES)
def test_requests_become_rows_and_leave_nothing_else(server: str, site: int, tmp_path: Path) -> None:
    """Each request through the real server becomes the row that it should, and no secret of it is found in any file of
    the server, of the collector or of the store, nor does the site learn an address."""
    with collecting(server, tmp_path, site) as (collector, at):
        agent = f"User-Agent: {FIREFOX}"
        status, heard = get(
            at.https,
            f"/events?q={SECRETS['search term']}%2Fa",
            agent,
            f"Referer: https://www.google.com/{SECRETS['referring page']}",
            "Accept-Language: de-DE,de;q=0.9",
            f"Cookie: theme={SECRETS['other cookie']}; PHPSESSID={SECRETS['session']}",
            f"CF-Connecting-IP: {FORGED}",
            f"X-Real-IP: {FORGED}",
            f"Authorization: {SECRETS['password']}",
        )
        assert status == 200
        assert heard["target"] == f"/events?q={SECRETS['search term']}%2Fa", "handed on byte for byte"
        assert (heard["host"], heard["x-forwarded-proto"]) == (HOST, "https")
        assert not [name for name in heard if VISITOR in str(heard[name]) or FORGED in str(heard[name])]
        assert heard.get("x-forwarded-for") == (VISITOR_NETWORK if server in {"nginx", "haproxy"} else None)
        assert get(at.https, "/private", agent, "Sec-GPC: 1")[0] == 200
        strange = f'User-Agent: {FIREFOX} {SECRETS["agent"]} "quoted" \\x41\té'
        assert get(at.https, "/events", strange, f"Cookie: PHPSESSID={SECRETS['session']}; a=b")[0] == 200
        beginner = f"User-Agent: {FIREFOX} beginner"
        assert get(at.https, "/begin", beginner)[0] == 200
        assert get(at.https, "/events", beginner, f"Cookie: PHPSESSID={SECRETS['second session']}")[0] == 200
        assert post_h2(at.https, b"hunter2zebra" * 5_000)["bytes"] == 60_000
        with connect(at.http) as visitor:
            visitor.sendall(head_of(f"GET /events?q={SECRETS['search term']} HTTP/1.1", "Connection: close", agent))
            assert re.match(rb"HTTP/1\.1 30[18] ", read_all(visitor))
        wait_until(lambda: len(values(collector.store, "1")) >= 7, PATIENCE_S, "seven rows")
        visits = {visit for (visit,) in values(collector.store, "visit")} - {None}
        assert len(visits) == 3, "one by the cookie, one that began without, and one that came without TLS and cookie"
        moved = 308 if server == "caddy" else 301
        expected = [
            ("GET", "/begin", "page", 200, "Firefox", "Linux", "other", "(direct)", False),
            ("GET", "/events", "page", 200, "Firefox", "Linux", "de", "google.com", False),
            ("GET", "/events", "page", 200, "Firefox", "Linux", "other", "(direct)", False),
            ("GET", "/events", "page", 200, "Firefox", "Linux", "other", "(direct)", False),
            ("GET", "/events", "page", moved, "Firefox", "Linux", "other", "(direct)", False),
            ("GET", "/private", "page", 200, "Firefox", "Linux", "other", "(direct)", True),
            ("POST", "/form", "page", 200, "Other", "Other", "other", "(direct)", True),
        ]
        assert sorted(values(collector.store, COLUMNS)) == expected
        if server == "nginx":
            wait_until(lambda: is_counted(collector, at), PATIENCE_S, "nginx's own count")
            wait_until(lambda: not collector.metrics()["anonproxy_missing_requests"], PATIENCE_S, "the same count")
        for broken in (
            f"GET /{SECRETS['search term']} without meaning\r\n\r\n".encode(),
            head_of(f"GET /{SECRETS['search term']}\0 HTTP/1.1"),
            f"\x16\x03\x01{SECRETS['search term']}".encode(),
        ):
            for connecting in (connect(at.https), connect_tls(at.https, "http/1.1")):
                with connecting as visitor:
                    visitor.sendall(broken)
                    with contextlib.suppress(OSError):
                        visitor.shutdown(socket.SHUT_WR)
                    read_all(visitor)
        at.process.terminate()
        at.process.wait(STOPPED_WITHIN_S)
        assert collector.stop() == 0
    found = search([*written_by_the_server(at), *collector.written_places], MARKS)
    assert not found.hits
    assert not found.unopened
    assert found.files > 0


@pytest.mark.slow
def test_canary_passes_through_nginx(site: int, tmp_path: Path) -> None:
    """`anonproxy canary` finds what it looks for in this set-up as well: all its requests in the store, broken ones and
    those that were left included, and nothing of them anywhere in the files of nginx or of the collector."""
    with collecting("nginx", tmp_path, site) as (collector, at):
        options = ["--config", str(collector.config), "--look-in", str(at.folder), "--look-in", str(collector.folder)]
        command = [sys.executable, "-m", "anonproxy", "canary", f"http://127.0.0.1:{at.http}/", "--host", HOST]
        ended = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=300)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Nothing that was sent is written anywhere" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("server", TEMPLATES)
def test_absent_collector_is_nobodys_loss(server: str, site: int, tmp_path: Path) -> None:
    """While nobody collects, pages are served, and the server's files hold no word of a request."""
    config = tmp_path / "anonproxy.toml"
    text = CONFIG.format(format=WAYS[server].format, host=HOST, upstream=site, status_port=free_port())
    config.write_text(text.format(store=tmp_path / "store", port=free_port(), admin_port=1))
    (tmp_path / "server").mkdir()
    tmp_path.chmod(0o755)
    with run_front(server, tmp_path / "server", config, "--collect") as at:
        target = f"/events?q={SECRETS['search term']}"
        threads = [threading.Thread(target=get, args=(at.https, target)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(at.https, "/events")[0] == 200
    found = search(written_by_the_server(at), MARKS)
    assert not found.hits


def settings_of(text: str = "", sites: str = "") -> Settings:
    """Read a configuration with two sites."""
    site = '[[sites]]\nname = "a"\nhosts = ["a.example", "*.a.example"]\nupstream = "http://127.0.0.1:1"\n'
    other = '[[sites]]\nname = "b"\nhosts = ["b.example"]\nupstream = "https://b.internal"\n'
    return parse_settings(f'store.path = "/s"\n{text}\n{sites or site + other}', "test")


def render(server: str, settings: Settings) -> str:
    """Render what is printed."""
    return render_collect(server, settings, Path("/etc/anonproxy/anonproxy.toml"), "/c.pem", "/k.pem")


ALL_PLACES: Final = 'collect.listen = ["unix:/run/a.sock", "udp:127.0.0.1:5514", "tcp:[::1]:5514"]'


@pytest.mark.parametrize("server", LINES)
def test_lines_have_the_fields_of_the_format(server: str) -> None:
    """Each server writes as many fields, in the same places, as the format of that name reads."""
    read = find_format("collect").sample.split(b"\t")
    assert len(LINES[server]) == len(read) == 14


@pytest.mark.parametrize(
    ("server", "target"),
    [
        ("nginx", "access_log syslog:server=unix:/run/a.sock,nohostname,tag=anonproxy anonproxy;"),
        ("caddy", "output net udp/127.0.0.1:5514 {"),
        ("haproxy", "log 127.0.0.1:5514 len 65535 format rfc5424"),
        ("apache", 'CustomLog "|/usr/bin/anonproxy collect --pipe --config /etc/anonproxy/anonproxy.toml" anonproxy'),
    ],
)
def test_servers_send_where_they_can(server: str, target: str) -> None:
    """Of the configured places each server takes the first that it can send to; with none it is said what to add."""
    assert target in render(server, settings_of(ALL_PLACES))
    with pytest.raises(OperatorError, match=rf"collect\.listen: {server} can send to none .* Add \"\w+:"):
        render(server, settings_of(f'collect.listen = ["{"tcp" if server in {"nginx", "apache"} else "unix"}:/run/a"]'
                                   .replace("tcp:/run/a", "tcp:127.0.0.1:1")))  # fmt: skip


def test_haproxy_sends_a_stream_from_a_ring() -> None:
    """To a place for streams HAProxy sends from a ring in its memory, each message with its length."""
    text = render("haproxy", settings_of('collect.listen = ["tcp:127.0.0.1:5514"]'))
    assert "log ring@anonproxy len 65535" in text
    assert "server collect 127.0.0.1:5514 log-proto octet-count" in text


@pytest.mark.parametrize("server", TEMPLATES)
def test_every_site_is_served(server: str) -> None:
    """Each site goes to its own upstream, and a host of none of them to no site."""
    text = render(server, settings_of(ALL_PLACES))
    assert "127.0.0.1:1" in text
    assert "b.internal" in text
    assert server == "caddy" or "421" in text
    for secret in ("x-forwarded-for", "true-client-ip", "cf-connecting-ip"):
        assert secret in text


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "address", "told"),
    [
        (24, 32, "203.0.113.9", ["203.0.113.0"]),
        (20, 32, "203.0.113.9", ["203.0.0.0"]),
        (8, 32, "203.0.113.9", ["203.0.0.0"]),
        (24, 40, "2001:db8:1::1", ["2001:db8::"]),
        (24, 16, "2001:db8:1::1", ["2001::"]),
        (24, 16, "2001::5", ["2001::"]),
        (24, 32, "2001::5", []),
        (24, 32, "::1", []),
    ],
)
def test_nginx_shortens_addresses_as_far_as_allowed(ipv4: int, ipv6: int, address: str, told: list[str]) -> None:
    """What nginx tells the site is never longer than the settings allow; what it can't shorten it doesn't tell."""
    text = f'proxy.forward_client = "truncated"\nprivacy.ipv4_prefix = {ipv4}\nprivacy.ipv6_prefix = {ipv6}'
    found = [(re.match(pattern, address), network) for pattern, network in match_networks(settings_of(text))]
    assert [network.replace("$1", match[1]) for match, network in found if match] == told


@pytest.mark.parametrize("server", ["nginx", "haproxy", "apache"])
def test_proxies_in_front_are_believed(server: str) -> None:
    """Where proxies in front are trusted, each server takes the visitor's address from them and from nobody else."""
    text = render(server, settings_of(f'{ALL_PLACES}\nproxy.trusted_proxies = ["192.0.2.0/24"]'))
    words = {
        "nginx": "set_real_ip_from 192.0.2.0/24;",
        "haproxy": "http-request set-src req.hdr_ip(x-forwarded-for,-1) if { src 192.0.2.0/24 }",
        "apache": "RemoteIPTrustedProxy 192.0.2.0/24",
    }
    assert words[server] in text


def test_what_the_configuration_lacks_is_said(tmp_path: Path) -> None:
    """A format that the server doesn't send is told beside the configuration, on standard error."""
    path = tmp_path / "anonproxy.toml"
    path.write_text(
        f'store.path = "/s"\n{ALL_PLACES}\n[[sites]]\nname = "a"\nupstream = "http://127.0.0.1:1"\nhosts = ["a.b"]\n'
    )
    asked = ask("caddy", "--config", str(path), "--collect")
    assert asked.stderr == 'anonproxy.toml still needs, under [collect]: format = "caddy_json"\n'
    assert ask("nginx", "--config", str(path), "--collect").stderr == ""
