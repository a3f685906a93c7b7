"""Print, at the end, which check found which sabotaged store."""

import pytest

FOUND_BY = "found_by"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each sabotage that a test proved to be found."""
    reports = [report for report in terminalreporter.stats.get("passed", ()) if isinstance(report, pytest.TestReport)]
    found = [
        (report.nodeid.partition("[")[2].removesuffix("]"), value)
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == FOUND_BY
    ]
    if found:
        terminalreporter.section(f"{len(found)} sabotaged stores, and what found each")
        for name, codes in sorted(found, key=lambda pair: (str(pair[1]), pair[0])):
            terminalreporter.line(f"{name:<50}  {codes}")
