"""A real log, anonymised, settled and kept: the audit raises no false alarm about it."""

import re
from pathlib import Path

import pytest

from anonproxy.audit.checks import CHECKS
from anonproxy.audit.checks.surroundings import ADDRESS, detect
from anonproxy.audit.evidence import Evidence
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.settings import Settings
from tests.ingest.recorders import HOUR_S, World
from tests.support.sample_logs import COMBINED, read_lines, read_requests

pytestmark = [pytest.mark.needs_samples, pytest.mark.slow]

QUAD = re.compile(r"(?<!\d)\d{1,3}(?:\.\d{1,3}){3}(?!\d)")


def sample_settings(root: Path) -> Settings:
    """Return settings for a site of which nothing is known."""
    return Settings.model_validate(
        {
            "store": {"path": str(root)},
            "privacy": {"time_zone": "UTC"},
            "sites": [{"name": "www", "upstream": "http://127.0.0.1:9", "sitemap": ""}],
        }
    )


def record_log(path: Path, root: Path) -> float:
    """Record a log as it came, hour by hour, and return when it was over."""
    requests = sorted(
        (request for request in read_requests(path) if request.time_s), key=lambda request: request.time_s
    )
    world = World(time_s=requests[0].time_s)
    recorder = Recorder(sample_settings(root), world.clock, world.steady)
    try:
        recorder.keep_house()
        for request in requests:
            while request.time_s > world.time_s + HOUR_S:
                world.wait(HOUR_S)
                recorder.tick()
                recorder.keep_house()
            recorder.record(request)
        world.wait(HOUR_S)
        recorder.tick()
        recorder.keep_house()
    finally:
        recorder.close()
    return world.time_s


def test_sample_log_raises_no_false_alarm(samples: Path, tmp_path: Path) -> None:
    """Every tier of the store of a real log passes every check, under its configuration and under none."""
    root = tmp_path / "store"
    now_s = record_log(samples / COMBINED, root)
    for settings in (sample_settings(root), None):
        evidence = Evidence(root, now_s, settings)
        outcomes = [check.look(evidence) for check in CHECKS]
        assert [str(note) for outcome in outcomes for note in (*outcome.findings, *outcome.unknown)] == []
        assert evidence.row_count > 9_000
    assert all(list((root / tier).rglob("*.parquet")) for tier in ("hot", "hits", "daily", "vocabulary"))


def test_versions_in_a_log_are_no_addresses(samples: Path) -> None:
    """Nobody is alarmed by a version of four numbers, and everybody by the address at the start of the line."""
    lines = read_lines(samples / COMBINED)
    agents = [line.rpartition(' "')[2] for line in lines]
    assert sum(bool(QUAD.search(agent)) for agent in agents) >= 107
    assert [agent for agent in agents if ADDRESS in detect(agent)] == []
    assert [line for line in lines if ADDRESS not in detect(line)] == []
