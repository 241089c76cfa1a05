"""The records of `find` and `stat` gathered to whole directories, and the requests that bring them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Sequence

from mediasync.model import FilterReason, FollowSymlinks
from mediasync.sources.listing import Listed, Tally
from mediasync.sources.posix import wire
from mediasync.sources.posix.stream import Stream

_LINES_AT_ONCE = 500
_START = b"^"


class Gatherer:
    """Records of one walk, in the order in which it went, to directories.

    What is in `but` is not gone into. With `below` given, folders in those that were asked for are noted there and not gone into; with
    `flat` they are neither.
    """

    def __init__(self, tally: Tally, but: Collection[bytes] = (), below: list[bytes] | None = None, *, flat: bool = False) -> None:
        self._tally = tally
        self._selection = tally.request.selection
        self._follow = self._selection.follow_symlinks is not FollowSymlinks.NONE
        self._but = but
        self._below = below
        self._flat = flat
        self._deep = not flat and below is None
        self._open: list[Listed] = []
        self._names: list[set[bytes]] = []
        self._starts: dict[bytes, wire.Seen] = {}
        self._skipped = b""

    def take(self, path: bytes, fields: bytes) -> Iterator[Listed]:
        """One more record. Yields the directories that ended with it."""
        if fields.startswith(_START):
            # Several are told before what is in the first.
            yield from self._leave_all()
            seen = wire.seen(fields[1:])
            if seen.kind == "d":
                self._starts[path] = seen
            return
        if self._skipped and path.startswith(self._skipped):
            return
        folder, _, name = path.rpartition(b"/")
        yield from self._leave(folder)
        top = self._open[-1]
        if not name or name in self._names[-1]:
            raise wire.broken("a name twice")
        self._names[-1].add(name)
        if not self._tally.fits(folder, name):
            self._skipped = path + b"/" if self._deep else b""
            return
        if b"|" not in fields:
            top.unmoved.append((path, wire.size(fields)))
            return
        seen = wire.seen(fields)
        if seen.kind == "f":
            top.files.append(seen.entry(path))
        elif seen.kind == "d":
            self._folder(path, seen)
        elif seen.kind == "l" and self._follow:
            top.links.append(path)
        else:
            top.others.append((path, FilterReason.LINK if seen.kind == "l" else FilterReason.SPECIAL))

    def end(self) -> Iterator[Listed]:
        """What is not ended yet, and what nothing was found in."""
        yield from self._leave_all()
        starts, self._starts = self._starts, {}
        for path, seen in starts.items():
            yield Listed(path, seen.inode, seen.mtime_ns)

    def _leave_all(self) -> Iterator[Listed]:
        self._skipped = b""
        while self._open:
            self._names.pop()
            yield self._open.pop()

    def _folder(self, path: bytes, seen: wire.Seen) -> None:
        reason = self._selection.folder_reason(path)
        if reason is not None:
            self._open[-1].others.append((path, reason))
        elif not self._flat and path not in self._but:
            if self._below is None:
                self._push(path, seen)
                return
            self._below.append(path)
        if self._deep:
            self._skipped = path + b"/"

    def _leave(self, folder: bytes) -> Iterator[Listed]:
        """Ends the directories that `folder` is not in."""
        while self._open and self._open[-1].path != folder:
            self._names.pop()
            yield self._open.pop()
        if not self._open:
            seen = self._starts.pop(folder, None)
            if seen is None:
                raise wire.broken("a name in a folder that it did not name")
            self._push(folder, seen)

    def _push(self, path: bytes, seen: wire.Seen) -> None:
        self._open.append(Listed(path, seen.inode, seen.mtime_ns))
        self._names.append(set())


async def records(stream: Stream, asked: bytes, paths: Sequence[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
    """Makes a request with a list of paths, and yields the records of the answer up to its end."""
    # Sent beside the reading: the shell answers before it has read all, and both ways hold only so much.
    feeder = asyncio.create_task(_send(stream, asked, paths), name="paths of a listing")
    parser = wire.RecordParser()
    try:
        while True:
            for path, fields in parser.feed(await stream.some()):
                if not path and fields == b".":
                    if parser.rest:
                        raise wire.broken("more than was asked for")
                    return
                yield path, fields
    finally:
        feeder.cancel()
        await asyncio.wait([feeder])


async def _send(stream: Stream, asked: bytes, paths: Sequence[bytes]) -> None:
    stream.write(asked)
    for start in range(0, len(paths), _LINES_AT_ONCE):
        stream.write(b"".join(wire.path_word(path) + b"\n" for path in paths[start : start + _LINES_AT_ONCE]))
        await stream.drain()
    stream.write(b"\n")


async def check(stream: Stream, paths: Sequence[bytes]) -> list[str]:
    """What each of `paths` is: `r` a directory that can be listed, `u` one that cannot or something out of sight, `g` nothing or no
    directory."""
    letters: list[str] = []
    if not paths:
        return letters
    async for path, fields in records(stream, wire.request(b"check"), paths):
        letter = fields.decode("ascii", "replace")
        if not path and letter in ("r", "u", "g"):
            letters.append(letter)
        elif path or not letter.startswith("@"):
            raise wire.broken("a check that is none")
    if len(letters) != len(paths):
        raise wire.broken("checks of another number than was asked for")
    return letters
