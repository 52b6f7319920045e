import datetime
from types import ModuleType
from typing import Any

import pytest

from tests.scripts import load_script

TODAY = datetime.date(2026, 11, 23)
HOLE = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-9"], "fix_versions": ["1.1"]}
REPORT: dict[str, Any] = {
    "dependencies": [
        {"name": "sound", "version": "2", "vulns": []},
        {"name": "leaky", "version": "1.0", "vulns": [HOLE]},
        {"name": "unknown", "skip_reason": "Dependency not found on PyPI"},
    ]
}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    return load_script("audit")


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        ("", ["leaky 1.0: PYSEC-2026-1, mended in 1.1"]),
        ("PYSEC-2026-1 2026-11-23 not reachable from here", []),
        ("CVE-2026-9 2026-12-31  # by its other name", []),
        ("PYSEC-2026-1 2026-11-22 too long ago", ["leaky 1.0: PYSEC-2026-1, mended in 1.1"]),
        ("# PYSEC-2026-1 2027-01-01", ["leaky 1.0: PYSEC-2026-1, mended in 1.1"]),
    ],
)
def test_known_holes_are_found_unless_they_are_allowed_today(audit: ModuleType, allowed: str, found: list[str]) -> None:
    assert audit.holes(REPORT, audit.read_allowed(allowed), today=TODAY) == found


@pytest.mark.parametrize(
    ("report", "code", "said"),
    [
        (REPORT, 1, "2 of 3 packages audited, 1 known holes"),
        ({"dependencies": []}, 0, "NOTE: the advisory database cannot be reached"),
        ({"dependencies": REPORT["dependencies"][2:]}, 0, "NOTE: the advisory database cannot be reached"),
        ({"dependencies": REPORT["dependencies"][:1]}, 0, "1 of 1 packages audited, 0 known holes"),
    ],
)
def test_holes_fail_and_an_unreachable_database_is_said(
    audit: ModuleType,
    report: dict[str, Any],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(audit, "_report", lambda: report)
    assert audit.main() == code
    assert said in capsys.readouterr().out


def test_the_list_of_allowed_holes_can_be_read(audit: ModuleType) -> None:
    assert all(isinstance(date, datetime.date) for date in audit.read_allowed(audit.ALLOWED.read_text()).values())
