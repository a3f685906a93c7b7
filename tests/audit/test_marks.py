"""A mark is recognised in every form in which a program may have written it."""

import base64
import hashlib
import html
import ipaddress
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.audit.marks import SHORT_BYTES, Mark, encodings, integers

TEXT = "Zoë Canary+7Q/x@example.org"
IPV4 = "203.0.113.77"
IPV6 = "2001:db8:77:1:211:22ff:fe33:4455"

# The secret, and something that another program made of it, written by hand or by the standard library's own encoders.
WRITTEN = [
    (TEXT, TEXT.encode()),
    (TEXT, TEXT.upper().encode()),
    (TEXT, TEXT.lower().encode()),
    (TEXT, TEXT.encode("latin-1")),
    (TEXT, TEXT.encode("utf-16-le")),
    (TEXT, TEXT.encode("utf-16-be")),
    (TEXT, TEXT[::-1].encode()),
    (TEXT, TEXT.encode().hex().encode()),
    (TEXT, TEXT.encode().hex().upper().encode()),
    (TEXT, urllib.parse.quote(TEXT, safe="").encode()),
    (TEXT, urllib.parse.quote(urllib.parse.quote(TEXT, safe=""), safe="").encode()),
    (TEXT, urllib.parse.quote_plus(TEXT).encode()),
    (TEXT, "".join(f"%{byte:02X}" for byte in TEXT.encode()).encode()),
    (TEXT, "".join(f"%25{byte:02X}" for byte in TEXT.encode()).encode()),
    (TEXT, base64.b64encode(TEXT.encode())),
    (TEXT, base64.b64encode(b"k=" + TEXT.encode() + b"&more")),
    (TEXT, base64.b64encode(b"k" + TEXT.encode() + b"&more")),
    (TEXT, base64.urlsafe_b64encode(b"user:" + TEXT.encode())),
    (TEXT, base64.b32encode(b"abc" + TEXT.encode() + b"z")),
    (TEXT, json.dumps(TEXT).encode()),
    (TEXT, "".join(f"\\u{ord(character):04x}" for character in TEXT).encode()),
    (TEXT, TEXT.encode("ascii", "xmlcharrefreplace")),
    (TEXT, "".join(f"&#{ord(character)};" for character in TEXT).encode()),
    (TEXT, TEXT.replace("ë", html.escape("&euml;").replace("&amp;", "&")).encode()),
    (TEXT, "".join(f"={byte:02X}" for byte in TEXT.encode()).encode()),
    (TEXT, hashlib.md5(TEXT.encode()).digest()),
    (TEXT, hashlib.sha1(TEXT.encode()).hexdigest().encode()),
    (TEXT, hashlib.sha256(TEXT.encode()).hexdigest()[:16].encode()),
    (TEXT, base64.b64encode(hashlib.sha512(TEXT.encode()).digest())),
    (TEXT, hashlib.blake2b(TEXT.lower().encode()).hexdigest().encode()),
    (IPV4, b"203.0.113.77"),
    (IPV4, b"203.000.113.077"),
    (IPV4, b"0xCB00714D"),
    (IPV4, b"cb00714d"),
    (IPV4, b"0xcb.0x0.0x71.0x4d"),
    (IPV4, b"0313.00.0161.0115"),
    (IPV4, b"031300070515"),
    (IPV4, b"3405803853"),
    (IPV4, b"203-0-113-77"),
    (IPV4, b"77.113.0.203.in-addr.arpa"),
    (IPV4, b"\xcb\x00\x71\x4d"),
    (IPV4, b"\x4d\x71\x00\xcb"),
    (IPV4, b"::ffff:203.0.113.77"),
    (IPV4, b"::ffff:cb00:714d"),
    (IPV4, b"2002:cb00:714d::1"),
    (IPV4, b"64:ff9b::cb00:714d"),
    (IPV4, b"2001:0:4136:e378:8000:63bf:34ff:8eb2"),
    (IPV4, hashlib.sha256(b"203.0.113.77").hexdigest().encode()),
    (IPV4, hashlib.sha1(b"\xcb\x00\x71\x4d").hexdigest().encode()),
    (IPV4, base64.b64encode(b"ip=203.0.113.77")),
    (IPV6, b"2001:db8:77:1:211:22ff:fe33:4455"),
    (IPV6, b"2001:0DB8:0077:0001:0211:22FF:FE33:4455"),
    (IPV6, b"20010db8007700010211 22fffe334455".replace(b" ", b"")),
    (IPV6, b"2001-db8-77-1-211-22ff-fe33-4455.ipv6-literal.net"),
    (IPV6, b"5.5.4.4.3.3.e.f.f.f.2.2.1.1.2.0.1.0.0.0.7.7.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
    (IPV6, b"2001%3Adb8%3A77%3A1%3A211%3A22ff%3Afe33%3A4455"),
    (IPV6, str(int(ipaddress.ip_address(IPV6))).encode()),
    (IPV6, ipaddress.ip_address(IPV6).packed),
    (IPV6, ipaddress.ip_address(IPV6).packed[::-1]),
    (IPV6, b"fe80::211:22ff:fe33:4455%eth0"),
    (IPV6, b"00:11:22:33:44:55"),
    (IPV6, b"00-11-22-33-44-55"),
    (IPV6, b"0011.2233.4455"),
    (IPV6, b"001122334455"),
    (IPV6, b"\x00\x11\x22\x33\x44\x55"),
    ("00:11:22:33:44:55", b"2001:db8::211:22ff:fe33:4455"),
    ("0011.2233.4455", b"00-11-22-33-44-55"),
]


@pytest.mark.parametrize(("secret", "written"), WRITTEN)
def test_what_other_encoders_write_is_among_the_encodings(secret: str, written: bytes) -> None:
    """Each form, made by someone else's encoder, contains one of the patterns."""
    patterns = encodings(Mark("m", secret)).values()
    assert any(pattern.lower() in written.lower() for pattern in patterns)


@pytest.mark.parametrize(
    ("secret", "number"),
    [
        (IPV4, 3405803853),
        (IPV4, 0x4D7100CB),
        (IPV6, 0x021122FFFE334455),
        ("00:11:22:33:44:55", 0x001122334455),
        ("29077012345678", 29077012345678),
        (TEXT, int.from_bytes(hashlib.sha256(TEXT.encode()).digest()[:8])),
        (TEXT, int.from_bytes(hashlib.md5(TEXT.encode()).digest()[:8], "little")),
    ],
)
def test_marks_are_known_as_numbers(secret: str, number: int) -> None:
    """An address, a barcode and the first eight bytes of a digest may stand in an integer column."""
    assert number in integers(Mark("m", secret)).values()


def test_a_mark_shows_its_label_only() -> None:
    """Neither a mark's repr nor the names of its forms repeat the secret."""
    mark = Mark("the barcode", "29077012345678")
    assert "29077012345678" not in repr(mark)
    assert all("2907" not in name for name in encodings(mark))


def test_an_interface_identifier_that_everyone_has_is_no_pattern() -> None:
    """`::1` at the end of an address names nobody, so its lower half alone isn't looked for."""
    assert "IPv6 interface" not in encodings(Mark("m", "2001:db8::1"))


@pytest.mark.parametrize("secret", ["", "a", "abcd", "éé"])
def test_a_secret_that_chance_could_write_is_refused(secret: str) -> None:
    """A mark of fewer than five bytes would be found everywhere; the message names its label."""
    with pytest.raises(ValueError, match="the label"):
        Mark("the label", secret)


@given(st.text(min_size=5, max_size=40).filter(lambda text: all(not "\ud800" <= c <= "\udfff" for c in text)))
def test_any_text_has_patterns_long_enough(secret: str) -> None:
    """Only packed addresses are shorter than what may be searched in arbitrary bytes."""
    assert all(len(pattern) >= SHORT_BYTES for pattern in encodings(Mark("m", secret)).values())


@given(st.ip_addresses())
def test_any_address_has_its_text_and_its_bytes(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Every address is looked for as it is written and as it is packed."""
    patterns = encodings(Mark("m", address.exploded)).values()
    assert address.compressed.encode() in patterns
    assert address.packed in patterns
