"""Settings: one model that reads the configuration, explains it, and refuses it whole if anything is wrong."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)

from anonproxy.model.vocabularies import LANGUAGES, PRESETS, REMOTE

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# What the address of a socket holds, with the zero at its end (unix(7)).
MAX_SOCKET_PATH: Final = 108

# Ten years.
MAX_DAILY_MONTHS: Final = 120


def _parse_network(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("not a network; write an address or CIDR with host bits zero, like 192.0.2.0/24") from None


def _check_any(items: object) -> object:
    if isinstance(items, list | tuple) and not items:
        raise ValueError("none is given; add at least one [[sites]] table")
    return items


def _check_listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError('not an address to listen on; write "host:port", like "127.0.0.1:8080" or "[::]:8080"')
    return text


def _check_tls_listen(text: str) -> str:
    return _check_listen(text) if text else text


def _check_log_listen(text: str) -> str:
    kind, _, address = text.partition(":")
    is_socket = kind == "unix" and address.startswith("/") and len(address.encode()) < MAX_SOCKET_PATH
    if not is_socket and not (kind in {"udp", "tcp"} and _check_listen(address)):
        raise ValueError('not a place for log lines; write "unix:/path", "udp:host:port" or "tcp:host:port"')
    return text


def _check_status_page(text: str) -> str:
    if text and (urlsplit(text).scheme != "http" or not urlsplit(text).hostname):
        raise ValueError('not a status page; write it like "http://127.0.0.1:9903/"')
    return text


def is_loopback(address: str) -> bool:
    """Tell whether only this machine reaches "host:port"."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_upstream(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path not in {"", "/"} or parts.query:
        raise ValueError('not the address of a site; write "http://host:port" or "https://host" without a path')
    return text.rstrip("/")


def _check_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", text):
        raise ValueError("use 1 to 32 lower-case letters, digits, - and _; it becomes a folder name")
    return text


def _check_host(text: str) -> str:
    if not re.fullmatch(r"\*|(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*|[0-9.]+|\[[0-9a-f:]+\]", text):
        raise ValueError('not a host name; write it in lower case without scheme or port, like "www.example.org"')
    return text


def _check_route(text: str) -> str:
    if not re.fullmatch(r"/(\*\*)?|(/[^/?#{}*\s]*(\{[a-z_]+\}[^/?#{}*\s]*)?)+(/\*\*)?", text):
        raise ValueError(
            'not a route; write segments, {name} for one or a part of it, /** for any rest, like "/events/{event}"'
        )
    return text


def _check_time_zone(name: str) -> str:
    if name != "local":
        try:
            ZoneInfo(name)
        except (ValueError, OSError):
            raise ValueError('not a time zone; write a name like "America/New_York", or "local"') from None
    return name


def _check_language(text: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}", text):
        raise ValueError('not a language; write the primary subtag, like "en"')
    return text


def _check_preset(text: str) -> str:
    if text not in PRESETS:
        raise ValueError(f"no such preset; there are: {', '.join(PRESETS)}")
    return text


