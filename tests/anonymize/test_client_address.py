"""Which hop is the visitor."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.address import parse_client
from anonproxy.anonymize.client_address import MAX_HOPS, choose_client, is_trusted, parse_forwarded
from anonproxy.model.settings import ProxySettings
from anonproxy.proxy.limits import MAX_HEAD_BYTES

PROXY = ProxySettings.model_validate({"trusted_proxies": ["10.0.0.0/8", "2001:db8:ffff::/48"]})


@pytest.mark.parametrize(
    ("peer", "x_forwarded_for", "forwarded", "chosen", "hop"),
    [
        ("192.0.2.1", "", "", "192.0.2.1", 0),
        ("192.0.2.1", "203.0.113.7", "", "192.0.2.1", 0),  # a stranger's word
        ("10.0.0.1", "", "", "10.0.0.1", 0),  # no header
        ("10.0.0.1", "203.0.113.7", "", "203.0.113.7", 1),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7", "", "203.0.113.7", 1),  # what the visitor invented is left of it
        ("10.0.0.1", "203.0.113.7, 10.0.0.2", "", "203.0.113.7", 2),
        ("10.0.0.1", "203.0.113.7 ,10.9.9.9,10.0.0.2", "", "203.0.113.7", 3),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "", "10.0.0.3", 2),  # a visitor inside the trusted network
        ("10.0.0.1", "203.0.113.7, unknown", "", "unknown", 1),  # never guess
        ("10.0.0.1", "203.0.113.7,", "", "", 1),
        ("10.0.0.1", "203.0.113.7:4711", "", "203.0.113.7:4711", 1),
        ("10.0.0.1", "", "for=203.0.113.7", "203.0.113.7", 1),
        ("10.0.0.1", "", 'for=192.0.2.60;proto=http;by=203.0.113.43, for="[2001:db8::1]:80"', "[2001:db8::1]:80", 1),
        ("10.0.0.1", "", 'For="203.0.113.7";by=10.0.0.9, proto=https;for=10.0.0.2', "203.0.113.7", 2),
        ("10.0.0.1", "", "for=203.0.113.7, proto=https", "", 1),
        ("10.0.0.1", "", 'for="_a,b"', "_a,b", 1),
        ("10.0.0.1", "", 'for=198.51.100.1, for="203.0.113.7', "", 1),  # quotes that are not closed hold the rest
        ("10.0.0.1", "", 'for="203.0.113.7, for=10.0.0.2\\', "", 1),
        ("10.0.0.1", "203.0.113.7", "for=198.51.100.1", "203.0.113.7", 1),
        ("::ffff:10.0.0.1", "203.0.113.7", "", "203.0.113.7", 1),  # a dual-stack listener
        ("2002:a00:1::1", "203.0.113.7", "", "2002:a00:1::1", 0),  # 6to4 of a proxy's address is not that proxy
        ("64:ff9b::a00:1", "203.0.113.7", "", "64:ff9b::a00:1", 0),
        ("10.0.0.1", "198.51.100.1, 2002:a00:2::1", "", "2002:a00:2::1", 1),
        ("2001:db8:ffff::1", "2001:db8::7", "", "2001:db8::7", 1),
        ("10.0.0.1", ", ".join(["203.0.113.7"] + ["10.0.0.2"] * MAX_HOPS), "", "10.0.0.2", MAX_HOPS),
    ],
)
def test_rightmost_untrusted_hop_is_the_client(
    peer: str, x_forwarded_for: str, forwarded: str, chosen: str, hop: int
) -> None:
    """The client is the rightmost hop that isn't trusted, and hops count only behind a trusted peer."""
    choice = choose_client(peer, x_forwarded_for, forwarded, PROXY)
    assert choice[:2] == (chosen, hop)


@pytest.mark.parametrize("piece", ['"\\', '"', '\\"', 'for="\\', ";for=", "; ", ",", '"",'])
def test_no_header_takes_long_to_read(piece: str) -> None:
    """The longest Forwarded that a head has room for takes no time that anybody would notice."""
    raw_forwarded = piece * (MAX_HEAD_BYTES // len(piece))
    began_s = time.process_time()
    parse_forwarded(raw_forwarded)
    assert time.process_time() - began_s < 1.0


@given(peer=st.text(), x_forwarded_for=st.text(), forwarded=st.text())
def test_any_text_gives_a_choice_whose_reason_quotes_nothing(peer: str, x_forwarded_for: str, forwarded: str) -> None:
    """Whatever the headers hold, there is a choice, and its reason is one of a few sentences."""
    choice = choose_client("10.0.0.1", x_forwarded_for, forwarded, PROXY)
    assert choice.why.replace(str(choice.hop), "N") in {
        "the peer is a trusted proxy, but named no client",
        "hop N from the right is the first that is not a trusted proxy",
        "hop N from the right is not an address, and addresses are never guessed",
        "every hop is a trusted proxy, so the farthest is the client",
    }
    assert choose_client(peer, x_forwarded_for, forwarded, ProxySettings()).raw_client == peer


@given(invented=st.lists(st.ip_addresses().map(str) | st.text(alphabet="10.,;= \"for_'", max_size=20)))
def test_visitor_cannot_choose_an_address(invented: list[str]) -> None:
    """Whatever a visitor sends, the address that our own proxy saw is taken."""
    assert choose_client("10.0.0.1", ",".join([*invented, "203.0.113.7"]), "", PROXY).raw_client == "203.0.113.7"


@given(st.text())
def test_parse_forwarded_reads_any_text(raw: str) -> None:
    """Forwarded is read without an error, whatever it holds."""
    assert all(isinstance(hop, str) for hop in parse_forwarded(raw))


def test_nobody_is_trusted_unless_configured() -> None:
    """An empty list trusts no one, loopback included."""
    assert parse_client("127.0.0.1") is not None
    assert not is_trusted("127.0.0.1", ())


@pytest.mark.parametrize(
    ("x_forwarded_for", "chosen", "hop"),
    [
        ("203.0.113.7, 192.0.2.2", "203.0.113.7", 2),
        ("198.51.100.9, 203.0.113.7, 192.0.2.2", "203.0.113.7", 2),  # what the visitor invented is left of it
        ("203.0.113.7", "", 1),  # somebody came past a proxy
        ("", "", 0),
    ],
)
def test_proxies_can_be_counted(x_forwarded_for: str, chosen: str, hop: int) -> None:
    """Where the proxies' addresses aren't known their number decides, and a chain too short is nobody's address."""
    counted = ProxySettings(trusted_hops=2)
    assert choose_client("192.0.2.1", x_forwarded_for, "", counted)[:2] == (chosen, hop)
