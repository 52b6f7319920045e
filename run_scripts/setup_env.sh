# Shared by quickstart.sh and test.sh: make .venv from nothing, or find that it is already as it should be.
# Sourced by a POSIX sh that has set ROOT to the top of the checkout.
# PYTHON names the interpreter that .venv is made with; remove .venv to change it.
# A torch that is already in .venv is left alone as long as its version fits.
# VERSIONS, which test.sh sets, is one of
#   locked  those in constraints/python-X.Y.txt, which CI was run with; where there are none, the newest
#   newest  the newest that pyproject.toml allows
#   lowest  the lowest that pyproject.toml allows
# CONSTRAINTS names another file of versions to install (pip's -c).

VERSIONS=locked
VENV="$ROOT/.venv"
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

say() {
    printf '[set-up] %s\n' "$*"
}

fail() {
    printf '[set-up] error: %s\n' "$*" >&2
    exit 1
}

# Prints the interpreter to build the environment with: $PYTHON, or the first one on PATH that will do.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
        [ "$candidate" != "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python >= 3.10 with venv and ensurepip"
    done
    fail "no Python >= 3.10 with venv and ensurepip was found; name one: PYTHON=/path/to/python3 sh $0"
}

make_venv() {
    if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python) || exit 1
    say "making ${VENV##*/} with $("$python" --version) ($(command -v "$python"))"
    "$python" -m venv --clear "$VENV" || fail "could not make $VENV"
}

# Prints the file of versions for the environment's Python, if there is one.
lock() {
    file="$ROOT/constraints/python-$(sed -n 's/^version *= *\([0-9]*\.[0-9]*\).*/\1/p' "$VENV/pyvenv.cfg" 2>/dev/null).txt"
    [ ! -f "$file" ] || printf '%s\n' "$file"
}

# Prints the versions to install, as constraints of pip.
versions() {
    if [ -n "${CONSTRAINTS:-}" ]; then
        cat "$CONSTRAINTS"
    elif [ "$VERSIONS" = lowest ]; then
        # Where extras ask for more than the core, the higher bound is the lowest of all together.
        grep -oE '"[A-Za-z0-9_-]+>=[0-9.]+' "$ROOT/pyproject.toml" | tr -d '"' | sort -rV | sort -su -t '>' -k 1,1 |
            sed 's/>=/==/'
    elif [ "$VERSIONS" = locked ] && [ -n "$(lock)" ]; then
        cat "$(lock)"
    fi
}

# Writes them for pip, and says which they are.
write_versions() {
    if [ -n "${CONSTRAINTS:-}" ]; then
        [ -f "$CONSTRAINTS" ] || fail "there is no file CONSTRAINTS=$CONSTRAINTS"
        say "installing the versions in $CONSTRAINTS"
    elif [ "$VERSIONS" = lowest ]; then
        say "installing the lowest versions that pyproject.toml allows"
    elif [ "$VERSIONS" = newest ]; then
        say "installing the newest versions that pyproject.toml allows"
    elif [ -n "$(lock)" ]; then
        say "installing the versions that CI runs with (constraints/$(basename "$(lock)"))"
    else
        say "no versions are written down for $("$VENV/bin/python" --version): installing the newest of each"
    fi
    versions >"$VENV/versions.txt"
}

pip_install() {
    # On a terminal pip shows its progress; in a log only what goes wrong.
    if [ -t 1 ]; then quiet=-q; else quiet=-qq; fi
    if [ "$VERSIONS" = newest ]; then set -- --upgrade --upgrade-strategy eager "$@"; fi
    "$VENV/bin/python" -m pip install "$quiet" --disable-pip-version-check -c "$VENV/versions.txt" "$@"
}

# Prints what the core asks of torch; with extras, the most that any of them asks.
asked_torch() {
    if [ -n "$extras" ]; then which=tail; else which=head; fi
    grep -oE '"torch>=[0-9.]+' "$ROOT/pyproject.toml" | tr -d '"' | sort -V | "$which" -n 1
}

