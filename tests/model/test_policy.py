"""A policy tightens what a configuration leaves open, and refuses what it says to the contrary."""

import re
from datetime import date
from pathlib import Path

import pytest

from anonproxy.config import read_settings
from anonproxy.model.errors import SettingsError
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.policy import (
    TEMPLATE,
    Demand,
    PolicyError,
    Value,
    find_policy,
    last_day,
    parse_policy,
    policy_names,
    read_shipped,
)
from anonproxy.model.settings import Settings

MINIMAL = """\
[store]
path = "/var/lib/anonproxy"
[[sites]]
name = "www"
upstream = "http://127.0.0.1:8000"
"""

OWN = """\
library = "Example Library"
title = "Privacy"
approved = 2026-01-31
[[clauses]]
id = "1"
section = "Records"
summary = "Records are few, and short-lived."
demands = ["store.hits_days <= 60", "store.hits_days <= 30", "privacy.k >= 15"]
checks = ["retention"]
"""


def parse(text: str, policy: str = OWN, **environ: str) -> Settings:
    """Parse a configuration beside which a policy of one's own lies."""
    return parse_settings(text, "anonproxy.toml", environ, lambda name: {"own.toml": policy}[name])


def mistakes(text: str, policy: str = OWN, **environ: str) -> list[str]:
    """Return the messages of a refused configuration."""
    with pytest.raises(SettingsError) as refused:
        parse(text, policy, **environ)
    return [str(problem) for problem in refused.value.problems]


# --- The policies that come with it ---------------------------------------------------------------------------------


def test_five_libraries_are_there() -> None:
    """Each of the five policies is shipped, with all of its clauses; the template is nobody's policy."""
    counts = {name: len(find_policy(name).clauses) for name in policy_names()}
    assert counts == {"canton": 7, "greenwich": 26, "new-canaan": 13, "westport": 18, "wolcott": 15}


@pytest.mark.parametrize("name", [*policy_names(), TEMPLATE])
def test_every_clause_is_answered(name: str) -> None:
    """Each clause says where it stands and what it says, and either how it is kept or who else keeps it."""
    policy = parse_policy(name, read_shipped(name))
    for clause in policy.clauses:
        assert re.fullmatch(r"[A-Z].*\.", clause.summary), clause.id
        assert bool(clause.how) == bool(clause.checks or clause.demands), clause.id


@pytest.mark.parametrize("name", policy_names())
def test_every_shipped_policy_runs(name: str) -> None:
    """The smallest configuration runs under each policy, and keeps all of its demands."""
    policy = find_policy(name)
    settings = parse_settings(f'policy = "{name}"\n{MINIMAL}', "test")
    assert [demand for _, demand in policy.demands if not demand.is_met_by(demand.read(settings))] == []


def test_only_new_canaan_is_overdue() -> None:
    """The one policy that names a date for its review is past it: September 2021 ended on the 30th."""
    overdue = {name: find_policy(name).days_overdue(date(2021, 10, 2)) for name in policy_names()}
    assert {name: days for name, days in overdue.items() if days} == {"new-canaan": 2}
    assert find_policy("new-canaan").days_overdue(date(2021, 9, 30)) == 0
    assert last_day("2024-02") == date(2024, 2, 29)


# --- Tightening -----------------------------------------------------------------------------------------------------


def test_defaults_are_tightened_silently() -> None:
    """What the configuration leaves open takes the tighter of default and demand, the tightest of several."""
    settings = parse(f'policy = "own.toml"\n{MINIMAL}')
    assert (settings.policy, settings.store.hits_days, settings.privacy.k) == ("own.toml", 30, 15)
    assert settings.store.daily_months == 25


def test_tighter_profile_stays() -> None:
    """A profile that is tighter than the policy stays as it is."""
    settings = parse(f'profile = "strict"\npolicy = "own.toml"\n{MINIMAL}')
    assert (settings.store.hits_days, settings.privacy.k) == (30, 20)


def test_tighter_configuration_stays() -> None:
    """What the configuration says more tightly than the policy demands is taken as it stands."""
    settings = parse(f'policy = "own.toml"\n{MINIMAL}[privacy]\nk = 50\n')
    assert settings.privacy.k == 50


def test_looser_configuration_is_refused_with_all_else() -> None:
    """What the configuration says more loosely is refused at its line, with the clause, beside every other mistake."""
    text = f'policy = "own.toml"\n{MINIMAL}[privacy]\nk = 10\nepoch_cut = 4\n'.replace(
        'anonproxy"\n', 'anonproxy"\nhits_days = 90\n'
    )
    assert mistakes(text) == [
        "store.hits_days (line 4): looser than the policy of Example Library allows, where 1 demands at most 60, "
        "1 demands at most 30. Write 30 or less, or leave it out",
        "privacy.k (line 9): looser than the policy of Example Library allows, where 1 demands at least 15. "
        "Write 15 or more, or leave it out",
        "privacy.epoch_cut (line 10): Input should be a valid string. Write it in quotes",
    ]


