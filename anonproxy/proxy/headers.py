"""What the headers say of a visitor: read for the record, and kept from the site."""

from collections.abc import Iterable, Iterator
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
# What is meant for us and not for the site (RFC 9110 section 7.6.1): trailers, which mitmproxy can't carry, are not
# asked for; a change to HTTP/2 would take what follows past the record; a proxy's password is not the site's.
HOP_HEADERS: Final = frozenset(b"te keep-alive proxy-connection proxy-authorization http2-settings".split())
_DROPPED: Final = {
    True: ADDRESS_HEADERS | HOP_HEADERS,
    False: ADDRESS_HEADERS | HOP_HEADERS | CONNECTION_HEADERS,
}

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
    """Return the headers without any address of the visitor, and without a stranger's word about the connection.

    Of the protocols that a visitor may want to change to, only a WebSocket is passed on.
    """
    dropped = _DROPPED[is_peer_trusted]
    return tuple(
        (name, value)
        for name, value in fields
        if (key := name.lower()) not in dropped and (key != b"upgrade" or value.lower() == b"websocket")
    )


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


def is_private(cache_control: str) -> bool:
    """Tell whether a response is meant for one visitor only.

    Source: RFC 9111 section 5.2.2
    """
    directives = {directive.partition("=")[0].strip() for directive in cache_control.lower().split(",")}
    return not directives.isdisjoint({"private", "no-store"})
