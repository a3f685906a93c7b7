"""Each format that is known by name: its sample, found by its looks, and read to the last column."""

from typing import Any

import pytest

from anonproxy.ingest.batch import RAW_SCHEMA
from anonproxy.ingest.formats import FORMATS, LogFormat, Parsed, detect_format, find_format, parse, parse_lines
from anonproxy.ingest.formats.dialect import DIALECTS, NEEDED
from anonproxy.ingest.formats.values import READINGS

FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"
HEAD: dict[str, Any] = {"time_s": 1_772_470_800.0, "raw_client": b"203.0.113.7", "raw_method": b"GET", "status": 200}
PAGE = HEAD | {"raw_target": b"/events", "size_bytes": 5120}
MILLISECONDS = {"time_s": 1_772_470_800.123}
BROWSED = {"raw_user_agent": FIREFOX, "raw_referrer": b"https://www.example.org/"}
NO_REFERRER = {"raw_referrer": b"?"}
NO_AGENT = NO_REFERRER | {"is_agent_logged": False}
HOST = {"raw_host": b"library.example.org"}
TOOK = {"duration_s": 0.012}
NO_COOKIES = {"raw_cookie": b"", "raw_set_cookie": b""}

# What the sample of each format says, and nothing else.
EXPECTED: dict[str, dict[str, Any]] = {
    "vhost_combined": PAGE | HOST | BROWSED,
    "host_combined": PAGE | HOST | BROWSED,
    "vhost_common": PAGE | HOST | NO_AGENT,
    "combined": PAGE | BROWSED,
    "nginx_main": PAGE | BROWSED,
    "combinedio": PAGE | BROWSED,
    "traefik": PAGE | BROWSED,
    "haproxy_clf": PAGE | NO_AGENT,
    "squid_combined": PAGE | BROWSED | {"raw_target": b"http://library.example.org/events"},
    "common": PAGE | NO_AGENT,
    "ezproxy_agent": PAGE
    | NO_REFERRER
    | {"raw_target": b"http://journals.example.org:80/article", "raw_user_agent": FIREFOX},
    "haproxy": PAGE | MILLISECONDS | TOOK | NO_COOKIES | NO_AGENT,
    "haproxy_https": PAGE | MILLISECONDS | TOOK | NO_COOKIES | NO_AGENT,
    "alb": PAGE
    | NO_REFERRER
    | TOOK
    | {
        "time_s": 1_772_470_800.123456,
        "raw_client": b"203.0.113.7:2817",
        "raw_target": b"https://library.example.org:443/events",
        "size_bytes": 5494,
        "raw_user_agent": FIREFOX,
    },
    "elb": PAGE
    | NO_REFERRER
    | TOOK
    | {
        "time_s": 1_772_470_800.123456,
        "raw_client": b"203.0.113.7:2817",
        "raw_target": b"http://library.example.org:80/events",
        "raw_user_agent": FIREFOX,
    },
    "s3": PAGE | BROWSED | TOOK | {"raw_target": b"/www/events.html"},
    "squid": PAGE | MILLISECONDS | TOOK | NO_AGENT | {"raw_target": b"http://library.example.org/events"},
    "cloudfront": PAGE | HOST | BROWSED | TOOK | {"raw_cookie": b""},
    "iis": PAGE | BROWSED | TOOK,
    "w3c": PAGE | BROWSED,
    "caddy_json": PAGE
    | MILLISECONDS
    | HOST
    | BROWSED
    | TOOK
    | NO_COOKIES
    | {"raw_accept_language": b"es", "is_opted_out": True, "is_private": True, "is_agent_logged": True},
    "traefik_json": PAGE
    | HOST
    | BROWSED
    | TOOK
    | NO_COOKIES
    | {
        "time_s": 1_772_470_800.1234567,
        "raw_accept_language": b"",
        "is_opted_out": False,
        "is_private": False,
        "is_agent_logged": True,
    },
    "nginx_json": PAGE
    | HOST
    | BROWSED
    | TOOK
    | {"raw_cookie": b"", "raw_accept_language": b"", "is_opted_out": False, "is_agent_logged": True},
    "collect": PAGE
    | MILLISECONDS
    | HOST
    | BROWSED
    | TOOK
    | {
        "raw_cookie": b"PHPSESSID=0123456789abcdef",
        "raw_set_cookie": b"",
        "raw_accept_language": b"en-US,en;q=0.5",
        "is_opted_out": False,
        "is_private": False,
    },
}


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what floats can't hold of a time."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}


