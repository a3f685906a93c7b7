"""How much of a kind a visitor may send; beyond the settings, what nobody needs to change."""

import math
import sys
from typing import Final

from anonproxy.anonymize.address import parse_client

MIB: Final = 1024 * 1024
ANY_SIZE: Final = sys.maxsize

# nginx refuses a head beyond four buffers of 8 KiB as well (large_client_header_buffers).
MAX_HEAD_BYTES: Final = 32 * 1024

# Requests at once on one HTTP/2 connection; each takes a connection to the site. Browsers open six with HTTP/1.1.
MAX_STREAMS: Final = 32

# What waits in memory for a visitor who doesn't take one HTTP/2 response, before the site is held up.
MAX_WAITING_BYTES: Final = 256 * 1024

# Requests that a visitor may take back on one HTTP/2 connection: a person who leaves a page takes back its pictures;
# a flood of them is an attack (CVE-2023-44487).
MAX_RESETS: Final = 500

# Addresses whose requests are counted at once: 10 MB of memory at most. Who has more at hand isn't stopped by counting.
MAX_ADDRESSES: Final = 65_536
# How often addresses are looked through for those that may be forgotten.
SWEEP_S: Final = 10.0


def address_key(raw_client: str) -> bytes | None:
    """Return what requests of one visitor share: the address, or of IPv6 the network that one household gets."""
    address = parse_client(raw_client)
    return address.packed[:8] if address else None


class RateLimit:
    """How often each address may ask: a bucket of tokens, kept as the moment at which it will be full again.

    An address with a full bucket is forgotten; with too many addresses, the one that asked longest ago. Both only ever
    let somebody ask more.

    Source: ITU-T I.371, the generic cell rate algorithm in its virtual scheduling form
    """

    def __init__(self, requests_per_s: float, burst: int) -> None:
        self.is_on = requests_per_s > 0
        self._interval_s = 1 / requests_per_s if self.is_on else 0.0
        self._most_s = burst * self._interval_s + 1e-6  # for the rounding of sums
        self._full_at: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    @property
    def retry_after_s(self) -> int:
        """Return the seconds after which a request passes for sure: those that were refused cost nothing."""
        return max(1, math.ceil(self._interval_s))

    def admit(self, key: bytes, now_s: float) -> bool:
        """Count a request; tell whether it may pass."""
        full_at = max(self._full_at.pop(key, now_s), now_s)
        is_admitted = full_at + self._interval_s - now_s <= self._most_s
        self._full_at[key] = full_at + self._interval_s if is_admitted else full_at
        if len(self._full_at) > MAX_ADDRESSES:
            del self._full_at[next(iter(self._full_at))]
        return is_admitted

    def forget(self, now_s: float) -> None:
        """Forget whoever may ask as often as anybody."""
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now_s}
