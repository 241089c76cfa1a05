"""The agent's rules for one file, with types: it is sent to far sides that know none."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from mediasync.sources.agent.program import reading, tree
from mediasync.sources.base import FileEntry

Status = os.stat_result
INLINE_BYTES: int = reading.INLINE
NOT_THERE: tuple[int, ...] = tree.NOT_THERE


class Quiet:
    """What the agent's functions tell of their progress; nobody waits for it here."""

    def flush(self) -> None:
        """Nothing is gathered."""

    def tick(self) -> None:
        """Nobody watches."""


same: Callable[[Status, Status], bool] = reading.same
"""Whether a file stood still between two looks."""
settled: Callable[[Quiet, int], Status] = reading.settled
"""How an open file looks, once its times can be told apart from those of a later write."""
digest_of: Callable[[Quiet, int, int], bytes | None] = reading.digest_of
"""The sha256 of the first bytes of an open file; None if there are fewer."""
verdict: Callable[[int, bytes, Status, float, float], tuple[bool, bool]] = reading.Reader.verdict
"""Whether to take it, and whether it is incomplete."""
rest: Callable[[int, int, int], bytes] = reading.Reader.rest
"""The bytes from an offset on; one more than there should be, if it is there."""
_nanoseconds: Callable[[int], int] = tree.nanoseconds
_inode_of: Callable[[Status], int] = tree.inode_of
_folders: Callable[[Any], Any] = tree.Folders
_tree: Callable[[int, list[bytes], int], Any] = tree.Tree


def entry_of(path: bytes, status: Status) -> FileEntry:
    """A file as a scan would report it."""
    return FileEntry(path, status.st_size, _nanoseconds(status.st_mtime_ns), _nanoseconds(status.st_ctime_ns), _inode_of(status))


class Opener:
    """Opens files below a root. Only the folders that the user named may be links; no other link is followed, nowhere in a path."""

    def __init__(self, root: bytes | int, folders: Sequence[bytes]) -> None:
        """`root` is a path, or a folder that is open, of which this has its own descriptor then."""
        self._root = root if isinstance(root, bytes) else b""
        self._names = list(folders)
        self._fd = os.dup(root) if isinstance(root, int) else -1
        self._folders: Any = None

    def open(self, path: bytes) -> tuple[int, bytes]:
        """An open regular file, and the last part of its path. Raises OSError; ELOOP for what is no regular file."""
        if self._folders is None:
            if self._fd < 0:
                self._fd = os.open(self._root, tree.OPEN_DIRECTORY)
            self._folders = _folders(_tree(self._fd, self._names, tree.FOLLOW_NONE))
        directory, name = self._folders.locate(path)
        return int(self._folders.tree.opened(directory, name)), bytes(name)

    def close(self) -> None:
        """Lets go of the folders."""
        if self._folders is not None:
            self._folders.close()
            self._folders = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
