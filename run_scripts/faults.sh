#!/bin/sh
# Set up .venv, then let training, evaluation and readers come to harm: every fault there is a promise about, the long
# parts too. Arguments go to pytest.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"

setup_env dev
cd "$ROOT"
FOLDERS=
for folder in tests/faults tests/hostile; do
    [ ! -d "$folder" ] || FOLDERS="$FOLDERS $folder"
done
# shellcheck disable=SC2086  # one word a folder
exec "$VENV/bin/python" -m pytest -m 'not timm' --durations=20 $FOLDERS "$@"
