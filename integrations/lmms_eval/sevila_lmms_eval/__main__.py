"""`python -m sevila_lmms_eval ...` is `lmms-eval ...` that fails where an evaluation failed.

lmms-eval says so and exits with 0, so what decides is whether it has written results of every task.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path


def tasks_with_results(folder: Path, *, since: float) -> set[str]:
    """Return the tasks of which a results file was written to a folder from a time on (seconds of the epoch)."""
    files = [file for file in folder.rglob("*results.json") if file.stat().st_mtime >= since]
    return {task for file in files for task in json.loads(file.read_text(encoding="utf-8"))["results"]}


def main() -> int:
    """Run lmms-eval in a process of its own, and look at what it wrote."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--output_path", type=Path, required=True)
    given, _ = parser.parse_known_args()
    start = time.time()
    code = subprocess.run([sys.executable, "-m", "lmms_eval", *sys.argv[1:]], check=False).returncode
    if code:
        return code
    found = tasks_with_results(given.output_path, since=start - 1)  # some file systems count whole seconds
    missing = sorted(set(given.tasks.split(",")) - found)
    if missing:
        print(f"sevila_lmms_eval: no results of {', '.join(missing)} in {given.output_path}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
