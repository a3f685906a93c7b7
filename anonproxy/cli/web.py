"""`anonproxy web`: the dashboard."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from anonproxy.cli import options
from anonproxy.cli.report import find_zone
from anonproxy.config import read_settings
from anonproxy.ingest.control import ask
from anonproxy.model.settings import PrivacySettings, WebSettings
from anonproxy.reports.session import Session
from anonproxy.web.app import build_app
from anonproxy.web.auth import hash_password
from anonproxy.web.server import serve


@click.command("web")
@options.config
@options.published_store
@click.option("--listen", metavar="HOST:PORT", help="Address of the dashboard. Default: that of the configuration.")
@click.option("--set-password", is_flag=True, help="Ask for a password, print the setting that stands for it, and end.")
def command(config_path: Path | None, store_path: str | None, listen: str | None, set_password: bool) -> None:
    """Show the figures on pages for a browser.

    It reads the store and can't write to it. By itself it can be reached from this machine only; from elsewhere it
    takes a name, HTTPS and a password: section [web] of the configuration.

    \b
    anonproxy web                              # then open http://127.0.0.1:9902
    anonproxy web --set-password
    ssh -L 9902:127.0.0.1:9902 library-server  # from your desk, without any of that
    """
    if set_password:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
        click.echo(f'[web]\npassword_hash = "{hash_password(password)}"')
        return
    if store_path and not config_path:
        settings, privacy, root = WebSettings(), PrivacySettings(), store_path
    else:
        whole = read_settings(options.find_config(config_path))
        settings, privacy, root = whole.web, whole.privacy, store_path or whole.store.folder
    if listen:
        settings = WebSettings.model_validate({**settings.model_dump(), "listen": listen})
    session = Session(root, privacy.k)
    app = build_app(session, settings, find_zone(privacy.time_zone), functools.partial(ask_live, Path(root)))
    serve(app, settings, lambda address: click.echo(f"Figures of {root}: {address}  (Ctrl-C ends it)"))


def ask_live(root: Path, site: str | None) -> Mapping[str, Any]:
    """Ask the running proxy what happens just now."""
    return ask(root, f"live {site}" if site else "live")
