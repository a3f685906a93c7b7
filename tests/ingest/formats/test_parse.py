"""Reading: what is escaped, encoded, broken or cut off, and that nothing is lost without being counted."""

import codecs
import gzip
import pickle
import random
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anonproxy.anonymize.address import parse_client
from anonproxy.anonymize.client_address import choose_client
from anonproxy.ingest.formats import (
    FORMATS,
    MAX_LINE_BYTES,
    AsUtf8,
    LogFormat,
    Parsed,
    Rejection,
    detect_format,
    find_format,
    parse_lines,
)
from anonproxy.ingest.formats import lines as cutting
from anonproxy.ingest.formats.parsed import Lines, Rejected
from anonproxy.model.settings import ProxySettings
from tests.support.sample_logs import COMBINED, EZPROXY, read_lines

COMBINED_FORMAT = FORMATS["combined"]
START = b'203.0.113.7 - - [02/Mar/2026:17:00:00 +0000] "GET /events HTTP/1.1" 200 512 "-" "'
LINE = START + b'Mozilla/5.0 (X11)"\n'


def read_one(line: bytes, name: str = "combined") -> dict[str, object]:
    """Read a line that is of a format."""
    (row,) = parse_lines(line, FORMATS[name]).requests.to_pylist()
    return dict(row)


@pytest.mark.parametrize(
    ("written", "agent"),
    [
        (rb"a \"quoted\" word", b'a "quoted" word'),
        (rb"a \x22quoted\x22 word", b'a "quoted" word'),
        (rb"ends in a backslash\\", b"ends in a backslash\\"),
        (rb"both\\\"", b'both\\"'),
        (rb"no \\x22 escape", rb"no \x22 escape"),
        (rb"\xc3\xa9\t\q", b"\xc3\xa9\t\\q"),
        (rb"\u00e9 in JSON's way", "é in JSON's way".encode()),
        (b"\xff\x01\xff\x02\xff\x03", b"\xff\x01\xff\x02\xff\x03"),
        (b'\xff\x01 \\" \xff\x03', b'\xff\x01 " \xff\x03'),
        (b"\xe9\x80 is no UTF-8", b"\xe9\x80 is no UTF-8"),
        (b"-", b""),
        (b"", b""),
    ],
)
def test_escapes_are_undone(written: bytes, agent: bytes) -> None:
    """A text is what the browser sent, however the server escaped it."""
    assert read_one(START + written + b'"\n')["raw_user_agent"] == agent


@pytest.mark.parametrize(
    ("request_line", "method", "target"),
    [
        (b"GET / HTTP/1.1", b"GET", b"/"),
        (b"GET /a b c HTTP/1.1", b"GET", b"/a b c"),
        (b"GET /a", b"GET", b"/a"),
        (rb"GET /?q=\"x\" HTTP/2.0", b"GET", b'/?q="x"'),
        (rb"\x16\x03\x01", b"\x16\x03\x01", b""),
        (b"-", b"", b""),
        (b"", b"", b""),
    ],
)
def test_request_lines_are_split(request_line: bytes, method: bytes, target: bytes) -> None:
    """Method and target, whatever is in them; what is no request has no target, and so is no page."""
    row = read_one(LINE.replace(b"GET /events HTTP/1.1", request_line))
    assert (row["raw_method"], row["raw_target"]) == (method, target)


CLF = "02/Mar/2026:17:00:00 +0000"


@pytest.mark.parametrize(
    ("written", "time_s"),
    [
        (CLF, 1_772_470_800.0),
        ("02/Mar/2026:12:00:00 -0500", 1_772_470_800.0),
        ("02/Mar/2026:22:30:00 +0530", 1_772_470_800.0),
        ("31/Feb/2026:17:00:00 +0000", None),
        ("02/Mrz/2026:17:00:00 +0000", None),
        ("02/Mar/2026:17:00:61 +0000", None),
        ("02/Mar/2026:25:00:00 +0000", None),
        ("02/Mar/2026 17:00:00 +0000", None),
        ("-", None),
        ("", None),
    ],
)
def test_times_are_read_or_rejected(written: str, time_s: float | None) -> None:
    """A time that there was is read to the second, with its zone; a line without one is rejected for that."""
    parsed = parse_lines(LINE.replace(CLF.encode(), written.encode()), COMBINED_FORMAT)
    assert parsed.requests["time_s"].to_pylist() == ([] if time_s is None else [time_s])
    assert parsed.rejected == ({Rejection.BAD_TIME: [1]} if time_s is None else {})


