"""Mistakes of this software that it meets while it reads logs: told without their text, which may hold a line."""

from collections.abc import Iterator
from contextlib import contextmanager

from anonproxy.model.errors import OperatorError


@contextmanager
def without_text() -> Iterator[None]:
    """Make a mistake one that can be shown.

    Raises: OperatorError in the place of whatever isn't one, also of what isn't an Exception: a panic of a library in
            Rust quotes its input
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit, OperatorError):
        raise
    except BaseException as error:
        raise OperatorError(describe(error)) from None


def describe(error: BaseException) -> str:
    """Describe a mistake by its type and place in the code; only words of our own are shown as they are."""
    if isinstance(error, OperatorError):
        return str(error)
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    place = f" in {traceback.tb_frame.f_code.co_name}, line {traceback.tb_lineno}" if traceback else ""
    return (
        f"the import met a mistake of this software ({type(error).__name__}{place}). Report it; it holds nothing of "
        "your logs. The days before it are imported"
    )
