"""Formats given as they stand in a server's configuration: read as the server writes them, or refused in words."""

import json
import pickle
import re
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonproxy.ingest.formats import FORMATS, LogFormat, find_format, parse_lines
from anonproxy.ingest.formats.dialect import DIALECTS, Field
from anonproxy.model.errors import OperatorError

NGINX = '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent'
TIME_S = 1_772_470_800.0


def read_one(spec: str, line: bytes) -> dict[str, Any]:
    """Read a line by a format that is given."""
    (row,) = parse_lines(line + b"\n", find_format(spec)).requests.to_pylist()
    return dict(row)


@pytest.mark.parametrize(
    ("spec", "line", "expected"),
    [
        # nginx: a variable, several of them, all of the statement, and each way to escape
        (NGINX, b'2001:db8::7 - - [02/Mar/2026:17:00:00 +0000] "GET / HTTP/2.0" 200 5', {"raw_client": b"2001:db8::7"}),
        (
            "log_format main '$remote_addr [$time_iso8601] \"$request\" '\n    '$status \"$http_user_agent\"';",
            rb'203.0.113.7 [2026-03-02T17:00:00+00:00] "GET / HTTP/1.1" 200 "say \x22hi\x22"',
            {"raw_user_agent": b'say "hi"'},
        ),
        (
            "log_format x escape=none '$msec $remote_addr $request_method $request_uri $status $http_referer';",
            rb"1772470800.000 203.0.113.7 GET /a\x22 200 C:\x22",
            {"raw_target": rb"/a\x22", "raw_referrer": rb"C:\x22"},
        ),
        (
            "$remote_addr|$time_local|$request|$status|$cookie_PHPSESSID|$cookie_theme|$http_dnt",
            b"203.0.113.7|02/Mar/2026:17:00:00 +0000|GET /a HTTP/1.1|200|abc|-|1",
            {"raw_cookie": b"PHPSESSID=abc", "is_opted_out": True, "raw_target": b"/a"},
        ),
        (
            '$host:$server_port $remote_addr:$remote_port $time_local $request $status "$uri$is_args$args" $_',
            b'library.example.org:443 2001:db8::7:5000 02/Mar/2026:17:00:00 +0000 GET /a?b HTTP/1.1 200 "/a?b" x y',
            {"raw_host": b"library.example.org", "raw_client": b"2001:db8::7", "raw_target": b"/a?b"},
        ),
        (
            '"$http_x_forwarded_for" [$time_local] $uri $args $status $sent_http_cache_control',
            b'"198.51.100.1, 203.0.113.7" [02/Mar/2026:17:00:00 +0000] /a b=1 200 max-age=0, private',
            {"raw_client": b"203.0.113.7", "raw_target": b"/a?b=1", "is_private": True},
        ),
        (
            "log_format x escape=none '$remote_addr [$time_local] \"$request\" $status \"$http_user_agent\"';",
            b'203.0.113.7 [02/Mar/2026:17:00:00 +0000] "GET /"a"b HTTP/1.1" 200 "say "hi""',
            {"raw_target": b'/"a"b', "raw_user_agent": b'say "hi"'},
        ),
        # JSON of directives
        (
            'log_format j \'{"at":"$time_iso8601","from":{"ip":"$remote_addr"},"r":"$request","s":$status}\';',
            b'{"at":"2026-03-02T17:00:00Z","from":{"ip":"203.0.113.7"},"r":"GET /\\u00e9 HTTP/1.1","s":200}',
            {"raw_client": b"203.0.113.7", "raw_target": "/é".encode(), "is_agent_logged": False},
        ),
        (
            '{"at":"$time_iso8601","ip":"$remote_addr","r":"$request_uri","s":"$status","ua":"$http_user_agent"}',
            rb'{"at":"2026-03-02T17:00:00Z","ip":"203.0.113.7","r":"/","s":"200","ua":"say \x22hi\x22"}',
            {"raw_user_agent": b'say "hi"', "is_agent_logged": True},
        ),
        (
            '{"t":"%{%Y-%m-%dT%H:%M:%S%z}t","ip":"%a","m":"%m","u":"%U","q":"%q","s":%>s}',
            b'{"t":"2026-03-02T18:00:00+0100","ip":"203.0.113.7","m":"GET","u":"/a","q":"?b=1","s":200}',
            {"raw_target": b"/a?b=1"},
        ),
        # Apache
        (
            'LogFormat "%v:%p %h %l %u %t \\"%r\\" %>s %O \\"%{Referer}i\\"" vhost',
            b'www.example.org:443 203.0.113.7 - - [02/Mar/2026:17:00:00 +0000] "GET / HTTP/1.1" 200 5 "-"',
            {"raw_host": b"www.example.org", "raw_referrer": b""},
        ),
        (
            'CustomLog logs/access.log "%a %t \\"%m %U%q %H\\" %>s %D %{SESSID}C %{Sec-GPC}i"',
            b'203.0.113.7 [02/Mar/2026:17:00:00 +0000] "GET /a?b HTTP/1.1" 200 1500000 abc 1',
            {"raw_target": b"/a?b", "duration_s": 1.5, "raw_cookie": b"SESSID=abc", "is_opted_out": True},
        ),
        (
            '%{%Y-%m-%d %H:%M:%S}t %h "%r" %s',
            b'2026-03-02 17:00:00 203.0.113.7 "GET / HTTP/1.1" 200',
            {"raw_target": b"/"},
        ),
        (
            '%h %{[%d/%b/%Y:%H:%M:%S %z]}t "%r" %s',
            b'203.0.113.7 [02/Mar/2026:18:00:00 +0100] "GET / HTTP/1.1" 200',
            {"raw_target": b"/"},
        ),
        ('%h %{%s}t "%r" %s', b'203.0.113.7 1772470800 "GET / HTTP/1.1" 200', {"raw_target": b"/"}),
        ('%h %{msec}t %{ms}T "%r" %s', b'203.0.113.7 1772470800000 20 "GET / HTTP/1.1" 200', {"duration_s": 0.02}),
        # EZproxy: logins may have blanks in them
        (
            'LogFormat %h %l %u %t "%r" %s %b "%{ezproxy-session}i"',
            b'203.0.113.7 - ADA BYRON [02/Mar/2026:17:00:00 +0000] "GET http://a.example.org:80/x HTTP/1.1" 200 9 "q"',
            {"raw_target": b"http://a.example.org:80/x"},
        ),
        (
            'LogSPU -strftime log/spu%Y%m.log %h %l %u %t "%r" %s %b "%{ezproxy-groups}i"',
            b'203.0.113.7 - x [02/Mar/2026:17:00:00 +0000] "GET http://a.example.org" 301 0 "Default"',
            {"raw_target": b"http://a.example.org", "status": 301},
        ),
        (
            "%h %l %u %t %m %U %s %b",
            b"203.0.113.7 - x [02/Mar/2026:17:00:00 +0000] GET http://a.example.org:80/x?y 200 9",
            {"raw_target": b"http://a.example.org:80/x?y"},
        ),
        # HAProxy, with the headers that it captures
        (
            'log-format "%ci:%cp [%trg] %ST %B %Ta {%{Host}hr|%{User-Agent}hr} %{+Q}r"',
            b'2001:db8::7:5000 [02/Mar/2026:17:00:00 +0000] -1 5 1500 {www.example.org|Browser/1} "GET / HTTP/1.1"',
            {
                "raw_client": b"2001:db8::7",
                "raw_host": b"www.example.org",
                "raw_user_agent": b"Browser/1",
                "status": -1,
                "duration_s": 1.5,
            },
        ),
        (
            r"log-format %ci:%cp\ [%trg]\ %HM\ %HP\ %HQ\ %ST",
            b"203.0.113.7:5000 [02/Mar/2026:17:00:00 +0000] GET /a ?b=1 200",
            {"raw_target": b"/a?b=1"},
        ),
        # How long it took is worth no line
        ('%h %t "%r" %s %D', b'203.0.113.7 [02/Mar/2026:17:00:00 +0000] "GET / HTTP/1.1" 200 ?', {"duration_s": 0.0}),
        # Squid pads its numbers
        (
            "logformat squid %ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru",
            b"1772470800.000      7 203.0.113.7 TCP_HIT/200 5120 GET http://a.example.org/",
            {"duration_s": 0.007, "raw_method": b"GET"},
        ),
        # W3C
        (
            "#Fields: date time c-ip cs-uri sc-status",
            b"2026-03-02\t17:00:00\t203.0.113.7\t/a\t200",
            {"raw_target": b"/a", "is_agent_logged": False},
        ),
        # AWS
        (
            '<time> <client:port> "<request>" <elb_status_code> <rest>',
            b'2026-03-02T17:00:00.000Z 203.0.113.7:2817 "GET https://a.example.org:443/ HTTP/1.1" 200 - and more',
            {"raw_client": b"203.0.113.7:2817"},
        ),
    ],
)  # fmt: skip
def test_a_given_format_is_read(spec: str, line: bytes, expected: dict[str, Any]) -> None:
    """A line of a configuration reads the lines that it makes the server write."""
    row = read_one(spec, line)
    assert round(row["time_s"], 3) == TIME_S
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("combind", ["combined", "vhost_common"]),
        (NGINX.replace("$request", "$requst"), ["$requst", "column 44", "request", "Write $_"]),
        (NGINX + " $my_map", ["$my_map", "Write $_"]),
        (NGINX.replace("$remote_addr", "$_"), ["the client's address", "remote_addr"]),
        (NGINX.replace("$time_local", "$_"), ["the time", "time_local"]),
        (NGINX.replace("$request", "$_"), ["the request", "request_uri"]),
        (NGINX.replace("$status", "$_"), ["the status"]),
        ("$remote_addr$time_local $request $status", ["nothing stands between $remote_addr and $time_local"]),
        ('%h %l %u %t "%r" %>Z %b', ["%>Z", "column 18", "LogFormat"]),
        ("%h %t %s", ["the request"]),
        ("#Fields: date time c-ip", ["the request", "the status", "cs-uri-stem"]),
        ('{"ip":"$remote_addr"', ["JSON"]),
        ('{"ip":"$remote_addr"}', ["the time"]),
        ("Connect from %ci:%cp to %fi:%fp (%f/HTTP)", ["the time", "the request"]),
    ],
)
def test_a_format_that_can_not_be_used_is_refused(spec: str, parts: list[str]) -> None:
    """The message says what isn't known and where, or what is missing and what would be it, or what there is."""
    with pytest.raises(OperatorError) as caught:
        find_format(spec)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_can_be_sent_to_another_process(name: str) -> None:
    """A format survives pickling, and is the same afterwards."""
    for known in (FORMATS[name], find_format(f"syslog:{name}")):
        assert pickle.loads(pickle.dumps(known)) == known