NetworkField = Annotated[Network, BeforeValidator(_parse_network), PlainSerializer(str)]
Listen = Annotated[str, AfterValidator(_check_listen)]
TlsListen = Annotated[str, AfterValidator(_check_tls_listen)]
LogListen = Annotated[str, AfterValidator(_check_log_listen)]
Name = Annotated[str, AfterValidator(_check_name)]
Preset = Annotated[str, AfterValidator(_check_preset)]
Host = Annotated[str, AfterValidator(_check_host)]
RoutePattern = Annotated[str, AfterValidator(_check_route)]
Upstream = Annotated[str, AfterValidator(_check_upstream)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
Language = Annotated[str, AfterValidator(_check_language)]
Clock24h = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class _Section(BaseModel):
    # Values are not quoted back: a configuration may hold host names of patrons' networks.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*")
    @classmethod
    def _hold_to_policy(cls, value: Any, info: ValidationInfo) -> Any:
        if info.context:
            info.context(cls, info.field_name, value)
        return value


class StoreSettings(_Section):
    """Where the anonymised rows are kept, and for how long."""

    path: Annotated[str, Field(min_length=1)] = Field(
        description="Folder of the store, only Parquet and the ledger; or s3://BUCKET/PREFIX to publish settled days to"
    )
    work_path: str = Field(
        "", description="Folder to work in when path is an object store; visit numbers never leave it"
    )
    flush_s: float = Field(5.0, ge=0.1, le=60, description="Seconds between writes; a power cut loses at most this")
    hot_hours: int = Field(48, ge=30, le=48, description="Hours that visit numbers are kept, then rows are unlinked")
    hits_days: int = Field(90, ge=1, le=365, description="Days that single, unlinked rows are kept")
    daily_months: int = Field(25, ge=1, le=MAX_DAILY_MONTHS, description="Months that daily totals are kept")

    @property
    def folder(self) -> str:
        """Return the folder that is worked in."""
        return self.work_path or self.path

    @property
    def is_published(self) -> bool:
        """Tell whether settled days go to an object store."""
        return self.path.startswith("s3://")

    @model_validator(mode="after")
    def _check_paths(self) -> Self:
        if self.is_published and not self.work_path:
            raise ValueError('an object store needs work_path, a folder on a local disk, like "/var/lib/anonproxy"')
        if self.work_path and not self.is_published:
            raise ValueError("work_path is for an object store; remove it, or write path as s3://BUCKET/PREFIX")
        return self


class CertificateSettings(_Section):
    """One certificate for visitors; it serves the names that it was made out for."""

    certificate: Annotated[str, Field(min_length=1)] = Field(
        description="PEM file with the certificate and its chain, like certbot's fullchain.pem"
    )
    key: Annotated[str, Field(min_length=1)] = Field(description="PEM file with its private key, without passphrase")


class ProxySettings(_Section):
    """How visitors reach the proxy."""

    listen: Listen = Field("127.0.0.1:8080", description="Address for visitors")
    tls_listen: TlsListen = Field("", description='Address for visitors over HTTPS, like "[::]:443"; "" for none')
    certificates: tuple[CertificateSettings, ...] = Field(
        (), description="Certificates for HTTPS, a [[proxy.certificates]] table each; strangers' names get the first"
    )
    redirect_to_https: bool = Field(False, description="Send visitors of `listen` on to HTTPS")
    admin_listen: Listen = Field("127.0.0.1:9901", description="Address for /healthz, /readyz, /metrics: keep it local")
    workers: int = Field(1, ge=1, le=64, description="Processes that serve pages")
    trusted_proxies: tuple[NetworkField, ...] = Field(
        (), description="Networks whose X-Forwarded-For or Forwarded is believed, like your load balancer"
    )
    trusted_hops: int = Field(
        0, ge=0, le=16, description="Number of proxies in front, if their addresses aren't known; replaces the list"
    )
    forward_client: Literal["none", "truncated"] = Field(
        "none", description="What the site learns of the visitor's address"
    )
    header_timeout_s: float = Field(
        20.0, ge=1, le=600, description="Seconds that a new visitor gets for TLS and the head of a request"
    )
    idle_timeout_s: float = Field(
        75.0, ge=1, le=600, description="Seconds until the head of the next request must be there on a connection"
    )
    request_timeout_s: float = Field(
        3600.0, ge=1, le=86400, description="Seconds that a visitor gets to send the body of a request"
    )
    max_body_mib: int = Field(0, ge=0, le=1_048_576, description="Largest body of a request, in MiB; 0 for any")
    max_connections: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="Connections of one address (IPv6: /64) at one worker, counted in memory only; 0 for any number. "
        "Trusted proxies are exempt",
    )
    max_requests_per_s: float = Field(
        0.0,
        ge=0,
        le=100_000,
        description="Requests a second of one address (IPv6: /64) at one worker, counted in memory only; beyond that "
        "it gets 429. 0 for any number. Of trusted proxies, the address that they forward counts",
    )
    max_requests_burst: int = Field(
        100, ge=1, le=1_000_000, description="Requests that one address may make at once before that limit applies"
    )
    upstream_timeout_s: float = Field(60.0, ge=1, le=3600, description="Seconds to wait for the site")
    drain_s: float = Field(10.0, ge=0, le=600, description="Seconds that running requests get when stopping")
    error_pages: str = Field(
        "", description="Folder with error pages of your own: 502.html, 504.html, …, error.html for all others"
    )
    top: bool = Field(
        True, description="Keep addresses in memory for five minutes, so that `anonproxy top` can show who asks most"
    )
    log_format: Literal["text", "json"] = Field("text", description="How the proxy's own log lines are written")

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if self.tls_listen and not self.certificates:
            raise ValueError("tls_listen needs a certificate; add a [[proxy.certificates]] table")
        if not self.tls_listen and (self.certificates or self.redirect_to_https):
            raise ValueError('certificates and redirect_to_https need tls_listen; set it, like "[::]:443"')
        return self


