"""A published store: read object by object from a bucket, and laid out in a private folder for the checks to look at.

The manifest is read here a second time on purpose: what published is not asked what it meant. Names that it doesn't
know are laid out as they are, so that the checks find them.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from pyarrow.fs import FileSelector, FileSystem, FileType

from anonproxy.audit.ledger import FILE, PUBLIC_KEY
from anonproxy.audit.tree import Kind, parse_place
from anonproxy.model.errors import StoreError

SCHEME: Final = "s3://"
MANIFEST: Final = "manifest.json"

# What publishes replaces the manifest and deletes what it doesn't name within seconds: a look meets that seldom.
TRIES: Final = 5

_LEDGER: Final = re.compile(rf"ledger/([0-9a-f]{{16}})/({re.escape(FILE)}|{re.escape(PUBLIC_KEY)})", re.ASCII)
_PUBLISHED: Final = re.compile(
    r"(hits|daily|vocabulary)/site=[^/]+/date=[^/]+/(hits|daily|vocabulary)\.parquet", re.ASCII
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ADDRESS: Final = re.compile(r"s3://[^/?#@\s]+[^#@\s]*")
_PLAIN: Final = re.compile(r"[^/\0]{1,200}(/[^/\0]{1,200}){0,15}")


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a bucket held, and what its manifest says that it should hold."""

    manifest: Mapping[str, str] = field(default_factory=dict)  # SHA-256 by path in a store
    is_manifest_whole: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)  # SHA-256 by name of the object, the manifest left out
    ledgers: tuple[tuple[bytes, bytes], ...] = ()  # each with the public key beside it, the newest last

    def objects(self) -> dict[str, str]:
        """Give the path of each file by the name that its object must have."""
        return {name_object(path, digest): path for path, digest in self.manifest.items()}


@contextmanager
def fetch(address: str) -> Iterator[tuple[Path, Bucket]]:
    """Fetch a published store into a private folder, which is deleted afterwards.

    Reveals: nothing that isn't in the bucket; the folder is its owner's alone
    Raises:  StoreError when it can't be read, or nothing was published there
    """
    refusal = "not the address of a published store. Write it like s3://BUCKET/PREFIX?region=NAME, without credentials"
    if not _ADDRESS.fullmatch(address):
        raise StoreError(refusal)
    try:
        filesystem, prefix = FileSystem.from_uri(address)
    except (OSError, ValueError, TypeError):
        raise StoreError(refusal) from None
    with tempfile.TemporaryDirectory(prefix="anonproxy-audit-") as folder:
        root = Path(folder, "store")
        try:
            bucket = copy(filesystem, prefix.rstrip("/"), root)
        except OSError:
            raise StoreError(
                "the bucket can't be read. Credentials come from the environment (AWS_ACCESS_KEY_ID) or a profile"
            ) from None
        yield root, bucket


def copy(filesystem: FileSystem, prefix: str, root: Path) -> Bucket:
    """Copy what a bucket holds below a prefix into a new folder, laid out as a store.

    Raises: OSError, StoreError when nothing was published there
    """
    for _ in range(TRIES):
        contents = _read_all(filesystem, prefix)
        if contents.get(MANIFEST) == _read_all(filesystem, prefix, only=MANIFEST).get(MANIFEST):
            break
    if MANIFEST not in contents:
        raise StoreError(f"nothing was published there: there is no {MANIFEST}. Correct the address")
    manifest, is_whole = _parse_manifest(contents.pop(MANIFEST))
    digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
    bucket = Bucket(manifest, is_whole, digests)
    paths = bucket.objects()
    ledgers = _find_ledgers({paths[name]: content for name, content in contents.items() if name in paths})
    root.mkdir(0o700)
    for name, content in contents.items():
        if not _LEDGER.fullmatch(paths.get(name, "")):
            _write(root, paths.get(name, name), content)
    for content, key in ledgers[-1:]:
        _write(root, f"ledger/{FILE}", content)
        _write(root, f"ledger/{PUBLIC_KEY}", key)
    _tidy(root)
    return Bucket(manifest, is_whole, digests, ledgers)


def _read_all(filesystem: FileSystem, prefix: str, only: str = "") -> dict[str, bytes]:
    """Read every object, or one; what goes away meanwhile isn't there."""
    found = filesystem.get_file_info(FileSelector(prefix, recursive=True, allow_not_found=True))
    contents = {}
    for path, name in ((info.path, info.path[len(prefix) + 1 :]) for info in found if info.type == FileType.File):
        if only in {"", name}:
            try:
                with filesystem.open_input_stream(path) as stream:
                    contents[name] = stream.read()
            except FileNotFoundError:
                continue
    return contents


def _parse_manifest(data: bytes) -> tuple[dict[str, str], bool]:
    """Give what a manifest says as far as it can be a manifest's, and whether that is all of it."""
    try:
        content = json.loads(data)
        files = {str(path): str(digest) for path, digest in content["files"].items()}
        is_whole = content.keys() == {"files", "schema"} and isinstance(content["schema"], int)
    except (ValueError, KeyError, AttributeError, TypeError):
        return {}, False
    known = {
        path: digest
        for path, digest in files.items()
        if _SHA256.fullmatch(digest) and (_LEDGER.fullmatch(path) or (_PUBLISHED.fullmatch(path) and _is_place(path)))
    }
    return known, is_whole and known == files


def _is_place(path: str) -> bool:
    return parse_place(path, "file") is not None


def _find_ledgers(files: Mapping[str, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Give each ledger that lies beside its own key, by the time of its last entry."""
    folders: dict[str, dict[str, bytes]] = {}
    for path, content in files.items():
        if match := _LEDGER.fullmatch(path):
            folders.setdefault(match[1], {})[match[2]] = content
    whole = [(held[FILE], held[PUBLIC_KEY]) for held in folders.values() if held.keys() == {FILE, PUBLIC_KEY}]
    return tuple(sorted(whole, key=lambda pair: _last_time(pair[0])))


def _last_time(content: bytes) -> int:
    try:
        return int(json.loads(content.splitlines()[-1])["time"])
    except (ValueError, KeyError, TypeError, IndexError):
        return 0


def _write(root: Path, path: str, content: bytes) -> None:
    """Write a file where a store has it; a name that no file can have gets one that shows that."""
    parts = path.split("/")
    is_plain = _PLAIN.fullmatch(path) and not {".", ".."} & set(parts)
    target = root / (path if is_plain else f"(a name of {len(path)} characters)")
    target.parent.mkdir(0o700, parents=True, exist_ok=True)
    target.write_bytes(content)


def _tidy(root: Path) -> None:
    """Give everything the times and modes that a store has; those of this copy say nothing."""
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        kind: Kind = "folder" if path.is_dir() else "file"
        place = parse_place(path.relative_to(root).as_posix(), kind)
        path.chmod(0o700 if kind == "folder" else 0o600)
        time_s = place.starts_at if place else 0
        os.utime(path, (time_s, time_s))
    os.utime(root, (0, 0))


def name_object(path: str, digest: str) -> str:
    """Name the object of a file as publishing does."""
    stem, dot, suffix = path.rpartition(".")
    return f"{stem}.{digest[:16]}{dot}{suffix}"