# --- There and back -----------------------------------------------------------------------------------------------

PRINTABLE = st.text(string.ascii_letters + string.digits + "/?&=.-_~%", min_size=1, max_size=12).map(str.encode)
ANY_BYTES = st.lists(
    PRINTABLE | st.sampled_from([b'"', b"\\", b"\\x22", b" ", b'" "', b"\xff\x01", b"\xc3\xa9", b"\xe9", b"[en]"]),
    min_size=1,
    max_size=5,
).map(b"".join)  # fmt: skip
WORD = PRINTABLE.filter(lambda raw: raw != b"-")
TEXT = ANY_BYTES.filter(lambda raw: raw != b"-")
NUMBER = st.integers(0, 10**9)


def escape(raw: bytes) -> bytes:
    """Escape a text as Apache does."""
    return raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def escape_hex(raw: bytes) -> bytes:
    """Escape a text as nginx does."""
    return b"".join(b"\\x%02X" % byte if byte < 32 or byte > 126 or byte in b'"\\' else bytes([byte]) for byte in raw)


ROWS = st.fixed_dictionaries(
    {
        "raw_client": st.ip_addresses().map(lambda address: str(address).encode()),
        "raw_method": st.sampled_from([b"GET", b"POST", b"PROPFIND"]),
        "raw_target": st.tuples(st.just(b"/"), TEXT).map(b"".join),
        "status": st.integers(100, 599),
        "size_bytes": NUMBER,
        "raw_referrer": TEXT,
        "raw_user_agent": TEXT,
    }
)


