"""Files hashed, or deleted, by way of SFTP: their bytes come here for it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import asyncssh

from mediasync.sources.base import DeleteStatus, DoomedFile, FileDeleted, FileHashed, ReadStatus, WantedFile
from mediasync.sources.sftp.ahead import Ahead
from mediasync.sources.sftp.client import Look, is_gone, says
from mediasync.sources.sftp.files import Files

PARALLEL_HASHES = 16
HASHED_PARTS = 16
_ANY_BYTES = 1 << 62


class Hashing:
    """One `Connection.hash_files` or `Connection.delete_unchanged`: the bytes are hashed on this side."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def hashes(self, batches: AsyncIterator[Sequence[WantedFile]]) -> AsyncGenerator[FileHashed, None]:
        """The outcomes of hashing."""
        return Ahead(self._hashed, PARALLEL_HASHES, _ANY_BYTES, self._files.places.forget).run(batches)

    def deletions(self, batches: AsyncIterator[Sequence[DoomedFile]]) -> AsyncGenerator[FileDeleted, None]:
        """The outcomes of deleting."""
        return Ahead(self._deleted, PARALLEL_HASHES, _ANY_BYTES, self._files.places.forget).run(batches)

    async def _hashed(self, wanted: WantedFile) -> FileHashed:
        status, digest, look, message = await self._hash(wanted)
        return FileHashed(wanted, status, digest, look.entry(wanted.path) if look is not None else None, message)

    async def _hash(self, file: WantedFile | DoomedFile) -> tuple[ReadStatus, bytes | None, Look | None, str]:
        status, look, opened, message = await self._files.open(file)
        if opened is None or look is None:
            assert status is not None
            return status, None, look, message
        digest = hashlib.sha256()
        count = 0
        try:
            async for part in self._files.parts(opened, file.size_bytes, HASHED_PARTS):
                digest.update(part)
                count += len(part)
            after = await opened.look()
        except asyncssh.SFTPError as error:
            return ReadStatus.UNREADABLE, None, look, says(error)
        finally:
            if self._files.sftp.failure is None:
                await opened.close()
        if after != look or count != file.size_bytes:
            return ReadStatus.CHANGED, None, after, ""
        return ReadStatus.OK, digest.digest(), after, ""

    async def _deleted(self, doomed: DoomedFile) -> FileDeleted:
        status, digest, look, message = await self._hash(doomed)
        if status is ReadStatus.VANISHED:
            return FileDeleted(doomed, DeleteStatus.VANISHED)
        if status is ReadStatus.UNREADABLE:
            return FileDeleted(doomed, DeleteStatus.REFUSED, message)
        if status is not ReadStatus.OK or digest != doomed.sha256 or look is None:
            return FileDeleted(doomed, DeleteStatus.CHANGED)
        there = self._files.places.absolute(doomed.path)
        try:
            if await self._files.sftp.lstat(there) != look:
                return FileDeleted(doomed, DeleteStatus.CHANGED)
            await self._files.sftp.remove(there)
        except asyncssh.SFTPError as error:
            return FileDeleted(doomed, DeleteStatus.VANISHED) if is_gone(error) else FileDeleted(doomed, DeleteStatus.REFUSED, says(error))
        return FileDeleted(doomed, DeleteStatus.DELETED)
