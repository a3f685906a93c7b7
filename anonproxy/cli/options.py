"""Options that several verbs share."""

from pathlib import Path
from typing import Final

import click

from anonproxy.config import read_settings
from anonproxy.model.errors import OperatorError

DEFAULT_CONFIGS: Final = (Path("anonproxy.toml"), Path("/etc/anonproxy/anonproxy.toml"))

config = click.option(
    "--config",
    "-c",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ANONPROXY_CONFIG",
    help="Configuration file. Default: ./anonproxy.toml, else /etc/anonproxy/anonproxy.toml.",
)
store = click.option(
    "--store",
    "store_path",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the store. Default: the one that the configuration names.",
)
published_store = click.option(
    "--store",
    "store_path",
    metavar="PATH",
    help="Folder of the store, or address of a published one. Default: the folder that the configuration names.",
)


def find_config(config_path: Path | None) -> Path:
    """Return the configuration that was named, or the first default one that exists.

    Raises: OperatorError when there is none
    """
    found = config_path or next(filter(_is_seen, DEFAULT_CONFIGS), None)
    if found is None:
        raise OperatorError(
            "no configuration found, or no right to it. Name one with --config, write one with `anonproxy init`, or "
            "ask as the user that runs anonproxy"
        )
    return found


def _is_seen(path: Path) -> bool:
    """Tell whether a file is there, as far as who asks may look: /etc/anonproxy and root's home aren't open to all."""
    try:
        return path.exists()
    except PermissionError:
        return False


def find_store(store_path: Path | None, config_path: Path | None) -> Path:
    """Return the store that was named, or the one of the configuration."""
    return store_path or Path(read_settings(find_config(config_path)).store.folder)
