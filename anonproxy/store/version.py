"""Whether this software understands a store."""

from pathlib import Path

from anonproxy.store.layout import KINDS, days, walk
from anonproxy.store.tables import BrokenFile, verify_footer


def verify_version(root: Path) -> None:
    """Check, by the newest day of each kind, that no newer software wrote a store.

    Raises: StoreError
    """
    for kind in KINDS:
        newest = max((day.date for day in days(root, kind)), default=None)
        for day in days(root, kind):
            if day.date == newest:
                for path in walk(day.folder(kind)):
                    try:
                        verify_footer(path)
                    except (BrokenFile, FileNotFoundError):
                        continue
