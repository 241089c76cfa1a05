"""One supervisor for a data folder: the lock, and a note beside it that says who holds it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.lock import FileLock

_LOCK = "supervisor.lock"
_NOTE = "supervisor.json"


@dataclass(frozen=True)
class Holder:
    """Who holds it. `started` is Unix seconds; `address` is empty while it is not known."""

    pid: int
    started: float
    ephemeral: bool
    address: str = ""


def take_lock(run_dir: Path) -> FileLock:
    """The lock of the data folder whose sockets lie in `run_dir`. Raises MediasyncError with DATA_FOLDER_IN_USE, naming its holder."""
    lock = FileLock(run_dir / _LOCK)
    try:
        lock.acquire("a supervisor")
    except MediasyncError as error:
        holder = _read(run_dir)
        # A note by another process is a dead one's: the holder has not written its own yet.
        raise _in_use(holder if holder and str(holder.pid) == error.metadata.get("pid") else None) from None
    return lock


def write_note(run_dir: Path, holder: Holder) -> None:
    """Says who holds the lock. To be called by its holder."""
    temporary = run_dir / f"{_NOTE}.new"
    temporary.write_text(json.dumps(asdict(holder)))
    temporary.replace(run_dir / _NOTE)


def _read(run_dir: Path) -> Holder | None:
    try:
        return Holder(**json.loads((run_dir / _NOTE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _in_use(holder: Holder | None) -> MediasyncError:
    if holder is None:
        return MediasyncError(Reason.DATA_FOLDER_IN_USE, "the data folder is used by another mediasync that is just starting")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started))
    metadata = {"pid": str(holder.pid), "address": holder.address}
    if holder.ephemeral:
        return MediasyncError(
            Reason.DATA_FOLDER_IN_USE,
            f"the data folder is used by the services of a `mediasync` command that is still under way (pid {holder.pid}, since {since})",
            "Wait until it has ended (`mediasync jobs list` shows what runs), or choose another data folder (MEDIASYNC_HOME).",
            metadata=metadata,
        )
    at = f" at {holder.address}" if holder.address else ""
    return MediasyncError(
        Reason.DATA_FOLDER_IN_USE,
        f"`mediasync up` already runs on this data folder{at} (pid {holder.pid}, since {since})",
        f"Use it as it is, stop it with `kill {holder.pid}`, or choose another data folder (MEDIASYNC_HOME).",
        metadata=metadata,
    )
