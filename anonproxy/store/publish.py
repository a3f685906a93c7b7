"""From a work folder to an object store: settled days and the ledger, never a visit number.

An object store has no rename, no append and no lock, and each request takes its time; a crash must lose five seconds,
not five minutes. So `run` works in a folder on a local disk in any case, as it always does, and what is settled there
is published from there. Nothing hot leaves the machine: visit numbers don't travel, and aren't in anybody's backup.

    1  put the objects of files that are new        each under a name that has the digest of its bytes
    2  put manifest.json                            from here on the new state counts, whole
    3  delete the objects that it doesn't name

Killed before 2, the old state counts and the next run puts what is missing; killed after, it deletes what is left over.
A reader goes by the manifest and meets one state or the other.

What counts is what the work folder has, and of days that it doesn't have, what was published before and isn't older
than its tier allows: whoever loses a work folder loses what wasn't settled, and nothing else. The ledger of a new work
folder begins anew beside the old one.

One work folder publishes to one prefix. There is no lock to be had, but a manifest that somebody else wrote meanwhile
is noticed, and ends the publishing.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anonproxy.model.errors import StoreError
from anonproxy.model.settings import StoreSettings
from anonproxy.store.layout import days
from anonproxy.store.manifest import (
    DIGEST_LENGTH,
    MANIFEST,
    PUBLISHED,
    Manifest,
    is_ours,
    parse_manifest,
    parse_place,
    render_manifest,
)
from anonproxy.store.objects import Objects
from anonproxy.store.purge import expires_at
from anonproxy.store.read import Identity, identify
from anonproxy.store.seal import Journal
from anonproxy.store.tables import BrokenFile, verify_footer

# All that is published of the ledger; the key that signs it stays where it is.
LEDGER: Final = "ledger.jsonl"
PUBLIC_KEY: Final = "public-key.pem"
FOLDERS: Final = frozenset({*PUBLISHED, "ledger"})


@dataclass(slots=True)
class Publisher:
    """What makes an object store hold what a work folder does. Nothing else may settle or purge at the same time."""

    root: Path
    objects: Objects
    _digests: dict[Path, tuple[Identity, str | None]] = field(default_factory=dict)
    _known: set[bytes] = field(default_factory=set)  # manifests that may be there, going by what was seen and done

    def publish(self, now: int, store: StoreSettings, journal: Journal) -> None:
        """Publish what is settled, and delete what is over.

        Reveals: the settled tiers and the ledger, to whoever may read the bucket
        Raises:  StoreError when somebody else publishes to the same place, or a newer version did; OSError when the
                 service fails. What counted before then still does
        """
        seen = self._read_manifest()
        if self._known and seen not in self._known:
            raise StoreError("store.path: another anonproxy publishes to the same place. Give each its own prefix")
        before = parse_manifest(seen).files if seen else {}
        settled = self._find_settled(now, store)
        kept = {path: sha256 for path, sha256 in before.items() if not _is_over(path, now, store)}
        after = kept | settled
        if after != before:
            journal("published", {"files": len(after)})
        ledger = self._read_ledger()
        manifest = Manifest(after | {path: _sha256(data) for path, data in ledger.items()})
        written = render_manifest(manifest)
        self._known = {seen, written}
        there = self.objects.list().files
        for name, path in manifest.objects().items():
            if name not in there and (path in settled or path in ledger):
                self.objects.write(name, ledger[path] if path in ledger else (self.root / path).read_bytes())
        if written != seen:
            self.objects.write(MANIFEST, written)
        self._sweep(manifest)

    def _read_manifest(self) -> bytes:
        try:
            return self.objects.read(MANIFEST)
        except FileNotFoundError:
            return b""

    def _find_settled(self, now: int, store: StoreSettings) -> dict[str, str]:
        """Return the SHA-256 of each file that no row will be added to and that isn't too old, by its path."""
        files = [
            day.file(kind)
            for kind in PUBLISHED
            for day in days(self.root, kind)
            if now < expires_at(day, kind, store) and not (day.is_live and day.hours())
        ]
        return {file.relative_to(self.root).as_posix(): sha256 for file in files if (sha256 := self._digest(file))}

    def _digest(self, file: Path) -> str | None:
        """Return the SHA-256 of a file; None when there is none or it is broken. Each is read once."""
        try:
            identity = identify(file)
            if file not in self._digests or self._digests[file][0] != identity:
                try:
                    verify_footer(file)
                    self._digests[file] = identity, _sha256(file.read_bytes())
                except BrokenFile:
                    self._digests[file] = identity, None
        except FileNotFoundError:
            return None
        return self._digests[file][1]

    def _read_ledger(self) -> dict[str, bytes]:
        """Return the ledger as far as it is whole, by the path that it gets."""
        folder = self.root / "ledger"
        try:
            key, entries = (folder / PUBLIC_KEY).read_bytes(), (folder / LEDGER).read_bytes()
        except FileNotFoundError:
            return {}
        place = f"ledger/{_sha256(key)[:DIGEST_LENGTH]}"
        return {f"{place}/{PUBLIC_KEY}": key, f"{place}/{LEDGER}": entries[: entries.rfind(b"\n") + 1]}

    def _sweep(self, manifest: Manifest) -> None:
        """Delete the objects that don't count, and the folders that are empty then. What isn't ours stays."""
        counting = manifest.objects()
        for name in sorted(self.objects.list().files):
            if is_ours(name) and name not in counting:
                self.objects.delete(name)
        for folder in self.objects.list().empty:
            if folder.partition("/")[0] in FOLDERS:
                self.objects.delete_folder(folder)


def _is_over(path: str, now: int, store: StoreSettings) -> bool:
    place = parse_place(path)
    return place is not None and now >= expires_at(*place, store)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
