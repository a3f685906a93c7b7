"""Alerts and dashboard ask only for what anonproxy measures, and the manual explains all of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from anonproxy.model.vocabularies import DropReason
from anonproxy.proxy.admin import STORE_FAILURES, render_metrics
from anonproxy.proxy.counters import Counters

ROOT: Final = Path(__file__).parents[2]
MANUAL: Final = (ROOT / "docs" / "operations.md").read_text()
RULES: Final[list[dict[str, Any]]] = YAML(typ="safe").load(ROOT / "config/prometheus/alerts.yml")["groups"][0]["rules"]
DASHBOARD: Final = json.loads((ROOT / "config/grafana/dashboard.json").read_text())
METRIC: Final = re.compile(r"anonproxy_\w+")


def served_metrics() -> set[str]:
    """Return the names on the page that Prometheus reads."""
    return set(re.findall(r"^# TYPE (\w+)", render_metrics(Counters.create(2)), re.MULTILINE))


def find_questions() -> Iterator[str]:
    """Yield every expression of the alerts and of the dashboard."""
    yield from (rule["expr"] for rule in RULES)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    yield from (variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query")


@pytest.mark.parametrize("question", list(find_questions()))
def test_questions_are_about_metrics_that_exist(question: str) -> None:
    """Each expression names a metric, and only such as are served, with labels that they can have."""
    names = set(METRIC.findall(question))
    assert names
    assert names <= served_metrics()
    for reasons in re.findall(r'reason=~"([^"]*)"', question):
        assert set(reasons.split("|")) <= {str(reason) for reason in DropReason}
    for steps in re.findall(r'step=~"([^"]*)"', question):
        assert set(steps.split("|")) <= set(STORE_FAILURES)


def test_alerts_cover_every_reason_to_drop() -> None:
    """No request is dropped for a reason that no alert knows."""
    known = [
        reason
        for rule in RULES
        for found in re.findall(r'reason=~"([^"]*)"', rule["expr"])
        for reason in found.split("|")
    ]
    assert sorted(known) == sorted(DropReason)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_say_what_is_wrong(rule: dict[str, Any]) -> None:
    """Each alert has a severity, says in words what is wrong, and is explained in the manual."""
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert f"`{rule['alert']}`" in MANUAL


@pytest.mark.parametrize("name", sorted(served_metrics()))
def test_metrics_are_explained(name: str) -> None:
    """The manual explains each metric that is served."""
    assert f"`{name}" in MANUAL


@pytest.mark.parametrize("reason", DropReason)
def test_drop_reasons_are_explained(reason: DropReason) -> None:
    """The manual explains each reason to drop a request."""
    assert f"`{reason}`" in MANUAL


def test_panels_lie_beside_each_other() -> None:
    """No two panels of the dashboard cover each other, and each has a title and a description."""
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(panel["title"] and panel["description"] for panel in DASHBOARD["panels"])
