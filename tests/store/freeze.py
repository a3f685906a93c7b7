"""Make a small store to keep for ever: python -m tests.store.freeze; later versions must read it as this one does.

Run it once, when the schema gets a new version, and never change what it made for an older one.
"""

from pathlib import Path

from anonproxy.model.columns import SCHEMA_VERSION
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from tests.store.examples import DAY_S, HOUR_S, MIDNIGHT, K, Notes, hit, settings, visits, write

FROZEN = Path(__file__).parent / "frozen"


def freeze(root: Path) -> None:
    """Make a store with a settled day, a sealed hour and an open one."""
    write(root, visits(12, 9 * HOUR_S) + visits(3, 20 * HOUR_S, first=20, route="/café", network="203.0.113.0/24"))
    write(root, [visit._replace(step=2, elapsed_s=60, route="/events") for visit in visits(12, 9 * HOUR_S)])
    settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    write(root, visits(12, 2 * DAY_S, campaign="autumn"))
    seal(root, MIDNIGHT + 3 * DAY_S, Notes())
    write(root, [hit(2 * DAY_S + HOUR_S, visit=None, step=None, elapsed_s=None)])


if __name__ == "__main__":
    FROZEN.mkdir(exist_ok=True)
    freeze(FROZEN / f"schema-{SCHEMA_VERSION}")
