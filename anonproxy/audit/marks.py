"""Marks: secrets that a canary plants, and every form in which they could come back.

A mark is a text, an IP address, or a MAC address. A leak rarely looks like what was planted: it went through a URL
encoder, a hash, a byte order. So each mark is turned into many patterns, and the search looks for all of them.

Two kinds of pattern can turn up by chance, and are treated with care:

- **A few bytes.** Four packed bytes of an IPv4 address stand somewhere in any few gigabytes of compressed data. A
  pattern shorter than `SHORT_BYTES` is therefore looked for only in decoded values (see `search`). Encodings of texts
  that would come out as short are left out. For the same reason there is no CRC-32: four bytes prove nothing.
- **A few digits.** Eight hexadecimal digits stand in some digest sooner or later. Such patterns, the names in
  `WHOLE_NUMBERS`, count only where no further digit stands beside them.

Case is folded by the search (ASCII), so a pattern stands for all its spellings.

"""

import base64
import hashlib
import html.entities
import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

# Chance: a pattern of 5 bytes turns up once in a terabyte of random bytes, one of 4 bytes once in four gigabytes.
SHORT_BYTES = 5
# Encoded forms are made of few different characters, so they need more of them: 7 of base64 with its case folded are
# about as rare as 5 random bytes.
SHORT_CHARACTERS = 7
# A digest is recognised by its first 8 bytes, so that a truncated one is found as well; 2^-64 is no coincidence.
DIGEST_BYTES = 8
# In base64 it takes 12 bytes, 16 characters, to be as sure and as quick.
DIGEST_BASE64_BYTES = 12
DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s", "sha3_256")
# Patterns that are nothing but a few digits.
WHOLE_NUMBERS = frozenset({"IPv4 hex digits", "IPv4 integer", "IPv4 octal integer", "IPv4 integer, bytes swapped"})
# A column of counts holds every small number; 2^24 is beyond the hits of a day.
SMALL_INTEGER = 1 << 24

MAC = re.compile(r"(?:[0-9a-f]{2}([:-]?)[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})", re.I)


@dataclass(frozen=True, slots=True)
class Mark:
    """A planted secret and the name it goes by; only the name is ever shown.

    Raises: ValueError for a secret so short that it would be found by chance
    """

    label: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what can't prove anything."""
        if len(self.secret.encode()) < SHORT_BYTES:
            raise ValueError(f"the mark {self.label!r} is shorter than {SHORT_BYTES} bytes")


def encodings(mark: Mark) -> dict[str, bytes]:
    """Write a mark in every form in which it might be stored, by the form's name."""
    forms: dict[str, bytes] = {}
    for name, text in _spellings(mark.secret).items():
        forms |= {_join(transport, name): pattern for transport, pattern in _transports(text.encode())}
        forms |= {_join(charset, name): pattern for charset, pattern in _charsets(text)}
    for name, raw in _packed_forms(mark.secret).items():
        forms[name] = raw
        forms[f"{name}, little-endian"] = raw[::-1]
        forms |= {_join(digest, name): pattern for digest, pattern in _digests(raw)}
    for name, text in _notations(mark.secret).items():
        forms[name] = text.encode()
        forms[f"{name}, percent-encoded"] = quote(text, safe="").encode()
        forms[f"{name}, UTF-16"] = text.encode("utf-16-le")
        if name not in WHOLE_NUMBERS:
            forms[f"{name}, reversed"] = text[::-1].encode()
    return _distinct(forms)


def integers(mark: Mark) -> dict[str, int]:
    """Give the numbers that a mark can be stored as, by their forms' names.

    Shape:  from `SMALL_INTEGER` to below 2^64, as the unsigned reading of at most 8 bytes
    """
    numbers: dict[str, int] = {}
    if mark.secret.isascii() and mark.secret.isdecimal():
        numbers["number"] = int(mark.secret)
    for name, raw in _packed_forms(mark.secret).items():
        numbers |= _both_orders(name, raw)
    for name, text in _spellings(mark.secret).items():
        for digest in DIGESTS:
            numbers |= _both_orders(_join(digest, name), _digest(digest, text.encode()))
    return {name: number for name, number in numbers.items() if SMALL_INTEGER <= number < 1 << 64}


