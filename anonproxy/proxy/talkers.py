"""Who asks most, for `anonproxy top`: addresses of the last minutes, in memory only, and gone with the process.

Each worker counts the requests of each address and of its network in slices of time; a slice that is too old is let go
whole, and in a full one those who asked least make room. The supervisor asks the workers when somebody wants to look,
adds up what they say, and keeps nothing of it.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from heapq import nlargest
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from anonproxy.anonymize.request import RawRequest
from anonproxy.proxy.limits import address_key

# An address is forgotten five minutes after its last request at the latest. The rate is that of the last minute. As the
# slice of the present isn't full, both spans are up to one slice shorter.
SLICE_S: Final = 20.0
WINDOW_S: Final = 300.0
RECENT_S: Final = 60.0

# Addresses, and networks, of one slice: with those who ask most known, another thousand tell nothing more. All slices
# of a worker take 20 MB at most.
MAX_KEYS: Final = 2_000
MAX_AGENT: Final = 200  # characters of a User-Agent: what it is stands at its beginning
# Rows of each kind that a worker tells, so that what it says fits into one message.
MAX_ROWS: Final = 60
MAX_REPORT_BYTES: Final = 1 << 18

# Bytes that an address of four, or a /64 of eight, has in common with its neighbours: /24 and /48.
_NETWORK_BYTES: Final = {4: 3, 8: 6}


@dataclass(slots=True)
class Tally:
    """What one address, or one network, has asked for."""

    requests: int = 0
    errors: int = 0  # answered with 4xx or 5xx, or left before the answer
    recent: int = 0  # requests of the last minute
    connections: int = 0
    raw_agent: str = ""  # the User-Agent of the last request

    def add(self, other: "Tally") -> None:
        """Add what another has counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.recent += other.recent
        self.connections += other.connections
        self.raw_agent = other.raw_agent or self.raw_agent


Tallies = dict[bytes, Tally]


@dataclass(slots=True)
class _Slice:
    begins_s: float
    addresses: Tallies = field(default_factory=dict)
    networks: Tallies = field(default_factory=dict)
    total: Tally = field(default_factory=Tally)


class Row(NamedTuple):
    """One line of what is shown; an address of IPv6 stands with its /64."""

    raw_name: str
    tally: Tally


@dataclass(slots=True)
class Report:
    """Who has asked most."""

    seconds: float = 0.0  # the span of the requests
    recent_s: float = 0.0  # the span of the recent ones
    total: Tally = field(default_factory=Tally)
    addresses: list[Row] = field(default_factory=list)
    networks: list[Row] = field(default_factory=list)

    def to_json(self) -> bytes:
        """Return the report as it travels."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "surrogatepass")  # as json.loads decodes

    @classmethod
    def from_json(cls, message: bytes) -> "Report":
        """Read a report."""
        plain = json.loads(message)
        return cls(
            plain["seconds"],
            plain["recent_s"],
            Tally(**plain["total"]),
            *([Row(name, Tally(**tally)) for name, tally in plain[kind]] for kind in ("addresses", "networks")),
        )


class Talkers:
    """One worker's memory of who asks."""

    def __init__(self, now_s: float) -> None:
        self._began_s = now_s
        self._slices: deque[_Slice] = deque()

    def __len__(self) -> int:
        return sum(len(one.addresses) + len(one.networks) for one in self._slices)

    def note(self, request: RawRequest, now_s: float) -> None:
        """Count a finished request; whose address can't be read counts in the total only."""
        counted = Tally(1, int(request.status >= 400 or not request.status))
        one = self._slice(now_s)
        one.total.add(counted)
        if key := address_key(request.raw_client):
            counted.raw_agent = request.raw_user_agent[:MAX_AGENT]
            _count(one.addresses, key, counted)
            _count(one.networks, _network(key), counted)

    def forget(self, now_s: float) -> None:
        """Let go of what is too old."""
        while self._slices and self._slices[0].begins_s <= now_s - WINDOW_S:
            self._slices.popleft()

    def report(self, now_s: float, connections: Counter[bytes]) -> Report:
        """Tell who asked most, and how many connections they have just now."""
        self.forget(now_s)
        addresses: Tallies = {}
        networks: Tallies = {}
        total = Tally(connections=connections.total())
        for one in self._slices:
            is_recent = one.begins_s > now_s - RECENT_S
            for sums, tallies in ((addresses, one.addresses), (networks, one.networks)):
                for key, tally in tallies.items():
                    _add(sums, key, tally, is_recent=is_recent)
            _add({b"": total}, b"", one.total, is_recent=is_recent)
        for key, number in connections.items():
            addresses.setdefault(key, Tally()).connections += number
            networks.setdefault(_network(key), Tally()).connections += number
        seconds, recent_s = (
            min(now_s - self._began_s, span_s - SLICE_S + now_s % SLICE_S) for span_s in (WINDOW_S, RECENT_S)
        )
        rows = (
            [Row(_render_key(key), tally) for key, tally in _find_largest(sums.items())]
            for sums in (addresses, networks)
        )
        return Report(seconds, recent_s, total, *rows)

    def _slice(self, now_s: float) -> _Slice:
        if not self._slices or now_s >= self._slices[-1].begins_s + SLICE_S:
            self.forget(now_s)
            self._slices.append(_Slice(now_s - now_s % SLICE_S))
        return self._slices[-1]


