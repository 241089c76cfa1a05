"""What it takes to have files on the disk, and to know after a crash of the machine what was not.

`full`: each file is fsynced before it becomes visible, and its folder after; a visible file is whole whatever happens.

`fast`: a file becomes visible as soon as its bytes are handed to the system. One `syncfs` before the run is reported done puts all of it
on the disk. Until then it is on record as *unflushed*, with the id of this boot; the record itself, and each file's intent, are on the disk
before the file is visible. When the machine crashes (another boot id), everything on that record is read again before the next sync;
what is torn is moved to `.mediasync/torn` and forgotten, so that it is pulled again. A crash of a process alone costs nothing: the
system still has the bytes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True)
_sync_file_range = getattr(_libc, "sync_file_range", None)  # absent from musl on some machines
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def boot_id() -> str:
    """Tells this boot of the machine from others; empty where the system does not say, which counts as another one each time."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def sync_file_system(root: bytes) -> None:
    """Puts everything that was written to the file system of `root` on its disk. Raises OSError, also for what failed to be written
    since the last time."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs = getattr(_libc, "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)


def flush_files(paths: Sequence[bytes], *, drop: bool = False) -> None:
    """Puts files on the disk, and with `drop` out of the page cache, as far as the system follows the advice. Raises OSError."""
    descriptors: list[int] = []
    try:
        for path in paths:
            descriptors.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            # All are on their way before the first is waited for, so that the disk and the journal are asked once for many.
            _begin_writing(descriptors[-1])
        for descriptor in descriptors:
            os.fsync(descriptor)
            if drop:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _begin_writing(descriptor: int) -> None:
    """Begins to write a file's bytes, and waits for nothing. What goes wrong is said by the `fsync` that follows."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)