class CollectSettings(_Section):
    """How the log lines of a server reach `anonproxy collect`."""

    listen: Annotated[tuple[LogListen, ...], Field(min_length=1)] = Field(
        ("unix:/run/anonproxy/collect.sock",),
        description='Where lines come in: "unix:/path" and "udp:host:port" for datagrams, "tcp:host:port" for streams',
    )
    allow_remote: bool = Field(
        False, description="Listen on other addresses than loopback; raw addresses then cross the network in clear"
    )
    format: str = Field(
        "collect", description="Format of the lines: a name, or a log_format or LogFormat as the server has it"
    )
    site: str = Field("", description="Site of lines that name no host, when there are several sites")
    status_page: Annotated[str, AfterValidator(_check_status_page)] = Field(
        "", description='nginx\'s stub_status page, like "http://127.0.0.1:9903/", to count lost lines by; "" for none'
    )

    @model_validator(mode="after")
    def _check_reach(self) -> Self:
        remote = [place for place in self.listen if not place.startswith("unix:") and not is_loopback(place[4:])]
        if remote and not self.allow_remote:
            raise ValueError(
                "listens beyond this machine, so that raw addresses cross the network in clear; use a loopback "
                "address, or set allow_remote = true if that network is yours alone"
            )
        return self


class WebSettings(_Section):
    """The dashboard."""

    listen: Listen = Field("127.0.0.1:9902", description="Address of the dashboard; others than this machine need more")
    allowed_hosts: tuple[Host, ...] = Field(
        (), description='Names under which it is reached from elsewhere, like "figures.example.org"'
    )
    password_hash: str = Field(
        "", description="What `anonproxy web --set-password` prints; needed to be reached from elsewhere"
    )
    session_hours: int = Field(12, ge=1, le=720, description="Hours until the password is asked again")
    certificate: str = Field("", description="PEM file with its certificate and chain, if no other server ends HTTPS")
    key: str = Field("", description="PEM file with the private key of the certificate")
    trusted_proxies: tuple[NetworkField, ...] = Field(
        (), description="Networks of the server in front of the dashboard, which ends HTTPS"
    )
    user_header: str = Field(
        "",
        pattern=r"^[A-Za-z0-9-]*$",
        description='Header in which that server says who has logged in, like "Remote-User"; replaces the password',
    )

    @property
    def is_public(self) -> bool:
        """Tell whether others than this machine can reach it."""
        host = self.listen.rpartition(":")[0].strip("[]")
        try:
            is_local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_local = host == "localhost"
        return bool(self.allowed_hosts) or not is_local

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key belong together; set both or none")
        if self.user_header and not self.trusted_proxies:
            raise ValueError("user_header can be forged by anyone; name the server that sets it in trusted_proxies")
        if self.is_public and not self.allowed_hosts:
            raise ValueError(
                'who reaches it from elsewhere does so by a name; set allowed_hosts, like ["figures.example.org"]'
            )
        if self.is_public and not self.password_hash and not self.user_header:
            raise ValueError(
                "anybody could look: it can be reached from elsewhere and has no password; "
                "set password_hash to what `anonproxy web --set-password` prints, or user_header"
            )
        if self.is_public and not self.certificate and not self.trusted_proxies:
            raise ValueError(
                "the password would cross the network in clear; set certificate and key, "
                "or trusted_proxies if a server in front ends HTTPS"
            )
        return self


class PrivacySettings(_Section):
    """How coarse the stored values are."""

    k: int = Field(10, ge=5, le=1000, description="Visits that must share a value before it is written in clear")
    time_resolution: Literal["15min", "1h", "1day"] = Field("1h", description="How exactly a time is stored")
    store_network: bool = Field(True, description="Store truncated networks at all")
    ipv4_prefix: int = Field(24, ge=8, le=24, description="Longest IPv4 prefix stored")
    ipv6_prefix: int = Field(32, ge=16, le=40, description="Longest IPv6 prefix stored; a /48 can be one household")
    epoch_hours: int = Field(24, ge=1, le=24, description="Life of a session key, in memory only")
    epoch_cut: Clock24h = Field("04:00", description="Local time at which the key is destroyed")
    time_zone: TimeZone = Field("local", description='Time zone of the library, or "local" for this machine\'s')
    visit_idle_min: int = Field(30, ge=1, le=120, description="Minutes of silence that end a visit")
    visit_max_h: int = Field(4, ge=1, le=4, description="Hours after which a visit ends in any case")
    max_routes: int = Field(1000, ge=0, le=1000, description="Admitted routes per site and epoch")
    languages: tuple[Language, ...] = Field(LANGUAGES, description="Languages that are told apart")


class RouteSettings(_Section):
    """One page type of a site."""

    path: RoutePattern = Field(description='Template, stored as it stands: "/events/{event}"')
    kind: Literal["page", "search", "item", "account", "download", "asset", "api", "feed", "other"] = Field(
        "page", description="What sort of page it is"
    )


