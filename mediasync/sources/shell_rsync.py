"""The command that starts rsync's server at a far side. One of the siblings of `mediasync.sources.shell`.

Its options are those that the rsync program on this side asks for; nothing of them stems from a user or a source. The one thing that
does is the root, which the user wrote: each of its characters that any shell could take for something else has a backslash before it
(a form that `rrsync` understands too, other than quotes). Names of files are never part of the command: they travel in rsync's protocol.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display

PLACEHOLDER = b"ROOT/"
"""Stands for the root in what rsync is told on this side."""

_UNSAFE = re.compile(rb"([^A-Za-z0-9_./+,:@%=\x80-\xff-])")


def server_command(arguments: Sequence[bytes], root: bytes) -> bytes:
    """The command for a remote shell. `arguments` is what rsync would run there, its last word `PLACEHOLDER`. Raises INVALID_ARGUMENT for
    a root that no shell can be told."""
    if arguments[-1] != PLACEHOLDER:
        raise AssertionError(f"rsync asks for {arguments!r}")
    return b" ".join([*arguments[:-1], _word(root)])


def _word(root: bytes) -> bytes:
    if b"\n" in root or b"\0" in root:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT, f"rsync cannot be told a root with a line break in its name: {display(root)}", "Rename the folder."
        )
    # A tilde at the start is the home folder, as in a shell; without a slash or one, the path begins there too, and may begin with a dash.
    home = root.startswith(b"~")
    path = root if root.startswith(b"/") or home else b"./" + root
    kept = path[1:] if home else path
    return (b"~" if home else b"") + _UNSAFE.sub(rb"\\\1", kept.rstrip(b"/")) + b"/"
