"""Taking one batch of files with rsync: listed, transferred into a folder of ours, handed to their sinks, and listed again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mediasync.paths import check_relative
from mediasync.sources.agent.program.endings import Ending
from mediasync.sources.base import FileEntry, FileRead, FileSink, Pace, ReadStatus, Sink, SinkOpener, WantedFile
from mediasync.sources.endings import verdict
from mediasync.sources.rsync.listing import LIST, Line, Trouble, parse
from mediasync.sources.rsync.program import Far, Run, shows_progress
from mediasync.sources.rsync.progress import SHOW, OnBytes, Progress

TRANSFER = ("--times", "--no-perms", "--no-owner", "--no-group", "--no-implied-dirs")
MAX_YOUNG_BYTES = 64 << 20
"""A file that is still young is transferred to look at its end only up to this size."""
PIECE_BYTES = 1 << 20
_KEEP_PARTIAL_SECONDS = 7 * 86_400
_MAX_SIGHTINGS = 10_000
_NO_FILE = frozenset({2, 20})  # ENOENT, ENOTDIR


class Sightings:
    """When a file was first seen as it is, for those whose mtime lies in the future and says nothing of their age."""

    def __init__(self) -> None:
        self._seen: dict[tuple[bytes, int, int], float] = {}

    def age_seconds(self, entry: FileEntry) -> float:
        """For how long at least it has been as it is."""
        age = time.time() - entry.mtime_ns / 1e9
        if age >= 0:
            return age
        if len(self._seen) >= _MAX_SIGHTINGS:
            self._seen.pop(next(iter(self._seen)))
        now = time.monotonic()
        return now - self._seen.setdefault((entry.path, entry.size_bytes, entry.mtime_ns), now)


@dataclass(frozen=True)
class Places:
    """Where bytes are until a sink has them: `scratch` and `partial` are folders of the data folder. What was cut off is kept in
    `partial`, and rsync goes on from there."""

    scratch: Path
    partial: Path

    @classmethod
    def of(cls, home: Path, source_key: str) -> Places:
        """Those of a source. `home` is the data folder."""
        folder = home / "rsync"
        return cls(folder / "scratch", folder / "partial" / hashlib.sha256(source_key.encode()).hexdigest()[:16])

    def forget(self) -> None:
        """Removes what was cut off. A transfer that is under way elsewhere goes on; what it may lose is time. Raises OSError."""
        if self.partial.is_dir():
            for file in self.partial.iterdir():
                file.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Makes the folders, and removes what dead processes left and beginnings that nobody went on with."""
        for folder in (self.scratch, self.partial):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in self.scratch.glob("rsync-*"):
            if not _lives(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
        for file in self.partial.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _KEEP_PARTIAL_SECONDS:
                    file.unlink()


def _lives(name: str) -> bool:
    """Whether the process that made a folder of that name is still there."""
    try:
        os.kill(int(name.split("-")[1]), 0)
    except (ProcessLookupError, ValueError, IndexError):
        return False
    except PermissionError:
        pass
    return True


class Batch:
    """One batch. `folders` are those that may be links."""

    def __init__(self, far: Far, places: Places, sightings: Sightings, folders: Sequence[bytes], compress: bool) -> None:
        self._far = far
        self._places = places
        self._sightings = sightings
        self._folders = folders
        self._compress = compress

    async def read(
        self, batch: Sequence[WantedFile], open_sink: SinkOpener, pace: Pace | None, near: bytes | None, found_near: Callable[[bytes], None]
    ) -> AsyncIterator[FileRead]:
        """The outcomes, in order. `near` is a folder on the sinks' own file system, once one is known; `found_near` is told."""
        for wanted in batch:
            check_relative(wanted.path)
        outcomes: dict[bytes, FileRead] = {}
        before = await self._look(batch)
        takes = []
        for wanted in batch:
            early = self._early(wanted, before)
            if early is not None:
                outcomes[wanted.path] = early
            else:
                takes.append(wanted)
        if takes:
            parent = near or os.fsencode(self._places.scratch)
            folder = await asyncio.to_thread(tempfile.mkdtemp, dir=parent, prefix=b"rsync-%d-" % os.getpid())
            try:
                sinks: dict[bytes, Sink] = {}

                def sink_of(wanted: WantedFile) -> Sink:
                    if wanted.path not in sinks:
                        sinks[wanted.path] = open_sink(wanted, 0)
                    return sinks[wanted.path]

                def came(wanted: WantedFile, count: int) -> None:
                    if isinstance(sink := sink_of(wanted), FileSink):
                        sink.coming(count)

                troubles = await self._transfer(takes, folder, pace, came)
                taken: dict[bytes, bool] = {}
                for wanted in takes:
                    outcome, incomplete = await asyncio.to_thread(self._arrived, wanted, folder, troubles)
                    if outcome is not None:
                        outcomes[wanted.path] = outcome
                        continue
                    taken[wanted.path] = incomplete
                    sink = sink_of(wanted)
                    await _hand_over(os.path.join(folder, wanted.path), sink)
                    if isinstance(sink, FileSink):
                        found_near(sink.folder)
                after = await self._look([wanted for wanted in takes if wanted.path in taken]) if taken else {}
                for wanted in takes:
                    if wanted.path in taken:
                        outcomes[wanted.path] = self._stood_still(wanted, after, taken[wanted.path])
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        for wanted in batch:
            yield outcomes[wanted.path]

    async def _look(self, batch: Sequence[WantedFile]) -> dict[bytes, Line]:
        """What is there of the wanted files, and the folders above them that are real ones. rsync leaves out of a list what is a link
        on the way to something else in it."""
        names: dict[bytes, None] = {}
        for wanted in batch:
            for path in (*folders_above(wanted.path), wanted.path):
                names[path] = None
        lines: dict[bytes, Line] = {}
        async with Run(self._far, (*LIST, "--dirs", "--no-implied-dirs"), os.fsencode(self._places.scratch), names) as run:
            async for text in run.lines():
                line = parse(text)
                lines[line.path] = line
            await run.ended()
        return lines

    def _early(self, wanted: WantedFile, lines: dict[bytes, Line]) -> FileRead | None:
        """The outcome of a file that need not be transferred."""
        line = lines.get(wanted.path)
        if line is None or not self._way_is_real(wanted.path, lines):
            return FileRead(wanted, ReadStatus.VANISHED)
        if line.kind != "-":
            return FileRead(wanted, ReadStatus.CHANGED)
        entry = FileEntry(wanted.path, line.size_bytes, line.mtime_ns, 0, 0)
        if not _same(wanted, line):
            return FileRead(wanted, ReadStatus.CHANGED, entry)
        known_format = wanted.path.rpartition(b".")[2].lower() in Ending.BY_NAME
        age = self._sightings.age_seconds(entry)
        if age < wanted.settle_seconds and (not known_format or wanted.size_bytes > MAX_YOUNG_BYTES):
            return FileRead(wanted, ReadStatus.UNSETTLED, entry)
        return None

    def _way_is_real(self, path: bytes, lines: dict[bytes, Line]) -> bool:
        named = [folder for folder in self._folders if path.startswith(folder + b"/")]
        free = max(map(len, named), default=0)
        return all(above in lines and lines[above].kind == "d" for above in folders_above(path) if len(above) > free)

    async def _transfer(self, takes: Sequence[WantedFile], folder: bytes, pace: Pace | None, came: OnBytes) -> list[Trouble]:
        # Whole files, but where a beginning is here: rsync uses that only when it may compare.
        whole = "--no-whole-file" if any(self._places.partial.iterdir()) else "--whole-file"
        options = [*TRANSFER, whole, f"--partial-dir={self._places.partial}", *(["--compress"] if self._compress else [])]
        # One that is young may turn out to be unfinished; what came of it is nobody's then.
        progress = Progress([wanted for wanted in takes if self._is_old(wanted)], came)
        if progress.of_any and await shows_progress():
            options += SHOW
        async with Run(self._far, options, folder, [wanted.path for wanted in takes], pace) as run:
            async for piece in run.output():
                progress.feed(piece)
            return await run.ended()

    def _is_old(self, wanted: WantedFile) -> bool:
        return self._sightings.age_seconds(FileEntry(wanted.path, *_seconds(wanted), 0, 0)) >= wanted.settle_seconds

    def _arrived(self, wanted: WantedFile, folder: bytes, troubles: Sequence[Trouble]) -> tuple[FileRead | None, bool]:
        """(the outcome if it is not to be taken, whether it is incomplete)."""
        try:
            descriptor = os.open(os.path.join(folder, wanted.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return self._missing(wanted, troubles), False
        try:
            status = os.fstat(descriptor)
            entry = FileEntry(wanted.path, status.st_size, status.st_mtime_ns // 10**9 * 10**9, 0, 0)
            if not stat.S_ISREG(status.st_mode) or (entry.size_bytes, entry.mtime_ns) != _seconds(wanted):
                return FileRead(wanted, ReadStatus.CHANGED, entry), False
            # Not the mode at the source, which may let nobody read it: that of every other file in staging.
            os.fchmod(descriptor, 0o644)
            reached = _reached(descriptor, status.st_size, wanted.path.rpartition(b"/")[2])
        finally:
            os.close(descriptor)
        age = self._sightings.age_seconds(entry)
        take, incomplete = verdict(reached, age, wanted.settle_seconds, wanted.incomplete_after_seconds)
        return (None, incomplete) if take else (FileRead(wanted, ReadStatus.UNSETTLED, entry), False)

    def _missing(self, wanted: WantedFile, troubles: Sequence[Trouble]) -> FileRead:
        for trouble in troubles:
            if trouble.is_of(wanted.path):
                if trouble.errno in _NO_FILE:
                    return FileRead(wanted, ReadStatus.VANISHED)
                return FileRead(wanted, ReadStatus.UNREADABLE, message=trouble.why or trouble.text)
        # It was there a moment ago: rsync passes over what is no regular file any more without a word.
        return FileRead(wanted, ReadStatus.CHANGED)

    def _stood_still(self, wanted: WantedFile, lines: dict[bytes, Line], incomplete: bool) -> FileRead:
        line = lines.get(wanted.path)
        if line is None or line.kind != "-" or not self._way_is_real(wanted.path, lines):
            return FileRead(wanted, ReadStatus.CHANGED)
        entry = FileEntry(wanted.path, line.size_bytes, line.mtime_ns, 0, 0)
        if not _same(wanted, line):
            return FileRead(wanted, ReadStatus.CHANGED, entry)
        return FileRead(wanted, ReadStatus.OK, entry, incomplete)


async def _hand_over(path: bytes, sink: Sink) -> None:
    """Gives a whole file to its sink: by name where it can take that over, else its bytes. Raises OSError."""
    if isinstance(sink, FileSink) and os.stat(sink.folder).st_dev == os.stat(path).st_dev:
        await asyncio.to_thread(sink.adopt, path)
        return
    file = await asyncio.to_thread(open, path, "rb", 0)
    try:
        while data := await asyncio.to_thread(file.read, PIECE_BYTES):
            sink.write(data)
    finally:
        file.close()


def _reached(descriptor: int, size: int, name: bytes) -> bool | None:
    ending: Any = Ending
    reached = ending(descriptor, size, name).reached()
    return None if reached is None else bool(reached)


def folders_above(path: bytes) -> list[bytes]:
    """The folders that lead to `path` from the root, outermost first."""
    parts = path.split(b"/")[:-1]
    return [b"/".join(parts[: count + 1]) for count in range(len(parts))]


def _seconds(wanted: WantedFile) -> tuple[int, int]:
    # The manifest may hold finer times, of another engine.
    return wanted.size_bytes, wanted.mtime_ns // 10**9 * 10**9


def _same(wanted: WantedFile, line: Line) -> bool:
    return (line.size_bytes, line.mtime_ns) == _seconds(wanted)
