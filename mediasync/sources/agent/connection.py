"""A connection to a source by way of the agent: `mediasync.sources.base.Connection` on any channel."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Self

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import check_relative, display
from mediasync.sources.agent import requests, scanned, wire
from mediasync.sources.agent.calls import BatchCall, Item, Outcome, RecordsCall
from mediasync.sources.agent.payloads import broken
from mediasync.sources.agent.reading import DeleteCall, HashCall, ReadCall
from mediasync.sources.agent.session import Opened, Session
from mediasync.sources.base import (
    DirectoryGone,
    DoomedFile,
    FileDeleted,
    FileHashed,
    FileRead,
    Pace,
    ScanFinished,
    ScanRecord,
    ScanRequest,
    SinkOpener,
    SourceProbe,
    Surroundings,
    WantedFile,
)
from mediasync.sources.channel import Launcher
from mediasync.sources.selection import EVERYTHING, Selection


class NamedFolders:
    """The folders that the user named at one source, shared by its connections: only these may be links."""

    def __init__(self, folders: Sequence[bytes] = ()) -> None:
        self._folders = dict.fromkeys(folders)

    def add(self, folder: bytes) -> None:
        """Notes one."""
        if folder:
            self._folders[check_relative(folder)] = None

    def all(self) -> list[bytes]:
        """Every one."""
        return list(self._folders)


class AgentConnection:
    """One program of ours at a far side, and what can be asked of it."""

    def __init__(self, session: Session, opened: Opened, engine: str, folders: NamedFolders) -> None:
        self._session = session
        self._folders = folders
        self._window_bytes = opened.window_bytes
        self._selection: Selection = EVERYTHING
        ready = opened.ready
        self._probe = SourceProbe(
            engine=f"{engine}, agent on {ready.python}",
            platform=ready.platform,
            root=ready.root,
            round_trip_seconds=opened.round_trip_seconds,
            clock_offset_seconds=opened.clock_offset_seconds,
        )

    @classmethod
    async def open(cls, launcher: Launcher, roots: Sequence[bytes], engine: str, folders: NamedFolders) -> Self:
        """Starts the agent at the first of `roots` that is there. Raises MediasyncError; nothing is left behind then."""
        session = Session(launcher.place)
        opened = await session.open(launcher, list(roots))
        return cls(session, opened, engine, folders)

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""
        return self._probe

    @property
    def broken(self) -> bool:
        """Whether it has ended."""
        return self._session.failure is not None

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root, linked ones too, sorted, at most `limit`."""
        return await self._names(requests.list_folders(limit))

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        for folder in folders:
            self._folders.add(folder)
        missing = set(await self._names(requests.missing_folders(folders))) if folders else set()
        return [folder for folder in folders if folder in missing]

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files; see `Connection.scan`. One that is left early closes the connection."""
        self._folders.add(request.folder)
        call = RecordsCall(self._session)
        self._session.begin(call)
        done = False
        try:
            await self._send(self._selected(request.selection), requests.scan(request, self._folders.all()))
            while not done:
                record = scanned.scan_record(*await call.next())
                if isinstance(record, ScanFinished):
                    done = True
                    self._session.finish(call)
                else:
                    _check_below(request.folder, record.path)
                    if isinstance(record, DirectoryGone) and record.path not in request.known_directories:
                        raise broken("the end of a directory that was not known")
                yield record
        finally:
            if not done:
                await self.close()

    async def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """Says in which directories something moves; see `Connection.watch`."""
        self._folders.add(request.folder)
        call = RecordsCall(self._session)
        self._session.begin(call)
        try:
            await self._send(self._selected(request.selection), requests.watch(request, self._folders.all()))
            while True:
                kind, payload = await call.next()
                if kind != wire.Answer.MOVED:
                    raise broken(f"a frame of kind {kind} while watching")
                paths = scanned.moved(payload)
                for path in paths:
                    _check_below(request.folder, path)
                yield paths
        finally:
            await self.close()

    async def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads files; see `Connection.read`. One that is left early closes the connection."""
        call = ReadCall(self._session, open_sink, self._folders.all(), self._window_bytes, pace)
        async for outcome in self._run(call, batches, selection):
            yield outcome

    async def hash_files(
        self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING
    ) -> AsyncIterator[FileHashed]:
        """Hashes files at the far side; see `Connection.hash_files`. One that is left early closes the connection."""
        async for outcome in self._run(HashCall(self._session, self._folders.all()), batches, selection):
            yield outcome

    async def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Deletes files that are what is said of them; see `Connection.delete_unchanged`. One that is left early closes the connection."""
        async for outcome in self._run(DeleteCall(self._session, self._folders.all()), files, self._selection):
            yield outcome

    async def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """Moves files into a folder of their own; see `Connection.move_aside`. One that is left early closes the connection."""
        call = DeleteCall(self._session, self._folders.all(), check_relative(into))
        async for outcome in self._run(call, files, self._selection):
            yield outcome

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """Deletes what was moved aside before a day; see `Connection.empty_aside`. Raises SOURCE_UNREADABLE where some of it cannot be."""
        day = datetime.date.fromisoformat(before).isoformat()
        count, message = wire.emptied(await self._ask(requests.empty_aside(check_relative(folder), day), wire.Answer.EMPTIED))
        if message:
            raise MediasyncError(
                Reason.SOURCE_UNREADABLE,
                f"not all of {display(folder)} at {self._session.place} could be removed: {message} ({count} files went)",
                "Remove what is left there by hand, or give the login the right to.",
            )
        return count

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes folders that are empty; see `Connection.remove_empty_folders`."""
        for folder in folders:
            check_relative(folder)
        gone: list[bytes] = []
        for request, asked in requests.remove_folders(folders, self._folders.all()):
            some = await self._names(request)
            left = iter(asked)
            # In the order in which they were asked for, each once at most.
            if not all(folder in left for folder in some):
                await self.close()
                raise broken("a folder that was not to be removed")
            gone += some
        return gone

    async def surroundings(self) -> Surroundings:
        """Free space, and the programs that are there."""
        return wire.free(await self._ask(requests.surroundings(), wire.Answer.FREE))

    async def close(self) -> None:
        """Ends the session, and the program on the far side with it."""
        await self._session.close()

    def _selected(self, selection: Selection) -> list[bytes]:
        """The request that makes the far side's selection this one, if it is another."""
        if selection == self._selection:
            return []
        frame = requests.select(selection)
        self._selection = selection
        return [frame]

    async def _send(self, *groups: Iterable[bytes]) -> None:
        for group in groups:
            for frame in group:
                self._session.write(frame)
                await self._session.drain()

    async def _run(
        self, call: BatchCall[Item, Outcome], batches: AsyncIterator[Sequence[Item]], selection: Selection
    ) -> AsyncIterator[Outcome]:
        frames = self._selected(selection)
        outcomes = call.run(batches, frames)
        try:
            async for outcome in outcomes:
                yield outcome
        finally:
            await outcomes.aclose()

    async def _names(self, request: bytes) -> list[bytes]:
        return wire.names(await self._ask(request, wire.Answer.NAMES))

    async def _ask(self, request: bytes, answer: wire.Answer) -> bytes:
        """One frame for one frame."""
        call = RecordsCall(self._session)
        self._session.begin(call)
        done = False
        try:
            self._session.write(request)
            kind, payload = await call.next()
            if kind != answer:
                raise broken(f"a frame of kind {kind} instead of {answer.name}")
            done = True
            self._session.finish(call)
        finally:
            if not done:
                await self.close()
        return payload


def _check_below(folder: bytes, path: bytes) -> None:
    if folder and path != folder and not path.startswith(folder + b"/"):
        raise broken(f"something outside of the folder that was asked for: {display(path[:200])}")
