"""The checks, in the order in which a report tells them: what is stored, how coarse it is, how long, and by whom."""

from typing import Final

from anonproxy.audit.check import Check
from anonproxy.audit.checks import (
    anatomy,
    buckets,
    closed_world,
    crowds,
    detectors,
    differencing,
    foreign,
    keys,
    ledger,
    networks,
    reidentification,
    retention,
    row_order,
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
