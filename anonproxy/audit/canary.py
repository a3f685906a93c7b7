"""The canary: send marked requests through the running proxy, and search everything that was written for the marks.

An empty store, or another proxy's, holds no marks either. So the rows are counted, and a canary that left none fails.
Before the search the proxy is told to seal the hour and to destroy its key: what it keeps for days is what is searched.

The marks live in this process's memory only. What is shown of them is their labels.
"""

import ipaddress
import re
import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, urlsplit

from anonproxy.audit.check import Finding, Outcome, Verdict
from anonproxy.audit.checks.surroundings import read_journal
from anonproxy.audit.evidence import Progress, ignore_progress
from anonproxy.audit.marks import Mark
from anonproxy.audit.probes import PROBES, Marker, Probe, Scheme
from anonproxy.audit.processes import NO_MACHINE, Machine
from anonproxy.audit.search import Hit, SearchResult, search, search_bytes
from anonproxy.audit.watch import Look, RowCounter, Watch, find_admin
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.model.settings import Settings, SiteSettings

# A site that takes longer is left: its row is written all the same.
ANSWER_WITHIN_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 1 << 18
GLANCE_BYTES: Final = 1_000
# All requests together; some 70 requests to a site that answers in a second fit twice.
SENT_WITHIN_S: Final = 180.0

PORTS: Final[dict[str, int]] = {"http": 80, "https": 443}
MISDIRECTED: Final = 421
MAX_ENCODINGS_SHOWN: Final = 3

ROWS_CLAIM: Final = "Every request that was sent left its row in this store"
FORCED_CLAIM: Final = "The hour was sealed and the key destroyed before the search"
MARKS_CLAIM: Final = "Nothing that was sent is written anywhere, in any form"
CONTROL_CLAIM: Final = "The search finds each of the marks where it does stand"

