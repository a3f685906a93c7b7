"""A policy is judged clause by clause, and no clause is ever fine silently."""

import io
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from anonproxy.audit.check import Check, Finding, Outcome, Verdict
from anonproxy.audit.checks import CHECKS
from anonproxy.audit.clauses import HELD, PolicyReport, Standing, hold_to, judge_policy, render_span
from anonproxy.audit.limits import Limits
from anonproxy.audit.run import Control, Result
from anonproxy.audit.specimen import NOW, write_specimen
from anonproxy.cli.audit import command
from anonproxy.cli.clauses import print_policy, render_policy
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.policy import TEMPLATE, Demand, Policy, find_policy, parse_policy, policy_names, read_shipped
from anonproxy.model.settings import Settings

TODAY = date(2026, 11, 21)
LEAK = Outcome({"files": 3}, (Finding("hot/10.parquet, route of row 17", "not in the vocabulary"), Finding("x", "y")))

SMALL = 'policy = "{policy}"\n[store]\npath = "{store}"\n[[sites]]\nname = "www"\nupstream = "http://[::1]:1"\n'

POLICY = parse_policy(
    "test",
    """\
library = "Example Library"
title = "Privacy"
approved = "2026-01"
[[clauses]]
id = "1"
section = "A"
summary = "Kept by two checks and two settings."
how = "So."
demands = ["store.hits_days <= 90", "proxy.forward_client = \\"none\\""]
checks = ["retention", "ledger"]
[[clauses]]
id = "2"
section = "A"
summary = "Beyond sight."
outside = "Somebody else."
[[clauses]]
id = "3"
section = "B"
summary = "Kept by one check, as far as it sees."
how = "So."
checks = ["keys"]
outside = "The rest."
""",
)


def settings(*more: str, policy: str = "") -> Settings:
    """Return the settings of a small configuration."""
    lines = (
        f'policy = "{policy}"',
        '[store]\npath = "/s"',
        *more,
        '[[sites]]\nname = "www"\nupstream = "http://[::1]:1"',
    )
    return parse_settings("\n".join(lines), "test")


def result(check: Check, outcome: Outcome, *, is_proven: bool = True) -> Result:
    """Return what a check came to."""
    return Result(check, Control(Verdict.PASS, Verdict.FAIL if is_proven else Verdict.PASS), outcome)


def results(**outcomes: Outcome) -> list[Result]:
    """Return an audit in which every check passed but those that are given."""
    return [result(check, outcomes.get(check.code.replace("-", "_"), Outcome({"files": 3}))) for check in CHECKS]


def judge(given: list[Result], configured: Settings | None, policy: Policy = POLICY) -> PolicyReport:
    """Judge a policy."""
    return judge_policy(policy, given, configured, TODAY)


def standings(report: PolicyReport) -> dict[str, str]:
    """Return the standing of each clause."""
    return {judgement.clause.id: str(judgement.standing) for judgement in report.judgements}


@pytest.mark.parametrize("name", [*policy_names(), TEMPLATE])
def test_shipped_policies_name_checks_that_exist(name: str) -> None:
    """A clause can't rest on a check that nobody runs."""
    policy = parse_policy(name, read_shipped(name))
    assert {code for clause in policy.clauses for code in clause.checks} <= {check.code for check in CHECKS}


@pytest.mark.parametrize("name", policy_names())
def test_clean_store_keeps_every_clause(name: str) -> None:
    """Where every check passed under the policy's own settings, each clause is kept or outside, and says who else."""
    report = judge(results(), settings(policy=name), find_policy(name))
    assert set(standings(report).values()) == {"kept", "outside"}
    assert report.standing == Standing.OUTSIDE
    for judgement in report.judgements:
        assert judgement.shown if judgement.standing == Standing.KEPT else judgement.clause.outside


@pytest.mark.parametrize("name", policy_names())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_failed_check_breaks_every_clause_that_names_it(name: str, check: Check) -> None:
    """A leak breaks the clauses that rest on its check, and no others."""
    report = judge(results(**{check.code.replace("-", "_"): LEAK}), settings(policy=name), find_policy(name))
    expected = {judgement.clause.id for judgement in report.judgements if check.code in judgement.clause.checks}
    assert {clause for clause, standing in standings(report).items() if standing == "broken"} == expected


def test_evidence_stands_beside_the_clause() -> None:
    """What shows that a clause is kept is told with its figures, the settings with their values."""
    kept, outside, partly = judge(results(), settings()).judgements
    assert [str(reason) for reason in kept.shown] == [
        "store.hits_days is 90 (demanded: at most 90)",
        'proxy.forward_client is "none" (demanded: "none")',
        "retention passed on 3 files",
        "ledger passed on 3 files",
    ]
    assert (outside.shown, outside.clause.outside) == ((), "Somebody else.")
    assert (partly.standing, partly.clause.outside) == (Standing.KEPT, "The rest.")


def test_leak_is_told_with_the_first_finding() -> None:
    """A broken clause names where the first finding is and how many there are."""
    (reason,) = judge(results(retention=LEAK), settings()).judgements[0].against
    assert str(reason) == "retention failed: hot/10.parquet, route of row 17: not in the vocabulary (and 1 more)"


def test_looser_settings_break_a_clause() -> None:
    """A configuration that doesn't name the policy is held to it all the same."""
    loose = settings("hits_days = 365", '[proxy]\nforward_client = "truncated"')
    broken = judge(results(), loose).judgements[0]
    assert [str(reason) for reason in broken.against] == [
        "store.hits_days is 365 (demanded: at most 90)",
        'proxy.forward_client is "truncated" (demanded: "none")',
    ]
    assert standings(judge(results(), loose)) == {"1": "broken", "2": "outside", "3": "kept"}


