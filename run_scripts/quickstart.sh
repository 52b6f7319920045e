#!/bin/sh
# Set up .venv, then answer a question about a real video file. Arguments go to `sevila quickstart`.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"

setup_env
exec "$VENV/bin/python" -m lavis quickstart "$@"
