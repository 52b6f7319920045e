#!/bin/sh
# Set up .venv, then run every check. Arguments go to pytest in place of the whole suite.
#   sh run_scripts/test.sh --newest [...]   the tests, with the newest versions of everything, in .venv-newest
#   sh run_scripts/test.sh --lowest [...]   the tests, with the lowest that pyproject.toml allows, in .venv-lowest
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"

case "${1:-}" in
    --newest | --lowest)
        VERSIONS=${1#--}
        VENV="$ROOT/.venv-$VERSIONS"
        shift
        ;;
esac

setup_env dev
setup_torchvision
cd "$ROOT"

timings=''
failed=''

# check NAME COMMAND...: run it whatever came before, so that one run shows everything that is wrong.
check() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    started=$(date +%s)
    "$@" || failed="$failed $name"
    timings="$timings$(printf '%5d s  %s' $(($(date +%s) - started)) "$name")
"
}

# Run as modules: a console script does not survive the checkout being moved.
if [ "$VERSIONS" = locked ]; then # style and known holes are judged by one set of versions
    check lint "$VENV/bin/python" -m ruff check .
    check format "$VENV/bin/python" -m ruff format --check .
    check types "$VENV/bin/python" -m mypy
    if [ $# -eq 0 ]; then
        check audit "$VENV/bin/python" run_scripts/audit.py
        check docs sh run_scripts/docs.sh
        check release sh run_scripts/release_check.sh
    fi
fi
if [ $# -gt 0 ]; then
    check tests "$VENV/bin/python" -m pytest "$@"
else
    # Files of tests side by side, as many as there are cores: a worker takes up to 2 GB.
    side_by_side='--numprocesses auto --maxprocesses 4 --dist loadfile --durations 10'
    check tests "$VENV/bin/python" -m pytest $side_by_side
    check torchvision env PYTHONPATH="$TORCHVISION_SITE" \
        "$VENV/bin/python" -m pytest $side_by_side -p tests.torchvision_guard -m '(timm or vlm) and not slow'
fi

printf '\n%s' "$timings"
[ -z "$failed" ] || { printf 'failed:%s\n' "$failed"; exit 1; }
echo 'all checks passed'