def test_times_without_a_zone_are_in_the_one_given() -> None:
    """HAProxy writes the local time; in summer it is further from UTC. IIS writes UTC."""
    for month, hour in ((b"Mar", 22), (b"Jul", 21)):
        line = FORMATS["haproxy"].sample.replace(b"/Mar/", b"/" + month + b"/") + b"\n"
        parsed = parse_lines(line, FORMATS["haproxy"], zone=ZoneInfo("America/New_York"))
        (time_s,) = parsed.requests["time_s"].to_pylist()
        assert time_s % 86_400 // 3600 == hour
    utc = parse_lines(FORMATS["iis"].sample, FORMATS["iis"], zone=ZoneInfo("America/New_York"))
    assert utc.requests["time_s"].to_pylist() == [1_772_470_800.0]


@pytest.mark.parametrize(
    ("block", "rejected", "ignored", "rows"),
    [
        (LINE, {}, 0, 1),
        (LINE.replace(b"\n", b"\r\n") * 2, {}, 0, 2),
        (b"\xef\xbb\xbf" + LINE, {}, 0, 1),
        (b"\0" * 999 + LINE, {}, 0, 1),
        (LINE.removesuffix(b"\n"), {}, 0, 1),
        (LINE.removesuffix(b'"\n') + b"\n" + LINE, {}, 0, 2),  # syslog cuts long lines, so that the last quote lacks
        (LINE.removesuffix(b'"\n'), {}, 0, 1),
        (LINE + LINE[:60], {Rejection.TRUNCATED: [2]}, 0, 1),
        (LINE + b"garbage\n" + LINE, {Rejection.NOT_THIS_FORMAT: [2]}, 0, 2),
        (bytes(range(256)) + b"\n" + LINE, {Rejection.NOT_THIS_FORMAT: [1, 2]}, 0, 1),
        (b"\n\n# rotated\n" + LINE, {}, 3, 1),
        (LINE.replace(b" 200 ", b" OK "), {Rejection.NOT_THIS_FORMAT: [1]}, 0, 0),
        (LINE.replace(b'" 200', b'" 200 200'), {Rejection.NOT_THIS_FORMAT: [1]}, 0, 0),
        (START + b"x" * 100_000 + b'"\n' + LINE, {}, 0, 2),
        (START + b"x" * MAX_LINE_BYTES + b'"\n' + LINE, {Rejection.TOO_LONG: [1]}, 0, 1),
        (b"", {}, 0, 0),
    ],
)
def test_what_is_broken_is_counted(block: bytes, rejected: Rejected, ignored: int, rows: int) -> None:
    """A line that can't be read is rejected for a reason and by its number; its neighbours are read."""
    parsed = parse_lines(block, COMBINED_FORMAT)
    assert (parsed.rejected, parsed.ignored, parsed.requests.num_rows) == (rejected, ignored, rows)
    assert parsed.requests["raw_client"].to_pylist() == [b"203.0.113.7"] * rows


def test_an_address_that_is_none_is_left_to_the_anonymiser() -> None:
    """Who the client is, is decided in one place: formats hand on what stands there."""
    for raw in (b"-", b"unknown", b"host.example.org", b"::ffff:203.0.113.7"):
        assert read_one(LINE.replace(b"203.0.113.7", raw))["raw_client"] == raw.replace(b"-", b"")


# --- Behind a proxy -----------------------------------------------------------------------------------------------

NO_PROXY: dict[str, object] = {}
BALANCER: dict[str, object] = {"trusted_proxies": ["10.0.0.0/8", "2001:db8:ffff::/48"]}
TWO_HOPS: dict[str, object] = {"trusted_hops": 2}


