"""Files of lines that several processes append to, rotated by size."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

MAX_BYTES = 10 << 20
KEEP = 5
"""How many older files stay beside the current one: `x.jsonl.1` (the newest) to `x.jsonl.5`."""


class LineFile:
    """Appends lines to a file that others may be appending to at the same time.

    A line goes out in a single write to a file opened for appending, so lines of several processes do not mix. Who finds the file
    too large renames it under a lock on its folder; the others see at their next line that the name leads elsewhere, and follow.
    A line that cannot be written (no space, the folder is gone) is counted in `lost` and never raises: the work goes on.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self.path = path
        self.lost = 0
        self._max_bytes = max_bytes
        self._keep = keep
        self._fd: int | None = None
        self._mutex = threading.Lock()

    def append(self, data: bytes, lines: int = 1) -> None:
        """Write `data`, which is `lines` whole lines."""
        with self._mutex:
            try:
                fd = self._current()
                if os.write(fd, data) != len(data):
                    # A full disk took part of it: end the torn line, so that readers skip it and nothing else.
                    self.lost += lines
                    os.write(fd, b"\n")
            except OSError:
                self.lost += lines
                self._close()

    def close(self) -> None:
        """Close the file; a later line opens it again."""
        with self._mutex:
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _current(self) -> int:
        """The file to write to, opened, followed or rotated as needed."""
        fd = self._fd if self._fd is not None and self._is_current(self._fd) else self._open()
        if os.fstat(fd).st_size >= self._max_bytes:
            fd = self._rotate(fd)
        return fd

    def _is_current(self, fd: int) -> bool:
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return False
        ours = os.fstat(fd)
        return (named.st_ino, named.st_dev) == (ours.st_ino, ours.st_dev)

    def _open(self) -> int:
        self._close()
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._fd

    def _rotate(self, fd: int) -> int:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            if self._is_current(fd):
                for number in range(self._keep - 1, 0, -1):
                    older = self._numbered(number)
                    if older.exists():
                        older.replace(self._numbered(number + 1))
                self.path.replace(self._numbered(1))
            return self._open()
        finally:
            os.close(folder)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")