def merge_reports(reports: Iterable[Report]) -> Report:
    """Add up what the workers of a proxy say; who is far down in each of them may be missing."""
    merged = Report()
    addresses: dict[str, Tally] = {}
    networks: dict[str, Tally] = {}
    for report in reports:
        merged.seconds = max(merged.seconds, report.seconds)
        merged.recent_s = max(merged.recent_s, report.recent_s)
        merged.total.add(report.total)
        for sums, rows in ((addresses, report.addresses), (networks, report.networks)):
            for name, tally in rows:
                sums.setdefault(name, Tally()).add(tally)
    merged.addresses = [Row(name, tally) for name, tally in _find_largest(addresses.items())]
    merged.networks = [Row(name, tally) for name, tally in _find_largest(networks.items())]
    return merged


def render_report(report: Report, name_agent: Callable[[str], str]) -> str:
    """Render a report as JSON for whoever looks: rates, shares, and what sort of program asks."""

    def render(tally: Tally) -> dict[str, float | int | str]:
        return {
            "requests_per_s": round(tally.recent / max(1.0, report.recent_s), 2),
            "requests": tally.requests,
            "errors": tally.errors,
            "connections": tally.connections,
            "agent": name_agent(tally.raw_agent) if tally.requests else "",
        }

    return json.dumps(
        {
            "seconds": round(report.seconds),
            "total": {name: value for name, value in render(report.total).items() if name != "agent"},
            "addresses": [{"address": row.raw_name, **render(row.tally)} for row in report.addresses],
            "networks": [{"network": row.raw_name, **render(row.tally)} for row in report.networks],
        }
    )


def _count(tallies: Tallies, key: bytes, counted: Tally) -> None:
    """Count a request; when there is no room, the half that asked least is forgotten."""
    tally = tallies.get(key)
    if tally is None:
        if len(tallies) >= MAX_KEYS:
            kept = nlargest(MAX_KEYS // 2, tallies.items(), key=lambda item: item[1].requests)
            tallies.clear()
            tallies.update(kept)
        tally = tallies[key] = Tally()
    tally.add(counted)


def _add(sums: Tallies, key: bytes, tally: Tally, *, is_recent: bool) -> None:
    summed = sums.setdefault(key, Tally())
    summed.add(tally)
    summed.recent += tally.requests if is_recent else 0


def _find_largest[Key](tallies: Iterable[tuple[Key, Tally]]) -> list[tuple[Key, Tally]]:
    return nlargest(MAX_ROWS, tallies, key=lambda item: (item[1].recent, item[1].requests, item[1].connections))


def _network(key: bytes) -> bytes:
    return key[: _NETWORK_BYTES[len(key)]]


def _render_key(key: bytes) -> str:
    """Write an address or a network; a key of up to four bytes is one of IPv4."""
    if len(key) <= 4:
        return str(IPv4Address(key)) if len(key) == 4 else f"{IPv4Address(key.ljust(4, bytes(1)))}/{8 * len(key)}"
    return f"{IPv6Address(key.ljust(16, bytes(1)))}/{8 * len(key)}"
