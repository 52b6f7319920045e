#!/bin/sh
# Set up .venv, then let training, evaluation, readers and the web page come to harm: every fault there is a promise
# about, the long parts too. Arguments go to pytest.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"

setup_env dev
cd "$ROOT"
exec "$VENV/bin/python" -m pytest -m 'not timm and not vlm' --durations=20 \
    tests/faults tests/hostile tests/fuzz tests/integration/demo tests/unit/demo tests/e2e/test_demo_ending.py \
    tests/unit/common/test_processes.py tests/unit/datasets tests/unit/models/checkpoints "$@"
