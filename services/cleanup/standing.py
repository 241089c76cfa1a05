"""Whether a folder of this machine, which is to be cleaned up, is a library, lies in one, or holds one.

Told by the markers of libraries from the folder upward, and by the libraries that are on record: the marker of one whose disk is not
mounted is not there to be seen.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from mediasync.errors import MediasyncError, Reason
from mediasync.model import LocalConnection, SyncSpec
from mediasync.paths import display
from mediasync.storage.library_marker import MARKER
from services.cleanup.entities import OriginLibrary
from services.cleanup.peers import Transfer


async def check_standing(spec: SyncSpec, root: bytes, transfer: Transfer) -> None:
    """Raises CLEANUP_IS_LIBRARY for a local source at `root` (absolute) that is no place to delete in, unless its policy says twice that it
    is: what goes is moved to a trash folder then."""
    policy = spec.cleanup
    if not isinstance(spec.source.connection, LocalConnection) or (policy and not policy.verify_synced and policy.i_mean_it):
        return
    said = await asyncio.to_thread(_standing, root, await transfer.libraries(None))
    if said:
        raise MediasyncError(
            Reason.CLEANUP_IS_LIBRARY,
            f"{display(root)} is not cleaned up: {said}",
            "Clean up the folder that pictures come from, not the one that they are kept in. To clean a library all the same, set"
            " `verify_synced: false` and `i_mean_it: true`: files are moved to a trash folder then.",
        )


def _standing(root: bytes, libraries: Sequence[OriginLibrary]) -> str:
    real = os.path.realpath(root)
    above = real
    while True:
        if os.path.lexists(os.path.join(above, MARKER)):
            return "it is a library" if above == real else f"it lies in the library {display(above)}"
        if above == (parent := os.path.dirname(above)):
            break
        above = parent
    for library in libraries:
        where = os.path.realpath(os.fsencode(library.root))
        if where == real:
            return "it is a library"
        if _inside(real, where):
            return f"it lies in the library {library.root}"
        if _inside(where, real):
            return f"the library {library.root} lies in it"
    return ""


def _inside(path: bytes, folder: bytes) -> bool:
    return path.startswith(folder.rstrip(b"/") + b"/")
