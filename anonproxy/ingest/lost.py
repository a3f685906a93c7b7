"""Sealed hours that are gone without a word: a restored backup has none, or somebody deleted them.

Until their time is over the audit names each of them as missing. Then the ledger is told that they are lost, since
nothing can bring them back; how many, the audit tells for ever.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from anonproxy.audit.checks.ledger import replay
from anonproxy.audit.ledger import FILE, Entry
from anonproxy.audit.tree import parse_place
from anonproxy.model.settings import StoreSettings
from anonproxy.store.layout import Day
from anonproxy.store.purge import expires_at

LOST: Final = "lost"


def find_lost(root: Path, now: int, store: StoreSettings) -> Iterator[str]:
    """Find the files of hours that are past their time, and neither there nor deleted according to the ledger.

    Raises: OSError
    """
    lines = map(json.loads, (root / "ledger" / FILE).read_bytes().splitlines())
    account = replay([Entry(line["seq"], line["time"], line["event"], line["details"]) for line in lines])
    for path in sorted(account.files):
        place = parse_place(path, "file")
        if place is None or place.tier != "hot" or place.day is None or (root / path).exists():
            continue
        if now >= expires_at(Day(root, place.site or "", place.day), "hot", store):
            yield path
