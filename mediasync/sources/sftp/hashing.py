"""Files hashed, or deleted, by way of SFTP: their bytes come here for it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import asyncssh

from mediasync.paths import check_relative
from mediasync.sources.base import DeleteStatus, DoomedFile, FileDeleted, FileHashed, ReadStatus, WantedFile
from mediasync.sources.groups import Group, grouped
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

    async def deletions(self, batches: AsyncIterator[Sequence[DoomedFile]]) -> AsyncGenerator[FileDeleted, None]:
        """The outcomes of deleting."""
        ahead = Ahead(self._deleted, PARALLEL_HASHES, _ANY_BYTES, self._files.places.forget)
        async with contextlib.aclosing(ahead.run(_groups(batches))) as groups:
            async for outcomes in groups:
                for outcome in outcomes:
                    yield outcome

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

    async def _deleted(self, group: Group) -> list[FileDeleted]:
        """What became of files that go together or not at all: all are hashed, then looked at again, then removed one after the other."""
        found = [await self._checked(doomed) for doomed in group.files]
        if all(outcome is None for outcome, _ in found):
            found = [(await self._looked_at(doomed, look), look) for doomed, (_, look) in zip(group.files, found, strict=True)]
        good = all(outcome is None for outcome, _ in found)
        outcomes: list[FileDeleted] = []
        for doomed, (outcome, _) in zip(group.files, found, strict=True):
            if outcome is None:
                outcome = await self._removed(doomed) if good else FileDeleted(doomed, DeleteStatus.KEPT)
                good = good and outcome.status is DeleteStatus.DELETED
            outcomes.append(outcome)
        return outcomes

    async def _checked(self, doomed: DoomedFile) -> tuple[FileDeleted | None, Look | None]:
        """Why a file is to stay, or None and how it looked."""
        status, digest, look, message = await self._hash(doomed)
        if status is ReadStatus.VANISHED:
            return FileDeleted(doomed, DeleteStatus.VANISHED), None
        if status is ReadStatus.UNREADABLE:
            return FileDeleted(doomed, DeleteStatus.REFUSED, message), None
        if status is not ReadStatus.OK or digest != doomed.sha256 or look is None:
            return FileDeleted(doomed, DeleteStatus.CHANGED), None
        return None, look

    async def _looked_at(self, doomed: DoomedFile, look: Look | None) -> FileDeleted | None:
        try:
            still = await self._files.sftp.lstat(self._files.places.absolute(doomed.path)) == look
        except asyncssh.SFTPError as error:
            return _refused(doomed, error)
        return None if still else FileDeleted(doomed, DeleteStatus.CHANGED)

    async def _removed(self, doomed: DoomedFile) -> FileDeleted:
        try:
            await self._files.sftp.remove(self._files.places.absolute(doomed.path))
        except asyncssh.SFTPError as error:
            return _refused(doomed, error)
        return FileDeleted(doomed, DeleteStatus.DELETED)

    async def drop(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes folders that are empty; returns those that went."""
        gone = []
        for folder in folders:
            try:
                if not await self._files.places.allowed(folder.rpartition(b"/")[0]):
                    continue
                await self._files.sftp.remove_folder(self._files.places.absolute(folder))
            except asyncssh.SFTPError:
                # Not empty, gone, a link, or not for us to remove.
                continue
            gone.append(folder)
        return gone


def _refused(doomed: DoomedFile, error: asyncssh.SFTPError) -> FileDeleted:
    return FileDeleted(doomed, DeleteStatus.VANISHED) if is_gone(error) else FileDeleted(doomed, DeleteStatus.REFUSED, says(error))


async def _groups(batches: AsyncIterator[Sequence[DoomedFile]]) -> AsyncGenerator[Sequence[Group], None]:
    async for batch in batches:
        for doomed in batch:
            check_relative(doomed.path)
        yield [Group(files) for files in grouped(batch)]
