"""A library's store of a few days, and a dashboard over it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anonproxy.demo.history import write_history
from anonproxy.reports.session import Session
from tests.web.served import NOW, Dashboard, serving


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with three days of a library in it."""
    folder = tmp_path_factory.mktemp("library")
    write_history(folder, NOW, days=3, visits_a_day=140)
    return folder / "store"


@pytest.fixture(scope="session")
def session(store: Path) -> Session:
    """Open the library's store, once for all that only ask."""
    return Session(store)


@pytest.fixture(scope="session")
def dashboard(session: Session) -> Iterator[Dashboard]:
    """Serve the library's figures to whoever asks."""
    with serving(session) as served:
        yield served
