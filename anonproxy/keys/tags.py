"""Keyed hashes: from the raw parts of a session to a tag, and from a tag to the number of a visit."""

import hmac
import struct
from collections.abc import Iterable

# One-shot HMAC: the context lives and is cleansed inside OpenSSL, so that no object with its midstates is left over.


def tag_session(tag_key: bytearray, raw_parts: Iterable[bytes]) -> bytes:
    """Hash the parts of a session, each behind its length, so that no two lists of parts look the same.

    Source:  RFC 2104 (HMAC), FIPS 180-4 (SHA-256)
    """
    message = b"".join(part for raw in raw_parts for part in (struct.pack(">Q", len(raw)), raw))
    return hmac.digest(tag_key, message, "sha256")


def tag_visit(visit_key: bytearray, session: bytes, start_s: float) -> int:
    """Make the number of a visit from its session and its start; never 0.

    Shape:   unsigned 64 bits: among a million visits a day, two share a number once in 36 million days
    """
    number = int.from_bytes(hmac.digest(visit_key, session + struct.pack(">d", start_s), "sha256")[:8])
    return number or 1
