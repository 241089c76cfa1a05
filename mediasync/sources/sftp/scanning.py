"""Scans by listing directories, several at a time.

SFTP tells neither ctimes nor the server's clock. An exact scan therefore reports every directory in full. A scan counts as begun at the
latest time that the server stamped a directory with, as far as it was seen: whatever changes in a directory later gets that time or a
later one, however wrong either clock is.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass

import asyncssh

from mediasync.model import FilterReason, FollowSymlinks
from mediasync.sources.base import DirectoryGone, DirectoryUnreadable, ScanRecord, ScanRequest
from mediasync.sources.listing import Listed, Tally, ends_with, link_reason
from mediasync.sources.sftp.client import Sftp, is_gone, says
from mediasync.sources.sftp.places import Places, join

PARALLEL_LISTS = 16
PARALLEL_LOOKS = 64


@dataclass(frozen=True)
class _Folder:
    """A directory to list. `chain` holds the real paths of the folders that lead there, itself the last."""

    path: bytes
    chain: tuple[bytes, ...]


@dataclass
class _Found:
    """What a directory held, or why it could not be listed."""

    listed: Listed
    folders: list[_Folder]
    gone: bool = False
    unreadable: str = ""


class Scan:
    """One scan."""

    def __init__(self, sftp: Sftp, request: ScanRequest, places: Places, real_root: bytes) -> None:
        self._sftp = sftp
        self._request = request
        self._places = places
        self._real_root = real_root
        self._follow = request.selection.follow_symlinks
        self._now_ns = time.time_ns()
        self._tally = Tally(request, self._now_ns)
        self._newest_ns = 0

    async def run(self) -> AsyncGenerator[ScanRecord, None]:
        """Every record of it."""
        request = self._request
        if request.quick and request.changed_since_ns is not None:
            async for record in self._quick(request.changed_since_ns):
                yield record
        else:
            chain = await self._chain(request.folder)
            async for record in self._walk([_Folder(request.folder, chain)] if chain else [], frozenset()):
                yield record
        yield self._tally.finished(self._newest_ns or self._now_ns)

    async def _chain(self, folder: bytes) -> tuple[bytes, ...]:
        """The chain of one of the folders that a scan starts with; empty if it is not there."""
        try:
            return (await self._sftp.real(self._places.absolute(folder)),)
        except asyncssh.SFTPError:
            # Listing it tells why; the name is as good then.
            return (self._places.absolute(folder),)

    async def _quick(self, since_ns: int) -> AsyncIterator[ScanRecord]:
        """The known directories, and what is in those that moved."""
        folder, known = self._request.folder, self._request.known_directories
        asked = sorted(path for path in known if not folder or path == folder or path.startswith(folder + b"/"))
        moved: list[_Folder] = []
        gone: set[bytes] = set()
        for start in range(0, len(asked), PARALLEL_LOOKS):
            some = asked[start : start + PARALLEL_LOOKS]
            looks = await asyncio.gather(*(self._look(path) for path in some))
            for path, look in zip(some, looks, strict=True):
                if isinstance(look, str):
                    yield DirectoryUnreadable(path, look)
                elif look is None or path.rpartition(b"/")[0] in gone:
                    gone.add(path)
                    yield DirectoryGone(path)
                else:
                    self._stamp(look)
                    if ends_with(look) >= since_ns:
                        moved.append(_Folder(path, await self._chain(path)))
        async for record in self._walk(moved, frozenset(known)):
            yield record

    async def _look(self, path: bytes) -> int | str | None:
        """A known directory's mtime; None if it is gone, words if it cannot be looked at."""
        there = self._places.absolute(path)
        followed = path == self._request.folder or self._follow is FollowSymlinks.ALL
        try:
            look = await (self._sftp.stat(there) if followed else self._sftp.lstat(there))
        except asyncssh.SFTPError as error:
            return None if is_gone(error) else says(error)
        return look.mtime_ns if look.kind == "d" else None

    async def _walk(self, starts: Sequence[_Folder], but: frozenset[bytes]) -> AsyncIterator[ScanRecord]:
        """Lists directories and what is below them, less what is in `but`."""
        waiting = deque(starts)
        running: deque[asyncio.Task[_Found]] = deque()
        try:
            while waiting or running:
                while waiting and len(running) < PARALLEL_LISTS:
                    running.append(asyncio.create_task(self._list(waiting.popleft()), name="list a folder"))
                found = await running.popleft()
                waiting.extend(below for below in found.folders if below.path not in but)
                if found.unreadable:
                    yield DirectoryUnreadable(found.listed.path, found.unreadable)
                elif not found.gone:
                    for record in self._tally.records(found.listed, full=True):
                        yield record
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _list(self, folder: _Folder) -> _Found:
        """One directory."""
        there = self._places.absolute(folder.path)
        listed = Listed(folder.path, 0, 0)
        found = _Found(listed, [])
        try:
            # Before its names, so that what is added meanwhile shows in the next look at its time.
            listed.mtime_ns = (await self._sftp.stat(there)).mtime_ns
            async for name, look in self._sftp.list(there):
                path = join(folder.path, name)
                if not self._tally.fits(folder.path, name):
                    continue
                if look.kind == "d":
                    self._enter(found, folder, path, name)
                elif look.kind == "f":
                    listed.files.append(look.entry(path, ages=self._request.ages))
                elif look.kind == "l" and self._follow is not FollowSymlinks.NONE:
                    listed.links.append(path)
                else:
                    listed.others.append((path, FilterReason.LINK if look.kind == "l" else FilterReason.SPECIAL))
            for path in listed.links:
                await self._follow_link(found, folder, path)
        except asyncssh.SFTPError as error:
            found.folders.clear()
            if is_gone(error):
                found.gone = True
            else:
                found.unreadable = says(error)
        self._stamp(listed.mtime_ns)
        return found

    def _enter(self, found: _Found, folder: _Folder, path: bytes, name: bytes) -> None:
        reason = self._request.selection.folder_reason(path)
        if reason is None:
            found.folders.append(_Folder(path, (*folder.chain, join(folder.chain[-1], name))))
        else:
            found.listed.others.append((path, reason))

    async def _follow_link(self, found: _Found, folder: _Folder, path: bytes) -> None:
        there = self._places.absolute(path)
        try:
            look, real = await self._sftp.stat(there), await self._sftp.real(there)
        except asyncssh.SFTPError:
            found.listed.others.append((path, FilterReason.LINK))
            return
        reason = link_reason(self._request.selection, path, look.kind, real, folder.chain, self._real_root)
        if reason is not None:
            found.listed.others.append((path, reason))
        elif look.kind == "d":
            found.folders.append(_Folder(path, (*folder.chain, real)))
        else:
            found.listed.files.append(look.entry(path, ages=self._request.ages))

    def _stamp(self, mtime_ns: int) -> None:
        """Notes a directory's time. One that is ahead of us by far was set by somebody."""
        if mtime_ns <= self._now_ns + 86_400 * 10**9:
            self._newest_ns = max(self._newest_ns, mtime_ns)
