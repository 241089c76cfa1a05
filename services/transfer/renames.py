"""Making a finished file visible under its name without ever replacing another (invariant I2)."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1

# The kernel or the file system does not know the flag: EINVAL is what NFS, some FUSE file systems and older SMB answer.
_FLAG_UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
# The file system has no hard links (exFAT, SMB without extensions), or not for this user.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EINVAL}

_libc = ctypes.CDLL(None, use_errno=True)


def rename_without_replacing(source: bytes, target: bytes) -> None:
    """Moves `source` to `target` in one step. Raises FileExistsError, with both left as they were, if `target` exists.

    In order of preference: `renameat2(RENAME_NOREPLACE)`; a hard link and an unlink, which is as atomic but for a moment with two names; an
    exclusively made empty file that is then renamed over, where the name is visible empty for a moment.
    """
    renameat2 = getattr(_libc, "renameat2", None)  # absent from C libraries older than glibc 2.28
    if renameat2 is not None:
        if renameat2(_AT_FDCWD, source, _AT_FDCWD, target, _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _FLAG_UNKNOWN:
            raise OSError(code, os.strerror(code), target)
    rename_by_link(source, target)


def rename_by_link(source: bytes, target: bytes) -> None:
    """The way for file systems without RENAME_NOREPLACE."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        rename_over_placeholder(source, target)
    else:
        os.unlink(source)


def rename_over_placeholder(source: bytes, target: bytes) -> None:
    """The way for file systems without hard links.

    Whoever writes to the name in the moment between keeps it. One who has just opened the empty file and has not written yet goes on
    with a file that has no name, which the two other ways spare them.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        if not _is_empty(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target)
    except OSError:
        if _is_empty(target):
            os.unlink(target)  # the empty file that was just made here
        raise


def _is_empty(path: bytes) -> bool:
    # Not told by its inode: file systems in user space, which come here most, may number a file anew with each look.
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0
