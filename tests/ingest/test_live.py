"""What happens just now is told of crowds only, from memory only."""

from pathlib import Path
from typing import Any

import pytest

from anonproxy.ingest import live
from anonproxy.ingest.control import ask
from anonproxy.ingest.live import Live
from anonproxy.model.hit import Hit
from anonproxy.store.tables import build_table
from tests.ingest.recorders import World, recording, request
from tests.store.examples import hit, tree, visits

NOW = 1_795_262_400.0


def tell(hits: list[Hit], site: str | None = None, after_s: float = 0.0) -> dict[str, Any]:
    """Return what is told of hits that all came at one moment, some seconds later."""
    board = Live(10)
    for each in hits:
        board.note(each, NOW)
    return board.tell(board.copy(), NOW + after_s, site)


def test_tells_nothing_of_few() -> None:
    """Below k visits nothing is told, not even how many pages they looked at; opt-outs are no visits."""
    told = tell(visits(9) + [hit(visit=None, step=None, elapsed_s=None)] * 50)
    assert told == {"k": 10, "time": int(NOW), "visits": None, "visits_now": None, "minutes": None, "pages": []}


def test_tells_of_a_crowd() -> None:
    """From k visits on, the visits, the pages of each minute and the pages that k visits share are told, by tens."""
    told = tell(visits(23) + visits(9, route="/events") + visits(30, route="(unlisted)"))
    assert (told["visits"], told["visits_now"], told["minutes"][-1], sum(told["minutes"])) == (30, 30, 62, 62)
    assert told["pages"] == [("/", 20)]


def test_what_is_over_is_over() -> None:
    """A visit is there for five minutes after its last page, and is forgotten after half an hour."""
    assert tell(visits(12), after_s=299)["visits_now"] == 12
    later = tell(visits(12), after_s=301)
    assert (later["visits"], later["visits_now"], later["minutes"][-6]) == (12, None, 12)
    assert tell(visits(12), after_s=1_801)["visits"] is None


def test_sites_are_told_apart() -> None:
    """Of a site only its own visits are told; without a name, those of all sites."""
    hits = visits(12) + visits(3, first=100, site="kids")
    assert [tell(hits, site)["visits"] for site in ("www", "kids", None)] == [12, None, 15]


@pytest.mark.parametrize(
    "changes", [{"bot": "search"}, {"kind": "asset"}, {"status": 404}, {"method": "POST"}], ids=lambda it: str(*it)
)
def test_counts_what_people_look_at(changes: dict[str, Any]) -> None:
    """Robots, files, errors and forms are no pages, in a table as one by one."""
    hits = visits(15) + visits(15, first=100, **changes)
    board = Live(10)
    board.note_table(build_table(hits), NOW)
    told = board.tell(board.copy(), NOW, None)
    assert told == tell(hits)
    assert told["visits"] == 15


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much comes in, a fixed number of pages is kept, the latest."""
    monkeypatch.setattr(live, "MAX_VIEWS", 100)
    assert tell(visits(1_000))["visits"] == 100


def test_the_recorder_tells_and_writes_nothing_of_it(tmp_path: Path) -> None:
    """Whoever asks for what happens now changes no byte of the store; a new key forgets it, and so does the end."""
    world = World()
    with recording(tmp_path, world) as recorder:
        for person in range(12):
            recorder.record(request(client=f"203.0.{person}.7"))
        world.wait(60)
        recorder.tick()
        before = tree(tmp_path)
        told = ask(tmp_path, "live")
        assert (told["visits"], told["pages"], told["minutes"][-2]) == (12, [["/events", 10]], 12)
        assert ask(tmp_path, "live www") == told
        assert tree(tmp_path) == before
        ask(tmp_path, "rotate")
        assert ask(tmp_path, "live")["visits"] is None
