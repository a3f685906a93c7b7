"""A writer to be killed: python writer.py STORE FIRST; it writes rows with rising visit numbers until it is killed.

After each flush it prints the number of the last row that is on disk.
"""

import sys
from itertools import count
from pathlib import Path

from anonproxy.store.lock import StoreLock
from anonproxy.store.seal import seal
from anonproxy.store.write import SegmentWriter
from tests.store.examples import DAY_S, MIDNIGHT, Notes, hit, vocabulary

BATCH = 20


def main(root: Path, first: int) -> None:
    """Write and seal, for ever."""
    lock = StoreLock(root)
    writer = SegmentWriter(root, vocabulary())
    for number in count(first):
        writer.add(hit(number % 3 * 3600, visit=number))
        if number % BATCH == 0:
            writer.flush()
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            seal(root, MIDNIGHT + DAY_S, Notes())
    lock.release()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
