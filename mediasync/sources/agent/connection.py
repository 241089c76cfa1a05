"""A connection to a source by way of the agent: `mediasync.sources.base.Connection` on any channel."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Self

from mediasync.paths import check_relative
from mediasync.sources.agent import wire
from mediasync.sources.agent.reading import ReadCall
from mediasync.sources.agent.session import Opened, Session
from mediasync.sources.base import FileRead, Pace, ScanFinished, ScanRecord, ScanRequest, SinkOpener, SourceProbe, WantedFile
from mediasync.sources.channel import Launcher
from mediasync.sources.selection import EVERYTHING, Selection

WAITING_RECORDS = 8  # frames of a scan that wait for their reader before the far side does


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
        return await self._names(wire.list_folders(limit))

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        for folder in folders:
            self._folders.add(folder)
        missing = set(await self._names(wire.missing_folders(folders))) if folders else set()
        return [folder for folder in folders if folder in missing]

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files; see `Connection.scan`. One that is left early closes the connection."""
        self._folders.add(request.folder)
        call = _RecordsCall(self._session)
        self._session.begin(call)
        done = False
        try:
            for frame in wire.scan(request.folder, request.changed_since_ns, request.known_directories.items()):
                self._session.write(frame)
                await self._session.drain()
            while not done:
                record = wire.scan_record(*await call.next())
                if isinstance(record, ScanFinished):
                    done = True
                    self._session.finish(call)
                yield record
        finally:
            if not done:
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
        call = ReadCall(self._session, open_sink, self._folders.all(), self._window_bytes)
        self._session.begin(call)
        feeder = asyncio.create_task(call.feed(batches), name="read batches")
        done = False
        try:
            while (outcome := await call.next()) is not None:
                yield outcome
            done = True
            self._session.finish(call)
        finally:
            feeder.cancel()
            await asyncio.wait([feeder])
            if not done:
                await self.close()

    async def close(self) -> None:
        """Ends the session, and the program on the far side with it."""
        await self._session.close()

    async def _names(self, request: bytes) -> list[bytes]:
        call = _RecordsCall(self._session)
        self._session.begin(call)
        done = False
        try:
            self._session.write(request)
            kind, payload = await call.next()
            if kind != wire.Answer.NAMES:
                raise wire.broken(f"a frame of kind {kind} instead of names")
            result = wire.names(payload)
            done = True
            self._session.finish(call)
        finally:
            if not done:
                await self.close()
        return result


class _RecordsCall:
    """Answers that are taken one by one; the far side waits while several are left lying."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._failure: BaseException | None = None
        self._paused = False

    @property
    def due(self) -> bool:
        return not self._paused

    def frame(self, kind: int, payload: bytes) -> int:
        self._waiting.append((kind, payload))
        self._arrived.set()
        if len(self._waiting) >= WAITING_RECORDS and not self._paused:
            self._paused = True
            self._session.pause()
        return 0

    def data(self, data: bytes) -> None:
        raise AssertionError("no raw bytes follow a record")

    def failed(self, error: BaseException) -> None:
        self._failure = error
        self._arrived.set()

    async def next(self) -> tuple[int, bytes]:
        while not self._waiting:
            if self._failure is not None:
                raise self._failure
            self._arrived.clear()
            await self._arrived.wait()
        item = self._waiting.popleft()
        if self._paused and len(self._waiting) <= WAITING_RECORDS // 2:
            self._paused = False
            self._session.resume()
        return item
