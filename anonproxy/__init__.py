"""Anonymising reverse proxy for public library websites."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anonproxy.reports.session import Session as open_store

__all__ = ["__version__", "open_store"]
__version__: str


def __getattr__(name: str) -> Any:
    """Load what is asked for when it is asked for, so that `import anonproxy` costs nothing."""
    match name:
        case "__version__":
            from importlib.metadata import version

            value: object = version("anonproxy")
        case "open_store":
            from anonproxy.reports.session import Session as value
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
