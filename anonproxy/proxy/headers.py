"""What the headers say of a visitor: read for the record, and kept from the site."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from anonproxy.anonymize.address import mask_address, parse_client
from anonproxy.model.settings import Settings

Fields = tuple[tuple[bytes, bytes], ...]

# Every header by which proxies, load balancers and content networks hand on the visitor's address or place.
ADDRESS_HEADERS: Final = frozenset(
    b"""
    forwarded forwarded-for forwarded-for-ip
    x-forwarded x-forwarded-for x-forwarded-for-original x-forwarded-client-ip x-forwarded-client-cert
    x-original-forwarded-for x-original-remote-addr x-originating-ip x-original-ip
    x-real-ip x-real-client-ip x-client x-client-ip x-client-address x-client-addr x-client-port x-client-source-port
    x-cluster-client-ip x-cluster-client x-remote-ip x-remote-addr x-remote-address x-remote-host x-host-ip
    x-proxyuser-ip x-user-ip x-source-ip x-src-ip x-peer-ip x-trusted-client-ip x-coming-from coming-from
    client-ip http-client-ip proxy-client-ip wl-proxy-client-ip remote-addr remote-ip via x-via x-forwarded-by
    do-connecting-ip eo-connecting-ip x-true-client-ip
    true-client-ip true-client-port akamai-client-ip akamai-origin-hop akamai-edgescape x-akamai-edgescape
    cf-connecting-ip cf-connecting-ipv6 cf-connecting-o2o cf-pseudo-ipv4 cf-ipcity cf-iplatitude cf-iplongitude
    cf-postal-code cf-metro-code cf-region cf-region-code cf-timezone cf-ray
    fastly-client-ip fastly-client fastly-temp-xff fly-client-ip incap-client-ip x-sucuri-clientip
    ali-cdn-real-ip cdn-src-ip cdn-loop-client-ip x-cdn-src-ip x-nf-client-connection-ip
    x-appengine-user-ip x-appengine-remote-addr x-appengine-city x-appengine-citylatlong x-appengine-region
    x-azure-clientip x-azure-socketip x-azure-ref x-envoy-external-address x-envoy-peer-metadata
    x-vercel-forwarded-for x-vercel-proxied-for x-vercel-ip-city x-vercel-ip-latitude x-vercel-ip-longitude
    x-vercel-ip-postal-code x-arr-clientip x-ms-forwarded-client-ip x-ms-client-ip
    cloudfront-viewer-address cloudfront-viewer-city cloudfront-viewer-latitude cloudfront-viewer-longitude
    cloudfront-viewer-postal-code cloudfront-viewer-asn x-amz-cf-viewer-address x-google-real-ip
    """.split()
)
# What a visitor's word about the connection is worth: nothing, unless a trusted proxy says it.
CONNECTION_HEADERS: Final = frozenset(
    b"x-forwarded-proto x-forwarded-host x-forwarded-port x-forwarded-scheme x-forwarded-ssl front-end-https".split()
)
# What is meant for the next one on the way only (RFC 9110 section 7.6.1), besides what Connection names; a change to
# HTTP/2 would take what follows past the record; a proxy's password is not the site's.
HOP_HEADERS: Final = frozenset(b"keep-alive proxy-connection proxy-authorization http2-settings".split())
# What those may say that are passed on all the same: to a WebSocket only, and that trailers are welcome.
_PASSED_HOPS: Final = {b"upgrade": b"websocket", b"te": b"trailers"}
# What Connection says of itself rather than of another header.
_LASTING: Final = frozenset((b"close", b"keep-alive"))
# What Connection can't take away: where a message ends, whom it is for, and what a trusted proxy says of it.
_NO_HOPS: Final = (
    CONNECTION_HEADERS | _PASSED_HOPS.keys() | frozenset(b"host content-length transfer-encoding connection".split())
)
_DROPPED: Final = {
    True: ADDRESS_HEADERS | HOP_HEADERS,
    False: ADDRESS_HEADERS | HOP_HEADERS | CONNECTION_HEADERS,
}
# What must stand in the head to mean something, and so must not come after the body (RFC 9110 section 6.5.1).
_NO_TRAILERS: Final = (
    ADDRESS_HEADERS
    | HOP_HEADERS
    | CONNECTION_HEADERS
    | _PASSED_HOPS.keys()
    | frozenset(
        b"""
        host connection content-length transfer-encoding trailer expect max-forwards authorization www-authenticate
        cookie set-cookie cache-control pragma range if-match if-none-match if-modified-since if-unmodified-since
        if-range content-encoding content-type content-range location date age expires vary
        """.split()
    )
)

# Referrer policies that "same-origin" must not replace: two tell other websites nothing, too; two tell them the host
# name only, but the site itself no more than that. And those that it tightens (W3C Referrer Policy section 3).
_TIGHT: Final = frozenset(b"no-referrer same-origin origin strict-origin".split())
_LOOSE: Final = frozenset(
    b"unsafe-url no-referrer-when-downgrade origin-when-cross-origin strict-origin-when-cross-origin".split()
)

# The headers that the record reads, and what joins the lines of one that is repeated.
_READ: Final = {
    b"host": b",",
    b"cookie": b"; ",
    b"user-agent": b" ",
    b"referer": b",",
    b"accept-language": b",",
    b"sec-gpc": b",",
    b"dnt": b",",
    b"x-forwarded-for": b",",
    b"forwarded": b",",
}


def read_headers(fields: Fields) -> dict[bytes, str]:
    """Return the headers that the record needs, by lower-case name; "" for those that were not sent."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        key = name.lower()
        if key in _READ:
            found[key] = found[key] + _READ[key] + value if key in found else value
    return {key: found.get(key, b"").decode("utf-8", "surrogateescape") for key in _READ}


