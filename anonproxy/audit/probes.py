"""Probes: what a canary sends. Each request carries fresh marks in a place of its own.

A probe is written as the text of a request with placeholders, `{word:search term}`: the maker's name, and the label by
which the mark is known from then on. Filling in a placeholder makes a new secret each time. A target or header value
with marks in it becomes a mark as a whole, too, because a careless program hashes whole values.

Addresses are of ranges that nobody has (240.0.0.0/4, RFC 1112; 3fff::/20, RFC 9637), each in a network of its own, so
that no number of canaries ever makes one of their networks common enough to be stored.

"""

import base64
import ipaddress
import random
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from urllib.parse import quote

from anonproxy.audit.marks import Mark

CONSONANTS: Final = "bcdfghjklmnpqrstvwxz"
DIGITS: Final = "0123456789"
# A longer value is not marked as a whole: nobody keeps it, and its encodings would fill the search.
MAX_WHOLE_CHARS: Final = 1_000
LONG_CHARS: Final = 10_000
# What visitors' browsers send, so that nothing in between takes the canary for an attack.
USER_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
BOUNDARY: Final = "anonproxy-boundary"

Scheme = Literal["http", "https"]
# Read the answer to its end, only its beginning, or nothing; hang up, or tear the connection off.
Ending = Literal["read", "glance", "hang up", "tear"]


class Marker:
    """Makes secrets and remembers them: in memory, and nowhere else."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.made: list[Mark] = []
        self.chance = chance or random.SystemRandom()

    def keep(self, label: str, secret: str) -> str:
        """Remember a secret."""
        self.made.append(Mark(label, secret))
        return secret

    def letters(self, count: int) -> str:
        """Draw letters that make no word."""
        return "".join(self.chance.choices(CONSONANTS, k=count))

    def digits(self, count: int) -> str:
        """Draw digits."""
        return "".join(self.chance.choices(DIGITS, k=count))

    def fill(self, template: str, host: str, whole: str = "") -> str:
        """Fill in a text's placeholders; `whole` is the label of the text as a whole, if it may be a mark itself."""
        before = len(self.made)
        text = template.format_map({name: _Placeholder(self, make) for name, make in MAKERS.items()} | {"host": host})
        fresh = {mark.secret for mark in self.made[before:]}
        if whole and fresh and text not in fresh and len(text) <= MAX_WHOLE_CHARS:
            self.keep(whole, text)
        return text


@dataclass(frozen=True, slots=True)
class _Placeholder:
    marker: Marker
    make: Callable[[Marker, str], str]

    def __format__(self, label: str) -> str:
        return self.make(self.marker, label)


# --- Secrets: what is remembered, and the form in which it is sent --------------------------------------------------


def _word(marker: Marker, label: str) -> str:
    return marker.keep(label, f"zq{marker.letters(12)}")


def _number(prefix: str, count: int, marker: Marker, label: str) -> str:
    return marker.keep(label, prefix + marker.digits(count))


def _email(marker: Marker, label: str) -> str:
    return marker.keep(f"{label}, with its domain", f"{_word(marker, label)}@example.org")


def _draw_ipv4(marker: Marker, label: str) -> ipaddress.IPv4Address:
    # Three digits in each part: a short one could stand somewhere by chance.
    parts = [marker.chance.randrange(*bounds) for bounds in ((240, 255), (100, 256), (100, 256), (100, 255))]
    return ipaddress.IPv4Address(marker.keep(label, ".".join(map(str, parts))))


def _address(marker: Marker, label: str) -> str:
    return str(_draw_ipv4(marker, label))


def _mapped(marker: Marker, label: str) -> str:
    return f"::ffff:{_draw_ipv4(marker, label)}"


def _six_to_four(marker: Marker, label: str) -> str:
    return str(ipaddress.IPv6Address(0x2002 << 112 | int(_draw_ipv4(marker, label)) << 80 | 1))


def _teredo(marker: Marker, label: str) -> str:
    flipped = int(_draw_ipv4(marker, label)) ^ 0xFFFFFFFF
    return str(ipaddress.IPv6Address(0x20010000 << 96 | flipped))


