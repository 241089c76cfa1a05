"""Where files are until they are whole: a folder on the library's own file system, out of sight.

Each process has its own folder below `.mediasync/staging`, locked while it lives; a folder whose lock is free belongs to a
process that died, and is removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import secrets
import shutil
import time

from services.transfer.library import OWN_FOLDER

_STAGING = OWN_FOLDER + b"/staging"


class StagingFile:
    """One file being received. Hashes as it writes; its name is a number, whatever the source calls it."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    def write(self, data: bytes) -> None:
        """Takes the next bytes. Raises OSError when the disk is full or fails."""
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.size_bytes += len(data)

    def finish(self, mtime_ns: int) -> bytes:
        """Closes the file with its modification time set; returns its sha256."""
        try:
            os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
        except OSError:
            pass  # some network mounts refuse; the manifest has the time
        os.close(self._descriptor)
        self._descriptor = -1
        return self._hash.digest()

    def discard(self) -> None:
        """Throws away what was received."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # landed, or discarded before


class Staging:
    """The staging folder of this process in one library."""

    def __init__(self, root: bytes) -> None:
        """Makes the folder and removes those of dead processes. Raises OSError."""
        parent = os.path.join(root, _STAGING)
        os.makedirs(parent, exist_ok=True)
        self._remove_abandoned(parent)
        self.folder = os.path.join(parent, secrets.token_hex(8).encode())
        os.mkdir(self.folder, 0o700)
        self._lock = os.open(os.path.join(self.folder, b"lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._numbers = itertools.count(1)

    @staticmethod
    def _remove_abandoned(parent: bytes) -> None:
        for name in os.listdir(parent):
            folder = os.path.join(parent, name)
            try:
                descriptor = os.open(os.path.join(folder, b"lock"), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                # Either just being made by another process, or half removed; only the latter is safe to take away.
                if _is_old(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its process lives
            else:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)

    def new_file(self) -> StagingFile:
        """A fresh file to receive into. Raises OSError."""
        return StagingFile(os.path.join(self.folder, b"%d" % next(self._numbers)))

    def close(self) -> None:
        """Removes the folder and what is left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _is_old(folder: bytes) -> bool:
    try:
        return time.time() - os.stat(folder).st_mtime > 3600
    except OSError:
        return False
