"""The manifest of a published store: the one object that says which others count.

    manifest.json                               {"files": {PATH: SHA-256, …}, "schema": 1}
    hits/site=S/date=D/hits.DIGEST.parquet      what a store has as hits/site=S/date=D/hits.parquet
    daily/…, vocabulary/…                       likewise
    ledger/KEY/ledger.DIGEST.jsonl              the ledger that the public key beside it signs;
    ledger/KEY/public-key.DIGEST.pem            KEY is the digest of that key

PATH is the name without DIGEST, and DIGEST the first 16 digits of the SHA-256 of the bytes. So an object never changes,
and a new manifest replaces all that counts at once.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, cast

from anonproxy.model.columns import SCHEMA_VERSION
from anonproxy.model.errors import StoreError
from anonproxy.store.layout import Day, Kind

MANIFEST: Final = "manifest.json"
PUBLISHED: Final[tuple[Kind, ...]] = ("hits", "daily", "vocabulary")
DIGEST_LENGTH: Final = 16

_DAY_FILE: Final = re.compile(
    r"(?P<kind>hits|daily|vocabulary)/site=(?P<site>[a-z0-9][a-z0-9_-]{0,31})/date=(?P<date>\d{4}-\d\d-\d\d)"
    r"/(?P=kind)\.parquet",
    re.ASCII,
)
_LEDGER_FILE: Final = re.compile(rf"ledger/[0-9a-f]{{{DIGEST_LENGTH}}}/(ledger\.jsonl|public-key\.pem)", re.ASCII)
_OBJECT: Final = re.compile(rf"(?P<stem>[^.]+)\.[0-9a-f]{{{DIGEST_LENGTH}}}(?P<suffix>\.[a-z]+)", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What counts: the SHA-256 of each file by its path."""

    files: Mapping[str, str] = field(default_factory=dict)

    def objects(self) -> dict[str, str]:
        """Return the path of each file by the name of its object."""
        return {name_object(path, digest): path for path, digest in self.files.items()}

    def days(self, kind: Kind) -> list[tuple[Day, str]]:
        """List the days of one kind, oldest first, with the names of their objects."""
        places = {path: place for path in self.files if (place := parse_place(path))}
        found = [
            (day, name_object(path, self.files[path])) for path, (day, its_kind) in places.items() if its_kind == kind
        ]
        return sorted(found, key=lambda each: (each[0].date, each[0].site))


def name_object(path: str, digest: str) -> str:
    """Name the object that holds a file."""
    stem, dot, suffix = path.rpartition(".")
    return f"{stem}.{digest[:DIGEST_LENGTH]}{dot}{suffix}"


def parse_place(path: str) -> tuple[Day, Kind] | None:
    """Parse the path of a day's file; None when it is something else."""
    match = _DAY_FILE.fullmatch(path)
    try:
        day = Day(Path(), match["site"], date.fromisoformat(match["date"])) if match else None
    except ValueError:
        return None
    return (day, cast(Kind, match["kind"])) if match and day else None


def is_ours(name: str) -> bool:
    """Tell whether an object has a name that publishing gives, whether or not it counts."""
    match = _OBJECT.fullmatch(name)
    return match is not None and _is_path(match["stem"] + match["suffix"])


def render_manifest(manifest: Manifest) -> bytes:
    """Render a manifest; the same files always give the same bytes."""
    content = {"files": manifest.files, "schema": SCHEMA_VERSION}
    return json.dumps(content, sort_keys=True, indent=0, separators=(",", ":")).encode() + b"\n"


def parse_manifest(data: bytes) -> Manifest:
    """Parse a manifest.

    Raises: StoreError when it was written by a newer version, or isn't ours
    """
    try:
        content = json.loads(data)
        schema, files = int(content["schema"]), dict(content["files"])
    except (ValueError, TypeError, KeyError):
        raise StoreError(f"{MANIFEST}: not a manifest of anonproxy. Name another prefix in store.path") from None
    if schema > SCHEMA_VERSION:
        raise StoreError(
            f"the store was written by a newer anonproxy (schema {schema}, known here up to {SCHEMA_VERSION}). "
            "Upgrade anonproxy"
        )
    if not all(_is_path(path) and isinstance(sha, str) and _SHA256.fullmatch(sha) for path, sha in files.items()):
        raise StoreError(f"{MANIFEST}: names files that no store has. Name another prefix in store.path")
    return Manifest(files)


def _is_path(path: str) -> bool:
    return parse_place(path) is not None or _LEDGER_FILE.fullmatch(path) is not None