@pytest.mark.parametrize(
    ("proxy", "peer", "forwarded", "client"),
    [
        (NO_PROXY, "10.0.0.1", "203.0.113.7", "10.0.0.1"),
        (BALANCER, "10.0.0.1", "203.0.113.7", "203.0.113.7"),
        (BALANCER, "10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # the farther one may be invented
        (BALANCER, "10.0.0.1", "203.0.113.7,10.0.0.2", "203.0.113.7"),
        (BALANCER, "10.0.0.1", "2001:db8::7, 2001:db8:ffff::2", "2001:db8::7"),
        (BALANCER, "10.0.0.1", "-", "10.0.0.1"),  # the proxy asks by itself, whether the site is up
        (BALANCER, "10.0.0.1", "203.0.113.7, unknown", "unknown"),  # and then the line is dropped
        (BALANCER, "198.51.100.1", "203.0.113.7", "198.51.100.1"),  # who comes past the proxy may claim anything
        (BALANCER, "-", "203.0.113.7", ""),
        (TWO_HOPS, "10.0.0.1", "192.0.2.1, 203.0.113.7, 198.51.100.1", "203.0.113.7"),
        (TWO_HOPS, "10.0.0.1", "203.0.113.7", ""),
    ],
)
def test_the_client_is_chosen_as_by_the_proxy(proxy: dict[str, object], peer: str, forwarded: str, client: str) -> None:
    """Of a log with both addresses, X-Forwarded-For is believed only where a trusted proxy has sent it."""
    settings_ = ProxySettings.model_validate(proxy)
    line = FORMATS["nginx_main"].sample.decode().replace("203.0.113.7", peer).removesuffix('"-"') + f'"{forwarded}"\n'
    parsed = parse_lines(line.encode() * 2, FORMATS["nginx_main"].behind(settings_))
    assert parsed.requests["raw_client"].to_pylist() == [client.encode()] * 2
    assert parsed.requests.column_names == parse_lines(b"", FORMATS["nginx_main"]).requests.column_names
    assert client == choose_client(peer.removeprefix("-"), forwarded.removeprefix("-"), "", settings_).raw_client


def test_a_log_without_peers_was_written_behind_a_proxy() -> None:
    """Then the last hop that is no trusted proxy is the client."""
    known = find_format('"$http_x_forwarded_for" [$time_iso8601] "$request" $status')
    line = b'"198.51.100.1, 203.0.113.7, 10.0.0.2" [2026-03-02T17:00:00Z] "GET / HTTP/1.1" 200\n'
    for proxy, client in ((NO_PROXY, b"10.0.0.2"), (BALANCER, b"203.0.113.7"), (TWO_HOPS, b"203.0.113.7")):
        parsed = parse_lines(line, known.behind(ProxySettings.model_validate(proxy)))
        assert parsed.requests["raw_client"].to_pylist() == [client]


@pytest.mark.parametrize(
    ("name", "named", "forwarded"),
    [
        ("caddy_json", b'"headers":{', b'"headers":{"X-Forwarded-For":["198.51.100.1, 203.0.113.9"],'),
        ("traefik_json", b'"StartUTC"', b'"request_X-Forwarded-For":"198.51.100.1, 203.0.113.9","StartUTC"'),
    ],
)
def test_objects_name_hops_as_well(name: str, named: bytes, forwarded: bytes) -> None:
    """The headers that Caddy and Traefik log are looked at likewise."""
    sample = FORMATS[name].sample.replace(b"203.0.113.7", b"10.0.0.1").replace(named, forwarded, 1)
    parsed = parse_lines(sample, FORMATS[name].behind(ProxySettings.model_validate(BALANCER)))
    assert parsed.requests["raw_client"].to_pylist() == [b"203.0.113.9"]


@pytest.mark.parametrize("name", ["X-Forwarded-For", "cs(X-Forwarded-For)"])
def test_proxies_hold_when_other_fields_are_named(name: str) -> None:
    """Who stands in front is known of the whole log, whatever its #Fields lines say; IIS writes a blank as +."""
    header = f"#Fields: date time c-ip cs-uri-stem sc-status sc-substatus {name}\n".encode()
    line = b"2026-03-02 17:00:00 10.0.0.1 / 200 0 198.51.100.1,+203.0.113.9\n"
    known = detect_format(IIS)
    assert known is not None
    behind = known.behind(ProxySettings.model_validate(BALANCER))
    for block, format_ in ((IIS + header + line, behind), (line, behind.after(IIS + header))):
        assert parse_lines(block, format_).requests["raw_client"].to_pylist()[-1] == b"203.0.113.9"


# --- Fields that a log names --------------------------------------------------------------------------------------

IIS = b'''#Software: Microsoft Internet Information Services 10.0
#Fields: date time cs-method cs-uri-stem cs-uri-query c-ip cs(User-Agent) sc-status sc-win32-status time-taken
2026-03-02 17:00:00 GET /a q=1 203.0.113.7 Mozilla/5.0+(X11) 200 0 1500
#Fields: date time c-ip cs-method cs-uri-stem sc-status cs(Cookie)
2026-03-02 17:00:01 203.0.113.8 GET /b 404 "PHPSESSID=a; note=""x y"""
2026-03-02 17:00:02 GET /c 203.0.113.9
#Fields: date time
2026-03-02 17:00:03
'''


def test_fields_may_change_in_the_middle() -> None:
    """Each line is read by the fields named last before it; by those that aren't enough none is."""
    known = detect_format(IIS)
    assert known is not None
    parsed = parse_lines(IIS, known)
    assert parsed.requests.select(["raw_client", "raw_target", "status", "duration_s", "raw_cookie"]).to_pylist() == [
        {"raw_client": b"203.0.113.7", "raw_target": b"/a?q=1", "status": 200, "duration_s": 1.5, "raw_cookie": b""},
        {
            "raw_client": b"203.0.113.8",
            "raw_target": b"/b",
            "status": 404,
            "duration_s": 0.0,
            "raw_cookie": b'PHPSESSID=a; note="x y"',
        },
    ]
    assert parsed.requests["raw_user_agent"].to_pylist() == [b"Mozilla/5.0 (X11)", b""]
    assert parsed.requests["is_agent_logged"].to_pylist() == [True, False]
    assert parsed.rejected == {Rejection.NOT_THIS_FORMAT: [6, 8]}
    assert (parsed.ignored, parsed.lines) == (4, 8)


def test_a_log_tells_what_wrote_it() -> None:
    """IIS counts milliseconds and puts + for a blank also where no field is chosen that only IIS has."""
    fields = b"#Fields: date time c-ip cs-uri-stem sc-status cs(User-Agent) time-taken\n"
    line = b"2026-03-02 17:00:00 203.0.113.7 / 200 a+b 1500\n"
    by_iis, by_another = b"#Software: Microsoft Internet Information Services 5.0\n" + fields, fields
    for header, agent, duration_s in ((by_iis, b"a b", 1.5), (by_another, b"a+b", 1500.0)):
        known = detect_format(header)
        assert known is not None
        assert known.after(header) == known
        (row,) = parse_lines(header + line, known).requests.to_pylist()
        assert (row["raw_user_agent"], row["duration_s"]) == (agent, duration_s)


def test_fields_are_named_at_the_beginning_of_a_line_only() -> None:
    """Who puts such words into a request changes nothing; a mark of UTF-8 before the first line does no harm."""
    header = b"\xef\xbb\xbf#Fields: date time c-ip cs-uri-stem sc-status\n"
    known = detect_format(header)
    assert known is not None
    line = b"2026-03-02 17:00:00 203.0.113.7 /?#Fields:c-ip 200\n"
    assert known.after(header + line) == known
    assert parse_lines(header + line * 2, known).requests["raw_target"].to_pylist() == [b"/?#Fields:c-ip"] * 2


def test_fields_hold_behind_the_block_that_names_them() -> None:
    """Blocks give the same as the whole, if each is read by the format behind the one before it."""
    known = detect_format(IIS)
    assert known is not None
    whole = parse_lines(IIS, known)
    rows, rejected = [], 0
    for line in IIS.splitlines(keepends=True):
        parsed = parse_lines(line, known)
        known = known.after(line)
        rows += parsed.requests.select(["raw_client", "raw_target", "time_s"]).to_pylist()
        rejected += sum(map(len, parsed.rejected.values()))
    assert rows == whole.requests.select(["raw_client", "raw_target", "time_s"]).to_pylist()
    assert rejected == 2


# --- Anything at all ----------------------------------------------------------------------------------------------

FRAGMENTS = st.sampled_from(
    [
        *(known.sample for known in FORMATS.values()),
        *(b" ", b'"', b"\\", b'\\"', b"\n", b"\r\n", b"\t", b":", b"[", b"#Fields: ", b"c-ip", b"{"),
        *(b"\xff", b"\xff\x01", b"\0", b"\xef\xbb\xbf", b"-", b"[[[", b'{"status":1e999}'),
    ]
)
GARBAGE = st.lists(FRAGMENTS | st.binary(max_size=30), max_size=12).map(b"".join)
NAMES = st.sampled_from([*FORMATS, *(f"syslog:{name}" for name in FORMATS)])


def assert_counted(block: bytes, known: LogFormat) -> Parsed:
    """Check that every line of a block is a request, rejected or ignored, and return what was read."""
    parsed = parse_lines(block, known)
    numbers = [number for found in parsed.rejected.values() for number in found]
    assert parsed.requests.num_rows + len(numbers) + parsed.ignored == parsed.lines
    assert len(set(numbers)) == len(numbers)
    assert all(1 <= number <= parsed.lines for number in numbers)
    assert parsed.lines == block.count(b"\n") + (not block.endswith(b"\n") and block != b"")
    assert all(column.null_count == 0 for column in parsed.requests.columns)
    parsed.requests.validate(full=True)
    return parsed


@settings(max_examples=150)
@given(GARBAGE, NAMES)
@example(b'{"a":' * 100_000, "nginx_json")
@example(b"#Fields: \n\n#fields:c-ip\n", "w3c")
@example(b"\0\n", "combined")
def test_any_bytes_are_counted(block: bytes, name: str) -> None:
    """Reading never fails, and each line is a request, rejected or ignored, whatever the bytes."""
    assert_counted(block, find_format(name))


@settings(max_examples=40)
@given(st.lists(GARBAGE.map(lambda raw: raw.replace(b"\n", b"") + b"\n"), max_size=8), NAMES, st.integers(0, 8))
def test_it_does_not_matter_where_blocks_end(lines: list[bytes], name: str, cut: int) -> None:
    """A log in two blocks gives the rows and rejections of the whole."""
    known = find_format(name)
    whole = parse_lines(b"".join(lines), known)
    first, second = b"".join(lines[:cut]), b"".join(lines[cut:])
    halves = [parse_lines(first, known), parse_lines(second, known.after(first))]
    assert sum(half.lines for half in halves) == whole.lines
    for name in ("raw_client", "time_s", "raw_target"):
        values = [value for half in halves for value in half.requests[name].to_pylist()]
        assert values == whole.requests[name].to_pylist()
    for reason in Rejection:
        later = [halves[0].lines + number for number in halves[1].rejected.get(reason, [])]
        assert sorted(halves[0].rejected.get(reason, []) + later) == sorted(whole.rejected.get(reason, []))


STARTS_WITH_QUOTE = replace(
    find_format('"$http_x_forwarded_for" [$time_iso8601] "$request" $status "$http_user_agent" $_'),
    sample=b'"203.0.113.7" [2026-03-02T17:00:00Z] "GET / HTTP/1.1" 200 "Browser" 1',
)
QUOTED = [
    STARTS_WITH_QUOTE,
    *(known for known in FORMATS.values() if known.line and len(cutting.split_at_quotes(known.line)) > 1),
]
PIECES = st.sampled_from(
    [b'"', b' "', b'" ', b'" "', b'\\"', b'"\n', b'] "', b"] ", b"- ", b"\n", b"-", b":", b"a", b"200"]
)  # fmt: skip


@settings(max_examples=200)
@given(st.sampled_from(QUOTED), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 6), PIECES), max_size=3))
@example(COMBINED_FORMAT, [])
@example(COMBINED_FORMAT, [(COMBINED_FORMAT.sample.index(b'"Mozilla'), 0, b"x")])
@example(COMBINED_FORMAT, [(COMBINED_FORMAT.sample.index(b' "https'), 0, b"x")])
@example(STARTS_WITH_QUOTE, [(0, 0, b"x")])
def test_it_makes_no_difference_that_quotes_come_first(known: LogFormat, changes: list[tuple[int, int, bytes]]) -> None:
    """Whatever is changed in lines of a format, cutting at all quotes at once gives what cutting from left gives."""
    block = (known.sample + b"\n") * 2
    for start, length, text in changes:
        block = block[:start] + text + block[start + length :]
    fast = parse_lines(block, known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "cut_at_quotes", lambda *_, **__: False)
        slow = parse_lines(block, known)
    assert fast.requests.equals(slow.requests)
    assert fast[1:] == slow[1:]


