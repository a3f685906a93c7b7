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

ADDRESS, EMAIL, BARCODE = "an internet address", "an e-mail address", "a library barcode"


def look(evidence: Evidence) -> Outcome:
    """Read every text file of the folders that were named, line by line."""
    looked_at = Counter({"files": 0, "lines": 0})
    findings: list[Finding] = []
    unknown: list[str] = []
    named, machine = [root for root in evidence.look_in if root.exists()], evidence.machine
    missing = sorted({*evidence.look_in} - {*named})
    roots = (*named, *machine.outputs, *machine.temporary_files(evidence.root))
    for path in _walk(roots, unknown):
        if told := set(detect(path.name)):
            findings.append(Finding(f"{path.parent}/(a name of {len(path.name)} characters)", _join(told)))
        shown = f"{path.parent}/(a name of {len(path.name)} characters)" if told else str(path)
        try:
            findings += _read(path, shown, looked_at)
        except (OSError, EOFError, zlib.error) as error:
            unknown.append(f"{shown} can't be read ({type(error).__name__})")
        except ValueError:
            unknown.append(f"{shown} is no text, so it was not read; of a journal, `journalctl > FILE` makes one")
    for unit in machine.units:
        looked_at["journals"] += 1
        findings += _scan(read_journal(unit, unknown), f"the journal of {unit}", looked_at)
    if not looked_at["lines"] and not unknown and not machine.processes:
        unknown.append("what was named holds no line of text")
    return Outcome(
        looked_at, tuple(findings), tuple(unknown), tuple(f"{root}: there is nothing of that name" for root in missing)
    )


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


def _walk(roots: Iterable[Path], unknown: list[str]) -> Iterator[Path]:
    """Give every file below some paths; links are not followed."""
    for root in roots:
        if root.is_file():
            yield root
            continue
        for folder, folders, names in os.walk(root, onerror=lambda error: unknown.append(_refused(error))):
            folders.sort()
            for path in (Path(folder, name) for name in sorted(names)):
                if path.is_file() and not path.is_symlink():
                    yield path


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
    """Give the lines that systemd's journal holds of a service."""
    command = ["journalctl", f"--unit={unit}", f"--since=@{since_s:.0f}", "--output=cat", "--no-pager", "--all"]
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as of:
            yield from of.stdout or ()
    except OSError:
        unknown.append(f"the journal of {unit} can't be read: there is no journalctl")
        return
    if of.returncode:
        unknown.append(f"the journal of {unit} can't be read: run the audit as root, or in the group systemd-journal")


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
    "file is searched for internet addresses, e-mail addresses and library barcodes; versions, hashes, "
    "loopback and units of systemd are spared.",
    look=look,
    sabotage=sabotage,
)
