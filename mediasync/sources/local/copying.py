"""Bytes from one open file to another, by the cheapest way that the file systems have.

Three ways, each tried until one works: sharing the blocks (FICLONE: Btrfs, XFS, bcachefs; nothing is moved), `copy_file_range` (the kernel
or the file server copies), and reading and writing. What two file systems do not have is remembered, and not
tried for every file. An error of either file is left to reading and writing, which tell whose it is. What is shared or copied is not
looked at on the way: who needs a hash reads the copy.
"""

from __future__ import annotations

import errno
import fcntl
import os

PIECE_BYTES = 8 << 20
_FICLONE = 0x40049409  # _IOW(0x94, 9, int)
_NOT_THIS_WAY = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EPERM, errno.EBADF, errno.ETXTBSY}
)


class Copier:
    """Copies between file systems, and remembers what they can. Blocks: it belongs into a thread, one at a time."""

    def __init__(self) -> None:
        self._no_clone: set[tuple[int, int]] = set()
        self._no_range: set[tuple[int, int]] = set()

    def clone(self, source: int, target: int) -> bool:
        """Makes `target`, an empty file, share all blocks of `source`. False where that cannot be done; nothing is changed then."""
        pair = (os.fstat(source).st_dev, os.fstat(target).st_dev)
        if pair in self._no_clone:
            return False
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno in _NOT_THIS_WAY:
                self._no_clone.add(pair)
            return False
        return True

    def copy(self, source: int, target: int, offset: int, count: int) -> int | None:
        """Copies up to `count` bytes from `offset` of one to the same place of the other inside the kernel. Returns how many, 0 at the
        end of `source`, None where that cannot be done."""
        pair = (os.fstat(source).st_dev, os.fstat(target).st_dev)
        if pair in self._no_range or not hasattr(os, "copy_file_range"):
            return None
        try:
            return os.copy_file_range(source, target, count, offset, offset)
        except OSError as error:
            if error.errno in _NOT_THIS_WAY:
                self._no_range.add(pair)
            return None
