"""Read the sample logs, as simply as will do: the formats proper are another room's work."""

import gzip
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from anonproxy.anonymize.request import RawRequest
from anonproxy.keys.ring import next_cut

EZPROXY: Final = "ezproxy_sciencedirect_2012-11-30.log.gz"
COMBINED: Final = "combined_apache_10k.log.gz"
ZONE: Final = "Europe/Paris"  # where the EZproxy servers stood; its log begins at midnight
CUT: Final = "00:00"

LINE: Final = re.compile(
    r'(?P<client>\S+) \S+ (?P<login>\S+) \[(?P<time>[^\]]+)\] "(?P<method>\S+) (?P<target>\S*)[^"]*" '
    r'(?P<status>\d{3}) (?P<size>\d+|-)(?: "(?P<referrer>[^"]*)" "(?P<agent>.*)")?'
)
# EZproxy doesn't log it. Without one everybody is a robot, and then there are no visits and nothing is admitted.
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:17.0) Gecko/17.0 Firefox/17.0"


def read_lines(path: Path) -> list[str]:
    """Return the lines of a log."""
    with gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="\n") as log:
        return log.read().splitlines()


def read_requests(path: Path) -> list[RawRequest]:
    """Return a request for each line of a log; of a line that is no request nothing but the fact."""
    return [parse_line(line) for line in read_lines(path)]


def parse_line(line: str) -> RawRequest:
    """Read a line; one that can't be read has no client, so that it is dropped and counted."""
    found = LINE.fullmatch(line)
    if not found:
        return RawRequest(0.0, "")
    return RawRequest(
        time_s=datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z").timestamp(),
        raw_client=found["client"],
        raw_host=urlsplit(found["target"]).netloc,
        raw_method=found["method"],
        raw_target=found["target"],
        status=int(found["status"]),
        size_bytes=int(found["size"].replace("-", "0")),
        raw_user_agent=AGENT if found["agent"] is None else found["agent"],
        raw_referrer=(found["referrer"] or "").removeprefix("-"),
    )


def split_epochs(requests: list[RawRequest]) -> Iterator[list[RawRequest]]:
    """Cut a log where its keys would end; unreadable lines stay with the day before."""
    end = 0.0

    def epoch_end(request: RawRequest) -> float:
        nonlocal end
        if request.time_s >= end:
            end = next_cut(request.time_s, CUT, ZoneInfo(ZONE), 86_400)
        return end

    return (list(epoch) for _, epoch in groupby(requests, epoch_end))
