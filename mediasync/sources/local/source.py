"""A folder of this machine as a source."""

from __future__ import annotations

from collections.abc import Sequence

from mediasync.errors import MediasyncError, Reason
from mediasync.model import HostKey, SourceSpec
from mediasync.profiles import PROFILES
from mediasync.sources.base import Connection
from mediasync.sources.local.connection import FolderConnection


class LocalSource:
    """Files on this machine. Implements `mediasync.sources.base.Source`."""

    def __init__(self, spec: SourceSpec, folders: Sequence[bytes] = ()) -> None:
        self._spec = spec
        self._folders = tuple(folders)

    async def connect(self) -> Connection:
        """Opens the folder. Raises MediasyncError."""
        roots = (self._spec.root,) if self._spec.root else PROFILES[self._spec.type].roots
        if not roots:
            raise MediasyncError(
                Reason.INVALID_ARGUMENT,
                f"{self._spec.label} says no folder to sync from",
                "Give the folder as the source: /path or ./path.",
            )
        return await FolderConnection.open(roots, self._folders)

    async def host_key(self) -> HostKey:
        """This machine has none."""
        raise self._no_key()

    async def trust_host_key(self, fingerprint: str) -> str:
        """This machine has none."""
        raise self._no_key()

    def _no_key(self) -> MediasyncError:
        return MediasyncError(
            Reason.INVALID_ARGUMENT,
            f"{self._spec.label} is a folder of this machine, which needs no host key",
            "Nothing needs to be trusted.",
        )
