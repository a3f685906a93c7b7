"""The ledger: an append-only, hash-chained, signed record of what was done to the store.

One JSON object a line. Each entry names the SHA-256 of the line before it and is signed with Ed25519 over its
own canonical JSON without the signature. Whoever holds the public key and an earlier head can see any change,
removal, insertion or truncation. An entry is on disk before the act it describes is final.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

FILE: Final = "ledger.jsonl"
PUBLIC_KEY: Final = "public-key.pem"
SIGNING_KEY: Final = "signing-key.pem"
GENESIS: Final = "0" * 64  # what the first entry names as its predecessor

# To the minute: enough to order what the operator did, too coarse to join with a visitor's click.
TIME_RESOLUTION_S: Final = 60

Details = Mapping[str, str | int]


class LedgerBroken(Exception):
    """The chain doesn't verify; the message names the entry, what was expected and what stood there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One verified line of the ledger."""

    seq: int
    time_s: int
    event: str
    details: dict[str, str | int]


class Ledger:
    """The writing end. Opening it mends a last line torn by a crash, and says so in an entry of its own."""

    def __init__(self, folder: Path, now_s: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / FILE
        self._key = _read_or_make_key(folder)
        torn_bytes = _cut_torn_line(self._path)
        last = _last_line(self._path)
        self._head = _line_hash(last) if last else GENESIS
        self._seq = json.loads(last)["seq"] if last else -1
        if torn_bytes:
            self.append("mended", {"torn_bytes": torn_bytes}, now_s)

    @property
    def head(self) -> str:
        """Return the hash of the newest entry, for publishing."""
        return self._head

    def append(self, event: str, details: Details, now_s: float) -> None:
        """Sign an entry and put it on disk before returning.

        Raises: OSError when the disk refuses; the chain is then as it was
        """
        entry: dict[str, Any] = {
            "seq": self._seq + 1,
            "time": int(now_s) // TIME_RESOLUTION_S * TIME_RESOLUTION_S,
            "event": event,
            "details": dict(details),
            "previous": self._head,
        }
        entry["signature"] = base64.b64encode(self._key.sign(_canonical(entry))).decode()
        line = _canonical(entry) + b"\n"
        _append_whole(self._path, line)
        self._seq += 1
        self._head = _line_hash(line)


def read_ledger(folder: Path) -> list[Entry]:
    """Read and verify a ledger against the public key beside it.

    Raises: LedgerBroken naming the first entry that is wrong, FileNotFoundError when there is none
    """
    return list(verify_lines((folder / FILE).read_bytes(), (folder / PUBLIC_KEY).read_bytes()))


def verify_lines(content: bytes, public_key_pem: bytes, expected_head: str | None = None) -> Iterator[Entry]:
    """Yield the entries of a ledger, verifying each one.

    Raises: LedgerBroken; also when `expected_head`, an earlier published head, isn't an entry of this chain
    """
    public_key = load_pem_public_key(public_key_pem)
    if not isinstance(public_key, Ed25519PublicKey):
        raise LedgerBroken("the public key is not an Ed25519 key")
    head, heads = GENESIS, {GENESIS}
    for seq, line in enumerate(content.splitlines(keepends=True)):
        entry = _verify_line(seq, line, head, public_key)
        head = _line_hash(line)
        heads.add(head)
        yield entry
    if expected_head is not None and expected_head not in heads:
        raise LedgerBroken("the published head is not in this chain: entries were cut off or replaced")


def _verify_line(seq: int, line: bytes, head: str, public_key: Ed25519PublicKey) -> Entry:
    if not line.endswith(b"\n"):
        raise LedgerBroken(f"entry {seq}: torn, its line has no end")
    try:
        entry = json.loads(line)
        signature = base64.b64decode(entry.pop("signature"), validate=True)
        public_key.verify(signature, _canonical(entry))
    except InvalidSignature:
        raise LedgerBroken(f"entry {seq}: its signature is not by the published key") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise LedgerBroken(f"entry {seq}: not a signed entry") from None
    if entry.get("seq") != seq:
        raise LedgerBroken(f"entry {seq}: expected number {seq}, got {entry.get('seq')}")
    if entry.get("previous") != head:
        raise LedgerBroken(f"entry {seq}: doesn't follow the entry before it")
    return Entry(seq, entry["time"], entry["event"], entry["details"])


def _canonical(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _line_hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _append_whole(path: Path, line: bytes) -> None:
    """Append a line and sync it; what a full disk took of it is cut off again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError("short write")
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _cut_torn_line(path: Path) -> int:
    """Cut off a last line without an end and return how many bytes it had."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return len(content) - whole


def _last_line(path: Path) -> bytes:
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return lines[-1] if lines else b""


def _read_or_make_key(folder: Path) -> Ed25519PrivateKey:
    path = folder / SIGNING_KEY
    if path.exists():
        key = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise LedgerBroken("the signing key is not an Ed25519 key")
    else:
        key = Ed25519PrivateKey.generate()
        _write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not (folder / PUBLIC_KEY).exists():
        _write_whole(folder / PUBLIC_KEY, public, 0o644)
    return key


def _write_whole(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