def _address_v6(marker: Marker, label: str) -> str:
    """Draw an IPv6 address with a hardware address in it (EUI-64, RFC 4291 appendix A)."""
    network = 0x3FFF0 << 44 | marker.chance.getrandbits(44)
    interface = 0x02 << 56 | marker.chance.getrandbits(16) << 40 | 0xFFFE << 24 | marker.chance.getrandbits(24)
    return marker.keep(label, str(ipaddress.IPv6Address(network << 64 | interface)))


def _percent(marker: Marker, label: str) -> str:
    return "".join(f"%{byte:02X}" for byte in _word(marker, label).encode())


def _percent_twice(marker: Marker, label: str) -> str:
    return quote(_percent(marker, label), safe="")


def _full_width(marker: Marker, label: str) -> str:
    digits = _number("2", 13, marker, label)
    return quote(marker.keep(f"{label}, as sent", digits.translate({ord(d): ord(d) + 0xFEE0 for d in DIGITS})))


def _base64(marker: Marker, label: str) -> str:
    return base64.urlsafe_b64encode(f"card={_word(marker, label)};".encode()).decode()


def _basic(marker: Marker, label: str) -> str:
    return base64.b64encode(f"{_word(marker, label)}:{_word(marker, f'{label}, password')}".encode()).decode()


def _token(marker: Marker, label: str) -> str:
    return marker.keep(label, f"{marker.chance.getrandbits(128):032x}")


def _uuid(marker: Marker, label: str) -> str:
    return marker.keep(label, str(uuid.UUID(int=marker.chance.getrandbits(128), version=4)))


def _jwt(marker: Marker, label: str) -> str:
    parts = ('{"alg":"HS256","typ":"JWT"}', f'{{"sub":"{_word(marker, label)}"}}')
    encoded = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return marker.keep(f"{label}, as sent", ".".join([*encoded, marker.letters(43)]))


def _long(marker: Marker, label: str) -> str:
    return f"{_word(marker, label)}/{'a' * LONG_CHARS}/{_word(marker, f'{label}, at its end')}"


MAKERS: Final[Mapping[str, Callable[[Marker, str], str]]] = {
    "word": _word,
    "barcode": partial(_number, "2", 13),  # what most library systems print on patrons' cards
    "other_barcode": partial(_number, "58198", 9),
    "phone": partial(_number, "203555", 4),
    "card": partial(_number, "4", 15),
    "email": _email,
    "address": _address,
    "address_v6": _address_v6,
    "mapped": _mapped,
    "six_to_four": _six_to_four,
    "teredo": _teredo,
    "percent": _percent,
    "percent_twice": _percent_twice,
    "full_width": _full_width,
    "base64": _base64,
    "basic": _basic,
    "token": _token,
    "uuid": _uuid,
    "jwt": _jwt,
    "long": _long,
}

