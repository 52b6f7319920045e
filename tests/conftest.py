"""What every test runs under."""

import logging
import os
import tempfile
from collections.abc import Callable
from functools import partial

import pytest

# The tests' models are tiny: a second thread costs more than it computes. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What commands remember of the tests' videos is not left in anybody's home folder, nor taken from it.
os.environ["SEVILA_CACHE"] = tempfile.mkdtemp(prefix="sevila-test-cache-")


@pytest.fixture(autouse=True)
def _untold_logging() -> None:
    """Let each test find logging as a program that has not started it: a command of another test may have."""
    package = logging.getLogger("lavis")
    for handler in list(package.handlers):
        package.removeHandler(handler)
        handler.close()
    package.propagate = True
    package.setLevel(logging.NOTSET)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells at the end of the run what the test has measured, whether it passed or not."""
    return partial(record_property, "measured")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured: the figures of the documentation come from here."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    lines = [
        f"{report.nodeid}: {value}"
        for report in reports
        for name, value in report.user_properties
        if name == "measured"
    ]
    if lines:
        terminalreporter.section("measured")
        terminalreporter.write("\n".join(lines) + "\n")