def test_default_written_out_is_refused_as_well() -> None:
    """A default that stands in the file was chosen: it is refused if it is looser, not changed behind one's back."""
    (mistake,) = mistakes(f'policy = "own.toml"\n{MINIMAL}[privacy]\nk = 10\n')
    assert mistake.startswith("privacy.k (line 8): looser than the policy")


def test_environment_is_refused_as_well() -> None:
    """A variable can't weaken a policy either."""
    (mistake,) = mistakes(f'policy = "own.toml"\n{MINIMAL}', ANONPROXY_STORE_HITS_DAYS="90")
    assert mistake.startswith("store.hits_days (line 2): looser than the policy")


def test_words_and_switches_have_an_order_too() -> None:
    """A resolution may be coarser than demanded; a switch must be as demanded; the remedy names what may be."""
    policy = OWN.replace(
        '"store.hits_days <= 60"', '"privacy.time_resolution >= \\"1h\\"", "privacy.store_network = false"'
    )
    text = f'policy = "own.toml"\n{MINIMAL}[privacy]\n'
    assert parse(f'{text}time_resolution = "1day"\n', policy).privacy.time_resolution == "1day"
    assert parse(text, policy).privacy.store_network is False
    refused = mistakes(f'{text}time_resolution = "15min"\nstore_network = true\n', policy)
    assert [message.partition(". Write ")[2] for message in refused] == [
        '"1h" or "1day", or leave it out',
        "false, or leave it out",
    ]


@pytest.mark.parametrize(
    ("demand", "default", "tightened"),
    [
        (Demand("store.hits_days", "<=", 30), 90, 30),
        (Demand("store.hits_days", "<=", 30), 7, 7),
        (Demand("privacy.k", ">=", 20), 10, 20),
        (Demand("privacy.k", ">=", 20), 20, 20),
        (Demand("privacy.store_network", "=", False), True, False),
        (Demand("privacy.time_resolution", ">=", "1h"), "15min", "1h"),
        (Demand("proxy.forward_client", "=", "none"), "truncated", "none"),
    ],
)
def test_tighter_of_both_wins(demand: Demand, default: Value, tightened: Value) -> None:
    """A demand never loosens anything."""
    assert demand.tighten(default) == tightened
    assert demand.is_met_by(tightened)


# --- Policies of one's own ------------------------------------------------------------------------------------------


def test_policy_lies_beside_the_configuration(tmp_path: Path) -> None:
    """A policy of one's own is read from the folder of the configuration that names it."""
    (tmp_path / "own.toml").write_text(OWN)
    (tmp_path / "anonproxy.toml").write_text(f'policy = "own.toml"\n{MINIMAL}')
    assert read_settings(tmp_path / "anonproxy.toml", {}).privacy.k == 15


def test_unknown_policy_lists_those_there_are() -> None:
    """A name that isn't there is refused at its line, with the names that are."""
    text = f'policy = "grenwich"\n{MINIMAL}'
    assert mistakes(text) == [
        "policy (line 1): no such policy. There are: canton, greenwich, new-canaan, westport, wolcott; "
        "or the path of a .toml of your own"
    ]


def test_missing_file_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    """A path that leads nowhere is refused at its line."""
    (tmp_path / "anonproxy.toml").write_text(f'policy = "own.toml"\n{MINIMAL}')
    with pytest.raises(SettingsError, match=r"policy \(line 1\): the policy own.toml can't be read"):
        read_settings(tmp_path / "anonproxy.toml", {})


BROKEN = {
    "a slip of the pen": (OWN.replace("checks", "cheques"), "clauses.0.cheques: Extra inputs are not permitted"),
    "no such setting": (OWN.replace("privacy.k", "privacy.l"), "privacy.l is not a setting that a policy can tighten"),
    "not a demand": (OWN.replace("privacy.k >= 15", "k is high"), "not a demand; write"),
    "no such value": (OWN.replace("k >= 15", 'k >= \\"high\\"'), "privacy.k can't have this value"),
    "a value out of bounds": (OWN.replace("k >= 15", "k >= 2"), "privacy.k can't have this value"),
    "nothing shows it": (OWN.replace('checks = ["retention"]', ""), "nothing shows that it is kept"),
    "two of an id": (OWN + OWN[OWN.index("[[") :], "two clauses have the same id"),
    "no clause": (OWN[: OWN.index("[[")], "clauses: Field required"),
    "no such day": (OWN.replace("2026-01-31", '"2026-13"'), "approved: not a date"),
    "not TOML": ("library =", "is not valid TOML"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_mistakes_in_a_policy_are_named(name: str) -> None:
    """A policy with a mistake is refused, and so is the configuration that names it."""
    policy, expected = BROKEN[name]
    with pytest.raises(PolicyError, match=re.escape(expected)):
        parse_policy("own.toml", policy)
    (mistake,) = mistakes(f'policy = "own.toml"\n{MINIMAL}', policy)
    assert mistake.startswith("policy (line 1): the policy own.toml ")
