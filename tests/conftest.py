"""What every test runs under."""

import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from lavis.common.registry import Registry, registry

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
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets a test add parts to the package's registry, and takes them out again."""
    assert registry.models.names()  # the package's own parts stay
    for kind in vars(registry).values():
        if isinstance(kind, Registry):
            monkeypatch.setattr(kind, "_parts", dict(kind._parts))
            monkeypatch.setattr(kind, "modules", dict(kind.modules))
    monkeypatch.setattr(registry, "_imported", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in registry.plugins():
        if name not in before:
            sys.modules.pop(name, None)


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
