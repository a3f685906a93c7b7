"""What becomes of a request: a hit that can be stored, or a reason why it was dropped."""

from dataclasses import dataclass
from typing import NamedTuple

from anonproxy.model.vocabularies import DropReason


class Hit(NamedTuple):
    """One stored row. Fields stand in the order of `columns.HIT_COLUMNS`, which says what each one holds."""

    time: int  # unix seconds, floored to the resolution
    site: str
    method: str
    route: str
    kind: str
    status: int
    size_bytes: int
    duration_ms: int
    visit: int | None
    step: int | None
    elapsed_s: int | None
    network: str | None
    network_class: str
    country: str
    referrer: str
    channel: str
    campaign: str | None
    browser: str
    os: str
    device: str
    bot: str
    language: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """A request that was counted and forgotten."""

    reason: DropReason


class VisitMark(NamedTuple):
    """Where a request stands in its visit. The numbers say nothing once their key is destroyed."""

    visit: int
    step: int
    elapsed_s: int
    visitor: int  # the same for all visits of a session: never stored, only counted, so that one person is no crowd
