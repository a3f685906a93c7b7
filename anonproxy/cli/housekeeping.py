"""Hold the store and its ledger for a verb that changes it, and say what it does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from anonproxy.audit.ledger import Ledger
from anonproxy.clock import now
from anonproxy.ingest.clock_watch import BELIEVED, is_plausible
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.model.settings import Settings
from anonproxy.store.lock import StoreLock
from anonproxy.store.objects import open_objects
from anonproxy.store.publish import Publisher
from anonproxy.store.seal import Journal
from anonproxy.store.version import verify_version

trust_clock = click.option(
    "--trust-clock", is_flag=True, help="The date of this machine is right, however long the store was at rest."
)


@contextmanager
def opened(settings: Settings, *, dry_run: bool, trust_clock: bool) -> Iterator[tuple[Path, Journal]]:
    """Give a journal that prints each act and, unless it is a dry run, lock the store and put it into the ledger.

    Raises: StoreError when the proxy is running on this store, which does the work by itself; OperatorError when the
            clock doesn't fit the ledger
    """
    root = Path(settings.store.folder)
    if not root.is_dir():
        raise StoreError(f"{root}: nothing there yet. `anonproxy run` makes it; or correct store.path")
    acts = 0

    def tell(event: str, details: Mapping[str, str | int]) -> None:
        nonlocal acts
        acts += 1
        click.echo(f"{'would be ' if dry_run else ''}{event}: {', '.join(f'{k} {v}' for k, v in details.items())}")

    if dry_run:
        yield root, tell
    else:
        lock = StoreLock(root)
        try:
            verify_version(root)
            ledger = Ledger(root / "ledger", now())
            verify_clock(ledger, now(), trust_clock=trust_clock)

            def journal(event: str, details: Mapping[str, str | int]) -> None:
                ledger.append(event, details, now())
                tell(event, details)

            yield root, journal
            if settings.store.is_published:
                Publisher(root, open_objects(settings.store.path)).publish(int(now()), settings.store, journal)
        finally:
            lock.release()
    click.echo(f"{acts} {'act' if acts == 1 else 'acts'}." if acts else "Nothing to do.")


def verify_clock(ledger: Ledger, time_s: float, *, trust_clock: bool) -> None:
    """Refuse to delete by a date that may be wrong.

    Raises: OperatorError
    """
    if is_plausible(ledger, time_s):
        return
    if not trust_clock:
        clock, newest = (
            datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d") for each in (time_s, ledger.last_s or 0)
        )
        raise OperatorError(
            f"the clock says {clock}, and the ledger's newest entry is of {newest}: what is deleted by a wrong date "
            "can't be brought back. Look at the clock, then add --trust-clock"
        )
    ledger.append(BELIEVED, {}, time_s)
