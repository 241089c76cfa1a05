#!/bin/sh
# Makes .venv with mediasync in it, installed from this checkout. Usage: scripts/bootstrap.sh [--dev]
# Needs Python 3.11 or later and a way to make a virtual environment; works without root.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do
        if command -v "$name" >/dev/null 2>&1 && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "error: no Python 3.11 or later found" >&2
    echo "  → install it (sudo apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11" >&2
    exit 2
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

# Debian and Ubuntu keep the part of Python that makes virtual environments in a package of its own.
make_venv() {
    python=$1
    rm -rf .venv
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv .venv
    elif "$python" -m pip --version >/dev/null 2>&1 && "$python" -m venv --without-pip .venv 2>/dev/null; then
        "$python" -m pip --python .venv/bin/python install --quiet pip
    elif command -v virtualenv >/dev/null 2>&1; then
        virtualenv --quiet --python "$python" .venv
    elif command -v uv >/dev/null 2>&1; then
        uv venv --quiet --seed --python "$python" .venv
    elif version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') &&
        as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "python$version-venv" >/dev/null; then
        "$python" -m venv .venv
    else
        rm -rf .venv
        echo "error: this Python cannot make a virtual environment: its venv package is missing, and this user cannot install it" >&2
        echo "  → sudo apt install python3-venv, or install uv (https://docs.astral.sh/uv/) for this user, then run make again" >&2
        exit 2
    fi
}

stamp() { cat pyproject.toml scripts/bootstrap.sh | cksum; }

group=${1:-}
marker=.venv/.installed$group
[ -f "$marker" ] && [ "$(cat "$marker")" = "$(stamp)" ] && exit 0
[ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null || make_venv "$(find_python)"
echo "installing mediasync and what it needs into .venv ..."
# `--group` came with pip 25.1.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
if [ "$group" = --dev ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
else
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable .
fi
stamp >"$marker"
