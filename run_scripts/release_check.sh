#!/bin/sh
# Build what a release publishes, and meet it as those do who install it: sdist and wheel, with the README that PyPI will
# show, the same wheel from the sdist as from the checkout, and `sevila quickstart` in an environment that holds nothing
# else, in an empty folder, without a checkout or network. What has passed lies in dist/.
#   sh run_scripts/release_check.sh           as CI does
#   sh run_scripts/release_check.sh v1.0.0    before that: may this tag be published?
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/run_scripts/setup_env.sh"
cd "$ROOT"

tag=${1:-}
version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' lavis/common/defaults.py)
if [ -n "$tag" ]; then
    [ "$tag" = "v$version" ] || fail "tag $tag is not that of version $version (lavis/common/defaults.py)"
    placeholders=$(grep -l 'example\.org' pyproject.toml CITATION.cff CHANGELOG.md | tr '\n' ' ')
    [ -z "$placeholders" ] || fail "addresses are still placeholders (example.org) in: $placeholders"
fi

setup_env dev
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python="$VENV/bin/python"

# build ARGUMENTS...: quiet, unless it fails.
build() {
    "$python" -m build --no-isolation "$@" "$work/checkout" >"$work/log" 2>&1 || { cat "$work/log"; fail "build failed"; }
}

say "building sdist and wheel of $version"
mkdir "$work/checkout" "$work/home" "$work/folder"
# As in a fresh clone: nothing that git ignores, such as what an earlier build left.
git ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$work/checkout" -xf -
build --outdir "$work/dist" # the wheel is made from the sdist
build --outdir "$work/direct" --wheel
"$python" -m twine check --strict "$work"/dist/*
"$python" - "$work"/dist/*.whl "$work"/direct/*.whl <<'PYTHON'
import sys
from zipfile import ZipFile

from_sdist, direct = ({(file.filename, file.CRC) for file in ZipFile(wheel).infolist()} for wheel in sys.argv[1:])
differs = sorted({name for name, _ in from_sdist ^ direct})
sys.exit(f"the wheels from sdist and checkout differ in {differs}" if differs else None)
PYTHON

# The same versions as in .venv; of torch the build that this machine is given, as in .venv. Of the bytecode only what
# runs is compiled.
PYTHON="$python" TORCH=$(extras='' asked_torch) PIP_NO_COMPILE=0
export PIP_NO_COMPILE # pip: "falsy values have to be used" for this one
versions=$(sed 's/^\(torch==[^+]*\)+.*/\1/' "$VENV/versions.txt")
VENV="$work/empty"
make_venv
printf '%s\n' "$versions" >"$VENV/versions.txt"
install_torch
say "installing the wheel into an empty environment"
pip_install "$work"/dist/*.whl || fail "could not install the wheel"
"$VENV/bin/python" -m pip check

# away COMMAND...: in an empty folder, far from the checkout, with a home of its own and a network that answers nothing.
away() {
    (cd "$work/folder" && env -u PYTHONPATH HOME="$work/home" http_proxy=http://127.0.0.1:9 \
        https_proxy=http://127.0.0.1:9 "$@")
}
away "$VENV/bin/sevila" quickstart
away "$VENV/bin/python" - "$version" <<'PYTHON'
import json
import sys
from pathlib import Path

import lavis

package = Path(lavis.__file__).parent
assert package.is_relative_to(sys.prefix), package
assert lavis.__version__ == sys.argv[1], lavis.__version__
known = json.loads((package / "sevila_checkpoints/clips/questions.json").read_text())[0]["questions"][0]
answer = json.loads(Path("quickstart_output/answer.json").read_text())
assert (answer["question"], answer["answer_index"]) == (known["question"], known["answer"]), answer
PYTHON

rm -rf dist
cp -R "$work/dist" dist
say "passed; dist/ holds"
(cd dist && sha256sum ./*)
