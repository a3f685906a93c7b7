"""Tests of the verbs that look after keys and store."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from anonproxy.cli.keys import command as keys
from anonproxy.cli.purge import command as purge
from anonproxy.cli.settle import command as settle
from anonproxy.model.errors import OperatorError, StoreError
from tests.ingest.recorders import DAY_S, MIDDAY, World, count_events, recording, request, values

CONFIG = """\
[store]
path = "{root}"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:9"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a store with rows of one day."""
    root, world = tmp_path / "store", World()
    with recording(root, world) as recorder:
        for _ in range(12):
            recorder.record(request())
    (tmp_path / "anonproxy.toml").write_text(CONFIG.format(root=root))
    return root


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> World:
    """Hold the clock of the verbs."""
    world = World()
    for module in ("housekeeping", "settle", "purge"):
        monkeypatch.setattr(f"anonproxy.cli.{module}.now", world.clock)
    return world


def run(verb: object, root: Path, *options: str) -> str:
    """Run a verb, and return what it prints."""
    arguments = [*options, "--config", str(root.parent / "anonproxy.toml")]
    result = CliRunner().invoke(verb, arguments, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0
    return result.output


def test_keys_are_described_and_rotated(root: Path) -> None:
    """In words, and as JSON; the key itself is nowhere in it."""
    with recording(root, World()) as recorder:
        recorder.record(request())
        told = run(keys, root, "status")
        assert "0 min 0 s ago" in told
        assert "live visits   1" in told
        assert json.loads(run(keys, root, "status", "--json"))["live_visits"] == 1
        assert run(keys, root, "rotate").startswith("The old key is gone.")
        assert json.loads(run(keys, root, "rotate", "--json"))["live_visits"] == 0
    assert count_events(root)["rotated"] == 2
    with pytest.raises(StoreError, match="anonproxy run"):
        run(keys, root, "status")


def test_a_doubtful_clock_is_told(root: Path) -> None:
    """Nothing settles meanwhile; the operator learns why."""
    with recording(root, World(MIDDAY + 30 * DAY_S)):
        assert "clock" in run(keys, root, "status")


def test_settle_and_purge_do_what_they_say(root: Path, at: World) -> None:
    """A dry run changes nothing, not even the ledger; each act is told and stands in the ledger; then there is none."""
    at.wait(2 * DAY_S)
    before = count_events(root)
    assert "would be settled: site www, date 2026-11-21" in run(settle, root, "--dry-run")
    assert count_events(root) == before
    assert "settled: site www, date 2026-11-21, rows 12" in run(settle, root)
    assert run(settle, root) == "Nothing to do.\n"
    at.wait(89 * DAY_S)
    assert "would be purged: tier hits" in run(purge, root, "--dry-run")
    assert "purged: tier hits" in run(purge, root, "--trust-clock")
    assert count_events(root) - before == {"sealed": 1, "settled": 1, "clock_believed": 1, "purged": 1}


def test_a_date_that_doesnt_fit_the_ledger_is_refused(root: Path, at: World) -> None:
    """Nothing is deleted on its word, until somebody says that it is right."""
    at.wait(1000 * DAY_S)
    for verb in (settle, purge):
        with pytest.raises(OperatorError, match=r"--trust-clock$"):
            run(verb, root)
    assert len(values(root, "visit", ("hot",))) == 12
    run(settle, root, "--trust-clock")
    assert values(root, "1", ("hot",)) == []


def test_verbs_leave_a_running_store_alone(root: Path, at: World) -> None:
    """The recorder does the work by itself."""
    with recording(root), pytest.raises(StoreError, match="another anonproxy"):
        run(settle, root)


def test_nothing_is_made_where_there_is_no_store(tmp_path: Path, at: World) -> None:
    """A slip in the path makes no folder."""
    (tmp_path / "anonproxy.toml").write_text(CONFIG.format(root=tmp_path / "store"))
    for options in ((), ("--dry-run",)):
        with pytest.raises(StoreError, match="nothing there yet"):
            run(purge, tmp_path / "store", *options)
    assert not (tmp_path / "store").exists()
