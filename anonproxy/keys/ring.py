"""The key of the epoch. It exists in the memory of one process, and its end is what makes the store forget.

Three things would let a key outlive its epoch, and are avoided here. `bytes` are copied freely and stay in memory
after `del`: keys are bytearrays, filled in place and overwritten in place. A kept HMAC object holds SHA-256 midstates
that are as good as the key: none is kept. A clock that is set back would open an old epoch again: an ended key is
gone, and whatever looks like a jump makes a new one.
"""

from datetime import datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final, NoReturn
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from anonproxy.model.settings import PrivacySettings

KEY_BYTES: Final = 32  # the output of SHA-256; a longer HMAC key adds nothing (RFC 2104 section 3)

# A clock that moves further than this between two looks was set, or the machine slept. A time service slews smaller
# errors away, and a busy machine stalls for seconds, not minutes.
CLOCK_JUMP_S: Final = 300.0

RANDOM_SOURCE: Final = "/dev/urandom"


class KeyRing:
    """The two subkeys of the present epoch: one turns sessions into tags, one numbers visits.

    Whoever calls `rotate_when_due` is the clock: `now` for live traffic, the time of the line for an old log.
    """

    def __init__(self, privacy: PrivacySettings, now: float) -> None:
        self._epoch_s = privacy.epoch_hours * 3600
        self._cut = privacy.epoch_cut
        self._zone = None if privacy.time_zone == "local" else ZoneInfo(privacy.time_zone)
        self.tag_key = bytearray(KEY_BYTES)
        self.visit_key = bytearray(KEY_BYTES)
        self.is_live = False
        self.made_at = self.destroy_after = self._latest = now
        self.rotate(now)

    def __repr__(self) -> str:
        return "KeyRing(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("keys are never copied or sent")

    def rotate_when_due(self, now: float) -> bool:
        """Destroy the key and make a fresh one if its epoch is over or the clock jumped; tell whether it did."""
        if self.is_live and now < self.destroy_after and abs(now - self._latest) <= CLOCK_JUMP_S:
            # The latest time seen, so that many small steps back can't add up to a longer epoch.
            self._latest = max(now, self._latest)
            return False
        self.rotate(now)
        return True

    def rotate(self, now: float) -> None:
        """Destroy the key, whatever its age, and make a fresh one."""
        self.wipe()
        root = bytearray(KEY_BYTES)
        try:
            fill_random(root)
            for purpose, subkey in ((b"anonproxy tag", self.tag_key), (b"anonproxy visit", self.visit_key)):
                HKDFExpand(SHA256(), KEY_BYTES, purpose).derive_into(root, subkey)
        finally:
            overwrite(root)
        self.made_at = self._latest = now
        self.destroy_after = next_cut(now, self._cut, self._zone, self._epoch_s)
        self.is_live = True

    def wipe(self) -> None:
        """Overwrite the keys; from now on nothing is tagged until the ring rotates."""
        self.is_live = False
        overwrite(self.tag_key)
        overwrite(self.visit_key)


def overwrite(key: bytearray) -> None:
    """Set every byte to zero where it stands."""
    key[:] = bytes(len(key))


def fill_random(key: bytearray) -> None:
    """Fill a key from the system's random source, without a copy on the way.

    Raises: OSError when the source gives less than was asked for
    """
    with open(RANDOM_SOURCE, "rb", buffering=0) as source:  # buffered, the bytes would stay behind in the buffer
        if source.readinto(key) != len(key):
            raise OSError("the random source gave too little")


def next_cut(now: float, cut: str, zone: tzinfo | None, epoch_s: int) -> float:
    """Return the end of the epoch that `now` lies in.

    Epochs are counted from the daily cut, and the daily cut ends one in any case, so the last of a day may be short; on
    the day that has 25 hours there is one cut more, because a key never lives longer than `epoch_s`.

    Shape:   cut is a local time of day, "04:00"; no zone means this machine's
    Units:   unix seconds
    """
    hour, minute = map(int, cut.split(":"))
    today = datetime.fromtimestamp(now, zone).replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    cuts = [(today + timedelta(days=days)).timestamp() for days in (-1, 0, 1)]
    first, last = next((begin, end) for begin, end in pairwise(cuts) if now < end)
    return min(first + ((now - first) // epoch_s + 1) * epoch_s, last)