# --- Requests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that is sent over one connection, and the rows that it leaves behind.

    Shape:  `rows` when nothing stands between us and the proxy; where `is_foreign`, only if the site takes any host.
            What is not `is_http` may be refused, or mended, by whatever stands in between.
    """

    name: str
    write: Callable[[Marker, str], bytes]
    rows: int = 1
    is_http: bool = True
    is_foreign: bool = False
    ending: Ending = "read"
    is_bare: bool = False  # goes without TLS to an https address, too
    schemes: tuple[Scheme, ...] = ("http", "https")
    server_name: str = "{host}"

    @property
    def requests(self) -> int:
        """Count what is sent: broken off or no HTTP at all, it is one."""
        return max(1, self.rows)

    def bounds(self, *, is_direct: bool, takes_any_host: bool) -> tuple[int, int]:
        """Give the least and the greatest number of rows that may come of it."""
        if is_direct:
            rows = self.rows if takes_any_host or not self.is_foreign else 0
            return rows, rows
        return self.rows if self.is_http and not self.is_foreign else 0, self.requests


@dataclass(frozen=True, slots=True)
class _Request:
    """A well-formed request, as a template."""

    name: str
    method: str
    target: str
    headers: tuple[str, ...]
    body: str = ""
    hosts: tuple[str, ...] = ("{host}",)
    connection: str = "close"

    def __call__(self, marker: Marker, host: str) -> bytes:
        """Write it with fresh marks."""
        body = marker.fill(self.body, host).encode()
        target = marker.fill(self.target, host, f"{self.name}, whole target")
        lines = [f"{marker.fill(self.method, host)} {target} HTTP/1.1"]
        lines += [f"Host: {marker.fill(name, host)}" for name in self.hosts]
        for header in self._all_headers():
            name, _, value = header.partition(": ")
            lines.append(f"{marker.fill(name, host)}: {marker.fill(value, host, f'{self.name}, whole {name}')}")
        if body and not self._has("Transfer-Encoding"):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, f"Connection: {self.connection}", "", ""]).encode() + body

    def _all_headers(self) -> tuple[str, ...]:
        given = self.headers if self._has("User-Agent") else (f"User-Agent: {USER_AGENT}", *self.headers)
        return (*given, "Accept: */*")

    def _has(self, name: str) -> bool:
        return any(header.startswith(f"{name}: ") for header in self.headers)


@dataclass(frozen=True, slots=True)
class _Raw:
    """Bytes that are no well-formed request, as a template; \\xff stands for a byte that is no text."""

    text: str

    def __call__(self, marker: Marker, host: str) -> bytes:
        """Write it with fresh marks."""
        return marker.fill(self.text, host).encode("latin-1")


@dataclass(frozen=True, slots=True)
class _Several:
    """One after the other over the same connection."""

    parts: tuple[Callable[[Marker, str], bytes], ...]

    def __call__(self, marker: Marker, host: str) -> bytes:
        """Write them with fresh marks."""
        return b"".join(part(marker, host) for part in self.parts)


def _get(name: str, target: str, *headers: str, method: str = "GET", body: str = "", rows: int = 1) -> Probe:
    return Probe(name, _Request(name, method, target, headers, body), rows)


def _client_hello(marker: Marker, host: str) -> bytes:
    """Write the beginning of a TLS connection, which names the server in clear (RFC 6066 section 3)."""
    name = marker.fill("{word:server name}.example.org", host, "server name, whole")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake can't end before an answer")


def _preamble(marker: Marker, host: str) -> bytes:
    """Write the binary preamble of the PROXY protocol, version 2, section 2.2."""
    client, server = _draw_ipv4(marker, "address in a binary PROXY preamble"), ipaddress.IPv4Address("192.0.2.1")
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + client.packed + server.packed + b"\xdc\x04\x01\xbb"


_PLAIN: Final = _Request("after a preamble", "GET", "/", ())
_KEPT: Final = _Request("garbage behind", "GET", "/?q={word:query before garbage}", (), connection="keep-alive")

PROBES: Final = (
    _get("plain", "/?{word:plain query}"),
    # What people look for and where they are.
    _get("search term", "/search?q={word:search term}&searchtype=keyword"),
    _get("parameter name", "/search?{word:parameter name}=1"),
    _get("path", "/{word:path}/{word:second segment}"),
    _get("barcode", "/patron/{barcode:barcode in a path}"),
    _get("barcode, other prefix", "/patron/{other_barcode:barcode with another prefix}/holds"),
    _get("barcode, full-width", "/patron/{full_width:barcode in full-width digits}"),
    _get("e-mail", "/user/{email:e-mail address in a path}"),
    _get("telephone", "/sms/{phone:telephone number in a path}"),
    _get("payment card", "/fines/{card:card number in a path}"),
    _get("UUID", "/session/{uuid:UUID in a path}"),
    _get("token in a path", "/reset/{token:reset token in a path}"),
    _get("JWT", "/verify?token={jwt:JWT}"),
    _get("base64", "/confirm/{base64:base64 in a path}"),
    _get("percent-encoded", "/search/{percent:percent-encoded path}?q={percent:percent-encoded value}"),
    _get(
        "percent-encoded twice", "/search/{percent_twice:path encoded twice}?q={percent_twice:value encoded twice}"
    ),
    _get("matrix parameters", "/catalog;jsessionid={word:session in a path};{word:matrix name}=1/results"),
    _get("dot segments", "/a/../{word:path with dots}/./index.html"),
    _get("bytes that are no text", "/%ff%fe{word:path with broken text}%00"),
    _get("long path", "/{long:long path}"),
    _get("login link", "/login?user={word:user name in a link}&ticket={token:ticket}&url=https://{host}/"),
    _get("redirect", "/login?next=/{word:page to return to}&card={barcode:barcode in Location}"),
    _get("newsletter", "/unsubscribe?u={token:newsletter token}&email={email:e-mail address in a query}"),
    _get("campaign", "/?utm_source={word:campaign source}&utm_campaign={word:campaign}&mc_eid={token:recipient}"),
    _get("click identifier", "/?gclid={word:click identifier}&fbclid={word:other click identifier}"),
    _get("guess", "/wp-login.php?log={word:guessed user name}"),
    _get("children's page", "/kids/{word:children's page}?q={word:children's search}"),
    _get("sensitive page", "/health/{word:sensitive page}?q={word:sensitive search}"),
    _get("absolute target", "http://{host}/{word:absolute target}?q={word:query of an absolute target}"),
    # Who they are.
    _get("X-Forwarded-For", "/", "X-Forwarded-For: {address:address in X-Forwarded-For}"),
    _get("X-Forwarded-For, chain", "/", "X-Forwarded-For: {address:first hop}, {address:second hop}"),
    _get("X-Forwarded-For, port", "/", "X-Forwarded-For: {address:address with a port}:51234"),
    _get("Forwarded", "/", 'Forwarded: for="{address:address in Forwarded}:4711";proto=https;by={word:by}'),
    _get("Forwarded, IPv6", "/", 'Forwarded: for="[{address_v6:IPv6 address in Forwarded}]:443"'),
    _get("IPv6", "/", "X-Forwarded-For: {address_v6:IPv6 address (EUI-64)}"),
    _get("IPv4-mapped", "/", "X-Forwarded-For: {mapped:IPv4-mapped address}"),
    _get("6to4", "/", "X-Forwarded-For: {six_to_four:6to4 address}"),
    _get("Teredo", "/", "X-Forwarded-For: {teredo:Teredo address}"),
    _get("other address headers", "/", "X-Real-IP: {address:address in X-Real-IP}",
         "CF-Connecting-IP: {address:address in CF-Connecting-IP}",
         "True-Client-IP: {address:address in True-Client-IP}",
         "X-Client-IP: {address:address in X-Client-IP}", "Via: 1.1 {word:Via}"),
    _get("cookies", "/", "Cookie: CGISESSID={token:session cookie}; PHPSESSID={word:other session cookie}; "
         "_ga=GA1.2.{word:analytics cookie}; {word:cookie name}=1"),
    _get("Basic", "/", "Authorization: Basic {basic:user name in Basic}"),
    _get("Bearer", "/", "Authorization: Bearer {token:Bearer token}"),
    _get("Digest", "/", 'Authorization: Digest username="{word:user name in Digest}", nonce="{token:nonce}"'),
    _get("other identifiers", "/", "X-Request-ID: {uuid:request id}", "X-Api-Key: {token:API key}",
         "From: {email:From}", "If-None-Match: \"{token:ETag}\"", "Traceparent: 00-{token:trace}-00f067aa0ba902b7-01"),
    _get("Referer", "/", "Referer: https://www.{word:Referer host}.example/{word:Referer path}?q={word:Referer query}"),
    _get("Referer, search", "/", "Referer: https://www.google.com/search?q={word:search term in Referer}"),
    _get("Referer, own site", "/", "Referer: http://{host}/patron/{barcode:barcode in Referer}"),
    _get("User-Agent", "/",
         "User-Agent: Mozilla/5.0 (Linux; Android 16; {word:model in User-Agent}) Firefox/143.0 {word:User-Agent}"),
    _get("User-Agent of a robot", "/", "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1; {word:robot})"),
    _get("Accept-Language", "/", "Accept-Language: en-{word:Accept-Language},{word:other language};q=0.5"),
    _get("opt-out", "/?{word:query of an opt-out}", "Sec-GPC: 1", "DNT: 1", "X-Forwarded-For: {address:opt-out}"),
    _get("header name", "/", "X-{word:header name}: {word:header value}"),
    # How they ask.
    _get("HEAD", "/{word:path, HEAD}", method="HEAD"),
    _get("OPTIONS", "/{word:path, OPTIONS}", "Origin: https://{word:Origin}.example", method="OPTIONS"),
    _get("unknown method", "/", method="{word:method}"),
    _get("range", "/?{word:query, range}", "Range: bytes=0-9"),
    _get("form", "/", "Content-Type: application/x-www-form-urlencoded", method="POST",
         body="user={word:user name in a form}&pin={word:PIN}&card={barcode:barcode in a form}"),
    _get("JSON", "/{word:path, JSON}", "Content-Type: application/json", method="POST",
         body='{{"patron": "{barcode:barcode in JSON}", "note": "{word:JSON}"}}'),
    _get("upload", "/", f"Content-Type: multipart/form-data; boundary={BOUNDARY}", method="POST",
         body=f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="{{word:file name}}.txt"\r\n\r\n'
              f"{{word:uploaded file}}\r\n--{BOUNDARY}--\r\n"),
    _get("chunked", "/", "Transfer-Encoding: chunked", method="POST", body="e\r\n{word:chunk}\r\n0\r\n\r\n"),
    Probe("WebSocket", _Request("WebSocket", "GET", "/socket?token={token:token of a WebSocket}", (
        "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
        "Sec-WebSocket-Protocol: {word:WebSocket protocol}"), connection="Upgrade"), ending="glance"),
    Probe("unknown host", _Request("unknown host", "GET", "/{word:path, unknown host}", (),
                                   hosts=("{word:unknown host}.example.com",)), is_foreign=True),
    Probe("two hosts", _Request("two hosts", "GET", "/{word:path, two hosts}", (),
                                hosts=("{host}", "{word:second host}.example.com")), is_http=False, is_foreign=True),
    # What breaks off, and what is no HTTP.
    Probe("answer broken off", _Request("answer broken off", "GET", "/?{word:query, answer broken off}", ()),
          ending="glance"),
    Probe("head broken off", _Raw("GET /search?q={word:term, head broken off} HTTP/1.1\r\nHost: {host}\r\nCoo"),
          rows=0, is_http=False, ending="tear"),
    Probe("body broken off", _Raw("POST /{word:path, body broken off} HTTP/1.1\r\nHost: {host}\r\n"
                                  "Content-Length: 100000\r\n\r\n{word:body broken off}"),
          is_http=False, ending="hang up"),
    Probe("garbage", _Raw("\x00\x01{word:garbage} \xff\r\n\r\n"), rows=0, is_http=False),
    Probe("garbage behind", _Several((_KEPT, _Raw("\x00{word:garbage behind a request} \xff\r\n\r\n"))), is_http=False),
    Probe("broken header", _Raw("GET / HTTP/1.1\r\nHost: {host}\r\n{word:broken header}\r\n\r\n"),
          rows=0, is_http=False),
    Probe("broken length", _Raw("POST /{word:path, broken length} HTTP/1.1\r\nHost: {host}\r\n"
                                "Content-Length: {word:length}\r\n\r\nx"), is_http=False),
    Probe("password in the target", _Raw("GET http://jane:{word:password in the target}@{host}/ HTTP/1.1\r\n"
                                         "Host: {host}\r\n\r\n"), rows=0, is_http=False),
    Probe("head too long", _Raw("GET / HTTP/1.1\r\nHost: {host}\r\nX-Long: {word:head too long}" + "a" * 70_000),
          rows=0, is_http=False),
    Probe("PROXY preamble", _Several((_Raw("PROXY TCP4 {address:address in a PROXY preamble} 192.0.2.1 56324 443\r\n"),
                                      _PLAIN)), rows=0, is_http=False, is_bare=True),
    Probe("binary PROXY preamble", _Several((_preamble, _PLAIN)), rows=0, is_http=False, is_bare=True),
    Probe("TLS on a plain port", _client_hello, rows=0, is_http=False, schemes=("http",)),
    Probe("HTTP on a TLS port", _Request("HTTP on a TLS port", "GET", "/{word:path, HTTP on a TLS port}", ()),
          rows=0, is_http=False, is_bare=True, schemes=("https",)),
    Probe("unknown server name", _PLAIN, rows=0, is_http=False, schemes=("https",),
          server_name="{word:unknown server name}.example.com"),
)  # fmt: skip
