"""The ledger verifies, and the tree is what it says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.ledger import PUBLIC_KEY, TIME_RESOLUTION_S, Entry, LedgerBroken, verify_lines
from anonproxy.audit.specimen import LEDGER
from anonproxy.audit.tree import HOUR_S, Node, parse_place

# An entry stands before its act is done, and a seal takes a moment: what is younger is not held against anybody.
GRACE_S: Final = 900

# What a detail may look like, by its key; numbers are counts.
DETAILS: Final = {
    "date": re.compile(r"\d{4}-\d\d-\d\d"),
    "site": re.compile(r"[a-z0-9][a-z0-9_-]{0,31}"),
    "tier": re.compile(r"hot|hits|daily|vocabulary"),
    "version": re.compile(r"\d{1,4}(\.\d{1,4}){1,3}((a|b|rc|\.dev|\.post)\d{1,4}){0,2}"),
    "settings_sha256": re.compile(r"[0-9a-f]{64}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "hits_sha256": re.compile(r"[0-9a-f]{64}"),
    "daily_sha256": re.compile(r"[0-9a-f]{64}"),
}
PATHS: Final = frozenset({"file", "from"})
EVENT: Final = re.compile(r"[a-z]+(_[a-z]+){0,3}")


@dataclass(slots=True)
class Account:
    """What should be on disk according to the ledger, by path, with its digest where an entry holds one."""

    files: dict[str, str | None] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)  # days, as folders of a tier are named
    written_at: dict[str, int] = field(default_factory=dict)
    lost: int = 0  # hours that were gone without a word, as after a restored backup

    def put(self, path: str, digest: str | int | None, time_s: int) -> None:
        """Note that a file was written."""
        self.files[path] = str(digest) if digest else None
        self.written_at[path] = time_s
        self.gone.discard(path)

    def take(self, prefix: str) -> None:
        """Note that everything below a folder, or one file, was deleted."""
        gone = [path for path in self.files if path == prefix or path.startswith(f"{prefix}/")]
        self.gone.update(gone)
        for path in gone:
            del self.files[path]


def look(evidence: Evidence) -> Outcome:
    """Verify the chain, replay it, and compare the result with the tree."""
    content, public_key = evidence.read(LEDGER), _find_key(evidence)
    nodes = [node for node in evidence.nodes if node.place and node.place.role in {"sealed", "settled", "aside"}]
    looked_at = {"entries": 0, "files": len(nodes)}
    if content is None:
        return Outcome(looked_at, (Finding("ledger", "there is none"),) if nodes else (), ("there is no ledger",))
    if public_key is None:
        return Outcome(looked_at, (), ("the public key is missing, so no signature can be verified",))
    try:
        entries = _read_entries(evidence)
    except LedgerBroken as error:
        return Outcome(looked_at, (Finding(LEDGER, str(error)),))
    except ValueError:
        where = (
            f"ledger/{PUBLIC_KEY}" if evidence.anchor.public_key is None else "the public key that was brought along"
        )
        return Outcome(looked_at, (Finding(where, "is not a public key"),))
    try:
        earlier = _read_earlier(evidence)
    except (LedgerBroken, ValueError) as error:
        return Outcome(looked_at, (Finding("an earlier ledger of the bucket", str(error)),))
    account = replay([*earlier, *entries])
    findings = (
        *find_in_entries(entries),
        *find_orphans(evidence, nodes, account),
        *find_missing(evidence, nodes, account),
        *find_visits(evidence, account),
        *find_swapped(evidence, account),
        *find_other_key(evidence),
    )
    unknown = (
        *(f"entry {entry.seq}: {what}" for entry in entries for what in _unexplained(entry)),
        *(f"{node.path}: no digest stands in the ledger" for node in nodes if account.files.get(node.path, "") is None),
    )
    return Outcome({"entries": len(entries), "files": len(nodes)}, findings, unknown, tuple(_figures(account)))


def replay(entries: list[Entry]) -> Account:
    """Follow the entries to what should be on disk now."""
    account = Account()
    for entry in entries:
        details = entry.details
        day = f"site={details.get('site')}/date={details.get('date')}"
        match entry.event:
            case "sealed" | "set_aside":
                account.take(str(details.get("from")))
                account.put(str(details.get("file")), details.get("sha256"), entry.time_s)
            case "settled":
                account.imported.discard(day)
                for tier in ("hits", "daily"):
                    account.put(f"{tier}/{day}/{tier}.parquet", details.get(f"{tier}_sha256"), entry.time_s)
                account.take(f"hot/{day}")
            case "imported":  # a day that is too old for a tier is never put there
                account.imported.add(day)
                for tier in ("hits", "daily"):
                    if digest := details.get(f"{tier}_sha256"):
                        account.put(f"{tier}/{day}/{tier}.parquet", digest, entry.time_s)
            case "purged" | "lost":
                account.lost += entry.event == "lost"
                account.take(str(details["file"]) if "file" in details else f"{details.get('tier')}/{day}")
    return account


def find_in_entries(entries: list[Entry]) -> Iterator[Finding]:
    """Find entries that say more than they may: a ledger is a log, too."""
    for entry in entries:
        where = f"{LEDGER}, entry {entry.seq}"
        if entry.time_s % TIME_RESOLUTION_S:
            yield Finding(where, "its time is finer than a minute")
        for key, value in entry.details.items():
            if key in DETAILS and not (isinstance(value, str) and DETAILS[key].fullmatch(value)):
                yield Finding(where, f"{key} has a value that it can't have")
            if key in PATHS and parse_place(str(value), "file") is None:
                yield Finding(where, "names a file that the layout doesn't know")


def find_orphans(evidence: Evidence, nodes: list[Node], account: Account) -> Iterator[Finding]:
    """Find files that no entry explains."""
    for node in nodes:
        place = node.place
        if place is None or place.tier == "vocabulary" or place.is_temporary or node.path in account.files:
            continue
        is_young = place.role == "sealed" and evidence.now_s < place.starts_at + HOUR_S + GRACE_S
        if node.path in account.gone:
            # A settled day's hot rows are on their way out; how long they may take is the affair of retention.
            if place.tier != "hot":
                yield Finding(node.path, "was deleted according to the ledger, and is there again")
        elif not is_young:
            yield Finding(node.path, "no entry says that it was written")


def find_missing(evidence: Evidence, nodes: list[Node], account: Account) -> Iterator[Finding]:
    """Find files that should be there. An hour whose merge was cut short is there under another name."""
    there = {node.path for node in nodes}
    merging = {node.path.rpartition(".")[0] for node in evidence.nodes if node.place and node.place.role != "ledger"}
    for path in sorted(account.files.keys() - there):
        is_old = evidence.now_s - account.written_at[path] > GRACE_S
        place = parse_place(path, "file")
        is_kept_back = evidence.bucket is not None and place is not None and place.tier == "hot"  # never published
        if is_old and place and not is_kept_back and path not in merging and not (evidence.root / path).exists():
            yield Finding(path, "was written according to the ledger, and is gone without an entry")


def _figures(account: Account) -> Iterator[str]:
    if account.lost:
        yield f"hours that were lost before their day was settled, as by a restored backup: {account.lost:,}"


def find_visits(evidence: Evidence, account: Account) -> Iterator[Finding]:
    """Find visit numbers, or what could hold them, of days that were imported: those came whole, and without."""
    for node in evidence.nodes:
        place = node.place
        is_hot = place is not None and place.tier == "hot" and place.role != "folder"
        if place and is_hot and f"site={place.site}/date={place.day}" in account.imported:
            yield Finding(node.path, "is of a day that was imported, and an import writes no visit numbers")


def find_swapped(evidence: Evidence, account: Account) -> Iterator[Finding]:
    """Find files that are not those that were written. Of a proxy at work the ledger may be a step ahead by now."""
    if suspects := set(_suspects(evidence, account)):
        newer = replay([*_read_earlier(evidence), *_read_entries(evidence)])
        for path in sorted(suspects & set(_suspects(evidence, newer))):
            yield Finding(path, "is not the file whose digest stands in the ledger")


def find_other_key(evidence: Evidence) -> Iterator[Finding]:
    """Find a key in the store that is another than the one that was brought along: who trusts it is misled."""
    own, brought = evidence.read(f"ledger/{PUBLIC_KEY}"), evidence.anchor.public_key
    if own is None or brought is None:
        return
    try:
        is_other = load_pem_public_key(own) != load_pem_public_key(brought)
    except ValueError:
        is_other = True
    if is_other:
        yield Finding(f"ledger/{PUBLIC_KEY}", "is not the published key")


def _suspects(evidence: Evidence, account: Account) -> Iterator[str]:
    """Name the files with another digest than the ledger's; an unfinished one may be about to take its place."""
    for path, digest in account.files.items():
        if digest and parse_place(path, "file"):
            contents = [evidence.read(name) for name in (path, f"{path}.tmp")]
            digests = {sha256(content).hexdigest() for content in contents if content is not None}
            if contents[0] is not None and digest not in digests:
                yield path