def write_combined(row: dict[str, Any], escape_text: Callable[[bytes], bytes]) -> bytes:
    """Write a line of combined."""
    target, referrer, agent = (escape_text(row[name]) for name in ("raw_target", "raw_referrer", "raw_user_agent"))
    return b'%b - - [02/Mar/2026:17:00:00 +0000] "%b %b HTTP/1.1" %d %d "%b" "%b"\n' % (
        *(row["raw_client"], row["raw_method"], target, row["status"], row["size_bytes"], referrer, agent),
    )


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=6), st.sampled_from([escape, escape_hex]))
def test_what_was_written_is_read(rows: list[dict[str, Any]], escape_text: Callable[[bytes], bytes]) -> None:
    """Whatever the requests were, their lines give them back byte for byte, next to each other in one block."""
    block = b"".join(write_combined(row, escape_text) for row in rows)
    parsed = parse_lines(block, FORMATS["combined"])
    assert parsed.requests.to_pylist() == [{"time_s": TIME_S, **row} for row in rows]


@settings(max_examples=40)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_what_caddy_wrote_is_read(rows: list[dict[str, Any]]) -> None:
    """JSON gives back what was put into it, bytes that are no UTF-8 included."""
    lines = []
    for row in rows:
        texts = {name: row[name].decode("utf-8", "surrogateescape") for name in row if name.startswith("raw_")}
        request = {"remote_ip": texts["raw_client"], "method": texts["raw_method"], "uri": texts["raw_target"]}
        headers = {"Referer": [texts["raw_referrer"]], "User-Agent": [texts["raw_user_agent"]]}
        written = {"ts": TIME_S, "status": row["status"], "size": row["size_bytes"]}
        text = json.dumps(written | {"request": request | {"headers": headers}}, ensure_ascii=False)
        lines.append(text.encode("utf-8", "surrogateescape"))
    read = parse_lines(b"\n".join(lines), FORMATS["caddy_json"]).requests.to_pylist()
    assert [{name: found[name] for name in row} for found, row in zip(read, rows, strict=True)] == rows


