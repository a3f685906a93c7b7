"""Anonymising reverse proxy for public library websites."""

from importlib.metadata import version
from typing import Final

__version__: Final = version("anonproxy")
