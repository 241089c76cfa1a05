"""Which folders of a source somebody means: those that were named, else its type's usual ones, else everything below its root."""

from __future__ import annotations

from collections.abc import Sequence

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec
from mediasync.paths import display
from mediasync.profiles import PROFILES
from mediasync.sources.base import Connection
from mediasync.suggest import nearest


async def units_of(connection: Connection, spec: SourceSpec, folders: Sequence[bytes]) -> list[bytes]:
    """The folders, none of which lies in another; one empty path stands for everything. Raises SOURCE_FOLDER_MISSING where one was named
    that is not there."""
    if folders:
        missing = await connection.missing_folders(folders)
        if missing:
            present = await connection.list_folders()
            names = ", ".join(display(name) for name in missing)
            there = ", ".join(display(name) for name in present[:20]) or "nothing"
            meant = nearest(names, [display(name) for name in present])
            raise MediasyncError(
                Reason.SOURCE_FOLDER_MISSING,
                f"{spec.label} has no folder {names} below {display(connection.probe.root)}; there is: {there}",
                (f"Did you mean `{meant}`? " if meant else "") + "Name a folder that is there, or leave --folder out to take everything.",
            )
        # A folder that is below another one comes with it.
        return [folder for folder in dict.fromkeys(folders) if not any(folder.startswith(other + b"/") for other in folders)]
    usual = PROFILES[spec.type].folders
    if not usual:
        return [b""]
    present = await connection.list_folders()
    return [folder for folder in usual if folder in present]
