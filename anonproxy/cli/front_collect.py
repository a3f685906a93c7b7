"""What `anonproxy front --collect` prints: a server that serves the site by itself and sends its log to `collect`."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from anonproxy.anonymize.session import HASH
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import Settings, SiteSettings
from anonproxy.proxy.headers import ADDRESS_HEADERS
from anonproxy.proxy.sites import ANY_HOST, Upstream, parse_upstream

# The fields of the format `collect`, as each server writes them; between them stand tabs, which every server escapes.
LINES: Final[Mapping[str, tuple[str, ...]]] = {
    "nginx": (
        "$msec", "$remote_addr", "$host", "$request", "$status", "$body_bytes_sent", "$request_time",
        "$anonproxy_cookie", "$anonproxy_set_cookie", "$http_user_agent", "$http_referer", "$http_accept_language",
        "$anonproxy_opted_out", "$sent_http_cache_control",
    ),
    "haproxy": (
        "%Ts.%ms", "%[src]", "%[var(txn.host),json(utf8s)]", "%HM %[var(txn.target),json(utf8s)] %HV", "%ST", "%B",
        "%Ta.e-3", "%[var(txn.cookie),json(utf8s)]", "%[var(txn.set_cookie),json(utf8s)]",
        "%[var(txn.agent),json(utf8s)]", "%[var(txn.referrer),json(utf8s)]", "%[var(txn.language),json(utf8s)]",
        "%[var(txn.opted_out)]", "%[var(txn.cache_control),json(utf8s)]",
    ),
    "apache": (
        "%{sec}t.%{msec_frac}t", "%a", "%{Host}i", "%r", "%>s", "%B", "%{us}Te-6", "%{anonproxy_cookie}e",
        "%{Set-Cookie}o", "%{User-Agent}i", "%{Referer}i", "%{Accept-Language}i", "%{anonproxy_opted_out}e",
        "%{Cache-Control}o",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Way:
    """How a server reaches the collector: the kinds of places that it can send to, and how it writes them."""

    format: str
    targets: Mapping[str, str]
    missing: str  # what to add to collect.listen when there is none


WAYS: Final[Mapping[str, Way]] = {
    "nginx": Way(
        "collect",
        {
            "unix": "syslog:server=unix:{address},nohostname,tag=anonproxy anonproxy",
            "udp": "syslog:server={address},nohostname,tag=anonproxy anonproxy",
        },
        "unix:/run/anonproxy/collect.sock",
    ),
    # Not over AF_UNIX: a Go program that finds the socket full waits, and the visitor with it.
    "caddy": Way("caddy_json", {"udp": "udp/{address}", "tcp": "tcp/{address}"}, "udp:127.0.0.1:5514"),
    # Not over AF_UNIX: from its chroot it sees no socket.
    "haproxy": Way("collect", {"tcp": "ring@anonproxy", "udp": "{address}"}, "tcp:127.0.0.1:5514"),
    "apache": Way("collect", {"unix": "", "udp": ""}, "unix:/run/anonproxy/collect.sock"),
}


@dataclass(frozen=True, slots=True)
class Served:
    """A site in the words of a server's configuration."""

    name: str
    names: str
    upstream: Upstream
    url: str
    is_default: bool

    @property
    def host_port(self) -> str:
        """Return where it answers, without a scheme."""
        return urlsplit(self.url).netloc


