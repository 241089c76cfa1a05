"""Files that a generator keeps rewriting, such as `log.html`: replaced in the library, the former version kept for a while.

The documented exception to invariant I2. Only for names that match `rewritten_patterns`, and only where the library's file is, byte for
byte, the one that the same source brought last. One that its owner edited stays, and the newcomer gets a second name.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mediasync.model import FilterReason
from mediasync.sources.selection import Selection, rules
from mediasync.storage.library_marker import OWN_FOLDER
from services.transfer.library import sync_folder
from services.transfer.naming import candidate_paths

REPLACED = OWN_FOLDER + b"/replaced"
KEEP_DAYS = 30
_DAY = "%Y%m%d"


class RewrittenNames:
    """Which source paths are of files that are rewritten."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._selection = Selection(excluded=rules(patterns), temporary_suffixes=(), hidden_prefixes=(), foreign_names=())

    def __contains__(self, path: bytes) -> bool:
        return self._selection.file_reason(path, 0, 0.0) is FilterReason.EXCLUDED


def set_aside(root: bytes, path: bytes) -> None:
    """Keeps what is at `path` of the library under `.mediasync/replaced/YYYYMMDD` as well. Raises OSError."""
    now = time.time_ns()
    day = datetime.fromtimestamp(now / 1e9, UTC).strftime(_DAY).encode()
    source = os.path.join(root, path)
    if not os.path.lexists(os.path.join(root, REPLACED, day)):
        # Here too, for a sync that watches for months.
        remove_old(root, now / 1e9)
    for candidate in candidate_paths(path, now):
        aside = os.path.join(root, REPLACED, day, candidate)
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        try:
            os.link(source, aside)
        except FileExistsError:
            continue
        except OSError:
            if os.path.lexists(aside):
                continue
            # No hard links here: a copy, whole before the original goes.
            shutil.copy2(source, aside)
            with open(aside, "rb") as copy:
                os.fsync(copy.fileno())
        sync_folder(os.path.dirname(aside))
        return


def remove_old(root: bytes, now: float) -> int:
    """Removes what was set aside more than 30 days ago. Returns how many days' folders that were."""
    parent = os.path.join(root, REPLACED)
    oldest = (datetime.fromtimestamp(now, UTC) - timedelta(days=KEEP_DAYS)).strftime(_DAY).encode()
    removed = 0
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return 0
    for name in names:
        if len(name) == 8 and name.isdigit() and name < oldest:
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
            removed += 1
    return removed
