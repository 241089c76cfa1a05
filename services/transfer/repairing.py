"""Putting a good copy in the place of one that the library's disk lost bytes of.

Only of a file that a verify found corrupt and that a source has: with the size and the time that it was found with, so that nobody has
edited it, and other bytes than the good copy, which is whole in staging by then. What it had become is kept in `.mediasync/torn`.
"""

from __future__ import annotations

import logging
import os
import stat

from mediasync.paths import display
from mediasync.runtime import crash
from mediasync.storage.library_marker import OWN_FOLDER
from services.transfer.entities import StagedFile
from services.transfer.hashing import holds
from services.transfer.library import sync_folder
from services.transfer.naming import candidate_paths
from services.transfer.renames import rename_without_replacing

TORN = OWN_FOLDER + b"/torn"

_logger = logging.getLogger(__name__)


def is_corrupt(path: bytes, as_found: tuple[int, int] | None, good: StagedFile) -> bool:
    """Whether the file at `path` is still the corrupt one that was found with that size and mtime, and not the good one. Raises OSError."""
    if as_found is None:
        return False
    status = os.lstat(path)
    same = stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == as_found
    return same and not holds(path, good.entry.size_bytes, good.sha256)


def replace_corrupt(root: bytes, path: bytes, good: StagedFile) -> None:
    """Puts the corrupt file at `path` of the library aside and the good one in its place. Raises OSError."""
    absolute = os.path.join(root, path)
    for candidate in candidate_paths(path, good.entry.mtime_ns):
        aside = os.path.join(root, TORN, candidate)
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        try:
            os.link(absolute, aside, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError:
            # No hard links here: then there is no file for a moment.
            try:
                rename_without_replacing(absolute, aside)
            except FileExistsError:
                continue
        break
    sync_folder(os.path.dirname(aside))
    crash.point("transfer.after_torn")
    os.rename(good.staged_path, absolute)
    _logger.warning("%s was corrupt and is repaired; what it had become is in .mediasync/torn", display(path))
