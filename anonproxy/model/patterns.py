"""What can identify a person, as patterns: one table that the anonymiser and the audit both read.

They are meant for folded text: percent-decoded, NFKC, every kind of space, dash and digit turned into the ASCII one.
All repeats are bounded, so that a search takes time proportional to the text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Confirm = Callable[[re.Match[str]], bool]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One thing that can identify a person, and what its text looks like."""

    name: str
    meaning: str
    source: str
    regex: re.Pattern[str]
    hint: re.Pattern[str]  # cheap, and found in every text that the expression finds
    confirm: Confirm | None = None  # what a regular expression can't tell

    def fires(self, text: str) -> bool:
        """Tell whether a folded text shows the pattern."""
        if not self.hint.search(text):
            return False
        if self.confirm is None:
            return self.regex.search(text) is not None
        return any(self.confirm(match) for match in self.regex.finditer(text))


def _pattern(
    name: str, meaning: str, source: str, *shapes: str, hint: str = "", confirm: Confirm | None = None
) -> Pattern:
    regex = re.compile("|".join(shapes), re.IGNORECASE | re.ASCII)
    return Pattern(name, meaning, source, regex, re.compile(hint), confirm)


def _digits(count: int) -> str:
    """Return a hint: so many digits with no more than three other characters between them."""
    return rf"\d(?:[^\d]{{0,3}}\d){{{count - 1}}}"


_S: Final = r"[-. _+]"  # what separates groups of digits; + is a space in a query

# --- dates ---------------------------------------------------------------------------------------------------------

_MONTH: Final = r"(?:0?[1-9]|1[0-2])"
_DAY: Final = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH_NAME: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_GAP: Final = r"[-. _+,]{1,3}"


def _dates(year: str) -> tuple[str, ...]:
    """Return the shapes of a full date: year first, year last, month in words."""
    return (
        rf"(?<!\d){year}(?P<big>{_S}){_MONTH}(?P=big){_DAY}(?!\d)",
        rf"(?<!\d){_DAY}(?P<little>[-. _+/]){_DAY}(?P=little){year}(?!\d)",
        rf"(?<!\d){_DAY}(?:st|nd|rd|th)?{_GAP}{_MONTH_NAME}{_GAP}{year}(?!\d)",
        rf"(?<![a-z]){_MONTH_NAME}{_GAP}{_DAY}(?:st|nd|rd|th)?{_GAP}{year}(?!\d)",
        rf"(?<!\d){year}{_GAP}{_MONTH_NAME}{_GAP}{_DAY}(?!\d)",
    )


# Whoever holds a card today was born in one of these years. There is no clock here: a birth year from 2010 on can't be
# told from the year of an event by itself, so such a date is a birth date unless its text speaks of a calendar.
_BIRTH_YEAR: Final = r"(?:19[1-9]\d|200\d)"
_CALENDAR_YEAR: Final = r"20[1-9]\d"
_CALENDAR_WORD: Final = re.compile(
    r"(?<![a-z])(?:agendas?|archives?|blogs?|board|bulletins?|calendars?|classes|clos(?:ed|ings?)|concerts?|days?|dates?"
    r"|docs?|documents?|editions?|events?|exhibits?|festivals?|files|holidays?|hours|issues?|meetings?|minutes|months?"
    r"|news|newsletters?|notices?|posts?|press|programs?|programmes?|releases?|reports?|schedules?|sessions?"
    r"|storytimes?|talks?|trustees|uploads?|weeks?|workshops?|agenda|calendario|eventos?|noticias|actualites|evenements"
    r"|agenda|termine|kalender|veranstaltung(?:en)?|aktuelles|eventi|notizie|evenementen|nyheter|wydarzenia)(?![a-z])",
    re.IGNORECASE,
)


def _is_out_of_calendar(match: re.Match[str]) -> bool:
    return _CALENDAR_WORD.search(match.string) is None


# --- groups of digits ----------------------------------------------------------------------------------------------