def test_quotes_come_first_in_lines_as_they_are() -> None:
    """The samples of all formats with quotes are cut at once, also where the last quote lacks."""
    for known in QUOTED:
        assert known.line
        for sample in {known.sample, known.sample.removesuffix(b'"')}:
            assert cutting.cut_at_quotes(Lines.of(sample), known.line, has_bare_quotes=False), known.name


@settings(max_examples=15)
@given(GARBAGE)
def test_detecting_never_fails(head: bytes) -> None:
    """Whatever a file begins with, there is a format or none."""
    known = detect_format(head)
    assert known is None or known.line or known.members


def test_rejected_lines_show_no_text() -> None:
    """What could not be read is nowhere in what is returned, nor in what it says of itself."""
    canary = b"21234567890123"
    for known in FORMATS.values():
        parsed = parse_lines(b"x " + canary + b' "' + canary + b"\n" + canary, known)
        assert parsed.requests.num_rows == 0
        assert canary not in pickle.dumps(parsed)


def test_what_was_read_does_not_show_itself() -> None:
    """Requests in a log message or a traceback would be a leak, so what holds them shows nothing."""
    assert repr(parse_lines(LINE, COMBINED_FORMAT)) == "Parsed(…)"


# --- Encodings ----------------------------------------------------------------------------------------------------


