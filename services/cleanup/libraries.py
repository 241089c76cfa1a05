"""Which library a clean-up compares with."""

from __future__ import annotations

import os

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncSpec
from services.cleanup.entities import OriginLibrary
from services.cleanup.peers import Transfer

NO_LIBRARY = OriginLibrary("", "")
"""Where nothing is compared, or nothing is on record."""


async def library_of(spec: SyncSpec, transfer: Transfer) -> OriginLibrary:
    """The library that is named, else the one that the source was synced into. Raises CLEANUP_LIBRARY_AMBIGUOUS where there are several.

    One that nothing of the source was synced into has no files, which is for who wants something deleted to mind.
    """
    if spec.cleanup and not spec.cleanup.verify_synced:
        return NO_LIBRARY
    libraries = await transfer.libraries(spec.source)
    if spec.dest_path:
        root = os.path.normpath(spec.dest_path)  # noqa: ASYNC240 - text only
        return next((library for library in libraries if library.root == root), OriginLibrary(root, ""))
    fed = [library for library in libraries if library.files]
    if len(fed) > 1:
        names = ", ".join(library.root for library in fed)
        raise MediasyncError(Reason.CLEANUP_LIBRARY_AMBIGUOUS, f"{spec.source.label} was synced into several libraries: {names}")
    return fed[0] if fed else NO_LIBRARY