_YEAR: Final = re.compile(r"1[5-9]\d\d|20\d\d")
_GROUPS: Final = re.compile(r"\d+")


def _is_not_years(match: re.Match[str]) -> bool:
    """Spare 1790-1840, 2024-2025-2026 and 2026-10-31-2026-11-02, which are years and dates."""
    groups = _GROUPS.findall(match[0])
    return not all(_YEAR.fullmatch(group) or len(group) <= 2 for group in groups) or len(groups[0]) < 4


def _is_isbn_10(match: re.Match[str]) -> bool:
    return sum(character.isalnum() for character in match[0]) == 10


def _is_quad(match: re.Match[str]) -> bool:
    """Four octets; grades-9-10-11-12 and 1-2-3-4 are too small to be taken for an address."""
    octets = [int(octet) for octet in _GROUPS.findall(match[1])]
    return max(octets) <= 255 and (max(octets) >= 64 or "." in match[1])


# --- random text ---------------------------------------------------------------------------------------------------

# Pairs of letters that words avoid: each makes up less than a thousandth of the pairs in the distinct words of each
# of 17 languages (cs da de en es fi fr hu id it nb nl pl pt ro sv tr, without accents). Together they are 44 % of what
# 26 letters allow and about 3 % of what words use. Source: counted over the message catalogues of free software.
_RARE_AFTER: Final = """
    a:eqx b:bcdfghjkmnpqstvwxyz c:bdfgmpqvwx d:bcfghjkmqvwx e:oq f:bcdghjkmnpqsvwxyz g:bcdfjmpqvwxz h:bcfghmpqsvwxyz
    j:bcdfghjmnpqrvwxyz k:bcdfgjmpqvwxz l:bcfpqrwxz m:cdfghjkqrstvwxyz n:pqrwx o:qxy p:bcdfgjkmnqvwxyz
    q:abcdefghijklmnopqrstvwxyz r:fhpqwx s:bdqwx t:bcdfgjpqx u:hqwx v:bcdfghjklmpqstvwxz w:bcdfghjklmpqrtuvwxz
    x:bcdefghjklmnoqrsuvwxyz y:bfgqrvxz z:bcfghjkmqrsvx
"""

# What a pair of neighbours says for randomness, in bits: log2(share in random text / share in words).
_RARE_BITS: Final = 3.9
_COMMON_BITS: Final = -0.8
_DIGIT_EDGE_BITS: Final = 2.0  # a digit beside a letter: 3d, fy2026, but not often
_HUMP_BITS: Final = 1.0  # lower to upper case: one a word in SummerReadingProgram
_SEPARATOR_BITS: Final = -1.0

# A stretch is a token when it is worth so many bits; fewer are enough with a hump in at least 14 characters, and any at
# all for an unbroken run of 16. The tests measure it on random strings of 8 alphabets: of 20 characters at least 97 %
# are found, of 32 at least 99 %. Of 8,500 names of 14 letters or more in Python's own library 0.5 % are taken for one.
_TOKEN_BITS: Final = 15.0
_HUMPED_BITS: Final = 8.0
_HUMPED_CHARS: Final = 14
_RUN_CHARS: Final = 16


def _pair_bits() -> dict[str, float]:
    lower, upper, digits = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
    rare = {entry[0]: entry[2:] for entry in _RARE_AFTER.split()}
    bits: dict[str, float] = {}
    for first in lower + upper:
        for second in lower + upper:
            is_hump = first in lower and second in upper
            is_rare = second.lower() in rare.get(first.lower(), "")
            bits[first + second] = _HUMP_BITS if is_hump else _RARE_BITS if is_rare else _COMMON_BITS
        bits |= {first + digit: _DIGIT_EDGE_BITS for digit in digits}
        bits |= {digit + first: _DIGIT_EDGE_BITS for digit in digits}
    return bits | {first + second: 0.0 for first in digits for second in digits}


_PAIR_BITS: Final = _pair_bits()