def _both_orders(name: str, raw: bytes) -> dict[str, int]:
    if len(raw) > DIGEST_BYTES:
        return {}
    return {
        f"{name}, as an integer": int.from_bytes(raw),
        f"{name}, as an integer, bytes swapped": int.from_bytes(raw, "little"),
    }


def _distinct(forms: Mapping[str, bytes]) -> dict[str, bytes]:
    """Keep the first name of each pattern, case folded."""
    names: dict[bytes, str] = {}
    for name, pattern in forms.items():
        names.setdefault(pattern.lower(), name)
    return {name: forms[name] for name in names.values()}


def _join(form: str, spelling: str) -> str:
    return f"{form} of {spelling}" if spelling else form


# --- Texts --------------------------------------------------------------------------------------------------------


def _spellings(secret: str) -> dict[str, str]:
    """List how a program may spell the same text before it encodes it, the given spelling first, without repeats."""
    spellings = {
        "": secret,
        "lower case": secret.lower(),
        "upper case": secret.upper(),
        "swapped case": secret.swapcase(),
        "composed": unicodedata.normalize("NFC", secret),
        "decomposed": unicodedata.normalize("NFD", secret),
    }
    names: dict[str, str] = {}
    for name, text in spellings.items():
        names.setdefault(text, name)
    return {name: text for text, name in names.items()}


def _charsets(text: str) -> Iterator[tuple[str, bytes]]:
    yield "UTF-16 LE", text.encode("utf-16-le")
    yield "UTF-16 BE", text.encode("utf-16-be")
    yield "UTF-32 LE", text.encode("utf-32-le")
    yield "reversed", text[::-1].encode()
    if all(ord(character) < 256 for character in text):
        yield "Latin-1", text.encode("latin-1")
    if not text.isascii():
        yield "JSON escapes where needed", text.encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00")
        yield "HTML entities where needed", text.encode("ascii", "xmlcharrefreplace")


def _transports(raw: bytes) -> Iterator[tuple[str, bytes]]:
    yield "plain", raw
    for name, write in TRANSPORTS.items():
        pattern = write(raw)
        if len(pattern) >= SHORT_CHARACTERS:
            yield name, pattern
    for name, write_at, group in (("base64", base64.b64encode, 3), ("base32", base64.b32encode, 5)):
        for skip in range(group):
            pattern = _aligned(write_at, raw, skip, group)
            if len(pattern) >= SHORT_CHARACTERS:
                yield f"{name} at offset {skip}", pattern
                yield f"{name} at offset {skip}, URL-safe", pattern.translate(URL_SAFE)
    yield from _digests(raw)


def _every(template: str) -> Callable[[bytes], bytes]:
    return lambda raw: "".join(template % byte for byte in raw).encode()


def _of_characters(template: str) -> Callable[[bytes], bytes]:
    return lambda raw: "".join(template % ord(character) for character in raw.decode()).encode()


def _quoted_twice(raw: bytes) -> bytes:
    return quote(quote(raw, safe=""), safe="").encode()


def _named_entities(raw: bytes) -> bytes:
    names = html.entities.codepoint2name
    characters = raw.decode()
    return "".join(f"&{names[ord(c)]};" if ord(c) in names else c for c in characters).encode()