def read_set_cookies(fields: Fields) -> str:
    """Return the cookies that an answer sets, as the visitor will send them back: names and values, no attributes."""
    cookies = (value.partition(b";")[0].strip() for name, value in fields if name.lower() == b"set-cookie")
    return b"; ".join(cookies).decode("utf-8", "surrogateescape")


def mask_headers(fields: Fields, *, is_peer_trusted: bool) -> Fields:
    """Return a request's headers without any address of the visitor, and without a stranger's word on the connection.

    Of the protocols that a visitor may want to change to, only a WebSocket is passed on.
    """
    return drop_hops(fields, _DROPPED[is_peer_trusted])


def drop_hops(fields: Fields, dropped: frozenset[bytes] = HOP_HEADERS) -> Fields:
    """Return the headers without those for the next one on the way only, be it by their nature or by Connection's word.

    Source: RFC 9110 section 7.6.1
    """
    said = b",".join([value for name, value in fields if name.lower() == b"connection"])
    options = [option.strip() for option in said.lower().split(b",")] if said else []
    dropped |= frozenset(options) - _NO_HOPS
    kept = [
        (name, value)
        for name, value in fields
        if not _is_among(key := name.lower(), dropped)
        and (key not in _PASSED_HOPS or value.lower() == _PASSED_HOPS[key])
    ]
    names = {name.lower() for name, _ in kept} & _PASSED_HOPS.keys() | _LASTING
    lasting = [option for option in options if option in names]
    return tuple(kept if lasting == [said] else _restate_connection(kept, lasting))


def _restate_connection(
    fields: Iterable[tuple[bytes, bytes]], options: Sequence[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers with one Connection, in the place of the first."""
    for name, value in fields:
        if name.lower() != b"connection":
            yield name, value
        elif options:
            yield name, b", ".join(options)
            options = ()


def mask_trailers(fields: Fields) -> Fields:
    """Return the trailers that may pass: none that would have meant something in the head."""
    return tuple((name, value) for name, value in fields if not _is_among(name.lower(), _NO_TRAILERS))


def _is_among(key: bytes, names: frozenset[bytes]) -> bool:
    """Tell whether a header is one of these; for CGI and its heirs "_" and "-" are the same (RFC 3875 4.1.18)."""
    return key in names or key.replace(b"_", b"-") in names


def add_headers(fields: Fields, additions: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Return the headers with those added whose names aren't there, so that a trusted proxy's word stands.

    Reveals: to the site, what `additions` hold
    """
    names = {name.lower() for name, _ in fields}
    return (*fields, *(field for field in additions if field[0].lower() not in names))


def describe_visitor(
    settings: Settings, raw_host: str, raw_client: str, *, is_tls: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yield what the site may know of the connection, and of the visitor as far as the settings allow.

    Reveals: to the site, nothing of the address, or its network
    """
    yield b"X-Forwarded-Proto", b"https" if is_tls else b"http"
    yield b"X-Forwarded-Host", raw_host.encode("utf-8", "surrogateescape")
    if settings.proxy.forward_client == "truncated" and (address := parse_client(raw_client)):
        network = mask_address(address, settings.privacy.ipv4_prefix, settings.privacy.ipv6_prefix)[0]
        yield b"X-Forwarded-For", network.partition("/")[0].encode()


def guard_referrer(fields: Fields) -> Fields:
    """Return a response's headers with a policy by which browsers keep the addresses of pages from other websites.

    The site's own policy stands where ours would tell anybody more. Else ours is put last, where it counts for every
    browser that knows it; others go by what was there before.

    Source: Referrer Policy (W3C), sections 3 and 8.1
    """
    policy = b""
    for name, value in fields:
        if name.lower() == b"referrer-policy":
            policy = find_policy(value) or policy
    return fields if policy in _TIGHT else (*fields, (b"Referrer-Policy", b"same-origin"))


def find_policy(value: bytes) -> bytes:
    """Return the policy that a list names: the last one that is known, b"" if none is."""
    tokens = [token.strip().lower() for token in value.split(b",")]
    return next((token for token in reversed(tokens) if token in _TIGHT or token in _LOOSE), b"")


def is_private(cache_control: str) -> bool:
    """Tell whether a response is meant for one visitor only.

    Source: RFC 9111 section 5.2.2
    """
    directives = {directive.partition("=")[0].strip() for directive in cache_control.lower().split(",")}
    return not directives.isdisjoint({"private", "no-store"})
