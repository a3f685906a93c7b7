"""Log formats: from the bytes of a log to tables of raw columns. A format is data, see `data/`."""

from anonproxy.ingest.formats.encoding import AsUtf8
from anonproxy.ingest.formats.log_format import FORMATS, NO_PROXY, LogFormat, find_format
from anonproxy.ingest.formats.parse import detect_format, parse_lines
from anonproxy.ingest.formats.parsed import MAX_LINE_BYTES, Parsed, Rejection

__all__ = [
    "FORMATS",
    "MAX_LINE_BYTES",
    "NO_PROXY",
    "AsUtf8",
    "LogFormat",
    "Parsed",
    "Rejection",
    "detect_format",
    "find_format",
    "parse_lines",
]