# Prints the version of torch in the environment, if it fits.
fitting_torch() {
    "$VENV/bin/python" - "$TORCH" 2>/dev/null <<'PYTHON'
import importlib.metadata
import sys

from pip._vendor.packaging.requirements import Requirement

version = importlib.metadata.version("torch")
if Requirement(sys.argv[1]).specifier.contains(version, prereleases=True):
    print(version)
PYTHON
}

# PyPI's torch for Linux brings gigabytes of CUDA, which a machine without a GPU cannot use.
install_torch() {
    if nvidia-smi -L >/dev/null 2>&1; then
        say "an NVIDIA GPU is here: installing $TORCH with CUDA"
    elif [ "$(uname -s)" != Linux ]; then
        say "installing $TORCH"
    else
        say "no NVIDIA GPU is here: installing the CPU build of $TORCH"
        # --no-deps: what torch needs comes with the package from the usual index, not from PyTorch's copy of it.
        if pip_install --no-deps --retries 0 --timeout 15 --index-url "$TORCH_CPU_INDEX" "$TORCH" 2>/dev/null; then
            return
        fi
        say "$TORCH_CPU_INDEX is out of reach: installing $TORCH from pip's own index, which may bring CUDA (gigabytes)"
    fi
    pip_install "$TORCH" || fail "could not install torch"
}

# From here on the torch that is there is the one to install.
keep_torch() {
    torch=$(fitting_torch) || fail "torch was installed, but does not fit $TORCH"
    {
        grep -vE '^torch(vision)?==' "$VENV/versions.txt" || true # torchvision follows torch
        printf 'torch==%s\n' "$torch"
        # From 0.14 on, PyPI's torchcodec for Linux is linked to CUDA's libraries, which come with a CUDA torch.
        case "$torch" in *+cpu) echo 'torchcodec<0.14' ;; esac
    } >"$VENV/versions.new"
    mv "$VENV/versions.new" "$VENV/versions.txt"
}

# What the installed packages depend on. The path counts because a moved environment does not work.
fingerprint() {
    {
        printf '%s\n' "$ROOT"
        (cd "$ROOT" && cat pyproject.toml setup.py run_scripts/setup_env.sh)
        versions
        [ "$VERSIONS" != newest ] || date +%F
    } | cksum
}

# setup_env [EXTRAS]: install the package from this checkout, with extras such as "dev" or "demo,timm".
setup_env() {
    extras=${1:-}
    TORCH=$(asked_torch)
    stamp="$VENV/.installed-${extras:-core}"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ] && "$VENV/bin/python" -c 'import lavis' 2>/dev/null; then
        say "${VENV##*/} is up to date"
        return
    fi
    make_venv
    write_versions
    if [ "$VERSIONS" = newest ] || [ -z "$(fitting_torch)" ]; then install_torch; fi
    keep_torch
    say "installing sevila${extras:+[$extras]} from this checkout into ${VENV##*/} (minutes the first time)"
    pip_install -e "$ROOT${extras:+[$extras]}" || fail "could not install the package"
    # With whatever extras, the core is there too.
    fingerprint | tee "$stamp" >"$VENV/.installed-core"
    say "done"
}

# What needs torchvision, beside a CPU torch: torchvision from PyPI does not import there and takes transformers with it,
# so for the tests the extras timm and vlm lie in a folder of their own, and torch is left as it is (--no-deps).
setup_torchvision() {
    TORCHVISION_SITE="$VENV/torchvision"
    stamp="$TORCHVISION_SITE/.installed"
    now=$(cat "$VENV/.installed-dev")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then
        return
    fi
    # Up to torch 2.13 each release of torchvision is made for one release of torch.
    minor=$(fitting_torch | cut -d. -f2)
    if [ "$minor" -lt 14 ]; then torchvision="torchvision==0.$((minor + 15)).*"; else torchvision='torchvision>=0.29.1'; fi
    say "installing $torchvision and what goes with it into ${VENV##*/}/torchvision"
    rm -rf "$TORCHVISION_SITE"
    # peft needs accelerate, and both psutil; `transformers serve`, which a test asks, needs openai, and that the others.
    pip_install --no-deps --target "$TORCHVISION_SITE" "$torchvision" timm num2words peft accelerate psutil \
        openai jiter sniffio ||
        fail "could not install the extras timm and vlm"
    printf '%s\n' "$now" >"$stamp"
}
