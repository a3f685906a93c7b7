"""Hold for every test: no hidden skips in CI, no deadline for hypothesis examples, no cloud, sample logs by fixture."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

SAMPLES = Path(__file__).parents[2] / "shared" / "data"
IN_CI = os.environ.get("CI", "") not in ("", "0", "false")

# A shared machine stalls at times, and a slow example is not a wrong one.
hypothesis.settings.register_profile("anonproxy", deadline=None, derandomize=IN_CI)
hypothesis.settings.load_profile("anonproxy")

# Whoever opens a bucket asks a cloud's metadata address who they are. The tests talk to nobody but this machine.
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.fixture(scope="session")
def samples() -> Path:
    """Give the folder of sample logs, for tests marked `needs_samples`."""
    if not SAMPLES.is_dir():
        pytest.skip("the sample logs are not here")
    return SAMPLES


def refuse_skip[Report: (pytest.TestReport, pytest.CollectReport)](report: Report) -> Report:
    """Turn a skip into a failure."""
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"Nothing may be skipped in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let only a test that needs the sample logs skip in CI."""
    report = yield
    return report if not IN_CI or item.get_closest_marker("needs_samples") else refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let no module skip itself in CI."""
    report = yield
    return refuse_skip(report) if IN_CI else report