# What tells the running proxy to do something at once, and gives its answer; StoreError when there is none.
Tell = Callable[[str], Mapping[str, str | int | bool]]
# What it is told, and the word of its answer that says that it did it; any answer will do for the key.
FORCED: Final[Mapping[str, str]] = {"seal": "sealed", "rotate": "made_at"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where the requests go, and whom they name as the host."""

    scheme: Scheme
    address: str
    port: int
    host: str
    site: str | None = None  # its name in the store, where a configuration tells
    is_direct: bool = False  # nothing stands between us and the proxy
    takes_any_host: bool = False  # the site is the one for hosts that no other has

    @property
    def url(self) -> str:
        """Write it as one does; it was given by the operator, so it may be shown."""
        return f"{self.scheme}://{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A claim, and what came of looking."""

    claim: str
    outcome: Outcome

    @property
    def verdict(self) -> Verdict:
        """Return what it came to."""
        return self.outcome.verdict


@dataclass(frozen=True, slots=True)
class Canary:
    """All that a run came to."""

    url: str
    requests: int
    rows: int
    account: str  # how rows and requests go together, in words
    places: tuple[str, ...]  # what was searched
    answers: tuple[Answer, ...]

    @property
    def verdict(self) -> Verdict:
        """Return the worst of all verdicts."""
        verdicts = {answer.verdict for answer in self.answers}
        return next((verdict for verdict in (Verdict.FAIL, Verdict.UNKNOWN) if verdict in verdicts), Verdict.PASS)


def run_canary(
    target: Target,
    store: Path,
    now_s: float,
    tell: Tell,
    settings: Settings | None = None,
    look_in: Sequence[Path] = (),
    progress: Progress = ignore_progress,
    machine: Machine = NO_MACHINE,
) -> Canary:
    """Send the probes, wait for their rows, have them sealed, and search the store and whatever else may hold them.

    Raises: OperatorError when the proxy, the store or a place to look in can't be reached
    """
    for place in look_in:
        if not place.exists():
            raise OperatorError(f"{place}: nothing there to look in. Correct --look-in, or leave it out")
    probes = [probe for probe in PROBES if target.scheme in probe.schemes]
    sent = Sent.plan(probes, target)
    watch = Watch(RowCounter(store, target.site, datetime.fromtimestamp(now_s, UTC).date()), find_admin(settings))
    before = watch.look()
    marker = Marker()
    send_all(target, probes, marker, progress)
    progress("waiting", 0, 1)
    added = watch.wait(before, sent.least, settings.store.flush_s if settings else None) - before
    forced = force(tell)
    progress("searching", 0, 1)
    places = (store, *look_in, *machine.outputs, *machine.temporary_files(store))
    found = search_places(places, marker.made)
    veiled = (*machine.veiled, machine.hidden) if machine.hidden else machine.veiled
    journals = [search_journal(unit, now_s, marker.made) for unit in machine.units]
    return Canary(
        target.url,
        sent.requests,
        added.rows,
        account_for(sent, added),
        (*map(str, places), *(f"the journal of {unit}" for unit in machine.units)),
        (
            Answer(ROWS_CLAIM, judge_rows(sent, added)),
            Answer(FORCED_CLAIM, forced),
            Answer(MARKS_CLAIM, judge_marks(found, len(marker.made), journals, veiled)),
            Answer(CONTROL_CLAIM, judge_control(marker.made)),
        ),
    )


# --- Where to -------------------------------------------------------------------------------------------------------


def parse_target(url: str, settings: Settings | None = None, host: str | None = None) -> Target:
    """Find out where to send to, and as whose host: the one that was named, else the URL's, else the first site's.

    Raises: OperatorError when the URL is none, or the host belongs to no site
    """
    scheme, address, port = _parse_url(url)
    if settings is None:
        return Target(scheme, address, port, host or address)
    named = host or (address if find_site(settings, address) else _first_host(settings))
    site = find_site(settings, named)
    if site is None:
        raise OperatorError("no site of the configuration has this host. Correct --host")
    is_direct = _is_listener(scheme, address, port, settings.proxy.listen)
    return Target(scheme, address, port, named, site.name, is_direct, takes_any_host="*" in (site.hosts or ("*",)))


def _parse_url(url: str) -> tuple[Scheme, str, int]:
    try:
        parts = urlsplit(url)
        if parts.scheme in PORTS and parts.hostname:
            scheme: Scheme = "https" if parts.scheme == "https" else "http"
            return scheme, parts.hostname, parts.port or PORTS[scheme]
    except ValueError:
        pass
    raise OperatorError("not a URL of the proxy. Write it like http://127.0.0.1:8080 or https://library.example.org")


def find_site(settings: Settings, host: str) -> SiteSettings | None:
    """Find the site that answers to a host: by the name itself, then by a wildcard above it, then the default one."""
    labels = host.lower().split(".")
    candidates = (host.lower(), *(f"*.{'.'.join(labels[depth:])}" for depth in range(1, len(labels))), "*")
    by_host = settings.site_hosts()
    name = next((by_host[candidate] for candidate in candidates if candidate in by_host), None)
    return next((site for site in settings.sites if site.name == name), None)


def _first_host(settings: Settings) -> str:
    hosts = (host for site in settings.sites for host in site.hosts)
    return next((host for host in hosts if "*" not in host), "localhost")


def _is_listener(scheme: Scheme, address: str, port: int, listen: str) -> bool:
    """Tell whether an address is the proxy's own, as seen from its machine."""
    host, _, listen_port = listen.rpartition(":")
    return scheme == "http" and port == int(listen_port) and (address == host.strip("[]") or _is_loopback(address))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


# --- Sending --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """What a run sends, and the rows that must and may come of it."""

    requests: int
    least: int
    most: int

    @classmethod
    def plan(cls, probes: Iterable[Probe], target: Target) -> Self:
        """Add up the probes."""
        probes = list(probes)
        bounds = [probe.bounds(is_direct=target.is_direct, takes_any_host=target.takes_any_host) for probe in probes]
        return cls(
            requests=sum(probe.requests for probe in probes),
            least=sum(least for least, _ in bounds),
            most=sum(most for _, most in bounds),
        )


def send_all(target: Target, probes: Sequence[Probe], marker: Marker, progress: Progress) -> None:
    """Send the probes one after the other.

    Raises: OperatorError when nobody answers, or not in time
    """
    deadline = time.monotonic() + SENT_WITHIN_S
    for done, probe in enumerate(probes):
        progress("sending", done, len(probes))
        if time.monotonic() > deadline:
            raise OperatorError(
                f"{target.url} is too slow: {done} of {len(probes)} requests took {SENT_WITHIN_S:.0f} s"
            )
        try:
            answer = send(target, probe, marker)
        except OSError as error:
            raise OperatorError(
                f"{target.url} can't be reached ({error.strerror or type(error).__name__}). "
                "Start the proxy with `anonproxy run`, or correct the URL"
            ) from None
        if done == 0:
            _verify_first(target, answer)


def _verify_first(target: Target, answer: bytes) -> None:
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    if not status:
        raise OperatorError(f"{target.url} doesn't answer as a website does. Correct the URL")
    if int(status[1]) == MISDIRECTED:
        raise OperatorError(f"no site at {target.url} answers to the host {target.host}. Name one with --host")


def send(target: Target, probe: Probe, marker: Marker) -> bytes:
    """Send one probe over a connection of its own and return the beginning of what came back, if anything.

    Raises: OSError when there is no connection
    """
    message = probe.write(marker, target.host)
    server_name = marker.fill(probe.server_name, target.host)
    with socket.create_connection((target.address, target.port), ANSWER_WITHIN_S) as connection:
        try:
            if target.scheme == "https" and not probe.is_bare:
                with _wrap(connection, server_name) as secured:
                    return _talk(secured, message, probe)
            return _talk(connection, message, probe)
        except OSError:  # it hung up: what is no HTTP deserves that, and what is must leave its row all the same
            return b""


def _wrap(connection: socket.socket, server_name: str) -> ssl.SSLSocket:
    # The certificate proves nothing that the rows don't prove better, and nothing worth hiding is sent.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=server_name)


def _talk(connection: socket.socket, message: bytes, probe: Probe) -> bytes:
    connection.sendall(message)
    if probe.ending in {"glance", "tear"}:  # what is closed with this set is reset (socket(7))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    match probe.ending:
        case "read":
            return b"".join(_receive(connection))
        case "glance":
            return connection.recv(GLANCE_BYTES)
        case _:
            return b""


def _receive(connection: socket.socket) -> Iterator[bytes]:
    deadline, size = time.monotonic() + ANSWER_WITHIN_S, 0
    while size < MAX_ANSWER_BYTES and time.monotonic() < deadline:
        try:
            chunk = connection.recv(1 << 16)
        except OSError:
            return
        if not chunk:
            return
        size += len(chunk)
        yield chunk


# --- Judging --------------------------------------------------------------------------------------------------------


def force(tell: Tell) -> Outcome:
    """Have the proxy seal the hour and destroy its key now, so that nothing is searched that is yet to change."""
    done: list[str] = []
    for command, word in FORCED.items():
        try:
            if not tell(command).get(word):
                return Outcome({"commands": len(done)}, (), (f"the proxy could not {command}: its disk refused",))
        except StoreError as error:
            return Outcome({"commands": len(done)}, (), (f"the proxy could not be told to {command}. {error}",))
        done.append(command)
    return Outcome({"commands": len(done)})


def account_for(sent: Sent, added: Look) -> str:
    """Say in words how the new rows and the requests go together."""
    said = f"{sent.requests} requests, {added.rows} new rows: {_compare(sent, added.rows)}."
    if added.metrics is None:
        return f"{said} The proxy's own counts could not be asked"
    return (
        f"{said} The proxy counted {added.metrics.requests} requests, {added.metrics.written} rows"
        f" and {_name_dropped(added)} dropped"
    )


def _compare(sent: Sent, rows: int) -> str:
    if rows > sent.most:
        return f"at least the {sent.least} that must be there; {rows - sent.most} or more are other visitors'"
    if rows < sent.least:
        return f"{sent.least} must be there"
    if sent.least == sent.most:
        return "exactly those that must be there"
    return f"at least the {sent.least} that must be there; others may be missing, as something may stand in between"


def _name_dropped(added: Look) -> str:
    dropped = added.metrics.dropped if added.metrics else {}
    return ", ".join(f"{number} {reason}" for reason, number in sorted(dropped.items())) or "none"


def judge_rows(sent: Sent, added: Look) -> Outcome:
    """Compare the rows on disk with what was sent and, as far as nobody else came by, with the proxy's own counts."""
    looked_at, store = {"requests": sent.requests, "rows": added.rows}, "the store"
    if added.rows < sent.least:
        is_short = added.metrics is not None and added.metrics.written < sent.least
        why = f"The proxy dropped {_name_dropped(added)}" if is_short else "Is it this proxy's store?"
        return Outcome(looked_at, (Finding(store, f"{sent.least} new rows expected, {added.rows} found. {why}"),))
    # With other visitors about, the two are never counted at the same moment.
    is_alone = added.metrics is not None and added.metrics.written <= sent.most
    if is_alone and added.metrics and added.rows > added.metrics.written:
        what = f"the proxy wrote {added.metrics.written} rows, {added.rows} are new here. Is it this proxy's store?"
        return Outcome(looked_at, (Finding(store, what),))
    return Outcome(looked_at)


def search_places(places: Sequence[Path], marks: Sequence[Mark]) -> SearchResult:
    """Search all places; what could not be read because it was renamed meanwhile is there under its new name."""
    result = search(places, marks)
    result.unopened = [piece for piece in result.unopened if Path(piece.path).exists()]
    return result


def search_journal(unit: str, since_s: float, marks: Sequence[Mark]) -> Outcome:
    """Search what a service logged to systemd's journal meanwhile."""
    unknown: list[str] = []
    content = b"".join(read_journal(unit, unknown, since_s))
    found = search_bytes(content, marks, f"the journal of {unit}")
    return Outcome({"bytes": len(content)}, tuple(_findings(found.hits)), tuple(unknown))


def judge_marks(
    found: SearchResult, marks: int, journals: Sequence[Outcome] = (), veiled: Sequence[str] = ()
) -> Outcome:
    """Say which marks were found where, by their labels, and what could not be searched."""
    size_bytes = found.size_bytes + sum(journal.looked_at["bytes"] for journal in journals)
    looked_at = {"marks": marks, "files": found.files, "bytes": size_bytes, "pages": found.pages}
    findings = (*_findings(found.hits), *(finding for journal in journals for finding in journal.findings))
    unopened = (f"{piece.path}{piece.place and f' ({piece.place})'}: {piece.reason}" for piece in found.unopened)
    silent = (what for journal in journals for what in journal.unknown)
    return Outcome(looked_at, findings, (*unopened, *silent, *veiled))


def _findings(hits: Iterable[Hit]) -> Iterator[Finding]:
    forms: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for hit in hits:
        forms[hit.path, hit.place, hit.label].append(hit.encoding)
    for (path, place, label), encodings in sorted(forms.items()):
        shown = ", ".join(encodings[:MAX_ENCODINGS_SHOWN]) + (" and more" * (len(encodings) > MAX_ENCODINGS_SHOWN))
        yield Finding(f"{path} ({place})" if place else path, f"“{label}”, {shown}")


def judge_control(marks: Sequence[Mark]) -> Outcome:
    """Search a text in memory that holds every mark in disguise: a search that finds nothing must show that it can."""
    disguised = b"\n".join(disguise(mark.secret) for mark, disguise in zip(marks, DISGUISES * len(marks), strict=False))
    found = {hit.label for hit in search_bytes(disguised, marks).hits}
    missed = sorted({mark.label for mark in marks} - found)
    return Outcome({"marks": len(marks)}, unknown=tuple(f"the search missed the mark “{label}”" for label in missed))


DISGUISES: Final[tuple[Callable[[str], bytes], ...]] = (
    lambda secret: secret.encode(),
    lambda secret: secret.encode().hex().encode(),
    lambda secret: secret.swapcase().encode("utf-16-le"),
    lambda secret: quote(quote(secret)).encode(),
)