class SiteSettings(_Section):
    """One website behind the proxy."""

    name: Name = Field(description="Short name, stored with each row")
    hosts: tuple[Host, ...] = Field((), description='Host names of the site; empty or "*" for any')
    upstream: Upstream = Field(description="Where the site itself answers")
    session_cookies: tuple[str, ...] = Field(
        (
            "PHPSESSID",
            "JSESSIONID",
            "ASP.NET_SessionId",
            "CGISESSID",
            "VUFIND_SESSION",
            "aspen_session",
            "III_SESSION_ID",
            "sessionid",
            "connect.sid",
            "laravel_session",
            "SSESS*",
            "SESS*",
            "ASPSESSIONID*",
            "wordpress_logged_in_*",
        ),
        description="Cookies that hold a session, * standing for a hash; used in memory, never stored",
    )
    presets: tuple[Preset, ...] = Field((), description='Library systems whose pages are known, like "koha"')
    routes: tuple[RouteSettings, ...] = Field((), description="Page types of your own")
    sitemap: str = Field("/sitemap.xml", description='Path of the sitemap to learn routes from; "" for none')
    sensitive: tuple[RoutePattern, ...] = Field(
        ("/health/**", "/topics/health/**"), description="Pages whose requests belong to no visit"
    )
    children: tuple[RoutePattern, ...] = Field(
        ("/kids/**", "/children/**"), description="Children's pages; their requests belong to no visit"
    )
    referrers: tuple[Host, ...] = Field(
        (), description="Sites that may be stored as a referrer, beside the shipped list"
    )
    campaigns: tuple[str, ...] = Field((), description="Campaign names that may be stored")
    referrer_policy: Literal["unchanged", "same-origin"] = Field(
        "unchanged",
        description="Policy to add where the site's own would tell other websites more than its host name; with "
        '"same-origin" they do not learn what was searched for',
    )


class CountrySettings(_Section):
    """Where countries come from."""

    database: str = Field(
        "", description="An MMDB file of your own; else GeoLite2 where it is installed, else shipped data"
    )


class AuditSettings(_Section):
    """What is searched beside the store."""

    look_in: tuple[str, ...] = Field(
        ("/var/log/anonproxy",),
        description="Files and folders that the audit and the canary search too, like logs of the server in front. "
        "What the running processes print, log and leave in temporary folders is found without",
    )


# What a profile sets where the configuration is silent.
PROFILES: Final[dict[str, dict[str, dict[str, object]]]] = {
    "standard": {},
    "strict": {
        "store": {"hot_hours": 30, "hits_days": 35},
        "proxy": {"top": False},
        "privacy": {"k": 20, "store_network": False, "time_resolution": "1day"},
    },
}


class Settings(_Section):
    """Everything that can be configured."""

    profile: Literal["standard", "strict"] = Field("standard", description="Defaults for everything below")
    policy: str = Field(
        "", description="The library's privacy policy, which tightens everything below: a name, or a .toml of your own"
    )
    store: StoreSettings = Field(description="The store")
    proxy: ProxySettings = Field(default_factory=ProxySettings, description="The proxy")
    collect: CollectSettings = Field(default_factory=CollectSettings, description="Log lines of another server")
    privacy: PrivacySettings = Field(default_factory=PrivacySettings, description="Privacy")
    web: WebSettings = Field(default_factory=WebSettings, description="The dashboard")
    country: CountrySettings = Field(default_factory=CountrySettings, description="Countries")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="The audit")
    network_classes: dict[Name, tuple[NetworkField, ...]] = Field(
        default_factory=dict, description='Named networks, like in-library = ["198.51.100.0/24"]'
    )
    sites: Annotated[tuple[SiteSettings, ...], BeforeValidator(_check_any)] = Field(description="The sites")

    @model_validator(mode="before")
    @classmethod
    def _apply_profile(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        merged = dict(data)
        for section, values in PROFILES.get(str(data.get("profile", "standard")), {}).items():
            given = data.get(section, {})
            if isinstance(given, dict):
                merged[section] = {**values, **given}
        return merged

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        names = [site.name for site in self.sites]
        if len(set(names)) < len(names):
            raise ValueError("sites: two sites have the same name; give each its own")
        hosts = [host for site in self.sites for host in (site.hosts or ("*",))]
        if len(set(hosts)) < len(hosts):
            raise ValueError("sites: two sites answer to the same host; name each host once, and at most one default")
        if self.collect.site and self.collect.site not in names:
            raise ValueError("collect: site is none of the sites; write the name of one")
        if REMOTE in self.network_classes:
            raise ValueError(f'network_classes: "{REMOTE}" is what addresses without a class get; choose another name')
        return self

    def site_hosts(self) -> Mapping[str, str]:
        """Return the site name of each configured host, `*` being the default."""
        return {host: site.name for site in self.sites for host in (site.hosts or ("*",))}
