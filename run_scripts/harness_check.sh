#!/bin/sh
# Run the integrations inside the evaluation harnesses that they are for, each in an environment of its own that is made
# from nothing (2.5 GB each): .venv-lmms-eval and .venv-vlmevalkit. See docs/harnesses.md.
#   sh run_scripts/harness_check.sh [lmms-eval] [vlmevalkit]
# VENVS=FOLDER makes the environments there. VLMEVALKIT=FOLDER is a checkout of VLMEvalKit; else it is cloned.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"
VENVS=${VENVS:-$ROOT}
VLMEVALKIT_URL=https://github.com/open-compass/VLMEvalKit
VLMEVALKIT_COMMIT=e8e78f05f3080fe28154f2130321f17951c3be94

# start_env NAME: an environment with the torch that torchvision 0.28 is made for; the CPU build where there is no GPU.
start_env() {
    VENV="$VENVS/.venv-$1"
    TORCH='torch==2.13.0'
    make_venv
    : >"$VENV/versions.txt"
    [ -n "$(fitting_torch)" ] || install_torch
    keep_torch
}

# check FILE: the core of sevila comes last: it takes a newer PyAV than lmms-eval asks for, which runs with it.
check() {
    pip_install -e "$ROOT" pytest
    "$VENV/bin/python" -c 'import torch; print("[set-up] torch", torch.__version__)'
    # torchvision from PyPI beside a CPU torch: see CONTRIBUTING.md.
    (cd "$ROOT" && "$VENV/bin/python" -m pytest -p tests.torchvision_guard -m harness "$1") || failed="$failed $1"
}

failed=''
for name in ${*:-lmms-eval vlmevalkit}; do
    case "$name" in
        lmms-eval)
            start_env lmms-eval
            pip_install lmms-eval==0.7.3 'filelock<4' 'torchvision==0.28.*' eva-decord
            pip_install --no-deps -e "$ROOT/integrations/lmms_eval"
            check tests/harness/test_lmms_eval.py
            ;;
        vlmevalkit)
            start_env vlmevalkit
            pip_install -r "$ROOT/integrations/vlmevalkit/requirements.txt"
            checkout=${VLMEVALKIT:-$VENV/VLMEvalKit}
            if [ ! -d "$checkout" ]; then
                git init -q "$checkout"
                git -C "$checkout" fetch -q --depth 1 "$VLMEVALKIT_URL" "$VLMEVALKIT_COMMIT"
                git -C "$checkout" checkout -q FETCH_HEAD
            fi
            # As a path: what pip installs of it lacks folders.
            "$VENV/bin/python" - "$checkout" <<'PYTHON'
import pathlib, sys, sysconfig

path = pathlib.Path(sysconfig.get_path("purelib"), "vlmevalkit.pth")
path.write_text(str(pathlib.Path(sys.argv[1]).resolve()) + "\n")
PYTHON
            check tests/harness/test_vlmevalkit.py
            ;;
        *) fail "no harness is called $name; known: lmms-eval, vlmevalkit" ;;
    esac
done
[ -z "$failed" ] || fail "failed:$failed"
