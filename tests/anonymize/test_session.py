"""What tells two sessions apart, before it is hashed."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.session import find_session_cookie, session_parts

NAMES = ("PHPSESSID", "ASP.NET_SessionId", "SESS*", "wordpress_logged_in_*", "ASPSESSIONID*")

COOKIES = [
    ("PHPSESSID=abc", ("PHPSESSID", "abc")),
    ("theme=dark; PHPSESSID=abc; lang=en", ("PHPSESSID", "abc")),
    ("theme=dark;PHPSESSID=abc", ("PHPSESSID", "abc")),
    ("ASP.NET_SessionId=x; PHPSESSID=abc", ("PHPSESSID", "abc")),  # configured order, not the order of arrival
    ("PHPSESSID=first; PHPSESSID=second", ("PHPSESSID", "first")),  # RFC 6265: the longer path stands first
    ("PHPSESSID=; ASP.NET_SessionId=x", ("ASP.NET_SessionId", "x")),
    ("SESS49960de5880e8c687434170f6476605b=v", ("SESS49960de5880e8c687434170f6476605b", "v")),
    (
        "wordpress_logged_in_49960de5880e8c687434170f6476605b=jane%7C1",
        ("wordpress_logged_in_49960de5880e8c687434170f6476605b", "jane%7C1"),
    ),
    ("ASPSESSIONIDQQBBTRAC=v", ("ASPSESSIONIDQQBBTRAC", "v")),
    ("SESSION_LANGUAGE=eng", None),  # no hash: the same for everybody
    ("SESS=eng; SESSION=x; XSESS49960de5880e8c68=v", None),
    ('PHPSESSID="a=b=c"', ("PHPSESSID", '"a=b=c"')),
    ("PHPSESSID = abc ", ("PHPSESSID", "abc")),
    ("", None),
    ("PHPSESSID", None),
    ("PHPSESSID=", None),
    ("phpsessid=abc", None),  # cookie names are case-sensitive
    ("XPHPSESSID=abc; PHPSESSID2=abc", None),
    (";;;=;==", None),
]


@pytest.mark.parametrize(("raw_cookie", "expected"), COOKIES)
def test_finds_the_configured_cookie(raw_cookie: str, expected: tuple[str, str] | None) -> None:
    """The first configured name that has a value is the session, with `*` for any rest of the name."""
    found = find_session_cookie(raw_cookie, NAMES)
    assert (found and (found.raw_name, found.raw_value)) == expected


def parts(client: str, raw_cookie: str = "", raw_user_agent: str = "") -> tuple[bytes, ...]:
    """Return the parts of a request's session."""
    return session_parts(ip_address(client), raw_cookie, raw_user_agent, NAMES)


def test_a_cookie_is_the_session_wherever_it_comes_from() -> None:
    """With the same cookie, address and User-Agent don't matter."""
    assert parts("203.0.113.7", raw_cookie="PHPSESSID=a", raw_user_agent="x") == parts(
        "2001:db8::1", raw_cookie="a=1; PHPSESSID=a", raw_user_agent="y"
    )


@pytest.mark.parametrize(
    ("client", "other", "is_same"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::", True),  # privacy addresses of one household
        ("2001:db8:1:2::", "2001:db8:1:3::", False),
    ],
)
def test_without_a_cookie_the_address_is_the_session(client: str, other: str, is_same: bool) -> None:
    """An IPv4 address counts whole, an IPv6 address by its first 64 bits."""
    assert (parts(client, raw_user_agent="x") == parts(other, raw_user_agent="x")) is is_same


def test_without_a_cookie_the_user_agent_counts() -> None:
    """Two browsers behind one address are two sessions."""
    assert parts("203.0.113.7", raw_user_agent="x") != parts("203.0.113.7", raw_user_agent="y")


@given(st.text(), st.text(), st.ip_addresses())
def test_a_cookie_never_looks_like_an_address(raw_cookie: str, raw_agent: str, address: object) -> None:
    """No cookie value gives the parts that an address and User-Agent give, and no text raises."""
    found = parts(str(address), f"PHPSESSID={raw_cookie}", raw_agent)
    assert found[0] == (b"cookie" if raw_cookie.split(";")[0].strip() else b"address")
