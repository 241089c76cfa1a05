"""Content that the library has already under another name (`duplicates: skip|hardlink`).

The index says where it may be; before anything relies on that, the file there is read again and has to have the same hash. Its size and
time alone would be cheaper, and would lose a picture where somebody edited a copy and put its time back, or a disk lost bits. What is
read comes from the library's own disk, which is faster than the line that just brought the same bytes.

Sidecars are never duplicates: many pictures have the same prompt beside them, and each needs its own. Empty files are none either.
"""

from __future__ import annotations

import errno
import logging
import os

from mediasync.paths import display
from mediasync.runtime import crash
from services.transfer.entities import StagedFile
from services.transfer.hashing import holds

# This one copy is gone, or has as many names as the file system allows; others may do.
_THIS_ONE = {errno.ENOENT, errno.ENOTDIR, errno.EMLINK, errno.EISDIR}

_logger = logging.getLogger(__name__)


class Copies:
    """Where content is in one library, as far as it is known: from the index, and from what has landed since it was asked."""

    def __init__(self, root: bytes, indexed: dict[bytes, list[bytes]]) -> None:
        self._root = root
        self._paths = indexed
        self._links_work = True

    def add(self, sha256: bytes, path: bytes) -> None:
        """Content that has landed just now."""
        self._paths.setdefault(sha256, []).append(path)

    def find(self, staged: StagedFile) -> bytes | None:
        """The library path of a file with the same bytes; None if there is none."""
        for path in self._paths.get(staged.sha256, ()):
            if holds(os.path.join(self._root, path), staged.entry.size_bytes, staged.sha256):
                return path
        return None

    def link(self, staged: StagedFile) -> bytes | None:
        """A hard link in staging to a file with the same bytes, in place of the staged file; None if there is none, or the file system
        has no hard links.

        The link is made first and its bytes are compared then: no other file can come in between.
        """
        target = staged.staged_path + b".link"
        for path in self._paths.get(staged.sha256, ()):
            try:
                os.link(os.path.join(self._root, path), target, follow_symlinks=False)
            except OSError as error:
                if error.errno in _THIS_ONE:
                    continue
                if self._links_work:
                    self._links_work = False
                    _logger.warning(
                        "the file system of %s makes no hard links (%s); duplicates are kept as files", display(self._root), error.strerror
                    )
                return None
            if holds(target, staged.entry.size_bytes, staged.sha256):
                crash.point("transfer.after_link")
                os.unlink(staged.staged_path)
                return target
            os.unlink(target)
        return None
