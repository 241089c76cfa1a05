"""A connection to a source by way of its shell: `mediasync.sources.base.Connection` for far sides without Python.

What it promises less than the agent does is said in docs/sources.md. It never writes at the far side but to delete.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Self

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import MAX_PATH_BYTES, check_relative, display
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
from mediasync.sources.channel import Launcher
from mediasync.sources.posix import wire
from mediasync.sources.posix.gathering import records
from mediasync.sources.posix.hashing import Deleting, Dropping, Hashing
from mediasync.sources.posix.pipeline import Far
from mediasync.sources.posix.reading import Reading
from mediasync.sources.posix.scanning import Scan
from mediasync.sources.posix.stream import Stream
from mediasync.sources.refusals import Refused
from mediasync.sources.roots import SHOWN_NAMES, RootProblem, root_error
from mediasync.sources.selection import EVERYTHING, Selection

_NEEDED = ("find", "xargs", "stat")
_MAX_FOLDERS = 100_000
_DF = re.compile(rb"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%\s")


class PosixConnection:
    """One shell at a far side, and what can be asked of it."""

    def __init__(
        self,
        stream: Stream,
        probe: SourceProbe,
        tools: frozenset[str],
        physical_root: bytes,
        folders: NamedFolders,
    ) -> None:
        self._stream = stream
        self._probe = probe
        self._tools = tools
        self._physical_root = physical_root
        self._folders = folders
        self._window_bytes = stream.window_bytes
        self._busy = False

    @classmethod
    async def open(cls, launcher: Launcher, roots: Sequence[bytes], engine: str, folders: NamedFolders) -> Self:
        """Starts the shell at the first of `roots` that is there. Raises MediasyncError; nothing is left behind then."""
        stream = Stream(launcher.place)
        await stream.open(launcher, list(roots))
        try:
            problems = []
            while not (line := await stream.line()).startswith(b"ready"):
                problems.append(await _problem(stream, line))
                if len(problems) > len(roots):
                    raise wire.broken("more folders than were asked for")
            tools = frozenset(line.decode("ascii", "replace").split()[1:])
            root, physical = await stream.until(b"\0"), await stream.until(b"\0")
            platform = display((await stream.until(b"\0"))[:200])
            clock_ns = wire.clock_ns(await stream.line())
            offset_seconds = (clock_ns - time.time_ns()) / 1e9 + stream.round_trip_seconds / 2
            missing = [tool for tool in _NEEDED if tool not in tools]
            if missing:
                raise MediasyncError(
                    Reason.ENGINE_CANNOT,
                    f"{stream.place} has no {' and no '.join(missing)} that the engine posix can use",
                    "It takes GNU's findutils and coreutils, or busybox. Install python3 there instead, or use the engine sftp.",
                )
            if not root:
                raise root_error(stream.place, problems)
            if not root.startswith(b"/") or not physical.startswith(b"/") or max(len(root), len(physical)) > MAX_PATH_BYTES:
                raise wire.broken(f"a root that is none: {display(root[:200])!r}")
        except BaseException:
            await stream.close()
            raise
        kind = "GNU" if "gnu" in tools else "busybox"
        probe = SourceProbe(
            f"{engine}, posix with {kind} tools", platform, posixpath.normpath(root), stream.round_trip_seconds, offset_seconds
        )
        return cls(stream, probe, tools, physical, folders)

    @property
    def probe(self) -> SourceProbe:
        """What was learned when the connection was made."""
        return self._probe

    @property
    def broken(self) -> bool:
        """Whether it has ended."""
        return self._stream.failure is not None

    async def list_folders(self, limit: int = 200) -> list[bytes]:
        """Names of the directories directly below the root, linked ones too, sorted, at most `limit`."""
        async with self._call():
            self._stream.write(wire.request(b"folders"))
            names = await self._stream.names(_MAX_FOLDERS)
            if names == [b"/"]:
                # No name can be that.
                raise MediasyncError(Reason.SOURCE_ROOT_MISSING, f"the folder {display(self._probe.root)} is not there any more")
            kept = [name for name in names if EVERYTHING.folder_reason(wire.listed_path(b"./" + name)) is None]
            return sorted(kept)[:limit]

    async def missing_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Those of `folders` that are no directories below the root."""
        for folder in folders:
            self._folders.add(folder)
        there = set()
        async with self._call():
            async for name, fields in records(self._stream, wire.request(b"stat"), list(folders)):
                if name and wire.seen(fields).kind == "d":
                    there.add(wire.listed_path(name))
        return [folder for folder in folders if folder not in there]

    async def scan(self, request: ScanRequest) -> AsyncIterator[ScanRecord]:
        """Looks for files; see `Connection.scan`. One that is left early closes the connection."""
        self._folders.add(request.folder)
        for folder in request.known_directories:
            if folder:
                check_relative(folder)
        scan = Scan(self._stream, request, self._probe.root, self._physical_root)
        async with self._call(), contextlib.aclosing(scan.run()) as found:
            async for record in found:
                yield record

    async def watch(self, request: ScanRequest) -> AsyncIterator[frozenset[bytes]]:
        """ENGINE_CANNOT: there is no tool for it everywhere. Quick scans are the way."""
        for _ in ():
            yield frozenset()
        raise _cannot("watch a folder", "Quick scans find what is new here; install python3 at the far side for a watch.")

    async def read(
        self,
        batches: AsyncIterator[Sequence[WantedFile]],
        open_sink: SinkOpener,
        *,
        selection: Selection = EVERYTHING,
        pace: Pace | None = None,
    ) -> AsyncIterator[FileRead]:
        """Reads files; see `Connection.read`. One that is left early closes the connection."""
        async with self._call():
            reading = Reading(self._far(), open_sink, selection, pace, self._window_bytes)
            async with contextlib.aclosing(reading.run(batches)) as outcomes:
                async for outcome in outcomes:
                    yield outcome

    async def hash_files(
        self, batches: AsyncIterator[Sequence[WantedFile]], *, selection: Selection = EVERYTHING
    ) -> AsyncIterator[FileHashed]:
        """Hashes files by `sha256sum`; see `Connection.hash_files`. One that is left early closes the connection."""
        self._need_sums()
        async with self._call(), contextlib.aclosing(Hashing(self._far(), selection, self._window_bytes).run(batches)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def delete_unchanged(self, files: AsyncIterator[Sequence[DoomedFile]]) -> AsyncIterator[FileDeleted]:
        """Deletes files; see `Connection.delete_unchanged`. One that is left early closes the connection."""
        self._need_sums()
        async with self._call(), contextlib.aclosing(Deleting(self._far(), self._window_bytes).run(files)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    def move_aside(self, files: AsyncIterator[Sequence[DoomedFile]], into: bytes) -> AsyncIterator[FileDeleted]:
        """ENGINE_CANNOT: there is no tool that renames without replacing everywhere."""
        return Refused(_cannot("move files aside", "Install python3 at the far side for it."))

    async def empty_aside(self, folder: bytes, before: str) -> int:
        """ENGINE_CANNOT, as `move_aside`."""
        raise _cannot("empty a folder of what was moved aside", "Install python3 at the far side for it.")

    async def remove_empty_folders(self, folders: Sequence[bytes]) -> list[bytes]:
        """Removes folders that are empty by `rmdir`; see `Connection.remove_empty_folders`."""
        for folder in folders:
            check_relative(folder)
        async with self._call():
            return await Dropping(self._far()).run(folders)

    async def surroundings(self) -> Surroundings:
        """Free space by `df`, and the programs that are there."""
        async with self._call():
            self._stream.write(wire.request(b"around"))
            table = b""
            while line := await self._stream.line():
                table += line + b"\n"
            tools = [display(name.partition(b"\n")[0].strip()[:200]) for name in await self._stream.names(64)]
        found = _DF.search(table)
        if found is None:
            return Surroundings(tools=tuple(tools))
        total, _, free = (int(number) * 1024 for number in found.groups())
        return Surroundings(free, total, tuple(tools))

    async def close(self) -> None:
        """Ends the shell."""
        await self._stream.close()

    def _far(self) -> Far:
        return Far(self._stream, int(self._probe.clock_offset_seconds * 1e9), self._folders.all(), "proc" in self._tools)

    def _need_sums(self) -> None:
        if "sha256sum" not in self._tools:
            raise _cannot("hash files without sha256sum", "Install coreutils or python3 at the far side.")

    @contextlib.asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """One thing at a time; whatever leaves in the middle of an answer closes the connection."""
        if self._stream.failure is not None:
            raise self._stream.failure
        if self._busy:
            raise RuntimeError("a connection does one thing at a time")
        self._busy = True
        try:
            yield
        except BaseException:
            await self._stream.close()
            raise
        finally:
            self._busy = False


async def _problem(stream: Stream, kind: bytes) -> RootProblem:
    """Why one candidate is not the root."""
    path, parent = await stream.until(b"\0"), await stream.until(b"\0")
    names = await stream.names(SHOWN_NAMES)
    total = wire.size(await stream.line())
    messages = {b"missing": "", b"file": "", b"denied": "Permission denied"}
    if kind not in messages:
        raise wire.broken("a folder of no kind")
    return RootProblem(path, messages[kind], parent, tuple(names), total)


def _cannot(what: str, remedy: str) -> MediasyncError:
    return MediasyncError(Reason.ENGINE_CANNOT, f"the engine posix cannot {what}", remedy)
