#!/bin/sh
# Write down the versions in .venv for its Python (constraints/python-X.Y.txt), once all checks pass with them:
#   rm -rf .venv; CONSTRAINTS=/dev/null sh run_scripts/test.sh && sh run_scripts/lock.sh
# Another environment can be named. What a CUDA build of torch brings is left out, and torchvision, which follows torch.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${1:-"$ROOT/.venv"}
python=$("$venv/bin/python" -c 'import sys; print("{}.{}".format(*sys.version_info))')
lock="$ROOT/constraints/python-$python.txt"

installed() {
    "$venv/bin/python" -m pip freeze --exclude-editable
    [ ! -d "$venv/torchvision" ] || "$venv/bin/python" -m pip freeze --path "$venv/torchvision"
}

{
    echo "# What CI and README's commands install with Python $python on Linux: one known set, so that a new release of a"
    echo '# dependency breaks nothing unseen. Written by run_scripts/lock.sh.'
    installed | sed 's/+cpu$//' | grep -vE '^(nvidia|cuda|triton|torchvision|setuptools|sevila)[-_= ]' | sort -fu
} >"$lock.new"
mv "$lock.new" "$lock"
echo "wrote $lock"
