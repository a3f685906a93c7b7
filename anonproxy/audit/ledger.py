"""The ledger: an append-only, hash-chained, signed record of what was done to the store.

One JSON object a line. Each entry names the SHA-256 of the line before it and is signed with Ed25519 over its
own canonical JSON without the signature. Whoever holds the public key and an earlier head can see any change,
removal, insertion or truncation. An entry is on disk before the act it describes is final.
"""

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Set
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

from anonproxy.model.errors import StoreError

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
    """The writing end. Opening it replaces a last line torn by a crash by an entry that says so.

    Raises: StoreError when what is there can't be continued, OSError
    """

    def __init__(self, folder: Path, now_s: float) -> None:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True)
            _sync_folder(folder.parent)
        self._path = folder / FILE
        self._key = _read_or_make_key(folder)
        content = _read_or_make_file(self._path)
        self._end = content.rfind(b"\n") + 1
        self._torn_bytes = len(content) - self._end
        lines = content[: self._end].splitlines(keepends=True)
        self._seq = len(lines) - 1
        self._head = _line_hash(lines[-1]) if lines else GENESIS
        before = _line_hash(lines[-2]) if len(lines) > 1 else GENESIS
        try:
            self.last_s = _verify_line(self._seq, lines[-1], before, self._key.public_key()).time_s if lines else None
        except LedgerBroken as error:
            raise StoreError(
                f"{folder}: can't be continued, {error}. Keep it as evidence in another place; a new one is begun then"
            ) from None
        with contextlib.suppress(OSError):  # a full disk doesn't keep anybody from serving: the next entry tries again
            self._mend(now_s)

    @property
    def head(self) -> str:
        """Return the hash of the newest entry, for publishing."""
        return self._head

    def latest(self, event: str) -> Details:
        """Return the details of the newest entry of a kind; none when there is no such entry."""
        return next((entry["details"] for entry in self._backwards() if entry["event"] == event), {})

    def newest(self, events: Set[str]) -> str | None:
        """Return which of some events happened last."""
        return next((entry["event"] for entry in self._backwards() if entry["event"] in events), None)

    def append(self, event: str, details: Details, now_s: float) -> None:
        """Sign an entry and put it on disk before returning.

        Raises: OSError when the disk refuses; the chain is then as it was
        """
        self._mend(now_s)
        self._write(event, details, now_s)

    def _backwards(self) -> Iterator[dict[str, Any]]:
        yield from map(json.loads, reversed(self._path.read_bytes()[: self._end].splitlines()))

    def _mend(self, now_s: float) -> None:
        if self._torn_bytes:
            self._write("mended", {"torn_bytes": self._torn_bytes}, now_s)
            self._torn_bytes = 0

    def _write(self, event: str, details: Details, now_s: float) -> None:
        entry: dict[str, Any] = {
            "seq": self._seq + 1,
            "time": int(now_s) // TIME_RESOLUTION_S * TIME_RESOLUTION_S,
            "event": event,
            "details": dict(details),
            "previous": self._head,
        }
        entry["signature"] = base64.b64encode(self._key.sign(_canonical(entry))).decode()
        line = _canonical(entry) + b"\n"
        _write_whole_at(self._path, self._end, line)
        self._end += len(line)
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
        written = _canonical(entry) + b"\n"
        signature = base64.b64decode(entry.pop("signature"), validate=True)
        public_key.verify(signature, _canonical(entry))
    except InvalidSignature:
        raise LedgerBroken(f"entry {seq}: its signature is not by the published key") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise LedgerBroken(f"entry {seq}: not a signed entry") from None
    if written != line:
        raise LedgerBroken(f"entry {seq}: not written as it was signed")
    if entry.get("seq") != seq:
        raise LedgerBroken(f"entry {seq}: expected number {seq}, got {entry.get('seq')}")
    if entry.get("previous") != head:
        raise LedgerBroken(f"entry {seq}: doesn't follow the entry before it")
    return Entry(seq, entry["time"], entry["event"], entry["details"])


def _canonical(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _line_hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _write_whole_at(path: Path, end: int, line: bytes) -> None:
    """Put a line behind the whole ones, over what a crash left of another, and sync it.

    What a full disk takes of it is no line: it has no end, and is overwritten by the next.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if os.fstat(descriptor).st_size < end:
            raise OSError("the ledger is shorter than it was")
        if os.pwrite(descriptor, line, end) != len(line):
            raise OSError("short write")
        os.ftruncate(descriptor, end + len(line))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_or_make_file(path: Path) -> bytes:
    if path.exists():
        return path.read_bytes()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    _sync_folder(path.parent)
    return b""


def _read_or_make_key(folder: Path) -> Ed25519PrivateKey:
    for name in (SIGNING_KEY, PUBLIC_KEY):
        _temporary(folder / name).unlink(missing_ok=True)  # a crash while the key was made
    path = folder / SIGNING_KEY
    if path.exists():
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise StoreError(f"{path}: not an Ed25519 key. Put the right one back, or move the ledger to another place")
    else:
        key = Ed25519PrivateKey.generate()
        _write_whole(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not (folder / PUBLIC_KEY).exists():
        _write_whole(folder / PUBLIC_KEY, public, 0o644)
    return key


def _write_whole(path: Path, content: bytes, mode: int) -> None:
    temporary = _temporary(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_suffix(".tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
