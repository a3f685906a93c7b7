"""Hold a ledger to what was published of it: its public key, and an earlier head.

The key that lies in the store proves nothing against whoever holds the machine: they could sign a new chain with a new
key. What was published, or written down elsewhere, they can't change.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from anonproxy.audit.ledger import FILE, GENESIS, PUBLIC_KEY, LedgerBroken, verify_lines


@dataclass(frozen=True, slots=True)
class Published:
    """What a comparison with the published came to; `broken` says what is wrong."""

    entries: int
    since_head: int | None
    broken: str = ""

    def __str__(self) -> str:
        if self.broken:
            return f"The ledger is not the one that was published: {self.broken}"
        since = (
            ""
            if self.since_head is None
            else f"; nothing before the head has changed, entries since: {self.since_head}"
        )
        return f"The ledger is the one that was published: {self.entries:,} entries, signed and linked{since}"


def verify_published(root: Path, public_key_pem: bytes | None, head: str | None) -> Published:
    """Compare a store's ledger with the public key and the head that were published, those that are given."""
    try:
        content = (root / "ledger" / FILE).read_bytes()
        key = public_key_pem or (root / "ledger" / PUBLIC_KEY).read_bytes()
        entries = list(verify_lines(content, key, head))
    except OSError:
        return Published(0, None, "it can't be read")
    except LedgerBroken as error:
        return Published(0, None, str(error))
    except ValueError:
        return Published(0, None, "what was given is not a public key")
    hashes = [GENESIS, *(sha256(line).hexdigest() for line in content.splitlines(keepends=True))]
    return Published(len(entries), None if head is None else len(hashes) - 1 - hashes.index(head))
