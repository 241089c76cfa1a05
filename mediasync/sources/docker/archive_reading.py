"""Files out of a container's archives.

An archive of one file costs the engine some 60 ms; one of a folder streams as fast as the disk, with everything in it. So the folder that
holds the files of a batch is streamed, which come in the order of their names, as long as what is passed over costs less than asking for
each. A file is held in memory, up to a size, until its own end was looked at.

Whether a file stood still is asked of the engine after its last byte. Engines answer nothing else about a container while one of its
archives is under way: all that is asked is asked before or after it, and the outcomes of a streamed folder come when its stream has ended.
Archives tell mtimes in whole seconds: a file that was changed a moment ago is asked about before its first byte too, which is told in
nanoseconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from mediasync.paths import check_relative
from mediasync.sources.base import FileEntry, FileHashed, FileRead, Pace, ReadStatus, SinkOpener, WantedFile
from mediasync.sources.docker.container_files import SECOND_NS, ContainerFiles, Look
from mediasync.sources.docker.tar import BrokenArchiveError, Member, TarStream
from mediasync.sources.endings import Spans, ended, verdict
from mediasync.sources.sftp.client import Look as Seen
from mediasync.sources.sftp.sightings import Sightings

HELD_BYTES = 64 << 20
"""Files up to this size are looked at before any byte of them is given on; larger ones settle by their age alone."""
WORTH_BYTES = 24 << 20
"""What may be passed over for one wanted file; an archive of its own takes as long."""
WORTH_FILES = 4
"""Wanted files from which on their folder is streamed."""
FRESH_SECONDS = 2.5
_GRAIN_SECONDS = 0.05


@dataclass
class _Digest:
    """A sink that only hashes."""

    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> None:
        self.sha256.update(data)


class ArchiveReading:
    """One read of many files."""

    def __init__(self, files: ContainerFiles, root: bytes, folders: Sequence[bytes], sightings: Sightings, pace: Pace | None) -> None:
        self._files = files
        self._root = root
        self._named = frozenset(folders)
        self._sightings = sightings
        self._pace = pace
        self._settling = True
        self._folders: dict[bytes, ReadStatus] = {}

    async def read(self, batch: Sequence[WantedFile], open_sink: SinkOpener) -> AsyncIterator[FileRead]:
        """Reads a batch, in order."""
        for wanted in batch:
            check_relative(wanted.path)
        self._folders.clear()
        at, worth_it = 0, len(batch) >= WORTH_FILES
        while at < len(batch):
            if worth_it:
                streamed = await self._streamed(batch[at:], open_sink)
                worth_it = len(streamed) >= WORTH_FILES and len(batch) - at - len(streamed) >= WORTH_FILES
                for outcome in streamed:
                    yield await self._verified(outcome, None) if outcome is not None else await self._single(batch[at], open_sink)
                    at += 1
            if at < len(batch):
                yield await self._single(batch[at], open_sink)
                at += 1

    async def hash(self, batch: Sequence[WantedFile]) -> AsyncIterator[FileHashed]:
        """Hashes a batch, in order. The files need not be settled."""
        self._settling = False
        digests: dict[bytes, _Digest] = {}

        def open_digest(wanted: WantedFile, offset: int) -> _Digest:
            digests[wanted.path] = _Digest()
            return digests[wanted.path]

        async for found in self.read(batch, open_digest):
            digest = digests.pop(found.wanted.path, None)
            sha256 = digest.sha256.digest() if digest is not None and found.status is ReadStatus.OK else None
            yield FileHashed(found.wanted, found.status, sha256, found.entry, found.message)

    async def _folder(self, folder: bytes) -> ReadStatus:
        """Whether every part of the way to a folder is one, and none a link, but for those that the user named."""
        way = [folder]
        while way[-1] and way[-1] not in self._named and way[-1] not in self._folders:
            way.append(way[-1].rpartition(b"/")[0])
        known = self._folders.get(way.pop(), ReadStatus.OK)
        for part in reversed(way):
            if known is ReadStatus.OK:
                found = await self._files.look(self._path(part))
                if found is None:
                    known = ReadStatus.VANISHED
                elif found.kind != stat.S_IFDIR:
                    known = ReadStatus.CHANGED
            self._folders[part] = known
        return known

    async def _streamed(self, wanted: Sequence[WantedFile], open_sink: SinkOpener) -> list[FileRead | None]:
        """What came of the first of `wanted` out of an archive of the folder that holds them all, not verified; None for one that is
        better asked for by itself. Ends before one that is fresh, at one that would come before the last, or when too much would be
        passed over."""
        outcomes: list[FileRead | None] = []
        top = _common(wanted)
        if await self._folder(top) is not ReadStatus.OK:
            return outcomes
        worth, last, prefix = WORTH_BYTES * len(wanted), _order(top), top + b"/" if top else b""
        async with self._files.archive(self._path(top) + b"/.") as stream:
            if stream is None:
                return outcomes
            try:
                for file in wanted:
                    key = _order(file.path)
                    if key <= last or self._age(file) < FRESH_SECONDS:
                        break
                    found: Member | None = None
                    while last < key and worth >= 0:
                        found = await stream.next()
                        if found is None:
                            return outcomes
                        path = posixpath.normpath(b"/" + found.name).lstrip(b"/")
                        last = _order(prefix + path) if path else _order(top)
                        if last != key and found.is_file:
                            worth -= found.size_bytes
                    if found is None or last != key:
                        break
                    outcomes.append(await self._taken(file, found, stream, open_sink) if found.is_file else None)
            except BrokenArchiveError:
                pass  # some other file changed its size under the engine: the next one is asked for by itself
        return outcomes

    async def _single(self, wanted: WantedFile, open_sink: SinkOpener) -> FileRead:
        """A file out of an archive of its own."""
        there = await self._folder(wanted.path.rpartition(b"/")[0])
        if there is not ReadStatus.OK:
            return FileRead(wanted, there)
        age, before = self._age(wanted), None
        if age < FRESH_SECONDS:
            if age < _GRAIN_SECONDS:
                await asyncio.sleep(_GRAIN_SECONDS)
            before = await self._files.look(self._path(wanted.path))
            if before is None:
                return FileRead(wanted, ReadStatus.VANISHED)
        folder, _, name = wanted.path.rpartition(b"/")
        # Engines lose names that are no UTF-8 when they are to give just that file.
        whole_folder = not _is_utf8(name)
        async with self._files.archive(self._path(folder) + b"/." if whole_folder else self._path(wanted.path)) as stream:
            try:
                member = await stream.next() if stream is not None else None
                while whole_folder and stream is not None and member is not None and member.name.removeprefix(b"./") != name:
                    member = await stream.next()
            except BrokenArchiveError:
                return FileRead(wanted, ReadStatus.CHANGED)
            if stream is None or member is None:
                return FileRead(wanted, ReadStatus.VANISHED)
            outcome = await self._taken(wanted, member, stream, open_sink)
        if outcome is not None:
            return await self._verified(outcome, before)
        # What is here of it is not how it begins: all of it, from the start.
        whole = await self._single(replace(wanted, partial=None), lambda _, offset: open_sink(wanted, offset))
        return replace(whole, wanted=wanted)

    async def _taken(self, wanted: WantedFile, member: Member, stream: TarStream, open_sink: SinkOpener) -> FileRead | None:
        """Gives the bytes of an entry on, if it is what was wanted; None if it does not begin with what is here of it."""
        if not member.is_file:
            return FileRead(wanted, ReadStatus.CHANGED)
        entry = FileEntry(wanted.path, member.size_bytes, member.mtime_ns, member.mtime_ns, 0)
        if (entry.size_bytes, entry.mtime_ns, entry.inode) != (wanted.size_bytes, wanted.mtime_ns, wanted.inode):
            return FileRead(wanted, ReadStatus.CHANGED, entry)
        held: list[bytes] = []
        incomplete = False
        try:
            if self._settling:
                reached = None
                if entry.size_bytes <= HELD_BYTES:
                    while data := await stream.piece():
                        held.append(data)
                    held = [b"".join(held)]
                    spans = Spans(entry.size_bytes)
                    spans.add(0, held[0])
                    reached = ended(spans, wanted.path.rpartition(b"/")[2])
                take, incomplete = verdict(reached, self._age(wanted), wanted.settle_seconds, wanted.incomplete_after_seconds)
                if not take:
                    return FileRead(wanted, ReadStatus.UNSETTLED, entry)
            if not await self._given(wanted, stream, held, open_sink):
                return None
        except BrokenArchiveError:
            return FileRead(wanted, ReadStatus.CHANGED, entry)
        return FileRead(wanted, ReadStatus.OK, entry, incomplete)

    async def _given(self, wanted: WantedFile, stream: TarStream, held: Sequence[bytes], open_sink: SinkOpener) -> bool:
        """Gives everything to the sink, or what is behind its beginning here. False if the file does not begin with that any more."""
        partial = wanted.partial if wanted.partial is not None and wanted.partial.size_bytes <= wanted.size_bytes else None
        left = offset = partial.size_bytes if partial is not None else 0
        digest, waiting = hashlib.sha256(), iter(held)
        data = b""
        while left and (data := next(waiting, b"") or await stream.piece()):
            digest.update(data[:left])
            data, left = data[left:], left - min(left, len(data))
        if partial is not None and digest.digest() != partial.sha256:
            return False
        sink = open_sink(wanted, offset)
        while data or (data := next(waiting, b"") or await stream.piece()):
            sink.write(data)
            if self._pace is not None and (seconds := self._pace.took(len(data))) > 0:
                await asyncio.sleep(seconds)
            data = b""
        return True

    async def _verified(self, outcome: FileRead, before: Look | None) -> FileRead:
        """The outcome, once the engine was asked whether the file is still what it was."""
        entry, wanted = outcome.entry, outcome.wanted
        if outcome.status is not ReadStatus.OK or entry is None:
            if outcome.status is ReadStatus.CHANGED and entry is not None:
                return await self._changed(wanted)
            return outcome
        after = await self._files.look(self._path(wanted.path))
        if after is None:
            return FileRead(wanted, ReadStatus.VANISHED)
        same = after.kind == stat.S_IFREG and after.size_bytes == entry.size_bytes and _whole(after.mtime_ns) == _whole(entry.mtime_ns)
        if not same or (before is not None and before != after):
            return await self._changed(wanted)
        self._sightings.forget(wanted.path)
        return outcome

    async def _changed(self, wanted: WantedFile) -> FileRead:
        now = await self._files.look(self._path(wanted.path))
        if now is None:
            return FileRead(wanted, ReadStatus.VANISHED)
        mtime_ns = _whole(now.mtime_ns) * SECOND_NS
        entry = FileEntry(wanted.path, now.size_bytes, mtime_ns, mtime_ns, 0) if now.kind == stat.S_IFREG else None
        return FileRead(wanted, ReadStatus.CHANGED, entry)

    def _age(self, wanted: WantedFile) -> float:
        return self._sightings.age_seconds(wanted.path, Seen("f", wanted.size_bytes, wanted.mtime_ns))

    def _path(self, path: bytes) -> bytes:
        return self._root + b"/" + path if path else self._root


def _common(wanted: Sequence[WantedFile]) -> bytes:
    """The innermost folder that all are below."""
    folders = [file.path.split(b"/")[:-1] for file in wanted]
    first, last = min(folders), max(folders)
    same = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), min(len(first), len(last)))
    return b"/".join(first[:same])


def _order(path: bytes) -> list[bytes]:
    """By this archives are sorted: names within a folder, and what is in a folder behind it."""
    return path.split(b"/") if path else []


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _whole(mtime_ns: int) -> int:
    return mtime_ns // SECOND_NS
