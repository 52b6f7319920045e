#!/bin/sh
# Set up .venv, then build the documentation site into site/. A warning fails, and so does a link or anchor that leads
# nowhere. Open site/index.html, or: sh run_scripts/docs.sh serve
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"

setup_env dev
cd "$ROOT"
# Material warns of MkDocs 2, which it does not let be installed.
NO_MKDOCS_2_WARNING=1 exec "$VENV/bin/python" -m mkdocs "${1:-build}" --strict
