"""Hold the store and its ledger for a verb that changes it, and say what it does."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from anonproxy.audit.ledger import Ledger
from anonproxy.clock import now
from anonproxy.model.settings import Settings
from anonproxy.store.lock import StoreLock

Journal = Callable[[str, Mapping[str, str | int]], None]


@contextmanager
def opened(settings: Settings, *, dry_run: bool) -> Iterator[tuple[Path, Journal]]:
    """Lock the store and give a journal that prints each act and puts it into the ledger unless it is a dry run.

    Raises: StoreError when the proxy is running on this store, which does the work by itself
    """
    root = Path(settings.store.path)
    lock = StoreLock(root)
    acts = 0

    def journal(event: str, details: Mapping[str, str | int]) -> None:
        nonlocal acts
        acts += 1
        if not dry_run:
            ledger.append(event, details, now())
        click.echo(f"{'would be ' if dry_run else ''}{event}: {', '.join(f'{k} {v}' for k, v in details.items())}")

    try:
        ledger = Ledger(root / "ledger", now())
        yield root, journal
        click.echo(f"{acts} {'act' if acts == 1 else 'acts'}." if acts else "Nothing to do.")
    finally:
        lock.release()
