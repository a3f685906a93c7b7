"""Tests of when the clock is believed."""

from pathlib import Path

import pytest

from anonproxy.audit.ledger import Ledger
from anonproxy.clock import steady
from anonproxy.ingest.clock_watch import BELIEVED, CONFIRM_S, DOUBTED, PLAUSIBLE_GAP_S, ClockWatch, is_plausible

NOW = 1_800_000_000.0
YEAR_S = 365 * 86_400.0


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S, 301.0, -301.0])
def test_a_jump_is_doubted_until_the_clock_went_evenly_for_an_hour(jump_s: float) -> None:
    """Forward or back; the doubt is told once, and so is its end."""
    watch = ClockWatch(NOW, 0.0, is_believed=True)
    assert watch.look(NOW + 60, 60.0) is None
    assert watch.look(NOW + jump_s + 120, 120.0) == DOUBTED
    for steady_s in (180.0, 120.0 + CONFIRM_S - 1):
        assert watch.look(NOW + jump_s + steady_s, steady_s) is None
        assert not watch.is_believed
    assert watch.look(NOW + jump_s + 120 + CONFIRM_S, 120.0 + CONFIRM_S) == BELIEVED
    assert watch.is_believed


def test_there_and_back_again_is_doubted_for_an_hour_after_the_return() -> None:
    """A clock that steps to and fro is never believed while it does."""
    watch = ClockWatch(NOW, 0.0, is_believed=True)
    for minute in range(0, 600, 10):
        watch.look(NOW + minute * 60 + (minute % 20) * YEAR_S, minute * 60.0)
    assert not watch.is_believed
    steady_s = 600 * 60 + CONFIRM_S
    watch.look(NOW + 600 * 60, 600 * 60.0)
    assert watch.look(NOW + steady_s, steady_s) == BELIEVED


def test_a_slow_drift_and_a_machine_that_slept_are_no_jump() -> None:
    """A time service slews; sleep moves both clocks."""
    watch = ClockWatch(NOW, 0.0, is_believed=True)
    for hour in range(48):
        assert watch.look(NOW + hour * 3600 * 1.0005, hour * 3600.0) is None
    assert watch.look(NOW + 48 * 3600 * 1.0005 + 9 * 3600, 57 * 3600.0) is None


@pytest.mark.parametrize(
    ("gap_s", "plausible"),
    [(0, True), (86_400, True), (PLAUSIBLE_GAP_S, True), (PLAUSIBLE_GAP_S + 1, False), (-300, True), (-301, False)],
)
def test_a_start_is_compared_with_the_ledger(tmp_path: Path, gap_s: float, plausible: bool) -> None:
    """A date before its newest entry, or long after it, has to prove itself first."""
    Ledger(tmp_path / "ledger", NOW).append("stopped", {}, NOW)
    assert is_plausible(Ledger(tmp_path / "ledger", NOW), NOW + gap_s) is plausible


def test_a_restart_doesnt_end_a_doubt(tmp_path: Path) -> None:
    """Entries made while the clock was doubted don't vouch for it."""
    ledger = Ledger(tmp_path / "ledger", NOW)
    assert is_plausible(ledger, NOW)
    ledger.append(DOUBTED, {}, NOW + YEAR_S)
    ledger.append("started", {}, NOW + YEAR_S)
    assert not is_plausible(Ledger(tmp_path / "ledger", NOW), NOW + YEAR_S + 60)
    ledger.append(BELIEVED, {}, NOW + YEAR_S + CONFIRM_S)
    assert is_plausible(Ledger(tmp_path / "ledger", NOW), NOW + YEAR_S + CONFIRM_S)


def test_the_steady_clock_goes_on() -> None:
    """It never steps back."""
    assert steady() <= steady()
