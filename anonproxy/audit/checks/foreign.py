"""Nothing lies in the store that the layout doesn't declare."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.check import Check, Finding, Outcome
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import plant
from anonproxy.audit.tree import Node

_WHAT: Final = {"file": "a file", "folder": "a folder", "link": "a link", "other": "a socket, pipe or device"}


def look(evidence: Evidence) -> Outcome:
    """Compare every name with the declared layout."""
    findings = [finding for node in evidence.nodes for finding in find(evidence.root, node)]
    return Outcome({"names": len(evidence.nodes)}, tuple(findings))


def find(root: Path, node: Node) -> Iterator[Finding]:
    """Find a name that isn't declared, and notes attached to a file."""
    if node.place is None:
        yield Finding(node.shown, f"{_WHAT[node.kind]} that the layout doesn't declare")
    try:
        attached = [name for name in os.listxattr(root / node.path, follow_symlinks=False) if name.startswith("user.")]
    except OSError:
        return
    if attached:
        yield Finding(node.shown, f"has {len(attached)} extended attributes, which nothing of ours sets")


def sabotage(root: Path) -> None:
    """Leave a database beside the rows."""
    plant(root, "hot/site=www/scratch.duckdb", b"rows of someone")


CHECK: Final = Check(
    code="foreign-files",
    claim="Nothing lies in the store but what is declared",
    how="Every name in the tree is compared with the declared layout; links are not followed.",
    look=look,
    sabotage=sabotage,
)
