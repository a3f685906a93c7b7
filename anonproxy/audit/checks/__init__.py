"""The checks, in the order in which a report tells them: what is stored, how coarse it is, how long, and by whom."""

from typing import Final

from anonproxy.audit.check import Check
from anonproxy.audit.checks import (
    anatomy,
    bucket,
    buckets,
    closed_world,
    crowds,
    detectors,
    differencing,
    foreign,
    keys,
    ledger,
    mitmproxy_files,
    networks,
    process_files,
    process_memory,
    process_swap,
    process_words,
    reidentification,
    retention,
    row_order,
    surroundings,
    times,
    unlinkability,
)

CHECKS: Final[tuple[Check, ...]] = (
    closed_world.CHECK,
    detectors.CHECK,
    networks.CHECK,
    crowds.CHECK,
    differencing.CHECK,
    reidentification.CHECK,
    times.CHECK,
    row_order.CHECK,
    buckets.CHECK,
    unlinkability.CHECK,
    retention.CHECK,
    anatomy.CHECK,
    foreign.CHECK,
    keys.CHECK,
    ledger.CHECK,
)

# What is only there where a store was published.
BUCKET: Final = bucket.CHECK
# What is only there on the machine that serves: the logs and folders that are named, and the processes that run.
SURROUNDINGS: Final = surroundings.CHECK
PROCESS_CHECKS: Final[tuple[Check, ...]] = (
    process_memory.CHECK,
    process_swap.CHECK,
    process_files.CHECK,
    process_words.CHECK,
    mitmproxy_files.CHECK,
)