def sample_log(name: str) -> bytes:
    """Return a log of one line, with the line that names its fields where its kind has one."""
    known = FORMATS[name]
    if not known.line or not known.has_header:
        return known.sample + b"\n"
    fields = " ".join(field.name for field in known.line.fields).replace("date,time", "date time")
    return f"#Version: 1.0\n#Fields: {fields}\n".encode() + known.sample + b"\n"


def test_every_format_is_tried_here() -> None:
    """A format that is added can't be forgotten."""
    assert EXPECTED.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_sample_says_what_it_says(name: str) -> None:
    """The sample beside each format gives exactly these columns, of these types, and no others."""
    parsed = parse_lines(FORMATS[name].sample + b"\n", FORMATS[name])
    assert [rounded(row) for row in parsed.requests.to_pylist()] == [rounded(EXPECTED[name])]
    assert (parsed.rejected, parsed.ignored, parsed.lines) == ({}, 0, 1)
    assert parsed.requests.schema == RAW_SCHEMA.empty_table().select(parsed.requests.column_names).schema


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_found_by_its_looks(name: str) -> None:
    """Of each sample its own format is found, whatever stands before it in the list; also with Windows' line ends."""
    for head in (sample_log(name), sample_log(name).replace(b"\n", b"\r\n"), b"\n" + sample_log(name) * 3):
        found = detect_format(head)
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_likely_is_not_taken_for_what_it_is_not(name: str) -> None:
    """What was found in other logs makes it faster, and no difference."""
    for likely in ([FORMATS["squid_combined"], FORMATS["common"]], FORMATS.values()):
        found = detect_format(sample_log(name), likely)
        assert found is not None
        assert found.name == name


def test_what_comes_behind_a_likely_format_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A likely format that reads all lines is tried, and those before it; of another log all are."""
    tried: list[str] = []

    def count(block: bytes, known: LogFormat) -> Parsed:
        tried.append(known.name)
        return parse_lines(block, known)

    monkeypatch.setattr(parse, "parse_lines", count)
    detect_format(sample_log("combined"), [FORMATS["common"], FORMATS["combined"]])
    assert tried == ["common", "combined", *list(FORMATS)[: list(FORMATS).index("combined") + 1]]
    detect_format(sample_log("combined") + b"no line of a log\n", [FORMATS["combined"]])
    assert {f"syslog:{name}" for name in FORMATS if not FORMATS[name].has_header} - {*tried} == {
        f"syslog:{name}" for name in FORMATS if FORMATS[name].is_behind_syslog
    }


PREFIXES = (
    b"Mar  2 17:00:01 web1 server[811]: ",
    b"2026-03-02T17:00:01.123456+00:00 web1 server: ",
    b"<190>Mar 12 17:00:01 web1 server: ",
    b"<134>Mar 12 17:00:01 server[811]: ",
    b"<190>1 2026-03-02T17:00:01Z web1 server 811 - - ",
)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *((name, PREFIXES[0]) for name, known in FORMATS.items() if not known.has_header),
        *(("combined", prefix) for prefix in PREFIXES[1:]),
    ],
)
def test_a_format_is_found_behind_syslog(name: str, prefix: bytes) -> None:
    """What syslog puts before a line is seen and left out; the name that says so finds the format again."""
    head = prefix + FORMATS[name].sample + b"\n"
    found = detect_format(head)
    assert found is not None
    assert found.name in {name, f"syslog:{name}"}
    (row,) = parse_lines(head, find_format(found.name)).requests.to_pylist()
    assert rounded(row) == rounded(EXPECTED[name])


def test_what_is_no_log_has_no_format() -> None:
    """Nothing, prose, binary garbage and a list of fields without an address are of no format."""
    for head in (
        b"",
        b"\n\n",
        b"Dear reader,\nno log here.\n",
        bytes(range(256)) * 9,
        b"#Fields: date time\n1 2\n",
        b"{}",
    ):
        assert detect_format(head) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_what_every_request_has(name: str) -> None:
    """No format is known by name that lacks an address, a time, a request or a status."""
    assert FORMATS[name].columns >= NEEDED.keys()


@pytest.mark.parametrize("name", DIALECTS)
def test_directives_hold_what_there_is(name: str) -> None:
    """Every column and reading in the tables is one that the code knows."""
    dialect = DIALECTS[name]
    made_of = {"request", "raw_query", "raw_forwarded_for", ""}
    for directive, held in dialect.directives.items():
        column, _, reading = held.partition(":")
        assert column in made_of | set(RAW_SCHEMA.names), directive
        assert reading in READINGS, directive
