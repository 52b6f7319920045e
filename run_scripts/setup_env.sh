# Shared by quickstart.sh and test.sh: make .venv from nothing, or find that it is already as it should be.
# Sourced by a POSIX sh that has set ROOT to the top of the checkout.
# PYTHON names the interpreter that .venv is made with; remove .venv to change it.
# A torch that is already in .venv is left alone as long as its version fits.
# CONSTRAINTS names a file of versions to install (pip's -c), as CI does; without it the newest that fit are installed.

VENV="$ROOT/.venv"
TORCH='torch>=2.6,<2.14' # the same range as in pyproject.toml
TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu

say() {
    printf '[set-up] %s\n' "$*"
}

fail() {
    printf '[set-up] error: %s\n' "$*" >&2
    exit 1
}

# Prints the interpreter to build .venv with: $PYTHON, or the first one on PATH that will do.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python python3.13 python3.12 python3.11 python3.10; do
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
    say "making .venv with $("$python" --version) ($(command -v "$python"))"
    "$python" -m venv --clear "$VENV" || fail "could not make $VENV"
}

pip_install() {
    # On a terminal pip shows its progress; in a log only what goes wrong.
    if [ -t 1 ]; then quiet=-q; else quiet=-qq; fi
    "$VENV/bin/python" -m pip install "$quiet" --disable-pip-version-check ${CONSTRAINTS:+-c "$CONSTRAINTS"} "$@"
}

# PyPI's torch for Linux brings gigabytes of CUDA, which a machine without a GPU cannot use.
install_torch() {
    if "$VENV/bin/python" -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
        return
    fi
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

# What the installed packages depend on. The path counts because a moved .venv does not work.
fingerprint() {
    (cd "$ROOT" && printf '%s\n' "$ROOT" && cat pyproject.toml setup.py run_scripts/setup_env.sh ${CONSTRAINTS:+"$CONSTRAINTS"}) | cksum
}

# setup_env [EXTRAS]: install the package from this checkout, with extras such as "dev" or "demo,timm".
setup_env() {
    extras=${1:-}
    stamp="$VENV/.installed-${extras:-core}"
    now=$(fingerprint)
    if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && "$VENV/bin/python" -c 'import lavis' 2>/dev/null; then
        say ".venv is up to date"
        return
    fi
    make_venv
    install_torch
    say "installing sevila${extras:+[$extras]} from this checkout into .venv (minutes the first time)"
    pip_install -e "$ROOT${extras:+[$extras]}" || fail "could not install the package"
    # With whatever extras, the core is there too.
    printf '%s\n' "$now" | tee "$stamp" >"$VENV/.installed-core"
    say "done"
}

# The timm extra beside a CPU torch: torchvision from PyPI does not import there and takes transformers with it,
# so for the tests it lies in a folder of its own, and torch is left as it is (--no-deps).
setup_timm() {
    TIMM_SITE="$VENV/timm"
    stamp="$TIMM_SITE/.installed"
    now=$(cksum <"$ROOT/constraints/timm.txt")
    if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then
        return
    fi
    say "installing timm and torchvision into .venv/timm"
    rm -rf "$TIMM_SITE"
    pip_install --no-deps --target "$TIMM_SITE" -r "$ROOT/constraints/timm.txt" || fail "could not install timm"
    printf '%s\n' "$now" >"$stamp"
}
