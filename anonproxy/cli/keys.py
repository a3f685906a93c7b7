"""`anonproxy keys`: how the key of the running proxy stands, and its end."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from anonproxy.cli import options
from anonproxy.config import read_settings
from anonproxy.ingest.control import Answer, ask

MINUTE_S: Final = 60
HOUR_S: Final = 3_600

as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group("keys")
def command() -> None:
    """Look at the key that tells visits apart, or destroy it now.

    The key lives in the memory of the running proxy and nowhere else. It is never shown.
    """


@command.command("status")
@options.config
@as_json
def status(config_path: Path | None, as_json: bool) -> None:
    """Say how old the key is, when it will be destroyed and how many visits it numbers."""
    answer = ask(find_root(config_path), "status")
    click.echo(json.dumps(answer, indent=2) if as_json else render_status(answer))


@command.command("rotate")
@options.config
@as_json
def rotate(config_path: Path | None, as_json: bool) -> None:
    """Destroy the key now and make a fresh one.

    Visits that go on are counted as new ones; no request is lost, and nothing links the two.
    """
    answer = ask(find_root(config_path), "rotate")
    click.echo(json.dumps(answer, indent=2) if as_json else f"The old key is gone.\n{render_status(answer)}")


def find_root(config_path: Path | None) -> Path:
    """Return the folder of the store."""
    return Path(read_settings(options.find_config(config_path)).store.folder)


def render_status(answer: Answer) -> str:
    """Say in words what the recorder answered."""
    now, made_at, destroyed_at = (int(answer[name]) for name in ("now", "made_at", "destroyed_at"))
    visits = int(answer["live_visits"])
    lines = [
        f"made          {render_span(now - made_at)} ago",
        f"destroyed     in {render_span(destroyed_at - now)}, {render_time(destroyed_at)}",
        f"live visits   {visits:,}",
    ]
    if not answer["clock_believed"]:
        lines.append("clock         has jumped; nothing settles or is purged before it has gone evenly for an hour")
    return "\n".join(lines)


def render_span(seconds: int) -> str:
    """Return a time span as "5 h 12 min"."""
    hours, rest = divmod(max(0, seconds), HOUR_S)
    return f"{hours} h {rest // MINUTE_S} min" if hours else f"{rest // MINUTE_S} min {rest % MINUTE_S} s"


def render_time(time_s: int) -> str:
    """Return a time as an operator reads it."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
