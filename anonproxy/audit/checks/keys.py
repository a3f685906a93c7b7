"""No key lies in the store but the one that signs the ledger, and nobody else can read it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.ledger import PUBLIC_KEY, SIGNING_KEY
from anonproxy.audit.specimen import plant
from anonproxy.audit.tree import Node

SIGNING: Final = f"ledger/{SIGNING_KEY}"
PUBLIC: Final = f"ledger/{PUBLIC_KEY}"

# What begins or stands in files of private keys: PEM, OpenSSH, PuTTY, age, PKCS #8 of Ed25519, a Java key store.
KEY_FORMS: Final = (
    re.compile(rb"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY"),
    re.compile(rb"openssh-key-v1\0"),
    re.compile(rb"PuTTY-User-Key-File-\d"),
    re.compile(rb"AGE-SECRET-KEY-1"),
    re.compile(rb"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"),
    re.compile(rb"\xfe\xed\xfe\xed\x00\x00\x00[\x01\x02]"),
)
# A file that is nothing but a key: 16, 32 or 64 bytes, raw, in hexadecimal or in base64.
RAW_SIZES: Final = frozenset({16, 32, 64})
RAW_TEXT: Final = re.compile(rb"([0-9A-Fa-f]{32}|[0-9A-Fa-f]{64}|[0-9A-Fa-f]{128}|[A-Za-z0-9+/_-]{43}=?)\s*")

# A store may be larger than memory; a key stands within this much, or across two such pieces.
PIECE_BYTES: Final = 1 << 24
OVERLAP_BYTES: Final = 64


def look(evidence: Evidence) -> Outcome:
    """Read every byte of every file, and the owner and mode of everything."""
    findings: list[Finding] = []
    unknown: list[str] = []
    size = 0
    files = [node for node in evidence.nodes if node.kind == "file"]
    for node in files:
        try:
            findings += find_keys(evidence.root, node)
            size += node.size_bytes
        except FileNotFoundError:
            continue
        except OSError as error:
            unknown.append(f"{node.shown} can't be read: {error.strerror}")
    if evidence.is_copy:
        unknown.append("this copy of the store lost the modes of its files: copy with `cp -a` or `rsync -a`")
    else:
        findings += (finding for node in evidence.nodes for finding in find_open(evidence, node))
    return Outcome({"files": len(files), "bytes": size, "modes": len(evidence.nodes)}, tuple(findings), tuple(unknown))


def find_keys(root: Path, node: Node) -> Iterator[Finding]:
    """Find what looks like a private key.

    Raises: OSError
    """
    if node.path == SIGNING:
        return
    with (root / node.path).open("rb") as stream:
        carried = b""
        while piece := stream.read(PIECE_BYTES):
            if any(form.search(carried + piece) for form in KEY_FORMS):
                yield Finding(node.shown, "holds a private key")
                return
            if node.place is None and not carried and (len(piece) in RAW_SIZES or RAW_TEXT.fullmatch(piece)):
                yield Finding(node.shown, "could be a key: it has the length of one and nothing else")
                return
            carried = piece[-OVERLAP_BYTES:]


def find_open(evidence: Evidence, node: Node) -> Iterator[Finding]:
    """Find what others than the owner can read, or own."""
    if node.kind not in {"file", "folder"}:
        return
    allowed = 0o700 if node.kind == "folder" else 0o644 if node.path == PUBLIC else 0o600
    if node.mode & ~allowed:
        yield Finding(node.shown, f"has mode {node.mode:04o}, more than {allowed:04o}")
    if node.owner != evidence.nodes[0].owner:
        yield Finding(node.shown, "belongs to another user than the store")


def sabotage(root: Path) -> None:
    """Keep an epoch's key on disk."""
    plant(root, "ledger/epoch.key", bytes(range(32)))


CHECK: Final = Check(
    code="keys",
    claim="No key is kept but the ledger's; others can't read the store",
    how="Every byte of every file is searched for the forms of private keys; folders have mode 0700, files 0600.",
    look=look,
    sabotage=sabotage,
)
