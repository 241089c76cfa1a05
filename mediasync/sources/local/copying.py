"""Bytes from one open file to another, by the cheapest way that the file systems have.

Three ways, each tried until one works: sharing the blocks (FICLONE: Btrfs, XFS, bcachefs; nothing is moved), `copy_file_range` (the kernel
or the file server copies), and reading and writing. What two file systems do not have is remembered, and not
tried for every file. An error of either file is left to reading and writing, which tell whose it is. What is copied is not
looked at on the way: who needs a hash reads the copy.
"""

from __future__ import annotations

import errno
import fcntl
import os

_BUFFER_BYTES = 256 * 1024  # stays in a processor's cache
_FICLONE = 0x40049409  # _IOW(0x94, 9, int)
_NOT_THIS_WAY = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EPERM, errno.EBADF, errno.ETXTBSY}
)


class SourceError(Exception):
    """The file that is copied from cannot be read."""

    def __init__(self, problem: OSError) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Copier:
    """Copies between file systems, and remembers what they can. Blocks: it belongs into a thread, one at a time."""

    def __init__(self) -> None:
        self._no_clone: set[tuple[int, int]] = set()
        self._no_range: set[tuple[int, int]] = set()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    def copy(self, source: int, target: int, offset: int, count: int) -> int:
        """Copies up to `count` bytes from `offset` of one to the same place of the other; all of it, whatever its size, where blocks are
        shared. Returns how many, 0 at the end of `source`. Raises SourceError, and OSError for what becomes of `target`."""
        pair = (os.fstat(source).st_dev, os.fstat(target).st_dev)
        if offset == 0 and pair not in self._no_clone and self.clone(source, target):
            return os.fstat(target).st_size
        if pair not in self._no_range and hasattr(os, "copy_file_range"):
            try:
                return os.copy_file_range(source, target, count, offset, offset)
            except OSError as error:
                if error.errno in _NOT_THIS_WAY:
                    self._no_range.add(pair)
        return self._by_hand(source, target, offset, count)

    def clone(self, source: int, target: int) -> bool:
        """Makes `target`, an empty file, share all blocks of `source`. False where that cannot be done; nothing is changed then."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno in _NOT_THIS_WAY:
                self._no_clone.add((os.fstat(source).st_dev, os.fstat(target).st_dev))
            return False
        return True

    def _by_hand(self, source: int, target: int, offset: int, count: int) -> int:
        done = 0
        while done < count:
            try:
                found = os.preadv(source, [self._buffer[: count - done]], offset + done)
            except OSError as error:
                raise SourceError(error) from error
            if not found:
                break
            left = self._buffer[:found]
            while left:
                written = os.pwrite(target, left, offset + done)
                left = left[written:]
                done += written
        return done
