"""Which site a request is for: by exact host name, then by wildcard, then the default."""

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from anonproxy.model.settings import Settings

ANY_HOST: Final = "*"
_PORTS: Final = {"http": 80, "https": 443}


class Upstream(NamedTuple):
    """Where a site itself answers."""

    scheme: str
    host: str
    port: int


def parse_upstream(url: str) -> Upstream:
    """Parse a configured upstream, whose form the settings have checked."""
    parts = urlsplit(url)
    return Upstream(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme])


def parse_host(raw_host: str) -> str:
    """Return the name in a Host header: without port, in lower case, without the root's dot."""
    name, _, port = raw_host.rpartition(":")
    host = name if name and (port.isdecimal() or not port) else raw_host
    return host.lower().removesuffix(".")


def locate_https(tls_listen: str, raw_host: str, raw_target: str) -> str:
    """Return the address of the same page over HTTPS; the port is said unless it is the usual one."""
    name, _, port = raw_host.rpartition(":")
    host = name if name and port.isdecimal() else raw_host
    tls_port = tls_listen.rpartition(":")[2]
    return f"https://{host}{'' if tls_port == '443' else f':{tls_port}'}{raw_target}"


class Sites:
    """The upstream of each host name."""

    def __init__(self, settings: Settings) -> None:
        self._upstreams = {site.name: parse_upstream(site.upstream) for site in settings.sites}
        self._guarded = {site.name for site in settings.sites if site.referrer_policy == "same-origin"}
        self._by_host = settings.site_hosts()
        self.first = next(iter(self._upstreams.values()))

    def choose(self, raw_host: str) -> Upstream | None:
        """Return where the site with this host answers, None when there is no such site."""
        return self._upstreams.get(self._find(raw_host))

    def guards_referrers(self, raw_host: str) -> bool:
        """Tell whether the site with this host wants its pages' addresses kept from others."""
        return bool(self._guarded) and self._find(raw_host) in self._guarded

    def _find(self, raw_host: str) -> str:
        """Return the name of the site with this host, "" if there is none; the most exact host wins."""
        name = parse_host(raw_host)
        found = self._by_host.get(name) if name != ANY_HOST else None
        while found is None and name:
            _, _, name = name.partition(".")
            found = self._by_host.get(f"{ANY_HOST}.{name}")
        return found or self._by_host.get(ANY_HOST, "")
