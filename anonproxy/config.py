"""The only reader of the configuration file and of the country databases."""

import os
from collections.abc import Mapping
from pathlib import Path

from anonproxy.model.errors import OperatorError
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.policy import Policy, ReadText, find_policy
from anonproxy.model.settings import Settings


def read_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration file, overridden by ANONPROXY_… variables.

    Raises: OperatorError when it can't be read, SettingsError with every mistake in it
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise OperatorError(f"{path}: no such file. `anonproxy init` writes a configuration to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"{path}: can't be read ({type(error).__name__}). Check owner, mode and encoding") from None
    return parse_settings(text, str(path), os.environ if environ is None else environ, _beside(path))


def read_policy(name: str, config_path: Path | None = None) -> Policy:
    """Read a policy by its name, or by a path, which is taken from the configuration's folder if there is one.

    Raises: PolicyError when there is none, or it has mistakes
    """
    return find_policy(name, _beside(config_path or Path("anonproxy.toml")))


def _beside(config_path: Path) -> ReadText:
    return lambda name: (config_path.parent / name).read_text(encoding="utf-8")
