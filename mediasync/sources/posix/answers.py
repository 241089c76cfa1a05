"""What the shell answers about one file: a line, its bytes, a trailer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mediasync.paths import display
from mediasync.sources.base import DeleteStatus, Pace, ReadStatus, WantedFile
from mediasync.sources.posix import wire
from mediasync.sources.posix.stream import Stream


@dataclass(frozen=True)
class Answer:
    """The first line about a file. `status` is None where its bytes follow, from `offset`."""

    status: ReadStatus | None
    before: wire.Seen | None = None
    offset: int = 0
    message: str = ""
    deleted: DeleteStatus | None = None


@dataclass(frozen=True)
class Trailer:
    """What came after a file's bytes. `count` is how many there were, at most as many as were expected; `exact` if just so many."""

    count: int
    exact: bool
    failed: bool
    after: wire.Seen | None


async def read_answer(stream: Stream) -> Answer:
    """Reads the first line about a file."""
    line = await stream.line()
    letter, _, rest = line.partition(b" ")
    if letter == b"O":
        offset, _, fields = rest.partition(b" ")
        return Answer(None, wire.seen(fields), wire.size(offset))
    if letter == b"C":
        before = wire.seen(rest) if rest else None
        return Answer(ReadStatus.CHANGED, before if before is not None and before.kind == "f" else None, deleted=DeleteStatus.CHANGED)
    if letter == b"V":
        return Answer(ReadStatus.VANISHED, deleted=DeleteStatus.VANISHED)
    if letter == b"U":
        message = display(rest[:200]) or "it cannot be opened or read"
        return Answer(ReadStatus.UNREADABLE, message=message, deleted=DeleteStatus.REFUSED)
    if letter == b"R":
        return Answer(None, message=display(rest[:200]) or "it cannot be removed", deleted=DeleteStatus.REFUSED)
    if letter == b"K":
        return Answer(None, deleted=DeleteStatus.KEPT)
    if letter == b"D":
        return Answer(None, deleted=DeleteStatus.DELETED)
    raise wire.broken(f"an answer that is none: {line[:100]!r}")


def checked(answer: Answer, wanted: WantedFile, offset: int = 0) -> wire.Seen:
    """The look at a file whose bytes follow. It has to be the one that was asked for, from its beginning or from `offset`."""
    before = answer.before
    if before is None or (before.size_bytes, before.mtime_ns, before.inode) != (wanted.size_bytes, wanted.mtime_ns, wanted.inode):
        raise wire.broken("another file than was asked for")
    if answer.offset not in (0, offset):
        raise wire.broken("a file from another place than was asked for")
    return before


async def read_bytes(stream: Stream, expected: int, take: Callable[[bytes], object], pace: Pace | None = None) -> Trailer:
    """Reads a file's bytes up to the trailer, wherever it comes; hands on at most `expected` of them."""
    nonce = stream.nonce
    total = 0
    held = b""  # may be the beginning of the trailer
    while True:
        data = held + await stream.some()
        at = data.find(nonce)
        if at >= 0:
            stream.put_back(data[at + len(nonce) :])
            data = data[:at]
        else:
            data, held = data[: 1 - len(nonce)], data[1 - len(nonce) :]
        passed = data[: max(0, expected - total)]
        total += len(data)
        if passed:
            take(passed)
            delay = pace.took(len(passed)) if pace is not None else 0.0
            if delay > 0:
                await asyncio.sleep(delay)
        if at >= 0:
            break
    words = (await stream.line()).split(b" ", 2)
    if len(words) != 3 or words[0]:
        raise wire.broken("a trailer that is none")
    after = wire.seen(words[2]) if words[2] else None
    return Trailer(min(total, expected), total == expected, words[1] != b"0", after)


def verdict(before: wire.Seen, trailer: Trailer, wanted: WantedFile) -> tuple[ReadStatus, wire.Seen, str]:
    """What became of a file whose bytes came."""
    after = trailer.after
    if after is not None and before.same(after):
        if trailer.exact and not trailer.failed:
            return ReadStatus.OK, after, ""
        return ReadStatus.UNREADABLE, after, "it could not be read to its end"
    return ReadStatus.CHANGED, after or before, ""


@dataclass(frozen=True)
class InGroup:
    """One of several files that came as one answer. `data` is None where its bytes cannot be told from those of another that changed."""

    before: wire.Seen
    after: wire.Seen
    data: bytes | None


async def read_group(stream: Stream, group: Sequence[WantedFile]) -> list[InGroup] | None:
    """Several files that come as one answer; None if an answer of its own comes for each."""
    line = await stream.line()
    if line != b"M":
        stream.put_back(line + b"\n")
        return None
    before = [checked(Answer(None, wire.seen(await stream.line())), wanted) for wanted in group]
    data = bytearray()
    trailer = await read_bytes(stream, sum(look.size_bytes for look in before), data.extend)
    after = [trailer.after, *[wire.seen(await stream.line()) for _ in group[1:]]]
    found = []
    # Up to the first that changed, lengths say whose the bytes are.
    known, at = not trailer.failed, 0
    for first, last in zip(before, after, strict=True):
        if last is None:
            raise wire.broken("a trailer that is none")
        end = at + first.size_bytes
        known = known and first.same(last) and end <= len(data)
        found.append(InGroup(first, last, bytes(data[at:end]) if known else None))
        at = end
    return found
