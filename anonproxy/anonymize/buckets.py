"""Numbers made coarse: the lower bound of the bucket they fall into. The buckets stand in `model.vocabularies`."""

from bisect import bisect
from typing import Final

from anonproxy.model.vocabularies import DURATION_BUCKETS_MS, ELAPSED_BUCKETS_S, NO_STATUS, SIZE_BUCKETS_BYTES, STATUSES

RESOLUTIONS_S: Final = {"15min": 900, "1h": 3_600, "1day": 86_400}


def bucket_time(time_s: float, resolution_s: int) -> int:
    """Floor a time to the resolution.

    Units:   unix seconds, UTC
    Reveals: the quarter of an hour, the hour or the day
    """
    return int(time_s // resolution_s) * resolution_s


def bucket_size(size_bytes: int) -> int:
    """Floor a length to one of 24 powers of two.

    Reveals: the length to within its half; an exact one names the search term (Chen et al., IEEE S&P 2010)
    """
    return SIZE_BUCKETS_BYTES[max(0, bisect(SIZE_BUCKETS_BYTES, size_bytes) - 1)]


def bucket_duration(duration_s: float) -> int:
    """Floor a duration to one of 12 steps.

    Units:   seconds in, milliseconds out
    Reveals: the order of magnitude
    """
    return DURATION_BUCKETS_MS[max(0, bisect(DURATION_BUCKETS_MS, duration_s * 1000) - 1)]


def bucket_elapsed(elapsed_s: int) -> int:
    """Floor the time since a visit began to one of 12 steps.

    Units:   seconds
    Reveals: the order of magnitude
    """
    return ELAPSED_BUCKETS_S[max(0, bisect(ELAPSED_BUCKETS_S, elapsed_s) - 1)]


def bucket_status(status: int) -> int:
    """Keep a registered status; another becomes its class, and what has no class becomes 0.

    Reveals: the status, one of the registered ones
    Source:  IANA HTTP Status Code Registry; RFC 9110 section 15 (an unknown code is treated as x00 of its class)
    """
    return next((known for known in (status, status // 100 * 100) if known in STATUSES), NO_STATUS)