def render(known: LogFormat, values: dict[str, bytes]) -> bytes:
    """Write a line of a format: with the value of each column, and a word for what is no column."""
    assert known.line

    def value(field: Field) -> bytes:
        return values.get(f"{field.column}:{field.reading}", values.get(field.column, b"word"))

    return known.line.begins + b"".join(
        b":".join(map(value, part.fields)) + part.literal for part in known.line.parts
    )  # fmt: skip


@settings(max_examples=60)
@given(
    st.sampled_from([name for name, known in FORMATS.items() if known.line and known.escapes == "backslash"]),
    st.fixed_dictionaries({"raw_target": WORD, "raw_user_agent": TEXT, "raw_referrer": TEXT, "raw_host": WORD}),
    st.integers(100, 599),
)
def test_every_format_of_lines_gives_back_its_fields(name: str, texts: dict[str, bytes], status: int) -> None:
    """A line made of a format and of random values is read to these values."""
    known = FORMATS[name]
    values = {key: escape_hex(text) for key, text in texts.items()} | {
        "raw_client": b"203.0.113.7",
        "raw_method": b"GET",
        "request": b"GET " + escape_hex(texts["raw_target"]) + b" HTTP/1.1",
        "status": b"%d" % status,
        "size_bytes": b"5120",
        "duration_s": b"7",
        "time_s:clf": b"02/Mar/2026:17:00:00 +0000",
        "time_s:iso": b"2026-03-02T17:00:00Z",
        "time_s:seconds": b"1772470800",
    }
    (row,) = parse_lines(render(known, values), known).requests.to_pylist()
    if known.is_padded:
        texts = {key: re.sub(rb" +", b" ", text) for key, text in texts.items()}
    expected = {"raw_client": b"203.0.113.7", "status": status, **texts}
    for column in known.columns & expected.keys():
        assert row[column] == expected[column]


def test_dialects_tell_what_is_not_to_be_read() -> None:
    """What the messages advise to write in the place of something unknown is known and fills no column."""
    for dialect in DIALECTS.values():
        if dialect.anything:
            found = dialect.directive.fullmatch(dialect.anything)
            assert found
            field = dialect.find_match(found)
            assert field is not None
            assert field.column == ""