class Dripping:
    """A stream that gives a few bytes at a time, as pipes may."""

    def __init__(self, raw: bytes, most: int) -> None:
        self._raw, self._most = BytesIO(raw), most

    def read(self, size: int, /) -> bytes:
        """Read less than is asked for."""
        return self._raw.read(min(size, self._most))

    read1 = read


def read_to_the_end(raw: bytes, most: int) -> bytes:
    """Read a stream through."""
    one, other = AsUtf8(Dripping(raw, most)), AsUtf8(Dripping(raw, most))
    read = b"".join(iter(lambda: one.read(100), b""))
    assert b"".join(iter(lambda: other.read1(100), b"")) == read
    return read


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_utf_16_is_read(encoding: str, most: int) -> None:
    """A log that Windows wrote in UTF-16 gives the same bytes as in UTF-8, wherever its pieces end."""
    text = LINE.decode() * 3 + "é\n"
    assert read_to_the_end(f"\ufeff{text}".encode(encoding), most) == text.encode()
    assert read_to_the_end("\ufeff".encode(encoding), most) == b""
    assert read_to_the_end("\ufeffa".encode(encoding)[:-1], most) == "\ufffd".encode()


@pytest.mark.parametrize("most", [1, 100])
@pytest.mark.parametrize("raw", [b"", b"\xff", b"\xe9\n\xff\xfe", codecs.BOM_UTF8 + b"a", LINE])
def test_other_bytes_stay_as_they_are(raw: bytes, most: int) -> None:
    """A log without such a mark is not decoded."""
    assert read_to_the_end(raw, most) == raw