def _read_entries(evidence: Evidence) -> list[Entry]:
    """Read and verify the ledger as it is now.

    Raises: LedgerBroken, ValueError for a public key that is none
    """
    return list(verify_lines(evidence.read(LEDGER) or b"", _find_key(evidence) or b"", evidence.anchor.head))


def _read_earlier(evidence: Evidence) -> list[Entry]:
    """Read the ledgers of work folders that were lost, each verified with the key beside it.

    Raises: LedgerBroken, ValueError for a public key that is none
    """
    ledgers = evidence.bucket.ledgers[:-1] if evidence.bucket else ()
    return [entry for content, key in ledgers for entry in verify_lines(content, key)]


def _find_key(evidence: Evidence) -> bytes | None:
    """Give the public key that the auditor brought along, else the one in the store."""
    return evidence.anchor.public_key or evidence.read(f"ledger/{PUBLIC_KEY}")


def _unexplained(entry: Entry) -> Iterator[str]:
    """Name what this version doesn't know: a text of any kind could stand there."""
    if not EVENT.fullmatch(entry.event):
        yield "an event that this version doesn't know"
    for key, value in entry.details.items():
        if isinstance(value, str) and key not in DETAILS.keys() | PATHS:
            yield "a text that this version doesn't know"


def sabotage(root: Path) -> None:
    """Change a word in the ledger."""
    path = root / LEDGER
    path.write_bytes(path.read_bytes().replace(b'"rotated"', b'"resumed"'))


CHECK: Final = Check(
    code="ledger",
    claim="The signed ledger is whole, and the files agree with it",
    how="Each entry's signature and its link to the one before are verified; the chain is replayed and compared with "
    "the files: none without an entry, none missing, none swapped, and none with visit numbers of a day that was "
    "imported. A public key and an earlier head that the auditor brings along are used instead of what lies in the "
    "store.",
    look=look,
    sabotage=sabotage,
)
