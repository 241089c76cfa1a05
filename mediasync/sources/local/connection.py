"""A connection to a folder of this machine.

The agent runs as a child process and looks at names: it lists, watches, hashes and deletes as it does anywhere. Files are read here, by the
agent's own rules, and their bytes pass through no pipe: `copying` moves them from file to file where the system can. Where links are to be
followed, the agent reads too: finding out where a link leads changes a process's working directory, which is not for a service to do.

A folder that somebody else holds open, such as one of a container, is served as well: it is not looked up by a path again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Self, TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FollowSymlinks
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import (
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
from mediasync.sources.channel import Launched, Receiver
from mediasync.sources.local.reading import Reading
from mediasync.sources.process import ChildLauncher
from mediasync.sources.selection import EVERYTHING, Selection

T = TypeVar("T")


@contextlib.asynccontextmanager
async def left(answers: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Leaves an iterator whenever its user is done with it, not when it is collected."""
    try:
        yield answers
    finally:
        if isinstance(answers, AsyncGenerator):
            await answers.aclose()


class _Launcher:
    """Starts the agent, and can break what it started off."""

    def __init__(self, launcher: ChildLauncher) -> None:
        self._launcher = launcher
        self._receiver: Receiver | None = None

    @property
    def place(self) -> str:
        return self._launcher.place

    async def launch(self, receiver: Receiver) -> Launched:
        self._receiver = receiver
        return await self._launcher.launch(receiver)

    def cut(self, error: MediasyncError) -> None:
        if self._receiver is not None:
            self._receiver.channel_closed(None, error)


class FolderConnection:
    """One folder, and the agent that looks at it. Implements `mediasync.sources.base.Connection`."""

    def __init__(self, agent: AgentConnection, folders: NamedFolders, launcher: _Launcher, root: bytes | int) -> None:
        self._agent = agent
        self._folders = folders
        self._launcher = launcher
        self._root = root
        self._reading: Reading | None = None
        self._failure: MediasyncError | None = None
        self._busy = False
        self._closed = False
        probe = agent.probe
        self._probe = SourceProbe(probe.engine, probe.platform, probe.root, probe.round_trip_seconds, 0.0)

    @classmethod
    async def open(cls, roots: Sequence[bytes], folders: Sequence[bytes]) -> Self:
        """Opens the first of `roots` that is there. Raises MediasyncError; nothing is left behind then."""
        named, launcher = NamedFolders(folders), _Launcher(ChildLauncher())
        agent = await AgentConnection.open(launcher, roots, "local", named)
        return cls(agent, named, launcher, agent.probe.root)

    @classmethod
    async def open_held(cls, folder: int, folders: NamedFolders) -> Self:
        """The same for a folder that is open, and stays the caller's: it has to stay open for as long as the connection. Raises
        MediasyncError; nothing is left behind then."""
        launcher = _Launcher(ChildLauncher(descriptors=(folder,)))
        return cls(await AgentConnection.open(launcher, [b"/proc/self/fd/%d" % folder], "local", folders), folders, launcher, folder)

    def cut(self, error: MediasyncError) -> None:
        """Breaks it, as a line breaks: calls under way and all later ones end with `error`."""
        if self._failure is None and not self._closed:
            self._failure = error
            self._launcher.cut(error)
            if self._reading is not None:
                self._reading.failure = error

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""
        return self._probe

    @property
    def broken(self) -> bool:
        """Whether it has ended."""
        return self._closed or self._failure is not None or self._agent.broken

    @contextlib.contextmanager
    def _use(self) -> Iterator[AgentConnection]:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise MediasyncError(Reason.CONNECTION_LOST, "the connection to this machine was closed")
        if self._busy:
            raise RuntimeError("a connection does one thing at a time")
        self._busy = True
        try:
            yield self._agent
        finally:
            self._busy = False

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root."""
        with self._use() as agent:
            return await agent.list_folders(limit)

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        with self._use() as agent:
            return await agent.missing_folders(folders)

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files; see `Connection.scan`."""
        with self._use() as agent:
            async with left(agent.scan(request)) as records:
                async for record in records:
                    yield record

    async def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """Watches folders; see `Connection.watch`."""
        with self._use() as agent:
            async with left(agent.watch(request)) as moves:
                async for moved in moves:
                    yield moved

    async def hash_files(
        self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING
    ) -> AsyncIterator[FileHashed]:
        """Hashes files; see `Connection.hash_files`."""
        with self._use() as agent:
            async with left(agent.hash_files(batches, selection=selection)) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Deletes files; see `Connection.delete_unchanged`."""
        with self._use() as agent:
            async with left(agent.delete_unchanged(files)) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """Moves files into a folder of their own; see `Connection.move_aside`."""
        with self._use() as agent:
            async with left(agent.move_aside(files, into)) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """Deletes what was moved aside; see `Connection.empty_aside`."""
        with self._use() as agent:
            return await agent.empty_aside(folder, before)

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes folders that are empty; see `Connection.remove_empty_folders`."""
        with self._use() as agent:
            return await agent.remove_empty_folders(folders)

    async def surroundings(self) -> Surroundings:
        """Free space, and the programs that are there."""
        with self._use() as agent:
            return await agent.surroundings()

    async def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads files; see `Connection.read`. One that is left early closes the connection."""
        with self._use() as agent:
            if selection.follow_symlinks is not FollowSymlinks.NONE:
                async with left(agent.read(batches, open_sink, selection=selection, pace=pace)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome
                return
            reading = self._reading = Reading(self._root, self._folders.all(), open_sink, pace)
            done = False
            try:
                async with left(reading.run(batches)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome
                done = True
            finally:
                self._reading = None
                await reading.close()
                if not done:
                    await self.close()

    async def close(self) -> None:
        """Ends the agent."""
        self._closed = True
        await self._agent.close()
