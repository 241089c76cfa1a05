"""A connection to a container by way of its engine's archives: for one that does not run, or has nothing in it to run.

The engine gives a folder as one stream with all its bytes, so that looking for what is new costs as much as reading everything; it tells
mtimes in whole seconds, and no ctimes or inodes. What follows from that stands in docs/sources.md. It deletes nothing and cannot watch.
"""

from __future__ import annotations

import contextlib
import posixpath
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Self, TypeVar

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FilterReason, FollowSymlinks
from mediasync.paths import check_relative, display
from mediasync.sources.agent.connection import NamedFolders
from mediasync.sources.base import (
    DirectoryGone,
    DoomedFile,
    FileDeleted,
    FileEntry,
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
from mediasync.sources.docker.archive_reading import ArchiveReading
from mediasync.sources.docker.container_files import SECOND_NS, ContainerFiles
from mediasync.sources.docker.containers import Container
from mediasync.sources.docker.engine import Engine
from mediasync.sources.docker.tar import BrokenArchiveError, Member, TarStream
from mediasync.sources.listing import Listed, Tally
from mediasync.sources.refusals import Refused
from mediasync.sources.selection import EVERYTHING, Selection
from mediasync.sources.sftp.sightings import Sightings

T = TypeVar("T")


class ArchiveConnection:
    """A container's files, and what can be asked of them. Implements `mediasync.sources.base.Connection`."""

    def __init__(self, files: ContainerFiles, root: bytes, folders: NamedFolders, sightings: Sightings, round_trip_seconds: float) -> None:
        self._files = files
        self._root = root
        self._folders = folders
        self._sightings = sightings
        self._busy = False
        self._closed = False
        self._probe = SourceProbe("docker, archive", files.container.platform, root, round_trip_seconds, files.clock_offset_seconds)

    @classmethod
    async def open(cls, engine: Engine, container: Container, roots: Sequence[bytes], folders: NamedFolders, sightings: Sightings) -> Self:
        """Looks for the first of `roots` that is there. The engine is closed with the connection. Raises MediasyncError."""
        files = ContainerFiles(engine, container)
        tried = []
        try:
            for root in roots:
                path = posixpath.normpath(await files.expanded(root))
                began = time.perf_counter()
                found = await files.look(path + b"/.")
                if found is not None and found.kind == stat.S_IFDIR:
                    return cls(files, path, folders, sightings, time.perf_counter() - began)
                tried.append(display(path))
            raise MediasyncError(
                Reason.SOURCE_ROOT_MISSING,
                f"there is no folder {' nor '.join(tried)} in {files.place}",
                "Give the folder that holds the results as the path of the source, such as docker://container/path/to/outputs.",
            )
        except BaseException:
            await engine.close()
            raise

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""
        return self._probe

    @property
    def broken(self) -> bool:
        """Whether it has ended."""
        return self._closed

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root, linked ones too, sorted, at most `limit`. Streams everything below it."""
        async with self._use():
            names, links = [], []
            async with self._files.archive(self._root + b"/.") as stream:
                async for path, member in self._members(stream):
                    if b"/" in path or not path or EVERYTHING.folder_reason(path) is not None:
                        continue
                    if member.kind == b"5":
                        names.append(path)
                    elif member.kind == b"2":
                        links.append(path)
            names += [path for path in links if await self._is_folder(path)]
            return sorted(names)[:limit]

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        async with self._use():
            for folder in folders:
                self._folders.add(folder)
            return [folder for folder in folders if not await self._is_folder(folder)]

    async def _is_folder(self, path: bytes) -> bool:
        found = await self._files.look(self._root + b"/" + path + b"/.")
        return found is not None and found.kind == stat.S_IFDIR

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files, always at everything; see `Connection.scan`. One that is left early closes the connection."""
        if request.selection.follow_symlinks is not FollowSymlinks.NONE:
            raise self._cannot("follow links")
        self._folders.add(request.folder)
        async with self._use(leaving=True):
            started = self._files.now_ns()
            tally = Tally(request, started)
            seen: set[bytes] = set()
            later: list[Listed] = []
            if not request.folder or await self._is_folder(request.folder):
                path = self._root + b"/" + request.folder if request.folder else self._root
                async with self._files.archive(path + b"/.") as stream:
                    async for found in self._directories(stream, request, tally):
                        seen.add(found.path)
                        if found.links:
                            later.append(found)
                            continue
                        for record in tally.records(found, full=True):
                            yield record
            for found in later:
                found.files += [entry for path in found.links if (entry := await self._entry(path)) is not None]
                for record in tally.records(found, full=True):
                    yield record
            if request.quick:
                for path in sorted(request.known_directories):
                    if path not in seen and _is_in(path + b"/", request.folder):
                        yield DirectoryGone(path)
            yield tally.finished(started)

    async def _directories(self, stream: TarStream | None, request: ScanRequest, tally: Tally) -> AsyncIterator[Listed]:
        """Directories in the order in which the archive leaves them; `links` are files of which it does not say the size."""
        prefix = request.folder + b"/" if request.folder else b""
        open_: list[Listed] = []
        dropped = b""
        async for relative, member in self._members(stream):
            if dropped and relative.startswith(dropped):
                continue
            path = prefix + relative if relative else request.folder
            while open_ and not _is_in(path, open_[-1].path):
                yield open_.pop()
            if not open_:
                if relative or member.kind != b"5":
                    raise MediasyncError(
                        Reason.SOURCE_PROTOCOL, f"{self._files.place} gives an archive that does not begin with its folder"
                    )
                open_.append(Listed(path, 0, member.mtime_ns))
                continue
            parent = open_[-1]
            name = path.rpartition(b"/")[2]
            if not tally.fits(parent.path, name):
                dropped = relative + b"/"
                continue
            check_relative(path)
            if member.kind == b"5":
                reason = request.selection.folder_reason(path)
                if reason is None:
                    open_.append(Listed(path, 0, member.mtime_ns))
                else:
                    parent.others.append((path, reason))
                    dropped = relative + b"/"
            elif member.is_file:
                parent.files.append(FileEntry(path, member.size_bytes, member.mtime_ns, member.mtime_ns, 0))
            elif member.kind == b"1":
                # Another name of a file that came before.
                parent.links.append(path)
            else:
                parent.others.append((path, FilterReason.LINK if member.kind == b"2" else FilterReason.SPECIAL))
        while open_:
            yield open_.pop()

    async def _entry(self, path: bytes) -> FileEntry | None:
        found = await self._files.look(self._root + b"/" + path)
        if found is None or found.kind != stat.S_IFREG:
            return None
        mtime_ns = found.mtime_ns // SECOND_NS * SECOND_NS
        return FileEntry(path, found.size_bytes, mtime_ns, mtime_ns, 0)

    async def _members(self, stream: TarStream | None) -> AsyncIterator[tuple[bytes, Member]]:
        """Entries of an archive of `…/.`, with their paths below it; empty for the folder itself."""
        if stream is None:
            return
        try:
            while (member := await stream.next()) is not None:
                yield posixpath.normpath(b"/" + member.name).lstrip(b"/"), member
        except BrokenArchiveError as error:
            # The engine gives up in the middle when a file changes its size under it.
            message = f"{self._files.engine.place} broke off the archive of {display(self._root)} in {self._files.place}: {error}"
            raise MediasyncError(Reason.CONNECTION_LOST, message) from error

    def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """Cannot be had."""
        return Refused(self._cannot("watch"))

    def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Cannot be had."""
        return Refused(self._cannot("delete"))

    def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """Cannot be had."""
        return Refused(self._cannot("move files"))

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """Cannot be had."""
        raise self._cannot("delete")

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Cannot be had."""
        raise self._cannot("delete")

    async def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads files; see `Connection.read`. One that is left early closes the connection."""
        if selection.follow_symlinks is not FollowSymlinks.NONE:
            raise self._cannot("follow links")
        async with self._use(leaving=True):
            reading = ArchiveReading(self._files, self._root, self._folders.all(), self._sightings, pace)
            async for batch in batches:
                async with _left(reading.read(batch, open_sink)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome

    async def hash_files(
        self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING
    ) -> AsyncIterator[FileHashed]:
        """Hashes files by reading them; see `Connection.hash_files`."""
        if selection.follow_symlinks is not FollowSymlinks.NONE:
            raise self._cannot("follow links")
        async with self._use(leaving=True):
            reading = ArchiveReading(self._files, self._root, self._folders.all(), self._sightings, None)
            async for batch in batches:
                async with _left(reading.hash(batch)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome

    async def surroundings(self) -> Surroundings:
        """Nothing that an engine would tell."""
        async with self._use():
            return Surroundings()

    async def close(self) -> None:
        """Ends the connections to the engine."""
        self._closed = True
        await self._files.engine.close()

    def _cannot(self, what: str) -> MediasyncError:
        return MediasyncError(
            Reason.ENGINE_CANNOT,
            f"{self._files.place} is read as archives of its engine, by which it is not possible to {what}",
            "Start the container, and put python3 into its image.",
        )

    @contextlib.asynccontextmanager
    async def _use(self, *, leaving: bool = False) -> AsyncIterator[None]:
        """One thing at a time. With `leaving` the connection is closed unless what is inside comes to its end."""
        if self._closed:
            raise MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self._files.place} was closed")
        if self._busy:
            raise RuntimeError("a connection does one thing at a time")
        self._busy = True
        done = False
        try:
            yield
            done = True
        except MediasyncError as error:
            if error.reason is not Reason.DOCKER_UNREACHABLE:
                raise
            await self.close()
            raise MediasyncError(Reason.CONNECTION_LOST, error.message) from error
        finally:
            self._busy = False
            if leaving and not done:
                await self.close()


def _is_in(path: bytes, folder: bytes) -> bool:
    return not folder or path.startswith(folder + b"/")


@contextlib.asynccontextmanager
async def _left(answers: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Leaves an iterator whenever its user is done with it, not when it is collected."""
    try:
        yield answers
    finally:
        if isinstance(answers, AsyncGenerator):
            await answers.aclose()