# --- The samples --------------------------------------------------------------------------------------------------


@pytest.mark.needs_samples
@pytest.mark.parametrize(
    ("name", "expected", "count"),
    [
        ("amazon_cloudfront_web.log", "cloudfront", 1),
        ("caddy_json.log", "caddy_json", 3),
        ("common.log", "common", 1),
        ("common.log.gz", "common", 1),
        ("common_vhost.log", "vhost_common", 1),
        ("haproxy.log", "haproxy", 1),
        ("iis.log", "iis", 1),
        ("ncsa_extended.log", "combined", 1),
        ("nginx_json.log", "nginx_json", 2),
    ],
)
def test_small_samples_are_read_whole(samples: Path, name: str, expected: str, count: int) -> None:
    """Each sample is of the format that its name says, and every request in it is read, with its client's address."""
    block = read_bytes(samples / "formats" / name)
    known = detect_format(block)
    assert known is not None
    assert known.name == expected
    parsed = parse_lines(block, known)
    assert (parsed.requests.num_rows, parsed.rejected) == (count, {})
    assert all(parse_client(raw.decode()) for raw in parsed.requests["raw_client"].to_pylist())


@pytest.mark.needs_samples
@pytest.mark.parametrize(("name", "expected"), [(COMBINED, "combined"), (EZPROXY, "common")])
def test_big_samples_are_read_whole(samples: Path, name: str, expected: str) -> None:
    """Not one of the lines of either is lost, and addresses, targets and statuses are those that stand there."""
    block = read_bytes(samples / name)
    known = detect_format(block[:65_536])
    assert known is not None
    assert known.name == expected
    parsed = parse_lines(block, known)
    lines = read_lines(samples / name)
    assert (parsed.requests.num_rows, parsed.rejected, parsed.ignored) == (len(lines), {}, 0)
    for row, line in random.Random(7).sample(list(zip(parsed.requests.to_pylist(), lines, strict=True)), 500):
        raw = line.encode("utf-8", "surrogateescape")
        quoted = b'"%s %s ' % (row["raw_method"], row["raw_target"])
        assert raw.startswith(row["raw_client"] + b" ")
        assert quoted in raw
        assert b'" %d ' % row["status"] in raw


def read_bytes(path: Path) -> bytes:
    """Read a sample, decompressed."""
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw
