"""A connection to a source by way of SFTP: `mediasync.sources.base.Connection` for servers that run no command.

What it promises less than the agent does is said in docs/sources.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import time
from collections.abc import AsyncIterator, Sequence
from typing import Self

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FollowSymlinks
from mediasync.paths import check_relative
from mediasync.sources.agent.connection import NamedFolders
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
from mediasync.sources.refusals import Refused
from mediasync.sources.roots import SHOWN_NAMES, RootProblem, root_error
from mediasync.sources.selection import EVERYTHING, Selection
from mediasync.sources.sftp.client import Sftp, is_gone, says
from mediasync.sources.sftp.files import Files
from mediasync.sources.sftp.hashing import Hashing
from mediasync.sources.sftp.places import Places, join
from mediasync.sources.sftp.reading import Reading
from mediasync.sources.sftp.scanning import PARALLEL_LOOKS, Scan
from mediasync.sources.sftp.sightings import Sightings
from mediasync.sources.ssh_line import SshLine


class SftpConnection:
    """One SFTP session, and what can be asked of it."""

    def __init__(
        self, sftp: Sftp, probe: SourceProbe, real_root: bytes, folders: NamedFolders, sightings: Sightings, window_bytes: int
    ) -> None:
        self._sftp = sftp
        self._probe = probe
        self._real_root = real_root
        self._folders = folders
        self._sightings = sightings
        self._window_bytes = window_bytes
        self._busy = False

    @classmethod
    async def open(cls, line: SshLine, roots: Sequence[bytes], folders: NamedFolders, sightings: Sightings) -> Self:
        """Starts a session at the first of `roots` that is there. Raises MediasyncError; nothing is left behind then."""
        sftp = await Sftp.open(line)
        try:
            window_bytes = await line.window()
            began = time.perf_counter()
            home = await sftp.real(b".")
            round_trip_seconds = time.perf_counter() - began
            problems = []
            for candidate in roots:
                # Relative ones are below the login's home, like `~/` ones.
                below = b"" if candidate == b"~" else candidate.removeprefix(b"~/")
                root = posixpath.normpath(below if below.startswith(b"/") else join(home, below))
                problem = await _problem(sftp, root)
                if problem is None:
                    real_root = await sftp.real(root)
                    # The protocol tells no clock.
                    probe = SourceProbe("ssh, sftp", f"SFTP version {sftp.version}", root, round_trip_seconds, 0.0)
                    return cls(sftp, probe, real_root, folders, sightings, window_bytes)
                problems.append(problem)
            raise root_error(sftp.place, problems)
        except asyncssh.SFTPError as error:
            await sftp.close()
            raise MediasyncError(
                Reason.SOURCE_PROTOCOL, f"the SFTP server at {sftp.place} does not tell where it is: {says(error)}"
            ) from error
        except BaseException:
            await sftp.close()
            raise

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""
        return self._probe

    @property
    def broken(self) -> bool:
        """Whether it has ended."""
        return self._sftp.failure is not None

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root, linked ones too, sorted, at most `limit`."""
        async with self._call():
            names = []
            async for name, look in self._sftp.list(self._probe.root):
                if EVERYTHING.folder_reason(name) is None and (look.kind == "d" or (look.kind == "l" and await self._is_folder(name))):
                    names.append(name)
            return sorted(names)[:limit]

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        for folder in folders:
            self._folders.add(folder)
        missing = []
        async with self._call():
            for start in range(0, len(folders), PARALLEL_LOOKS):
                some = folders[start : start + PARALLEL_LOOKS]
                there = await asyncio.gather(*(self._is_folder(folder) for folder in some))
                missing += [folder for folder, is_there in zip(some, there, strict=True) if not is_there]
        return missing

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files; see `Connection.scan`. One that is left early closes the connection."""
        self._folders.add(request.folder)
        for folder in request.known_directories:
            if folder:
                check_relative(folder)
        scan = Scan(self._sftp, request, self._places(request.selection.follow_symlinks), self._real_root)
        async with self._call(), contextlib.aclosing(scan.run()) as found:
            async for record in found:
                yield record

    def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """ENGINE_CANNOT: the protocol has no means. Quick scans are the way."""
        return Refused(_cannot("watch a folder", "Quick scans find what is new here; a watch takes a shell with python3."))

    async def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads files; see `Connection.read`. Every file is sent from its beginning. One that is left early closes the connection."""
        files = Files(self._sftp, self._places(selection.follow_symlinks))
        reading = Reading(files, open_sink, self._sightings, pace, self._window_bytes)
        async with self._call(), contextlib.aclosing(reading.run(batches)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def hash_files(
        self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING
    ) -> AsyncIterator[FileHashed]:
        """Hashes files by reading them; see `Connection.hash_files`. One that is left early closes the connection."""
        hashing = Hashing(Files(self._sftp, self._places(selection.follow_symlinks)))
        async with self._call(), contextlib.aclosing(hashing.hashes(batches)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Deletes files; see `Connection.delete_unchanged`. One that is left early closes the connection."""
        hashing = Hashing(Files(self._sftp, self._places(FollowSymlinks.NONE)))
        async with self._call(), contextlib.aclosing(hashing.deletions(files)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """ENGINE_CANNOT: what a rename does with a file that is there already differs from server to server."""
        return Refused(_cannot("move files aside", "It takes a shell with python3."))

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """ENGINE_CANNOT, as `move_aside`."""
        raise _cannot("empty a folder of what was moved aside", "It takes a shell with python3.")

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes folders that are empty; see `Connection.remove_empty_folders`."""
        for folder in folders:
            check_relative(folder)
        async with self._call():
            return await Hashing(Files(self._sftp, self._places(FollowSymlinks.NONE))).drop(folders)

    async def surroundings(self) -> Surroundings:
        """Free space, where the server tells it."""
        async with self._call():
            try:
                free, total = await self._sftp.space(self._probe.root)
            except asyncssh.SFTPError:
                # An extension of OpenSSH's; without it nothing is known.
                return Surroundings()
            return Surroundings(free, total)

    async def close(self) -> None:
        """Ends the session."""
        await self._sftp.close()

    def _places(self, follow: FollowSymlinks) -> Places:
        return Places(self._sftp, self._probe.root, self._real_root, self._folders.all(), follow)

    async def _is_folder(self, path: bytes) -> bool:
        try:
            return (await self._sftp.stat(join(self._probe.root, path))).kind == "d"
        except asyncssh.SFTPError:
            return False

    @contextlib.asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """One thing at a time; whatever leaves in the middle closes the connection."""
        if self._sftp.failure is not None:
            raise self._sftp.failure
        if self._busy:
            raise RuntimeError("a connection does one thing at a time")
        self._busy = True
        try:
            yield
        except BaseException:
            await self._sftp.close()
            raise
        finally:
            self._busy = False


async def _problem(sftp: Sftp, root: bytes) -> RootProblem | None:
    """Why a candidate is not the root; None if it is."""
    message = ""
    try:
        if (await sftp.stat(root)).kind == "d":
            async for _ in sftp.list(root):
                break
            return None
    except asyncssh.SFTPError as error:
        if not is_gone(error):
            message = says(error)
    parent = root
    while parent != b"/":
        parent = posixpath.dirname(parent)
        with contextlib.suppress(asyncssh.SFTPError):
            names = sorted([name async for name, _ in sftp.list(parent)])
            return RootProblem(root, message, parent, tuple(names[:SHOWN_NAMES]), len(names))
    return RootProblem(root, message, parent)


def _cannot(what: str, remedy: str) -> MediasyncError:
    return MediasyncError(Reason.ENGINE_CANNOT, f"the engine sftp cannot {what}", remedy)
