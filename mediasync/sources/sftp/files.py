"""Files at an SFTP server: opened if they are what was seen, and their bytes, many parts at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

import asyncssh

from mediasync.sources.base import DoomedFile, ReadStatus, WantedFile
from mediasync.sources.sftp.client import Look, OpenFile, Sftp, is_gone, says
from mediasync.sources.sftp.places import Places


class Files:
    """Files that are opened, and their bytes."""

    def __init__(self, sftp: Sftp, places: Places) -> None:
        self.sftp = sftp
        self.places = places

    async def open(self, file: WantedFile | DoomedFile) -> tuple[ReadStatus | None, Look | None, OpenFile | None, str]:
        """Opens what is still as it was seen: (why not, how it looks, what is open, words)."""
        folder = file.path.rpartition(b"/")[0]
        there = self.places.absolute(file.path)
        try:
            if not await self.places.allowed(folder):
                return ReadStatus.CHANGED, None, None, ""
            # Looked at before it is opened: opening a FIFO would hold up the server.
            look = await self.sftp.lstat(there)
            if look.kind == "l" and await self.places.link_allowed(file.path):
                look = await self.sftp.stat(there)
            if look.kind != "f":
                return ReadStatus.CHANGED, None, None, ""
            if not look.is_still(file.size_bytes, file.mtime_ns):
                return ReadStatus.CHANGED, look, None, ""
            opened = await self.sftp.open_file(there)
            look = await opened.look()
            if not look.is_still(file.size_bytes, file.mtime_ns):
                await opened.close()
                return ReadStatus.CHANGED, look, None, ""
        except asyncssh.SFTPError as error:
            return (ReadStatus.VANISHED, None, None, "") if is_gone(error) else (ReadStatus.UNREADABLE, None, None, says(error))
        return None, look, opened, ""

    async def parts(self, file: OpenFile, size: int, most: int) -> AsyncGenerator[bytes, None]:
        """The bytes of a file in order, up to `most` requests at once. Ends early where the file does."""
        step = self.sftp.read_bytes
        offsets = iter(range(0, size, step))
        running: deque[tuple[int, asyncio.Task[bytes]]] = deque()
        try:
            while True:
                while len(running) < most and (offset := next(offsets, None)) is not None:
                    count = min(step, size - offset)
                    running.append((count, asyncio.ensure_future(file.read(offset, count))))
                if not running:
                    return
                count, task = running[0]
                data = await task
                running.popleft()
                yield data
                if len(data) < count:
                    return
        finally:
            left = [task for _, task in running]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
