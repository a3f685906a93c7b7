"""Python asks the store, in scripts and notebooks."""

import json
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import anonproxy
from anonproxy.model.errors import OperatorError, StoreError
from anonproxy.reports import session as sessions
from anonproxy.reports.period import Period
from anonproxy.reports.run import Query, definitions
from anonproxy.reports.session import Memory, Session
from anonproxy.store.settle import settle
from tests.store.examples import DAY_S, MIDNIGHT, K, Notes, settings, visits, write

NOTEBOOK = Path(__file__).parents[2] / "docs" / "a-month.ipynb"
NOVEMBER: dict[str, Any] = {"since": "2026-11", "until": "2026-11"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a store with a settled day and one that is hot."""
    root = tmp_path / "store"
    write(root, visits(12) + visits(15, first=100, route="/events", device="phone"))
    settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
    write(root, visits(12, 2 * DAY_S, first=200))
    return root


def test_answers_as_rows_records_and_tables(root: Path) -> None:
    """One report, however one likes it."""
    report = anonproxy.open_store(root).report("pages", **NOVEMBER)
    assert report.rows == (("/", 24, 24), ("/events", 15, 15))
    assert report.records()[1] == {"page": "/events", "visits": 15, "pageviews": 15}
    assert report.to_arrow().column("visits").to_pylist() == [24, 15]
    assert report.to_pandas()["visits"].sum() == 39
    assert report.title == "Pages"


def test_an_empty_answer_has_columns_too(root: Path) -> None:
    """A table without rows is still a table."""
    table = anonproxy.open_store(root).report("pages", since="2020", until="2020").to_arrow()
    assert table.column_names == ["page", "visits", "pageviews"]
    assert table.num_rows == 0


def test_days_are_taken_as_dates_or_words(root: Path) -> None:
    """A date and its text are the same day."""
    store = anonproxy.open_store(root)
    day = date(2026, 11, 21)
    assert (
        store.report("days", since=day, until=day).rows
        == store.report("days", since="2026-11-21", until="2026-11-21").rows
    )
    with pytest.raises(OperatorError, match="can't read"):
        store.report("days", since="soon")


def test_comparison_stands_beside(root: Path) -> None:
    """The period before has columns of its own; what wasn't there then has none of its figures."""
    report = anonproxy.open_store(root).report("pages", since="2026-11-23", until="2026-11-23", compare=True)
    assert report.columns == ("page", "visits", "pageviews", "previous_visits", "previous_pageviews")
    assert report.rows == (("/", 12, 12, None, None),)
    two_days = Query(Period(date(2026, 11, 23), date(2026, 11, 24)))
    days = Session(root).compare("days", two_days)
    assert days.rows == ((date(2026, 11, 23), 12, 12, 27, 27),)


def test_knows_sites_and_span(root: Path) -> None:
    """A picker of periods and sites can be filled."""
    store = Session(root)
    assert store.sites() == ("www",)
    assert store.span() == Period(date(2026, 11, 21), date(2026, 11, 23))
    assert store.k == K


def test_an_empty_store_answers(tmp_path: Path) -> None:
    """On the first day there is nothing, and nothing breaks."""
    store = Session(tmp_path)
    assert store.sites() == ()
    assert store.span() is None
    assert store.report("overview").records()[0]["visits"] == 0
    assert store.report("pages", where={"country": "US"}).rows == ()


def test_a_missing_store_is_told(tmp_path: Path) -> None:
    """The path is wrong: that is said when opening."""
    with pytest.raises(StoreError, match="nothing there yet"):
        anonproxy.open_store(tmp_path / "nowhere")


def test_sees_what_was_written_meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is remembered until the store has changed, and it is looked at again in half a minute."""
    clock = [1000.0]
    monkeypatch.setattr(sessions, "steady", lambda: clock[0])
    store = Session(root)
    query = Query(Period(date(2026, 11, 23), date(2026, 11, 23)))
    first = store.run("days", query)
    write(root, visits(10, 2 * DAY_S, first=300))
    assert store.run("days", query) is first
    clock[0] += sessions.FRESH_S
    assert store.run("days", query).rows == ((date(2026, 11, 23), 22, 22),)
    clock[0] += sessions.FRESH_S
    again = store.run("days", query)
    clock[0] += sessions.FRESH_S
    assert store.run("days", query) is again


FILTERED: tuple[Any, ...] = ((), (("device", "phone"),), (("country", "US"), ("kind", "page")))


def test_settled_days_are_not_asked_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new hot segment changes the figures of its day; answers about settled days stay."""
    clock = [1000.0]
    monkeypatch.setattr(sessions, "steady", lambda: clock[0])
    store = Session(root, K)
    settled, today = (Query(Period(day, day)) for day in (date(2026, 11, 21), date(2026, 11, 23)))
    both = Query(Period(date(2026, 11, 21), date(2026, 11, 23)))
    phones = replace(settled, where=(("device", "phone"),))
    names = [definition.name for definition in definitions()]
    kept = {(name, query): store.run(name, query) for name in names for query in (settled, phones)}
    before = {name: store.run(name, both) for name in names}
    write(root, visits(10, 2 * DAY_S, first=300))
    clock[0] += sessions.FRESH_S
    assert store.run("days", today).rows == ((date(2026, 11, 23), 22, 22),)
    assert all(store.run(name, query) is answer for (name, query), answer in kept.items())
    fresh = Session(root, K)
    assert {name: store.run(name, both) for name in names} == {name: fresh.run(name, both) for name in names}
    assert store.run("transfer", both) != before["transfer"]


def test_a_day_that_settles_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a day is settled or deleted, answers are those of a store that was opened just now."""
    clock = [1000.0]
    monkeypatch.setattr(sessions, "steady", lambda: clock[0])
    store, later = Session(root, K), MIDNIGHT + 5 * DAY_S
    query = Query(Period(date(2026, 11, 1), date(2026, 11, 30)))
    asked = [(definition.name, replace(query, where=where)) for definition in definitions() for where in FILTERED]
    for name, each in asked:
        store.run(name, each)
    write(root, visits(12, 3 * DAY_S, first=400, device="phone"))
    settle(root, later, settings(), K, Notes())
    clock[0] += sessions.FRESH_S
    fresh = Session(root, K)
    assert [store.run(*each) for each in asked] == [fresh.run(*each) for each in asked]


def test_several_threads_may_ask(root: Path) -> None:
    """Each gets its own answer."""
    store, answers = Session(root), []

    def ask(name: str) -> None:
        answers.append((name, store.report(name, **NOVEMBER).name))

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("pages", "days", "overview", "devices") * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    assert all(asked == answered for asked, answered in answers)


def test_memory_forgets_what_was_used_longest_ago() -> None:
    """It keeps the latest few."""
    memory, made = Memory[str, str](2), []

    def make(name: str) -> str:
        made.append(name)
        return name

    for name in ("a", "b", "a", "c", "a", "b"):
        assert memory.get(name, lambda name=name: make(name)) == name  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]


def test_the_notebook_runs(root: Path) -> None:
    """Each cell of docs/a-month.ipynb, in order, on a store in another place."""
    space: dict[str, Any] = {}
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    for cell in code:
        exec(compile(cell.replace("/var/lib/anonproxy", str(root)), NOTEBOOK.name, "exec"), space)
    assert space["busiest"] == [(date(2026, 11, 21), 27), (date(2026, 11, 23), 12)]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code")
