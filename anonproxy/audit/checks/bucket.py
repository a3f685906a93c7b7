"""A bucket holds what its manifest names, as it was published, and nothing beside."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.bucket import Bucket
from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import DAILY
from anonproxy.audit.specimen_bucket import find_object


def look(evidence: Evidence) -> Outcome:
    """Compare the objects with the manifest, name by name and byte by byte."""
    bucket = evidence.bucket or Bucket()
    figures = ["who may read the bucket is told by its own policy, which can't be seen from here"]
    if len(bucket.ledgers) > 1:
        figures.append(f"{len(bucket.ledgers) - 1} earlier ledgers, by other keys, are of work folders that were lost")
    return Outcome(
        {"objects": len(bucket.digests), "named": len(bucket.manifest)}, tuple(find(bucket)), (), tuple(figures)
    )


def find(bucket: Bucket) -> Iterator[Finding]:
    """Find what is missing, changed or too much."""
    if not bucket.is_manifest_whole:
        yield Finding("the manifest", "says something that no manifest says")
    objects = bucket.objects()
    for name, path in sorted(objects.items()):
        if name not in bucket.digests:
            yield Finding(path, "is named by the manifest, and isn't there")
        elif bucket.digests[name] != bucket.manifest[path]:
            yield Finding(path, "is not the file whose digest stands in the manifest")
    for name in sorted(bucket.digests.keys() - objects.keys()):
        yield Finding(f"(a name of {len(name)} characters)", "an object that the manifest doesn't name")


def sabotage(root: Path) -> None:
    """Put other bytes in the place of a day's totals."""
    find_object(root, DAILY).write_bytes(b"rows of someone")


CHECK: Final = Check(
    code="bucket",
    claim="The bucket holds what was published, and nothing beside",
    how="Every object is read; each that the manifest names is there with the bytes of its digest, and there is no "
    "other. The copy for the other checks is laid out by the manifest.",
    look=look,
    sabotage=sabotage,
)
