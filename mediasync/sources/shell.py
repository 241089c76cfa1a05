"""The one place with commands for a remote shell.

There is one command, and it is fixed text: nothing from a user or a source is ever put in it (invariant I7). Folders, names
and options travel in frames, after it runs.
"""

from __future__ import annotations

NO_PYTHON_STATUS = 86
"""The command ends with it when no Python 3.6 or later was found."""

_OLD_PYTHON_STATUS = 87

PYTHONS: tuple[str, ...] = (
    "python3",
    "python",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/opt/conda/bin/python3",  # PyTorch images
    "/venv/main/bin/python3",  # vast.ai images
    "/opt/venv/bin/python3",
    "/opt/environments/python/*/bin/python3",  # ai-dock images
    "/opt/micromamba/envs/*/bin/python3",
    "/app/venv/bin/python3",
    "/app/*/venv/bin/python3",
    "/workspace/*/venv/bin/python3",
    "$HOME/venv/bin/python3",
    "$HOME/*/venv/bin/python3",
    "$HOME/miniconda3/bin/python3",
    "/usr/libexec/platform-python",  # RHEL 8
    "/usr/bin/python3.[0-9]*",
)
"""Where Python is looked for, in this order. Those with a `*` are patterns."""

# Reads `<8 hex digits of length><zlib data>` from stdin, not a byte more (a buffer of one byte reads nothing ahead), and runs
# it. Without quotes, dollars and backslashes, so that it can stand inside two pairs of quotes. An entry "" of sys.path is the
# login folder, whose files must not stand in for modules; sys is built in.
_LOADER = (
    f"import sys;sys.version_info<(3,6) and sys.exit({_OLD_PYTHON_STATUS});sys.path[:]=filter(None,sys.path);"
    "import io,zlib;f=io.BufferedReader(sys.stdin.buffer.raw,1);"
    "exec(zlib.decompress(f.read(int(f.read(8),16))))"
)

# -E, -s and -S: no environment, user folder or site-packages can change what is imported, and the start takes half the time. A
# version manager's placeholder ends with 126 or 127 where it has no version to run: the next one is tried.
_SCRIPT = (
    f"for p in {' '.join(PYTHONS)}; do "
    'command -v "$p" >/dev/null 2>&1 || continue; '
    f'"$p" -E -s -S -c "{_LOADER}"; r=$?; '
    f"case $r in {_OLD_PYTHON_STATUS}|126|127) ;; *) exit $r;; esac; "
    f"done; exit {NO_PYTHON_STATUS}"
)


def agent_command() -> str:
    """The command that starts Python on a far side and makes it run the program that follows on stdin.

    It reads the same in sh, bash, dash, zsh, fish, csh and tcsh, whichever is the login shell: one word for `sh -c` in single
    quotes, without a single quote, backslash, exclamation mark or newline in it.
    """
    return f"exec sh -c '{_SCRIPT}'"


def agent_arguments(python: str) -> list[str]:
    """The same for a local child process, whose Python is known: no shell is needed."""
    return [python, "-E", "-s", "-S", "-c", _LOADER]
