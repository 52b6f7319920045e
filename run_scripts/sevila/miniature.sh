#!/bin/sh
# The paper in miniature, from nothing: data, base, three stages, and benchmarks/MINIATURE.md.
# Arguments go to `python -m sevila_data.miniature.experiment`; PYTHON names another interpreter.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
cd "$ROOT"
if [ -z "${PYTHON:-}" ]; then
    . "$ROOT/run_scripts/setup_env.sh"
    setup_env
    PYTHON="$VENV/bin/python"
fi
exec "$PYTHON" -m sevila_data.miniature.experiment --table benchmarks/MINIATURE.md "$@"