TRANSPORTS: Mapping[str, Callable[[bytes], bytes]] = {
    "hex": lambda raw: raw.hex().encode(),
    "hex, separated by colons": lambda raw: raw.hex(":").encode(),
    "hex, separated by spaces": lambda raw: raw.hex(" ").encode(),
    "percent-encoded": lambda raw: quote(raw, safe="").encode(),
    "percent-encoded twice": _quoted_twice,
    "form-encoded": lambda raw: quote_plus(raw).encode(),
    "percent-encoded, every byte": _every("%%%02x"),
    "percent-encoded twice, every byte": _every("%%25%02x"),
    "byte escapes": _every("\\x%02x"),
    "octal escapes": _every("\\%03o"),
    "quoted-printable": _every("=%02x"),
    "JSON escapes": _of_characters("\\u%04x"),
    "HTML entities, decimal": _of_characters("&#%d;"),
    "HTML entities, hex": _of_characters("&#x%x;"),
    "HTML entities, named": _named_entities,
}
URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _aligned(write: Callable[[bytes], bytes], raw: bytes, skip: int, group: int) -> bytes:
    """Encode `raw` as it looks when `skip` bytes stand before it, without the characters that its neighbours share."""
    characters = {3: 4, 5: 8}[group]
    bits = 8 * group // characters
    encoded = write(bytes(skip) + raw)
    return encoded[-(-8 * skip // bits) : 8 * (skip + len(raw)) // bits]


def _digest(name: str, raw: bytes, length: int = DIGEST_BYTES) -> bytes:
    # No security is wanted of these: they are what a careless program may have used.
    return hashlib.new(name, raw, usedforsecurity=False).digest()[:length]


def _digests(raw: bytes) -> Iterator[tuple[str, bytes]]:
    for name in DIGESTS:
        digest, longer = _digest(name, raw), _digest(name, raw, DIGEST_BASE64_BYTES)
        yield name, digest
        yield f"{name}, bytes swapped", digest[::-1]
        yield f"{name} hex", digest.hex().encode()
        yield f"{name} base64", base64.b64encode(longer)
        yield f"{name} base64, URL-safe", base64.urlsafe_b64encode(longer)


# --- Addresses ------------------------------------------------------------------------------------------------------


def _parse_address(secret: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(secret.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _parse_mac(secret: str) -> bytes | None:
    """Read a MAC address, or the one that an IPv6 address carries in its lower half (EUI-64).

    Source: RFC 4291 appendix A
    """
    if MAC.fullmatch(secret):
        return bytes.fromhex(re.sub(r"[:.-]", "", secret))
    address = _parse_address(secret)
    if not isinstance(address, ipaddress.IPv6Address) or address.packed[11:13] != b"\xff\xfe":
        return None
    lower = address.packed[8:]
    return bytes([lower[0] ^ 2]) + lower[1:3] + lower[5:]


def _packed_forms(secret: str) -> dict[str, bytes]:
    address, mac = _parse_address(secret), _parse_mac(secret)
    forms: dict[str, bytes] = {}
    if isinstance(address, ipaddress.IPv4Address):
        forms["IPv4 packed"] = address.packed
        forms["IPv4 packed in IPv6"] = bytes(10) + b"\xff\xff" + address.packed
        forms["IPv4 packed in 6to4"] = b"\x20\x02" + address.packed
    if isinstance(address, ipaddress.IPv6Address):
        forms["IPv6 packed"] = address.packed
        if _is_telling(address.packed[8:]):
            forms["IPv6 interface packed"] = address.packed[8:]
    if mac:
        forms["MAC packed"] = mac
        forms["EUI-64 packed"] = _eui64(mac)
    return forms


def _notations(secret: str) -> dict[str, str]:
    address, mac = _parse_address(secret), _parse_mac(secret)
    notations: dict[str, str] = {}
    if isinstance(address, ipaddress.IPv4Address):
        notations |= _ipv4_notations(address)
    if isinstance(address, ipaddress.IPv6Address):
        notations |= _ipv6_notations(address)
    if mac:
        notations |= _mac_notations(mac)
    return notations


def _ipv4_notations(address: ipaddress.IPv4Address) -> dict[str, str]:
    packed, number = address.packed, int(address)
    high, low = number >> 16, number & 0xFFFF
    # Teredo stores the client's address with every bit flipped (RFC 4380 section 4).
    flipped_high, flipped_low = high ^ 0xFFFF, low ^ 0xFFFF
    return {
        "IPv4 dotted": str(address),
        "IPv4 padded": ".".join(f"{byte:03}" for byte in packed),
        "IPv4 dashed": "-".join(str(byte) for byte in packed),
        "IPv4 dashed, padded": "-".join(f"{byte:03}" for byte in packed),
        "IPv4 underscored": "_".join(str(byte) for byte in packed),
        "IPv4 in-addr.arpa": ".".join(str(byte) for byte in reversed(packed)),
        "IPv4 reversed, dashed": "-".join(str(byte) for byte in reversed(packed)),
        "IPv4 hex": f"0x{number:08x}",
        "IPv4 hex digits": f"{number:08x}",
        "IPv4 dotted hex": ".".join(f"0x{byte:x}" for byte in packed),
        "IPv4 dotted hex, padded": ".".join(f"0x{byte:02x}" for byte in packed),
        "IPv4 dotted octal": ".".join(f"0{byte:o}" for byte in packed),
        "IPv4 dotted octal, padded": ".".join(f"0{byte:03o}" for byte in packed),
        "IPv4 octal integer": f"0{number:o}",
        "IPv4 integer": str(number),
        "IPv4 integer, bytes swapped": str(int.from_bytes(packed, "little")),
        "IPv4 mapped": f"ffff:{high:x}:{low:x}",
        "IPv4 mapped, padded": f"ffff:{high:04x}:{low:04x}",
        "IPv4 in 6to4": f"2002:{high:x}:{low:x}",
        "IPv4 in 6to4, padded": f"2002:{high:04x}:{low:04x}",
        "IPv4 in NAT64": f"64:ff9b::{high:x}:{low:x}",
        "IPv4 in NAT64, padded": f"64:ff9b::{high:04x}:{low:04x}",
        "IPv4 in Teredo": f":{flipped_high:x}:{flipped_low:x}",
    }


def _ipv6_notations(address: ipaddress.IPv6Address) -> dict[str, str]:
    groups = address.exploded.split(":")
    short = [group.lstrip("0") or "0" for group in groups]
    nibbles = "".join(groups)
    dotted = ipaddress.IPv4Address(address.packed[12:])
    forms = {
        "IPv6 compressed": address.compressed,
        "IPv6 full": address.exploded,
        "IPv6 uncompressed": ":".join(short),
        "IPv6 with a dotted end": f"{':'.join(short[:6])}:{dotted}",
        "IPv6 hex": nibbles,
        "IPv6 dashed": "-".join(short),
        "IPv6 dashed, compressed": address.compressed.replace(":", "-"),
        "IPv6 dashed, full": "-".join(groups),
        "IPv6 ip6.arpa": ".".join(reversed(nibbles)),
        "IPv6 integer": str(int(address)),
        "IPv6 integer, bytes swapped": str(int.from_bytes(address.packed, "little")),
    }
    if _is_telling(address.packed[8:]):
        forms["IPv6 interface"] = ":".join(short[4:])
        forms["IPv6 interface, full"] = ":".join(groups[4:])
        forms["IPv6 interface hex"] = "".join(groups[4:])
        forms["IPv6 interface integer"] = str(int(address) & (1 << 64) - 1)
    return forms


def _is_telling(interface: bytes) -> bool:
    """Tell whether an interface identifier names one machine: `::1` is everyone's, random bits or an EUI-64 aren't."""
    return len(interface.lstrip(b"\0")) == len(interface) and interface.count(0) < 4


def _eui64(mac: bytes) -> bytes:
    return bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def _mac_notations(mac: bytes) -> dict[str, str]:
    digits, eui64 = mac.hex(), _eui64(mac).hex()
    groups = [eui64[start : start + 4] for start in range(0, 16, 4)]
    return {
        "MAC with colons": mac.hex(":"),
        "MAC with dashes": mac.hex("-"),
        "MAC with dots": ".".join(digits[start : start + 4] for start in range(0, 12, 4)),
        "MAC bare": digits,
        "MAC reversed": mac[::-1].hex(":"),
        "MAC integer": str(int.from_bytes(mac)),
        "EUI-64": ":".join(groups),
        "EUI-64 short": ":".join(group.lstrip("0") or "0" for group in groups),
        "EUI-64 bare": eui64,
        "EUI-64 with dashes": _eui64(mac).hex("-"),
        "EUI-64 unmodified": (mac[:3] + b"\xff\xfe" + mac[3:]).hex("-"),
    }
