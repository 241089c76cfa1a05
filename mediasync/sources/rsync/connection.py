"""A connection to a source by way of rsync: `mediasync.sources.base.Connection`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Self, TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FilterReason, FollowSymlinks
from mediasync.paths import display
from mediasync.sources.agent.connection import NamedFolders
from mediasync.sources.base import (
    Connection,
    DirectoryGone,
    DirectoryUnreadable,
    DoomedFile,
    FileDeleted,
    FileEntry,
    FileFiltered,
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
from mediasync.sources.listing import Listed, Tally
from mediasync.sources.refusals import Refused
from mediasync.sources.rsync.commands import Commands
from mediasync.sources.rsync.listing import LIST, Trouble, parse
from mediasync.sources.rsync.program import Far, Run, program
from mediasync.sources.rsync.receiving import Batch, Places, Sightings, folders_above
from mediasync.sources.selection import EVERYTHING, Selection
from mediasync.sources.ssh_line import SshLine

_WILD = re.compile(rb"[\[*?]")
_NO_FILE = frozenset({2, 20})  # ENOENT, ENOTDIR

T = TypeVar("T")


class RsyncConnection:
    """An SSH connection on which rsync is run, once for each thing that is asked."""

    def __init__(self, line: SshLine, far: Far, folders: NamedFolders, places: Places, compress: bool, round_trip_seconds: float) -> None:
        self._line = line
        self._far = far
        self._folders = folders
        self._places = places
        self._compress = compress
        self._sightings = Sightings()
        self._commands = Commands(line, far.root, folders)
        self._near: bytes | None = None
        self._busy = False
        self._failure: MediasyncError | None = None
        self._probe = SourceProbe("ssh, rsync", "a far side that only rsync was asked about", far.root, round_trip_seconds, 0.0)

    @classmethod
    async def open(cls, line: SshLine, roots: Sequence[bytes], folders: NamedFolders, places: Places, compress: bool) -> Self:
        """Lists the first of `roots` that is there. Raises MediasyncError; nothing is left open then."""
        program()
        try:
            connection = await line.log_in()
            await asyncio.to_thread(places.prepare)
            for root in roots:
                far = Far(connection, line.place, root, await line.window())
                async with Run(far, (*LIST, "--dirs")) as run:
                    found = False
                    async for text in run.lines():
                        found = found or parse(text).path == b""
                    troubles = await run.ended()
                    round_trip_seconds = run.round_trip_seconds
                for trouble in troubles:
                    if trouble.errno and trouble.errno not in _NO_FILE:
                        raise MediasyncError(
                            Reason.SOURCE_UNREADABLE, f"{display(root)} at {line.place} cannot be read: {trouble.why or trouble.text}"
                        )
                if found:
                    return cls(line, far, folders, places, compress, round_trip_seconds)
            tried = " nor ".join(map(display, roots))
            raise MediasyncError(
                Reason.SOURCE_ROOT_MISSING,
                f"there is no folder {tried} at {line.place}, as far as rsync may look there",
                "Give the folder that holds the results as the path of the source, such as ssh://host/path/to/outputs. With `rrsync` paths "
                "begin at the folder that it is restricted to.",
            )
        except BaseException:
            await line.let_go()
            raise

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""
        return self._probe

    @property
    def broken(self) -> bool:
        """Whether it has ended."""
        return self._failure is not None or self._far.connection.is_closed()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """One thing at a time; whatever goes wrong ends the connection."""
        if self._failure is not None:
            raise self._failure
        if self._busy:
            raise RuntimeError("a connection does one thing at a time")
        self._busy = True
        try:
            yield
        except MediasyncError as error:
            self._failure = self._failure or error
            raise
        finally:
            self._busy = False

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root, linked ones too, sorted, at most `limit`."""
        with self._using():
            names: list[bytes] = []
            links: list[bytes] = []
            async with Run(self._far, (*LIST, "--dirs")) as run:
                async for text in run.lines():
                    line = parse(text)
                    if line.path and EVERYTHING.folder_reason(line.path) is None and line.kind in "dl":
                        (names if line.kind == "d" else links).append(line.path)
                await run.ended()
            if links:
                names += await self._directories(links)
        return sorted(names)[:limit]

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        for folder in folders:
            self._folders.add(folder)
        if not folders:
            return []
        with self._using():
            there = set(await self._directories(folders))
        return [folder for folder in folders if folder not in there]

    async def _directories(self, paths: Sequence[bytes]) -> list[bytes]:
        """Those that are directories, or links to some."""
        asked, found = set(paths), set()
        # With a slash at its end rsync follows a link, and lists what is in the folder too, unless that is excluded.
        above = {path: None for asked_path in paths for path in (*folders_above(asked_path), asked_path)}
        included = ["--include=/" + os.fsdecode(_pattern(path)) for path in above]
        options = (*LIST, "--dirs", "--no-implied-dirs", *included, "--exclude=*")
        async with Run(self._far, options, os.fsencode(self._places.scratch), [path + b"/" for path in paths]) as run:
            async for text in run.lines():
                line = parse(text)
                if line.kind == "d" and line.path in asked:
                    found.add(line.path)
            await run.ended()
        return [path for path in paths if path in found]

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files, all of them whatever moved; see `Connection.scan`. What is asked for with its ages is looked for by way of a
        command where the server allows one: so it is known as exactly as deleting it takes. One that is left early closes the connection.
        """
        if request.ages and (beside := await self._beside()) is not None:
            async with self._through(beside.scan(request)) as records:
                async for record in records:
                    yield record
            return
        if request.selection.follow_symlinks is not FollowSymlinks.NONE:
            raise _cannot("follow links inside the source")
        self._folders.add(request.folder)
        done = False
        try:
            with self._using():
                started_ns = time.time_ns()
                tally = Tally(request, started_ns)
                async for record in self._scan(request, tally):
                    yield record
                done = True
            yield tally.finished(started_ns)
        finally:
            if not done:
                await self.close()

    async def _beside(self) -> Connection | None:
        try:
            return await self._commands.start("tell ages")
        except MediasyncError as error:
            if error.reason is not Reason.ENGINE_CANNOT:
                raise
            return None

    async def _scan(self, request: ScanRequest, tally: Tally) -> AsyncIterator[ScanRecord]:
        if request.folder:
            run = Run(self._far, (*LIST, "--recursive", "--no-implied-dirs"), os.fsencode(self._places.scratch), [request.folder + b"/"])
        else:
            run = Run(self._far, (*LIST, "--recursive"))
        # rsync lists a directory's own files one after the other, then what is below it; those without files are known only at the end.
        waiting: dict[bytes, Listed] = {}
        passed_over: set[bytes] = set()
        seen: set[bytes] = set()
        current: Listed | None = None
        async with run:
            async for text in run.lines():
                line = parse(text)
                path = line.path
                parent = path.rpartition(b"/")[0]
                if request.folder and path != request.folder and not path.startswith(request.folder + b"/"):
                    continue
                if line.kind == "d":
                    seen.add(path)
                    if path == request.folder:
                        waiting[path] = Listed(path, 0, line.mtime_ns)
                    elif parent in passed_over or not tally.fits(parent, path.rpartition(b"/")[2]):
                        passed_over.add(path)
                    elif (reason := request.selection.folder_reason(path)) is not None:
                        # Counted here: the record of the folder above it may be out already.
                        passed_over.add(path)
                        tally.left_out(reason)
                        if request.explain:
                            yield FileFiltered(path, reason)
                    else:
                        waiting[path] = Listed(path, 0, line.mtime_ns)
                    continue
                if path == request.folder or parent in passed_over:
                    continue
                if current is None or current.path != parent:
                    if current is not None:
                        for record in tally.records(waiting.pop(current.path), full=True):
                            yield record
                    current = waiting.get(parent)
                    if current is None:
                        raise MediasyncError(Reason.SOURCE_PROTOCOL, f"rsync lists {display(path)} out of order")
                if not tally.fits(parent, path.rpartition(b"/")[2]):
                    continue
                if line.kind == "-":
                    current.files.append(FileEntry(path, line.size_bytes, line.mtime_ns, 0, 0))
                else:
                    current.others.append((path, FilterReason.LINK if line.kind == "l" else FilterReason.SPECIAL))
            troubles = await run.ended()
        unreadable = _unreadable(request.folder, waiting, troubles)
        for path, listed in sorted(waiting.items()):
            if path in unreadable and not (listed.files or listed.others):
                continue
            for record in tally.records(listed, full=True):
                yield record
        for path, message in unreadable.items():
            yield DirectoryUnreadable(path, message)
        for path in sorted(request.known_directories) if request.quick else ():
            inside = not request.folder or path == request.folder or path.startswith(request.folder + b"/")
            if inside and path not in seen:
                yield DirectoryGone(path)

    def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """ENGINE_CANNOT."""
        return Refused(_cannot("watch a folder"))

    async def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads files; see `Connection.read`. The next batch is asked for once the last one is done. One that is left early closes
        the connection."""
        done = False
        try:
            with self._using():
                async for batch in batches:
                    if not batch:
                        continue
                    reading = Batch(self._far, self._places, self._sightings, self._folders.all(), self._compress)
                    async for outcome in reading.read(batch, open_sink, pace, self._near, self._found_near):
                        yield outcome
                done = True
        finally:
            if not done:
                await self.close()

    def _found_near(self, folder: bytes) -> None:
        self._near = folder

    def hash_files(self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING) -> AsyncIterator[FileHashed]:
        """ENGINE_CANNOT."""
        return Refused(_cannot("hash files at the source"))

    async def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Deletes files by way of a command; see `Connection.delete_unchanged`. ENGINE_CANNOT where the server allows none."""
        commands = await self._commands.start("delete files at the source safely")
        async with self._through(commands.delete_unchanged(files)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """Moves files by way of a command; see `Connection.move_aside`. ENGINE_CANNOT where the server allows none."""
        commands = await self._commands.start("move files aside")
        async with self._through(commands.move_aside(files, into)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """Deletes what was moved aside, by way of a command; see `Connection.empty_aside`."""
        commands = await self._commands.start("empty a folder of what was moved aside")
        return await commands.empty_aside(folder, before)

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes folders by way of a command; see `Connection.remove_empty_folders`."""
        commands = await self._commands.start("remove folders")
        return await commands.remove_empty_folders(folders)

    @contextlib.asynccontextmanager
    async def _through(self, answers: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
        """A call that the engine beside rsync serves. One that is left early closes the connection."""
        done = False
        try:
            with self._using():
                yield answers
            done = True
        finally:
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()
            if not done:
                await self.close()

    async def surroundings(self) -> Surroundings:
        """rsync tells nothing of them; what runs beside it does."""
        beside = self._commands.connection
        if beside is None:
            return Surroundings(tools=("rsync",))
        with self._using():
            return await beside.surroundings()

    async def close(self) -> None:
        """Ends the connection."""
        self._failure = self._failure or MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self._far.place} is closed")
        await self._commands.close()
        await self._line.let_go()


def _cannot(what: str) -> MediasyncError:
    return MediasyncError(
        Reason.ENGINE_CANNOT,
        f"the engine rsync cannot {what}",
        "Use the engine auto at this source, where the far side allows more than rsync.",
    )


def _pattern(path: bytes) -> bytes:
    """A filter rule that matches just that path. rsync takes backslashes for themselves where there is no wildcard."""
    return re.sub(rb"([\[*?\\])", rb"\\\1", path) if _WILD.search(path) else path


def _unreadable(folder: bytes, listed: dict[bytes, Listed], troubles: Sequence[Trouble]) -> dict[bytes, str]:
    """Which directories could not be listed. What cannot be laid to one speaks against the whole folder: nothing of it
    counts as vanished."""
    found: dict[bytes, str] = {}
    for trouble in troubles:
        if not trouble.errno or (trouble.errno in _NO_FILE and folder not in listed):
            continue  # a summary, or a folder that is not there
        if trouble.errno in _NO_FILE:
            continue  # it vanished meanwhile
        suspects = [path for path in listed if path and trouble.is_of(path)] or [folder]
        found |= dict.fromkeys(suspects, trouble.why or trouble.text)
    return found