def test_without_a_configuration_only_the_bytes_speak() -> None:
    """On a copied store, demands that the bytes can show are held to them; the others can't be told."""
    judgement = judge(results(), None).judgements[0]
    assert str(judgement.shown[0]) == "store.hits_days at most 90, to which the files were held"
    assert [str(reason) for reason in judgement.unknown] == [
        'proxy.forward_client should be "none", but no configuration was given'
    ]
    assert judgement.standing == Standing.UNKNOWN
    assert Demand("privacy.epoch_hours", "<=", 24).is_always_met
    assert not Demand("store.hits_days", "<=", 90).is_always_met
    assert not Demand("privacy.store_network", "=", False).is_always_met


UNTOLD = {
    "nothing to look at": [*results(retention=Outcome({}, (), ("the store holds no rows",)))],
    "not run": [result for result in results() if result.check.code != "retention"],
    "failed its own test": [
        replace(found, control=Control(Verdict.PASS, Verdict.PASS)) if found.check.code == "retention" else found
        for found in results()
    ],
}


@pytest.mark.parametrize("name", UNTOLD)
def test_what_could_not_be_told_is_not_kept(name: str) -> None:
    """A check that had nothing to look at, didn't run or failed its own test keeps no clause."""
    assert standings(judge(UNTOLD[name], settings())) == {"1": "can't tell", "2": "outside", "3": "kept"}


def test_limits_are_held_to_the_policy() -> None:
    """What the checks compare with becomes as tight as the policy demands, and nothing becomes looser."""
    loosest = Limits.loosest()
    held = hold_to(find_policy("wolcott"), loosest)
    assert (held.hits_days, held.daily_months, held.k, held.stores_network) == (35, 25, 10, False)
    assert held.source.endswith("held to the policy of Wolcott Public Library")
    tight = replace(loosest, hits_days=7, k=50)
    assert (hold_to(find_policy("wolcott"), tight).hits_days, hold_to(find_policy("wolcott"), tight).k) == (7, 50)
    assert {name for name, _ in HELD.values()} <= set(Limits.__slots__)


def test_overdue_review_shows() -> None:
    """A review that is overdue is told with the date and since when; a policy without a date is told to have none."""
    report = judge(results(), settings(policy="new-canaan"), find_policy("new-canaan"))
    assert report.review == "Its review was due by September 2021 and is overdue by 5 years and 1 month."
    assert judge(results(), settings()).review == "It names no date for its next review."
    assert [render_span(days) for days in (1, 59, 70, 400)] == ["1 day", "59 days", "2 months", "1 year and 1 month"]


def test_printed_policy_reads_well() -> None:
    """The terminal shows each clause under its section, with its standing and why, and an end in plain words."""
    out = io.StringIO()
    print_policy(Console(file=out, width=110), judge(results(retention=LEAK), settings()))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "",
        "Example Library: Privacy",
        "Approved January 2026. It names no date for its next review.",
        "",
        "A",
        "  ✗ 1  Kept by two checks and two settings.",
        "      broken: retention failed: hot/10.parquet, route of row 17: not in the vocabulary (and 1 more)",
        '      shown by check ledger; store.hits_days is 90 (demanded: at most 90); proxy.forward_client is "none"',
        '      (demanded: "none")',
        "  – 2  Beyond sight.",
        "      outside: Somebody else.",
        "B",
        "  ✓ 3  Kept by one check, as far as it sees.",
        "      So.",
        "      shown by check keys",
        "      outside: The rest.",
        "",
        "3 clauses: 1 kept, 1 outside what this software can see, 1 broken",
        "In plain words: this policy is not kept. Which clauses, and why, stands above.",
    ]


def test_json_tells_everything() -> None:
    """The JSON has each clause with its standing and reasons, and the review."""
    told = render_policy(judge(results(), settings(policy="new-canaan"), find_policy("new-canaan")))
    assert (told["standing"], told["review_by"], told["days_overdue"]) == ("outside", "2021-09", 1878)
    assert told["counts"] == {"kept": 9, "outside": 4, "can't tell": 0, "broken": 0}
    assert told["clauses"][0]["shown"][0] == "store.hot_hours is 48 (demanded: at most 48)"


# --- The command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a clean specimen of a store, on the day that it was written."""
    monkeypatch.setattr("anonproxy.cli.audit.now", lambda: float(NOW))
    write_specimen(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.slow
def test_audit_judges_the_policy_of_the_configuration(store: Path, tmp_path: Path) -> None:
    """With a configuration that names a policy, the audit ends with it; all is well, and a review is overdue."""
    config = tmp_path / "anonproxy.toml"
    config.write_text(SMALL.format(policy="own.toml", store=store))
    own = read_shipped("new-canaan").replace('demands = ["privacy.store_network = false"]', "")
    (tmp_path / "own.toml").write_text(own)
    result = CliRunner().invoke(command, ["--config", str(config)])
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "13 clauses: 9 kept, 4 outside what this software can see" in words
    assert "is overdue by 5 years and 1 month" in words


@pytest.mark.slow
def test_audit_holds_a_copy_to_a_policy_and_to_what_was_published(store: Path) -> None:
    """Without a configuration, the bytes are held to the policy, and the ledger to an earlier head."""
    arguments = ["--store", str(store), "--policy", "wolcott", "--head", "0" * 64, "--json"]
    result = CliRunner().invoke(command, arguments)
    told = json.loads(result.stdout)
    assert (result.exit_code, told["verdict"]) == (1, "fail")
    assert [check["code"] for check in told["checks"] if check["verdict"] != "pass"] == ["networks"]
    assert told["published"] == {"entries": 5, "since_head": 5, "broken": ""}
    assert told["policy"]["counts"] == {"kept": 10, "outside": 2, "can't tell": 0, "broken": 3}
