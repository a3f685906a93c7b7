"""A specimen of a bucket: what a specimen of a store publishes, as objects in a folder beside it."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Final

from pyarrow.fs import LocalFileSystem

from anonproxy.audit.bucket import MANIFEST, Bucket, copy, name_object

SCHEMA: Final = 1


def write_bucket(root: Path) -> Path:
    """Publish a specimen of a store, and return the folder that stands for the bucket."""
    folder = find_bucket(root)
    key = (root / "ledger/public-key.pem").read_bytes()
    place = f"ledger/{sha256(key).hexdigest()[:16]}"
    contents = {f"{place}/{name}": (root / "ledger" / name).read_bytes() for name in ("ledger.jsonl", "public-key.pem")}
    for tier in ("hits", "daily", "vocabulary"):
        settled = {path.parent.name for path in (root / "daily").rglob("*.parquet")}
        for file in (root / tier).rglob("*.parquet"):
            if file.parent.name in settled:
                contents[file.relative_to(root).as_posix()] = file.read_bytes()
    digests = {path: sha256(content).hexdigest() for path, content in contents.items()}
    for path, content in contents.items():
        target = folder / name_object(path, digests[path])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (folder / MANIFEST).write_text(json.dumps({"files": digests, "schema": SCHEMA}))
    return folder


def fetch_specimen(root: Path) -> tuple[Path, Bucket]:
    """Fetch what a specimen published, and return where it is laid out."""
    if not find_bucket(root).exists():
        write_bucket(root)
    target = root.with_name(f"{root.name}.fetched")
    return target, copy(LocalFileSystem(), str(find_bucket(root)), target)


def find_bucket(root: Path) -> Path:
    """Return the folder that stands for the bucket."""
    return root.with_name(f"{root.name}.bucket")


def find_object(root: Path, path: str) -> Path:
    """Return the object of a file; published first, where nothing is yet."""
    folder = find_bucket(root)
    if not folder.exists():
        write_bucket(root)
    return folder / name_object(path, json.loads((folder / MANIFEST).read_text())["files"][path])
