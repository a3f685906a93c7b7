"""`anonproxy settle`: unlink hits whose time is over, and count the days."""

from pathlib import Path

import click

from anonproxy.cli import housekeeping, options
from anonproxy.clock import now
from anonproxy.config import read_settings
from anonproxy.store.settle import settle


@click.command("settle")
@options.config
@click.option("--dry-run", is_flag=True, help="Say what would be done and change nothing.")
@housekeeping.trust_clock
def command(config_path: Path | None, dry_run: bool, trust_clock: bool) -> None:
    """Unlink hits whose time is over, and count the days.

    `anonproxy run` does this by itself; the verb is for a store whose proxy has been off.
    """
    settings = read_settings(options.find_config(config_path))
    with housekeeping.opened(settings, dry_run=dry_run, trust_clock=trust_clock) as (root, journal):
        settle(root, int(now()), settings.store, settings.privacy.k, journal, dry_run=dry_run)
