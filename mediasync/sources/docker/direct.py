"""A container's files read as files of this machine, past the Docker engine: no byte of them goes through it.

Possible where the engine is reached by a socket of this machine and the services' user may read what `held` finds there. By way of the
process it is the kernel that says whose files these are; of a mount the container itself is asked which folder of which kernel it sees: an
engine behind a tunnel, or one in another container, may have a folder of the same name, on a disk of the same number.

Nothing here follows a link: the system would look for where it leads on this machine. What needs links followed (a selection that wants
them, a folder that you named and that is or lies behind a link) is done by an engine in the container, in a second connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FollowSymlinks
from mediasync.paths import display
from mediasync.sources.agent.connection import NamedFolders
from mediasync.sources.base import (
    Connection,
    DeleteStatus,
    DoomedFile,
    FileDeleted,
    FileHashed,
    FileRead,
    Pace,
    ScanRecord,
    ScanRequest,
    SinkOpener,
    SourceProbe,
    Surroundings,
    WantedFile,
)
from mediasync.sources.docker import held, running
from mediasync.sources.docker.container_files import ContainerFiles
from mediasync.sources.docker.containers import Container, find
from mediasync.sources.docker.engine import Engine, EngineError
from mediasync.sources.docker.held import Held
from mediasync.sources.docker.running import Run
from mediasync.sources.local.connection import FolderConnection, left
from mediasync.sources.selection import EVERYTHING, Selection

OpenEngine = Callable[[], Awaitable[Engine]]
ByExec = Callable[[], Awaitable[Connection]]


class NotDirectError(Exception):
    """The files cannot be read directly, and why; `for_good` says that trying again is of no use."""

    def __init__(self, why: str, *, for_good: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good


@dataclass(frozen=True)
class _Found:
    folder: Held
    root: bytes
    writable: bool


async def connect(
    engine: Engine, container: Container, roots: Sequence[bytes], folders: NamedFolders, open_engine: OpenEngine, by_exec: ByExec
) -> DirectConnection:
    """A connection to the first of `roots` that is there, which closes `engine` with itself. Raises NotDirectError where that is not
    possible, and leaves `engine` open then: the ways by way of the engine say what is wrong. `open_engine` makes another connection to the
    engine, `by_exec` one to the container."""
    if not engine.on_this_machine:
        raise NotDirectError("the engine is not reached by a socket of this machine", for_good=True)
    if not container.running:
        raise NotDirectError("the container does not run")
    async with contextlib.AsyncExitStack() as stack:
        try:
            # First: a process that is seen from now on is of this run.
            run = await Run.begin(engine, container)
            if run is None:
                raise NotDirectError("the engine does not say when the container stops", for_good=True)
            stack.push_async_callback(run.close)
            container = await find(engine, container.id)
            files = ContainerFiles(engine, container)
            found = await _found(open_engine, container, [posixpath.normpath(await files.expanded(root)) for root in roots])
            stack.callback(found.folder.close)
            near = await FolderConnection.open_held(found.folder.fd, held.Unlinked())
        except (MediasyncError, EngineError, OSError) as error:
            raise NotDirectError(str(error)) from error
        stack.push_async_callback(near.close)
        run.on_end = near.cut
        if run.ended is not None:
            near.cut(run.ended)
        resources = contextlib.AsyncExitStack()
        resources.push_async_callback(engine.close)
        resources.push_async_exit(stack.pop_all())
        return DirectConnection(container, near, found, folders, by_exec, resources)


async def _found(open_engine: OpenEngine, container: Container, paths: Sequence[bytes]) -> _Found:
    """The first of `paths` that is there, opened. Raises NotDirectError."""
    # Others are below the home that a program in the container has.
    if not all(path.startswith(b"/") and b"\n" not in path for path in paths):
        raise NotDirectError("the path is not absolute")
    top = await asyncio.to_thread(held.process_root, container)
    if top is not None:
        try:
            return await asyncio.to_thread(_below, top, paths)
        finally:
            os.close(top)
    places = [place for path in paths if (place := held.mounted_place(container, path)) is not None]
    if len(places) < len(paths):
        raise NotDirectError("the container's process may not be looked into, and the path is not a mounted folder alone")
    boot, seen = await running.identify(await open_engine(), container, paths)
    if boot != await asyncio.to_thread(held.boot_id):
        raise NotDirectError("the container is not on this machine")
    for path, place, identity in zip(paths, places, seen, strict=True):
        if identity is not None:
            return _Found(await asyncio.to_thread(held.open_place, place, identity), path, place.writable)
    raise NotDirectError("the container does not say which folder that is")


def _below(top: int, paths: Sequence[bytes]) -> _Found:
    for path in paths:
        try:
            # The mount's own flags count there, so that it need not be asked whether the container may write.
            return _Found(Held.open(top, path), path, True)
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise NotDirectError("the container has no such folder")


async def _refused(files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
    async for batch in files:
        for doomed in batch:
            yield FileDeleted(doomed, DeleteStatus.REFUSED, "it is mounted read-only into the container")


class DirectConnection:
    """A container's folder, held open here. Implements `mediasync.sources.base.Connection`."""

    def __init__(
        self,
        container: Container,
        near: FolderConnection,
        found: _Found,
        folders: NamedFolders,
        by_exec: ByExec,
        resources: contextlib.AsyncExitStack,
    ) -> None:
        self._container = container
        self._near = near
        self._folder = found.folder
        self._writable = found.writable
        self._folders = folders
        self._by_exec = by_exec
        self._resources = resources
        self._far: Connection | None = None
        self._probe = SourceProbe("docker, direct", near.probe.platform, found.root, 0.0, 0.0)

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""
        return self._probe

    @property
    def broken(self) -> bool:
        """Whether it has ended."""
        return self._near.broken or (self._far is not None and self._far.broken)

    async def _way(self, selection: Selection = EVERYTHING, *, listing: bool = False) -> Connection:
        """Who answers a call: the folder here, or an engine in the container where a link has to be followed. Raises CONNECTION_LOST when
        another folder has taken this one's place: it is looked up again then."""
        if self._near.broken:
            return self._near
        still_there, plain = await asyncio.to_thread(self._look, listing)
        if not still_there:
            error = MediasyncError(
                Reason.CONNECTION_LOST, f"{display(self._probe.root)} in the container {self._container.name} is another folder now"
            )
            self._near.cut(error)
            return self._near
        if plain and selection.follow_symlinks is FollowSymlinks.NONE:
            return self._near
        if self._far is None:
            self._far = await self._by_exec()
        return self._far

    def _look(self, listing: bool) -> tuple[bool, bool]:
        plain = not (listing and self._folder.has_links()) and all(self._folder.is_plain(name) for name in self._folders.all())
        return self._folder.still_there(), plain

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root, linked ones too."""
        return await (await self._way(listing=True)).list_folders(limit)

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        for folder in folders:
            self._folders.add(folder)
        return await (await self._way()).missing_folders(folders)

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files; see `Connection.scan`."""
        self._folders.add(request.folder)
        way = await self._way(request.selection)
        async with left(way.scan(request)) as records:
            async for record in records:
                yield record

    async def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """Watches folders; see `Connection.watch`. Every few seconds the root is looked up again."""
        self._folders.add(request.folder)
        way = await self._way(request.selection)
        async with left(way.watch(request)) as moves:
            async for moved in moves:
                yield moved
                if not await asyncio.to_thread(self._folder.still_there):
                    await self._way()

    async def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads files; see `Connection.read`."""
        way = await self._way(selection)
        async with left(way.read(batches, open_sink, selection=selection, pace=pace)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def hash_files(
        self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING
    ) -> AsyncIterator[FileHashed]:
        """Hashes files; see `Connection.hash_files`."""
        way = await self._way(selection)
        async with left(way.hash_files(batches, selection=selection)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Deletes files; see `Connection.delete_unchanged`. What the container may not write to is not written to around it."""
        if not self._writable:
            async for refused in _refused(files):
                yield refused
            return
        way = await self._way()
        async with left(way.delete_unchanged(files)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """Moves files aside; see `Connection.move_aside`."""
        if not self._writable:
            async for refused in _refused(files):
                yield refused
            return
        way = await self._way()
        async with left(way.move_aside(files, into)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """Deletes what was moved aside; see `Connection.empty_aside`."""
        return await (await self._way()).empty_aside(folder, before) if self._writable else 0

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes folders that are empty; see `Connection.remove_empty_folders`."""
        return await (await self._way()).remove_empty_folders(folders) if self._writable else []

    async def surroundings(self) -> Surroundings:
        """Free space. The programs in the container are of no interest to it."""
        found = await self._near.surroundings()
        return Surroundings(found.free_bytes, found.total_bytes)

    async def close(self) -> None:
        """Ends both connections, and lets go of the folder."""
        far, self._far = self._far, None
        try:
            if far is not None:
                await far.close()
        finally:
            await self._resources.aclose()
