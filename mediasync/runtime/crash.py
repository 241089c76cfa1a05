"""Named points at which a process can be told to die, so that tests prove what a restart makes of it.

`MEDIASYNC_CRASH_AT=transfer.after_rename` kills this process with SIGKILL the first time it passes that point,
`…:3` the third time. It leaves `<run>/crashed.<point>` behind, and while that file exists nobody crashes there again.
`MEDIASYNC_CRASH_AT=@FILE` kills whoever passes the point that the file names at that moment, and the file goes with it: services that
stay up die where they are told, one point after the other.
Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from mediasync.runtime.home import Home


@dataclass
class Armed:
    """A point to die at, once it was passed often enough; or the file that names one."""

    point: str
    passes_left: int
    file: Path | None = None


def parse(text: str) -> Armed | None:
    """What `MEDIASYNC_CRASH_AT` says."""
    if not text:
        return None
    if text.startswith("@"):
        return Armed("", 1, Path(text.removeprefix("@")))
    point_name, _, count = text.partition(":")
    return Armed(point_name, int(count) if count.isdecimal() and int(count) > 0 else 1)


_armed = parse(os.environ.get("MEDIASYNC_CRASH_AT", ""))


def point(name: str) -> None:
    """A moment at which a sudden death must do no harm."""
    if _armed is None:
        return
    if _armed.file is not None:
        _die_if_named(name, _armed.file)
        return
    if _armed.point != name:
        return
    _armed.passes_left -= 1
    if _armed.passes_left == 0:
        _die(name)


def _die(name: str) -> None:
    run = Home.from_environment().run
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # Exclusive, so that of two processes that share the variable one dies.
        os.close(os.open(run / f"crashed.{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _die_if_named(name: str, file: Path) -> None:
    try:
        if file.read_text() != name:
            return
        # Of two processes that pass the point, the one that takes the file away dies.
        file.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
