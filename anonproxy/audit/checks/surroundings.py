"""Nothing that identifies stands in the logs and folders around the store.

Those are the ones that the configuration and the auditor name and, of processes that serve the store, what they print
to, their journal, and what they left in temporary folders.

Logs are full of numbers, so what is looked for is narrower than what the store is held to: whole addresses, e-mail
addresses, library barcodes. A version (`Firefox/3.6.3.9`, `rv:1.9.0.19`) is no address, the machine's own loopback
nobody's, and a unit of systemd (`anonproxy@www.service`) no mailbox.
"""

import gzip
import ipaddress
import os
import re
import subprocess
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.checks.detectors import ROUNDS
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import plant

_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_QUAD: Final = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_VERSION: Final = re.compile(
    rf"""(?<![/\w.@-]) [a-z][\w.+-]{{0,40}} / v?{_QUAD} (?![\w.]*[@:/]\d)   # Firefox/3.6.3.9, as no path begins
       | (?: \brv | version | explorer ) [:=\ /]{{0,2}} v?{_QUAD}
       | (?<!\w) (?:zlib|openssl|python|libcurl) [-\ /] {_QUAD}
       | (?<![\w.]) v{_QUAD}
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_IPV4: Final = re.compile(rf"(?<![\w.])(?<!\d-){_QUAD}(?!\w|\.\d)", re.ASCII)
_IPV6: Final = re.compile(r"(?<![\w:.])(?=[0-9a-f]{0,4}:[0-9a-f:])[0-9a-f:]{3,39}(?:\.\d{1,3}){0,3}", re.ASCII | re.I)
_EMAIL: Final = re.compile(r"[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}([a-z]{2,24})(?![\w-])", re.ASCII | re.IGNORECASE)
_BARCODE: Final = re.compile(r"(?<![\d.])(?:[23]\d{13}|[23]([ -])\d{4}\1\d{5}\1\d{4})(?![\d.])", re.ASCII)
# What a hash looks like; one in a hundred has a barcode's fourteen digits in a row.
_DIGEST: Final = re.compile(r"(?<!\w)(?=\d*[a-f])[0-9a-f]{32,128}(?!\w)", re.ASCII)

# Endings of systemd's units, which have a name of the same shape as a mailbox.
UNITS: Final = frozenset({"service", "socket", "timer", "slice", "target", "mount", "path", "scope", "swap", "device"})

# The networks of which addresses are given to people: global, unique local, link-local. `a::b` elsewhere is a module.
_GIVEN: Final = tuple(map(ipaddress.IPv6Network, ("2000::/3", "fc00::/7", "fe80::/10", "::ffff:0:0/96")))

# What of a line is looked at, and what tells that a file is no text.
MAX_LINE_CHARS: Final = 65_536
HEAD_BYTES: Final = 8_192

PIPED: Final = "prints to another program: what that one writes is searched where --look-in or [audit] look_in names it"
ADDRESS, EMAIL, BARCODE = "an internet address", "an e-mail address", "a library barcode"


def look(evidence: Evidence) -> Outcome:
    """Read every text file of the folders that were named, line by line."""
    looked_at = Counter({"files": 0, "lines": 0})
    findings: list[Finding] = []
    unknown: list[str] = []
    named, machine = [root for root in evidence.look_in if root.exists()], evidence.machine
    missing = sorted({*evidence.look_in} - {*named})
    places = [(root if root.is_dir() else root.parent, root) for root in (*named, *machine.outputs)]
    places += [(Path("/"), path) for path in machine.temporary_files(evidence.root)]
    names: dict[Finding, None] = {}
    for base, path in _walk(places, unknown):
        shown, told = _judge_names(base, path)
        names |= dict.fromkeys(told)
        if path.is_dir():
            continue
        try:
            findings += _read(path, shown, looked_at)
        except (OSError, EOFError, zlib.error) as error:
            unknown.append(f"{shown} can't be read ({type(error).__name__})")
        except ValueError:
            unknown.append(f"{shown} is no text, so it was not read; of a journal, `journalctl > FILE` makes one")
    for unit in machine.units:
        looked_at["journals"] += 1
        findings += _scan(read_journal(unit, unknown), f"the journal of {unit}", looked_at)
    unknown += machine.veiled
    if not looked_at["lines"] and not unknown and not machine.processes:
        unknown.append("what was named holds no line of text")
    figures = [f"{root}: there is nothing of that name" for root in missing]
    figures += [f"{process.shown} {PIPED}" for process in machine.processes if process.is_piped]
    return Outcome(looked_at, (*names, *findings), tuple(unknown), tuple(figures))


def detect(line: str) -> Iterator[str]:
    """Name what a line shows of anybody; what it shows is not repeated."""
    text = line[:MAX_LINE_CHARS]
    for _ in range(ROUNDS):
        text = unquote(text)
    versions = _VERSION.sub(" ", text)
    if any(map(_is_address, (match[0] for pattern in (_IPV4, _IPV6) for match in pattern.finditer(versions)))):
        yield ADDRESS
    if any(match[1].lower() not in UNITS for match in _EMAIL.finditer(text)):
        yield EMAIL
    if any(not _is_time(match[0]) for match in _BARCODE.finditer(_DIGEST.sub(" ", text))):
        yield BARCODE


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.rstrip(":.") if not text.endswith("::") else text)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    return address.version == 4 or any(address in network for network in _GIVEN)


def _is_time(text: str) -> bool:
    """Tell whether fourteen digits are a date with its time, as names of rotated logs have it."""
    try:
        return bool(datetime.strptime(f"{text}+0000", "%Y%m%d%H%M%S%z"))
    except ValueError:
        return False


def _walk(places: Iterable[tuple[Path, Path]], unknown: list[str]) -> Iterator[tuple[Path, Path]]:
    """Give everything below some paths, each with the folder from which on its names count; links are not followed."""
    for base, root in places:
        if root.is_file():
            yield base, root
            continue
        for folder, folders, names in os.walk(root, onerror=lambda error: unknown.append(_refused(error))):
            folders.sort()
            for path in (Path(folder, name) for name in (*folders, *sorted(names))):
                if not path.is_symlink() and (path.is_file() or path.is_dir()):
                    yield base, path


def _judge_names(base: Path, path: Path) -> tuple[str, list[Finding]]:
    """Give a path without the names in it that show somebody, and say where those stand."""
    shown, findings = base, []
    for part in path.relative_to(base).parts:
        told = set(detect(part))
        shown /= f"(a name of {len(part)} characters)" if told else part
        if told:
            findings.append(Finding(str(shown), _join(told)))
    return str(shown), findings


def _refused(error: OSError) -> str:
    return f"a folder can't be listed ({error.strerror})"


def _read(path: Path, shown: str, looked_at: Counter[str]) -> Iterator[Finding]:
    """Find the first line of a file that shows something, and say how many more do.

    Raises: OSError, EOFError, zlib.error; ValueError for a file that is no text
    """
    with path.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if is_packed else raw
        if b"\0" in stream.read(HEAD_BYTES):
            raise ValueError("no text")
        stream.seek(0)
        looked_at["files"] += 1
        yield from _scan(stream, shown, looked_at)


def _scan(stream: Iterable[bytes], shown: str, looked_at: Counter[str]) -> Iterator[Finding]:
    lines: dict[str, list[int]] = {}
    for number, line in enumerate(stream, 1):
        looked_at["lines"] += 1
        for what in detect(line.decode(errors="replace")):
            lines.setdefault(what, []).append(number)
    for what, numbers in lines.items():
        more = f", as do {len(numbers):,} lines in all" if len(numbers) > 1 else ""
        yield Finding(f"{shown}, line {numbers[0]}", f"shows {what}{more}")


def read_journal(unit: str, unknown: list[str], since_s: float = 0) -> Iterator[bytes]:
    """Give the lines that systemd's journal holds of a service, and say where it can't be read.

    journalctl is content where no journal is kept: one in which nobody ever said anything is no answer.
    """
    is_silent = True
    try:
        with _ask_journal(f"--unit={unit}", f"--since=@{since_s:.0f}") as answer:
            for line in answer.stdout or ():
                is_silent = False
                yield line
        if answer.returncode:
            unknown.append(f"the journal of {unit} can't be read: run as root, or in the group systemd-journal")
        elif is_silent and not _is_journal_kept():
            unknown.append(f"the journal of {unit} can't be read: journalctl shows no line of anything here")
    except OSError:
        unknown.append(f"the journal of {unit} can't be read: there is no journalctl")


def _is_journal_kept() -> bool:
    with _ask_journal("--lines=1") as answer:
        return bool(answer.communicate()[0])


def _ask_journal(*arguments: str) -> subprocess.Popen[bytes]:
    command = ["journalctl", *arguments, "--output=cat", "--no-pager", "--all", "--quiet"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _join(told: set[str]) -> str:
    return f"shows {' and '.join(sorted(told))}"


def sabotage(root: Path) -> None:
    """Let a web server's log lie there."""
    plant(root, "ledger/error.log", b"21:04 [error] client: 203.0.113.9, server: www, request: GET /hours\n")


CHECK: Final = Check(
    code="surroundings",
    claim="Nobody shows in logs and temporary folders",
    how="Every line of the files and folders that the configuration or the auditor names, of what the processes print "
    "to, of their journal, and of what they left in temporary folders, unpacked where it is gzip, and every name of a "
    "file or folder is searched for internet addresses, e-mail addresses and library barcodes; versions, hashes, "
    "loopback and units of systemd are spared.",
    look=look,
    sabotage=sabotage,
)