def describe_collect(
    server: str, settings: Settings, config: Path, render_names: Callable[[list[str]], str]
) -> dict[str, object]:
    """Return what the template of a server needs beside the certificate.

    Raises: OperatorError when the server can't reach the collector by any of its places
    """
    way = WAYS[server]
    place = choose_place(server, settings)
    kind, _, address = place.partition(":")
    sites = [describe_site(server, site, render_names) for site in settings.sites]
    return {
        "place": place,
        "format": way.format,
        "target": way.targets[kind].format(address=address),
        "ring": address if kind == "tcp" else "",
        "line": "\\t".join(LINES.get(server, ())),
        "cookies": match_cookies(settings),
        "sites": sites,
        "has_default": any(site.is_default for site in sites),
        "trusted": [str(network) for network in settings.proxy.trusted_proxies],
        "address_headers": sorted(name.decode() for name in ADDRESS_HEADERS),
        "address_pattern": f"^({'|'.join(sorted(map(bytes.decode, ADDRESS_HEADERS)))})$",
        "networks": match_networks(settings) if server == "nginx" else (),
        "truncates": f"{settings.privacy.ipv4_prefix},{settings.privacy.ipv6_prefix}" if forwards(settings) else "",
        "forwarded": describe_forwarding(server, settings),
        "status_page": urlsplit(settings.collect.status_page) if settings.collect.status_page else None,
        "program": Path(sys.argv[0]).resolve() if Path(sys.argv[0]).name == "anonproxy" else "/usr/bin/anonproxy",
        "config": config.resolve(),
    }


def choose_place(server: str, settings: Settings) -> str:
    """Return the first place that a server can send to.

    Raises: OperatorError when there is none
    """
    way = WAYS[server]
    found = next((place for place in settings.collect.listen if place.partition(":")[0] in way.targets), None)
    if found is None:
        raise OperatorError(f'collect.listen: {server} can send to none of these places. Add "{way.missing}"')
    return found


def describe_site(server: str, site: SiteSettings, render_names: Callable[[list[str]], str]) -> Served:
    """Put a site into a server's words."""
    is_default = not site.hosts or ANY_HOST in site.hosts
    hosts = [host for host in site.hosts if host != ANY_HOST]
    if server == "haproxy":
        names = match_hosts(hosts)
    else:
        names = render_names([] if is_default and server == "caddy" else hosts)
    return Served(site.name, names, parse_upstream(site.upstream), site.upstream, is_default)


def match_hosts(hosts: list[str]) -> str:
    """Write HAProxy's condition that a host is one of these."""
    exact, wild = ([h for h in hosts if "*" not in h], [h.removeprefix("*") for h in hosts if "*" in h])
    return f"-m reg ^({'|'.join([*map(match_text, exact), *('.*' + match_text(end) for end in wild)])})$"


def match_cookies(settings: Settings) -> str:
    """Write the pattern of the session cookies' names, as all four servers understand it."""
    names = dict.fromkeys(name for site in settings.sites for name in site.session_cookies)
    hash_or_nothing = {True: f"(?:{HASH.pattern})", False: ""}
    return "|".join(match_text(name.removesuffix("*")) + hash_or_nothing["*" in name] for name in names)


def match_text(text: str) -> str:
    """Write a pattern of nothing but a text, without backslashes, which some servers read before the pattern is."""
    return re.sub(r"[^\w]", r"[\g<0>]", text)


def forwards(settings: Settings) -> bool:
    """Tell whether the site may learn the visitor's network."""
    return settings.proxy.forward_client == "truncated"


def match_networks(settings: Settings) -> list[tuple[str, str]]:
    """Write patterns of addresses and the networks that the site may learn: whole groups, never more than allowed."""
    if not forwards(settings):
        return []
    octets, groups = settings.privacy.ipv4_prefix // 8, settings.privacy.ipv6_prefix // 16
    return [
        (rf"^({'[.]'.join([r'[0-9]+'] * octets)})[.]", "$1" + ".0" * (4 - octets)),
        (rf"^({':'.join([r'[0-9a-f]+'] * groups)}):", "$1::"),
    ]


def describe_forwarding(server: str, settings: Settings) -> str:
    """Say what the site learns instead."""
    if not forwards(settings):
        return ""
    can = server in {"nginx", "haproxy"}
    return ",\n# and X-Forwarded-For tells it the network" if can else f".\n# {server.capitalize()} can't shorten one"
