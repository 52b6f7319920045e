#!/bin/sh
# What must hold on a GPU, in one table within eight minutes; nothing comes from the network. Arguments go to
# `python -m benchmarks.gpu_check`: --budget SECONDS, or --tiny for all of it on the CPU.
#
# PYTHON names the interpreter, which has torch with CUDA, torchvision and transformers (default: .venv/bin/python where
# that is there, else python3). What it lacks is installed from the folder `wheels`, where that is there, into
# build/gpu_site. On a machine with network, fill it for that interpreter's version, here 3.12:
#   P='--dest wheels --no-deps --only-binary :all: --python-version 3.12 --platform manylinux_2_28_x86_64'
#   pip download $P av==18.1.0 omegaconf rich markdown-it-py mdurl pygments pyyaml pydantic pydantic-core \
#       annotated-types typing-inspection num2words peft accelerate psutil matplotlib
#   pip wheel --wheel-dir wheels --no-deps antlr4-python3-runtime==4.9.3
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$ROOT"
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ ! -x .venv/bin/python ] || PYTHON=.venv/bin/python
fi
if [ -d wheels ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --upgrade --target build/gpu_site wheels/*.whl
    PYTHONPATH="$ROOT/build/gpu_site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
# A kernel that hangs does not hear of the budget.
exec timeout -k 10 600 "$PYTHON" -m benchmarks.gpu_check "$@"
