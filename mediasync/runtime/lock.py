"""One process a service and data folder: a lock file that the kernel lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from mediasync.errors import MediasyncError, Reason

_POLL_SECONDS = 0.02


class FileLock:
    """Holds an exclusive lock on a file, which keeps its holder's process id for the one who is refused.

    The file stays behind: removing it would let a third process lock a file that a second one is still waiting for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, what: str, *, wait_seconds: float = 0.0) -> None:
        """Take the lock, waiting at most `wait_seconds`. Raises DATA_FOLDER_IN_USE, with `pid` in the metadata, when it is held."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                    os.close(fd)
                    raise MediasyncError(
                        Reason.DATA_FOLDER_IN_USE,
                        f"{what} already runs on the data folder of {self.path}" + (f" (process {holder})" if holder else ""),
                        metadata={"pid": holder},
                    ) from None
            time.sleep(_POLL_SECONDS)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    @property
    def held(self) -> bool:
        """Whether this process holds it through this object."""
        return self._fd is not None

    def release(self) -> None:
        """Let go; nothing happens when it is not held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.release()
