"""Who may look: a password, its sessions, and what keeps others from guessing it. All of it in memory."""

import base64
import binascii
import secrets
import threading
from collections import OrderedDict
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from anonproxy.clock import Clock

# Source: OWASP Password Storage Cheat Sheet: N = 2^16, r = 8, p = 2 takes 64 MiB and a quarter of a second.
COST: Final = 2**16
BLOCK: Final = 8
PARALLEL: Final = 2
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32

TOKEN_BYTES: Final = 32
MAX_SESSIONS: Final = 1_000
# Wrong passwords that one address may send before it has to wait: twice as long after each, to a quarter of an hour.
FREE_GUESSES: Final = 5
LONGEST_WAIT_S: Final = 900
MAX_GUESSERS: Final = 10_000


def hash_password(password: str) -> str:
    """Return a salted hash that is slow to compute, as `scrypt$N$r$p$salt$hash`."""
    salt = secrets.token_bytes(SALT_BYTES)
    derived = Scrypt(salt, HASH_BYTES, COST, BLOCK, PARALLEL).derive(password.encode())
    return "$".join(("scrypt", str(COST), str(BLOCK), str(PARALLEL), _encode(salt), _encode(derived)))


def is_password(password: str, hashed: str) -> bool:
    """Tell whether a password is the one that was hashed."""
    try:
        scheme, cost, block, parallel, salt, derived = hashed.split("$")
        expected = _decode(derived)
        if scheme != "scrypt" or len(expected) != HASH_BYTES:  # the hash of nothing is everybody's
            return False
        Scrypt(_decode(salt), HASH_BYTES, int(cost), int(block), int(parallel)).verify(password.encode(), expected)
    except (ValueError, binascii.Error, InvalidKey):
        return False
    return True


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Sessions:
    """Who has logged in. Kept are digests of their tokens, so that a look into this memory opens no session."""

    def __init__(self, clock: Clock, lifetime_s: float) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._ends: OrderedDict[bytes, float] = OrderedDict()  # the oldest first
        self._lock = threading.Lock()

    def begin(self) -> str:
        """Begin a session; return its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            self._ends[_digest(token)] = self._clock() + self._lifetime_s
            if len(self._ends) > MAX_SESSIONS:
                self._ends.popitem(last=False)
        return token

    def is_open(self, token: str) -> bool:
        """Tell whether a token belongs to a session that hasn't ended."""
        with self._lock:
            return self._ends.get(_digest(token), 0.0) > self._clock()

    def end(self, token: str) -> None:
        """End a session."""
        with self._lock:
            self._ends.pop(_digest(token), None)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


class Guesses:
    """Counts wrong passwords by network, and says how long to wait before the next is looked at."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # number, and when the wait is over
        self._lock = threading.Lock()

    def wait_s(self, client: str) -> float:
        """Return how many seconds a client has to wait."""
        with self._lock:
            return max(0.0, self._failures.get(_neighbourhood(client), (0, 0.0))[1] - self._clock())

    def fail(self, client: str) -> None:
        """Count a wrong password."""
        with self._lock:
            key = _neighbourhood(client)
            number = self._failures.pop(key, (0, 0.0))[0] + 1
            wait_s = min(LONGEST_WAIT_S, 2.0 ** (number - FREE_GUESSES)) if number >= FREE_GUESSES else 0.0
            self._failures[key] = number, self._clock() + wait_s
            if len(self._failures) > MAX_GUESSERS:
                self._failures.popitem(last=False)

    def forget(self, client: str) -> None:
        """Forget a client who knew the password."""
        with self._lock:
            self._failures.pop(_neighbourhood(client), None)


def _neighbourhood(client: str) -> str:
    """Return the address, of IPv6 the /64 that one household has whole."""
    try:
        address = ip_address(client)
    except ValueError:
        return ""
    return str(address) if address.version == 4 else address.exploded[:19]
