"""Ask PyPI's advisory database about every installed package, and fail on holes that are not allowed for a while.

Where the database cannot be reached, nothing is known, and that is said; it does not fail.
"""

import datetime
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALLOWED = Path(__file__).resolve().parents[1] / "constraints" / "audit_allowed.txt"
_TIMEOUT_S = 240


def read_allowed(text: str) -> dict[str, datetime.date]:
    """Return until when each hole is allowed, from lines of "ID YYYY-MM-DD reason"; # starts a remark."""
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    return {words[0]: datetime.date.fromisoformat(words[1]) for words in lines if words}


def holes(report: Mapping[str, Any], allowed: Mapping[str, datetime.date], *, today: datetime.date) -> list[str]:
    """Describe each known hole of pip-audit's report that is not, or no longer, allowed."""
    found = []
    for package in report["dependencies"]:
        for hole in package.get("vulns", []):
            names = {hole["id"], *hole.get("aliases", [])}
            if not any(allowed.get(name, datetime.date.min) >= today for name in names):
                mended = ", ".join(hole.get("fix_versions", [])) or "no version yet"
                found.append(f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}")
    return found


def _report() -> dict[str, Any]:
    """Run pip-audit; without an answer from the database the report is empty."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--skip-editable"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        report: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return {"dependencies": []}
    return report


def main() -> int:
    """Audit the environment this runs in; return 1 for holes, else 0."""
    report = _report()
    audited = [package for package in report["dependencies"] if "skip_reason" not in package]
    if not audited:
        print("NOTE: the advisory database cannot be reached from here; nothing was audited")
        return 0
    found = holes(report, read_allowed(ALLOWED.read_text(encoding="utf-8")), today=datetime.date.today())
    print(f"{len(audited)} of {len(report['dependencies'])} packages audited, {len(found)} known holes")
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
