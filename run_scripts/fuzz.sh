#!/bin/sh
# Set up .venv, then try changed files with each parser of what strangers bring, for ten minutes each (SEVILA_FUZZ_S, in
# seconds, says otherwise). A file that is not read or refused as promised ends it, and is named. Arguments go to pytest.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"

setup_env dev
cd "$ROOT"
export SEVILA_FUZZ_S="${SEVILA_FUZZ_S:-600}"
exec "$VENV/bin/python" -m pytest tests/fuzz "$@"
