"""Sessions: what tells that two requests belong together. It goes into a keyed hash and nowhere else."""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from anonproxy.anonymize.address import Address

# A configured name that ends with * stands for every cookie that has a hash there: Drupal and WordPress put one of the
# site's address behind theirs (32 hexadecimal digits), classic ASP one of the process (8 capitals). Any other rest is
# not taken: SESSION_LANGUAGE, the same for everybody, would make one endless visit of all visitors.
HASH: Final = re.compile(r"[0-9a-f]{16,64}|[A-Z]{8}")

# What is looked at: browsers keep 180 cookies for a site at most (Chromium, Firefox).
MAX_COOKIES: Final = 180

# Privacy extensions (RFC 8981) change the last 64 bits of an IPv6 address every day; the first 64 are one household.
IPV6_SESSION_BITS: Final = 64


class SessionCookie(NamedTuple):
    """A cookie that holds a session, as it came in, and the configured name that it fits."""

    configured: str
    raw_name: str
    raw_value: str


def find_session_cookie(raw_cookie: str, names: Sequence[str]) -> SessionCookie | None:
    """Find the session cookie: the first configured name that has a value.

    Reveals: the session: what this returns never leaves the room
    Source:  RFC 6265 section 5.4
    """
    if not raw_cookie:
        return None
    pairs = [pair.partition("=") for pair in raw_cookie.split(";", MAX_COOKIES)[:MAX_COOKIES]]
    cookies = [(raw_name.strip(), raw_value.strip()) for raw_name, _, raw_value in pairs]
    found = (
        SessionCookie(name, raw_name, raw_value)
        for name in names
        for raw_name, raw_value in cookies
        if raw_value and _is_named(raw_name, name)
    )
    return next(found, None)


def _is_named(raw_name: str, name: str) -> bool:
    start, star, _ = name.partition("*")
    return HASH.fullmatch(raw_name, len(start)) is not None and raw_name.startswith(start) if star else raw_name == name


def session_parts(
    address: Address, raw_cookie: str, raw_user_agent: str, cookie_names: Sequence[str]
) -> tuple[bytes, ...]:
    """Collect what identifies a session: its cookie, else address (/64 for IPv6) and User-Agent.

    The site is not among the parts: the tagger puts it before them. The first part says which of the two it is, so that
    a cookie can't be made to look like somebody's address.

    Reveals: the session: what this returns goes into the tagger only
    """
    if cookie := find_session_cookie(raw_cookie, cookie_names):
        return cookie_parts(cookie)
    network = address.packed if address.version == 4 else address.packed[: IPV6_SESSION_BITS // 8]
    return b"address", network, raw_bytes(raw_user_agent)


def next_session_parts(raw_set_cookie: str, cookie_names: Sequence[str]) -> tuple[bytes, ...] | None:
    """Collect what the session will be identified by from now on, if the answer sets a session cookie.

    Reveals: the session: what this returns goes into the tagger only
    """
    cookie = find_session_cookie(raw_set_cookie, cookie_names)
    return cookie_parts(cookie) if cookie else None


def cookie_parts(cookie: SessionCookie) -> tuple[bytes, ...]:
    """Collect what a cookie identifies a session by.

    Reveals: the session: what this returns goes into the tagger only
    """
    return b"cookie", raw_bytes(cookie.raw_name), raw_bytes(cookie.raw_value)


def raw_bytes(raw: str) -> bytes:
    """Return a raw text as bytes, different texts as different bytes, whatever half characters are in it.

    Reveals: everything: what this returns goes into the tagger only
    """
    return raw.encode("utf-8", "surrogatepass")