def _is_random(match: re.Match[str]) -> bool:
    """Tell whether a stretch of text is more likely drawn at random than made of words."""
    text = match[0]
    stretch_bits = run_bits = 0.0
    stretch_start = run_start = humps = 0
    for index in range(1, len(text)):
        pair = text[index - 1 : index + 1]
        bits = _PAIR_BITS.get(pair)
        if bits is None:
            if index - run_start >= _RUN_CHARS and run_bits > 0:
                return True
            bits, run_bits, run_start = _SEPARATOR_BITS / 2, 0.0, index + 1 - pair[1].isalnum()
        run_bits += bits if index > run_start else 0.0
        stretch_bits += bits
        humps += bits == _HUMP_BITS
        if stretch_bits <= 0:
            stretch_bits, stretch_start, humps = 0.0, index, 0
        is_humped = humps > 0 and index - stretch_start >= _HUMPED_CHARS
        if stretch_bits >= (_HUMPED_BITS if is_humped else _TOKEN_BITS):
            return True
    return len(text) - run_start >= _RUN_CHARS and run_bits > 0


# --- the table -----------------------------------------------------------------------------------------------------

PATTERNS: Final = (
    _pattern(
        "email",
        "E-mail address",
        "RFC 5321 section 4.1.2, with jane(at)example.org",
        r"[^\s/@]@[^\s\d/@.,;:!?-]",
        r"[^\s/@]@(?![1-4](?:\.\d)?x\.)(?:[\w-]{1,63}\.){1,8}[a-z]{2}",
        r"\w[-. _+]?[(\[{<][-. _+]?at[-. _+]?[)\]}>]",
    ),
    _pattern("uuid", "UUID", "RFC 9562", r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"),
    _pattern("jwt", "JSON Web Token", "RFC 7519", r"eyJ[\w-]{6,2000}\.[\w-]{6}"),
    _pattern("hex", "Key, hash or session in hexadecimal", "RFC 4648", r"[0-9a-f]{16}", r"0x[0-9a-f]{6}"),
    _pattern(
        "birth_date",
        "Date of birth",
        "ISO 8601 and the orders of Unicode CLDR",
        *_dates(_BIRTH_YEAR),
        rf"(?<!\d)19[1-9]\d/{_MONTH}/{_DAY}(?!\d)",
        hint=_BIRTH_YEAR,
    ),
    _pattern(
        "date",
        "Full date that no word marks as the site's calendar",
        "ISO 8601 and the orders of Unicode CLDR",
        *_dates(_CALENDAR_YEAR),
        hint=_CALENDAR_YEAR,
        confirm=_is_out_of_calendar,
    ),
    _pattern("digits", "Barcode, ISBN, phone or account number", "Seven digits name one line in a town", r"\d{7}"),
    _pattern(
        "card",
        "Payment or library card number in groups",
        "ISO/IEC 7812; library barcodes of 14 digits print as 1-4-5-4",
        rf"(?<!\d)\d{{4}}(?:{_S}\d{{4}}){{2,3}}(?!\d)",
        rf"3[47]\d\d{_S}\d{{6}}{_S}\d{{5}}",
        rf"(?<!\d)\d{{3}}{_S}\d{{3}}{_S}\d{{3}}(?!\d)",
        rf"\d(?:{_S}?\d){{12}}",
        hint=_digits(9),
        confirm=_is_not_years,
    ),
    _pattern(
        "isbn",
        "ISBN in groups: what somebody reads",
        "ISO 2108",
        rf"97[89](?:{_S}?\d){{10}}",
        rf"(?<!\d)\d{{1,5}}{_S}\d{{1,7}}{_S}\d{{1,7}}{_S}[\dx](?![a-z0-9])",
        hint=_digits(9),
        confirm=_is_isbn_10,
    ),
    _pattern(
        "ssn",
        "Social security number",
        "Formats of the USA, the United Kingdom and Germany",
        rf"(?<!\d)\d{{3}}{_S}\d{{2}}{_S}\d{{4}}(?!\d)",
        rf"(?<![a-z])[a-z]{{2}}{_S}?\d\d{_S}?\d\d{_S}?\d\d{_S}?[a-d](?![a-z0-9])",
        rf"(?<!\d)\d\d{_S}?\d{{6}}{_S}?[a-z]{_S}?\d{{3}}(?!\d)",
        hint=_digits(6),
    ),
    _pattern(
        "phone",
        "Telephone number",
        "ITU-T E.164, North American Numbering Plan, national formats with a leading 0",
        r"\(?[2-9]\d\d\)?[-. _+/]{0,2}\d{3}[-. _+]{1,2}\d{4}",
        r"(?<!\d)[2-9]\d\d(?:[ +]\d{4}|[-_](?!19|20)\d{4})(?!\d)",  # 641.5973 is a call number, 250-2026 a birthday
        rf"(?<!\d)\d{{3}}{_S}\d{{4}}{_S}\d{{4}}(?!\d)",
        r"\+[1-9](?:[-. _+()/]{0,3}\d){7}",
        r"(?<!\d)00[1-9](?:[-. _+()/]{0,3}\d){7}",
        r"(?<!\d)\(?0[1-9](?:[-. _+()]{0,2}\d){7,10}(?!\d)",
        r"(?<!\d)0\d{2,4}/\d{5,8}(?!\d)",
        rf"(?<!\d)(?!20)[2-9]\d{{3}}{_S}\d{{4}}(?!\d)",
        rf"(?<!\d)\d\d(?:{_S}\d\d){{3,4}}(?!\d)",
        hint=_digits(7),
    ),
    _pattern(
        "ipv4",
        "IPv4 address, dotted, dashed, padded, octal or hexadecimal",
        "RFC 791; reverse names of providers",
        r"(?<!\d)(?=(\d{1,4}(?:\.\d{1,4}){3}|\d{1,3}(?:[-_]\d{1,3}){3})(?!\d))",  # they may overlap
        hint=_digits(4),
        confirm=_is_quad,
    ),
    _pattern("ipv4_hex", "IPv4 address in hexadecimal octets", "inet_aton(3)", r"0x[0-9a-f]{1,2}\.0x[0-9a-f]"),
    _pattern(
        "ipv6",
        "IPv6 or hardware address",
        "RFC 4291, RFC 3596 section 2.5, IEEE 802",
        r"(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}",
        r"::[0-9a-f]|[0-9a-f]::",
        r"(?<![0-9a-z])[0-9a-f]{1,4}(?:-[0-9a-f]{0,4}){2,7}\.ipv6-literal",
        r"(?<![0-9a-z])(?=[a-f-]{0,40}\d)[0-9a-f]{1,4}(?:-[0-9a-f]{1,4}){7}(?![0-9a-z])",
        r"(?<![0-9a-z])(?=[a-f-]{0,20}\d)[0-9a-f]{2}(?:-[0-9a-f]{2}){5}(?![0-9a-z])",
        r"(?:[0-9a-f]\.){16}",
        hint=r":|(?i:ipv6-literal)|[0-9A-Fa-f][-.](?:[0-9A-Fa-f]{1,4}[-.]){4}",
    ),
    _pattern("home", "Home page of a person", "Apache mod_userdir", r"(?<![a-z0-9])~\w"),
    _pattern(
        "parameter",
        "Login, session or card as name=value",
        "Parameters of EZproxy, Koha and web frameworks",
        r"(?<![a-z])(?:j?session(?:id)?|phpsessid|cgisessid|sid|token|ticket|user(?:name|id)?|login|pass(?:word|wd)?"
        r"|pin|e?mail|barcode|card(?:number)?|api_?key|auth|phone|dob|birthdate)=[^\s{&;/]",
        hint="=",
    ),
    _pattern(
        "token",
        "Random text: a session, a key, base64",
        "RFC 4648; see _RARE_AFTER",
        r"[A-Za-z0-9+/=_.~-]{14,2048}",
        hint=r"[A-Za-z]\d|\d[A-Za-z]|[a-z][A-Z]|[A-Za-z\d]{14}",
        confirm=_is_random,
    ),
)
