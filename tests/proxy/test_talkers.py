"""Who asks most: counted in a window, bounded, forgotten."""

import json
from collections import Counter

import pytest

from anonproxy.anonymize.request import RawRequest
from anonproxy.proxy.limits import address_key
from anonproxy.proxy.talkers import (
    MAX_AGENT,
    MAX_KEYS,
    MAX_REPORT_BYTES,
    MAX_ROWS,
    SLICE_S,
    WINDOW_S,
    Report,
    Talkers,
    merge_reports,
    render_report,
)

T0 = 1_000_000.0  # begins a slice
NOBODY = Counter[bytes]()


def request(client: str = "203.0.113.7", status: int = 200, agent: str = "Firefox") -> RawRequest:
    """Return a request as it is when it has been served."""
    return RawRequest(time_s=1.0, raw_client=client, raw_user_agent=agent, status=status)


def names(report: Report) -> tuple[list[str], list[str]]:
    """Return whom a report names."""
    return [row.raw_name for row in report.addresses], [row.raw_name for row in report.networks]


def test_requests_errors_and_connections_are_counted() -> None:
    """By address, or /64, and by network: requests, errors, connections, what asked last; the rest in total only."""
    talkers = Talkers(T0)
    for status in (200, 404, 502, 0, 304):
        talkers.note(request(status=status), T0 + 1)
    talkers.note(request("203.0.113.8", agent="curl"), T0 + 2)
    talkers.note(request("2001:db8:1:2::3"), T0 + 2)
    talkers.note(request("not an address"), T0 + 2)
    connections = Counter(key for key in map(address_key, ("203.0.113.8", "198.51.100.1")) if key)
    report = talkers.report(T0 + 10, connections)
    assert names(report) == (
        ["203.0.113.7", "203.0.113.8", "2001:db8:1:2::/64", "198.51.100.1"],
        ["203.0.113.0/24", "2001:db8:1::/48", "198.51.100.0/24"],
    )
    [first, second, _, last] = [row.tally for row in report.addresses]
    assert (first.requests, first.errors, first.recent, first.connections, first.raw_agent) == (5, 3, 5, 0, "Firefox")
    assert (second.requests, second.connections, second.raw_agent) == (1, 1, "curl")
    assert (last.requests, last.connections) == (0, 1)
    assert (report.networks[0].tally.requests, report.networks[0].tally.connections) == (6, 1)
    assert (report.total.requests, report.total.errors, report.total.connections) == (8, 3, 2)
    assert (report.seconds, report.recent_s) == (10, 10)


@pytest.mark.parametrize(
    ("after_s", "is_known", "recent"),
    [(0, True, 1), (59, True, 1), (61, True, 0), (WINDOW_S - 1, True, 0), (WINDOW_S, False, 0), (9999, False, 0)],
)
def test_addresses_age_out(after_s: float, is_known: bool, recent: int) -> None:
    """A minute later a request isn't recent, five minutes later nothing of it is left."""
    talkers = Talkers(T0)
    talkers.note(request(), T0)
    rows = talkers.report(T0 + after_s, NOBODY).addresses
    assert [row.tally.recent for row in rows] == ([recent] if is_known else [])
    talkers.forget(T0 + after_s)
    assert len(talkers) == (2 if is_known else 0)


def test_who_goes_on_is_remembered_from_slice_to_slice() -> None:
    """Requests of all slices of the window add up."""
    talkers = Talkers(T0)
    for number in range(100):
        talkers.note(request(), T0 + number * SLICE_S / 2)
    report = talkers.report(T0 + 99 * SLICE_S / 2, NOBODY)
    assert report.addresses[0].tally.requests == 2 * WINDOW_S / SLICE_S
    assert len(talkers) == 2 * WINDOW_S / SLICE_S
    assert WINDOW_S - SLICE_S <= report.seconds <= WINDOW_S


def test_swarm_takes_bounded_memory_and_hides_nobody() -> None:
    """However many addresses ask once: memory is bounded, and who asks often, or shares a network, stands on top."""
    talkers = Talkers(T0)
    for number in range(4 * MAX_KEYS):
        talkers.note(request(f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}"), T0)
        if number % 20 == 0:
            talkers.note(request("203.0.113.7"), T0)
    assert len(talkers) <= 2 * MAX_KEYS
    report = talkers.report(T0 + 1, NOBODY)
    assert report.addresses[0].raw_name == "203.0.113.7"
    assert report.addresses[0].tally.requests == 4 * MAX_KEYS / 20
    assert {row.raw_name for row in report.networks} >= {"198.18.0.0/24", "198.18.20.0/24"}
    assert len(report.addresses) == MAX_ROWS
    assert report.total.requests == 4 * MAX_KEYS * 21 / 20


@pytest.mark.parametrize("characters", ["\udcff\x01", "\x01", "\U0001f4da"])
def test_report_fits_into_a_message_and_arrives_whole(characters: str) -> None:
    """The largest report there can be is one message, and reads as it was written."""
    talkers = Talkers(T0)
    for number in range(2 * MAX_ROWS):
        client = f"2001:db8:{number:x}:ffff::1"
        talkers.note(request(client, agent=characters * MAX_AGENT), T0)
    report = talkers.report(T0, NOBODY)
    message = report.to_json()
    assert len(message) <= MAX_REPORT_BYTES * 0.8
    assert Report.from_json(message) == report


def test_workers_are_added_up_and_shown_without_raw_words() -> None:
    """What several workers saw of one address is one line; of a User-Agent only its class is shown."""
    reports = []
    for worker in range(2):
        talkers = Talkers(T0)
        for _ in range(3 + worker):
            talkers.note(request(agent="\x1b[31mSecretBot/7"), T0)
        talkers.note(request(f"203.0.113.{worker}", status=404), T0)
        reports.append(Report.from_json(talkers.report(T0 + 10, NOBODY).to_json()))
    merged = merge_reports(reports)
    told = render_report(merged, lambda raw_agent: "bot: other" if "Bot" in raw_agent else "Firefox")
    assert "Secret" not in told
    shown = json.loads(told)
    assert shown["addresses"][0] == {
        "address": "203.0.113.7", "requests_per_s": 0.7, "requests": 7, "errors": 0, "connections": 0,
        "agent": "bot: other",
    }  # fmt: skip
    assert shown["networks"][0]["requests"] == 9
    assert shown["total"] == {"requests_per_s": 0.9, "requests": 9, "errors": 2, "connections": 0}
    assert shown["seconds"] == 10
    assert json.loads(render_report(merge_reports([]), str))["addresses"] == []
