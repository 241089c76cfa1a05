"""Far sides that do not keep to the protocol, each a process that answers with bytes of its own."""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FilterReason
from mediasync.sources.agent import session, wire
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.agent.wire import Answer, frame
from mediasync.sources.base import DoomedFile, FileRead, Partial, ReadStatus, ScanRequest, WantedFile
from mediasync.sources.process import ChildLauncher
from tests.fixtures.sources import Collector, batches_of, read, scan

# Takes the program as the loader would, and the first frame; prints its first argument, and its second once it was asked
# something. The number that was drawn for the connection is put in.
_LIAR = """
import sys
stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
stdin.read(int(stdin.read(8), 16))
def request():
    stdin.read(1)
    return stdin.read(int.from_bytes(stdin.read(4), "big"))
def say(word):
    stdout.write(bytes.fromhex(word).replace(b"@NONCE@", nonce))
    stdout.flush()
first, second, stay = sys.argv[1:]
nonce = request()[2:34]
say(first)
if second:
    request()
    say(second)
if stay:
    stdin.read()
"""
MARKER = wire.MARKER + b"@NONCE@\n"
ENTRY = struct.Struct(">QqqQ")


def text(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


READY = frame(Answer.READY, struct.pack(">q", 0) + text(b"cpython 3.6.0") + text(b"Linux") + text(b"/root"))
SCANNED = frame(Answer.SCANNED, bytes(8 * (3 + len(FilterReason))))
WANTED = WantedFile(b"a/x.txt", 5, 1, 1)
BEGIN = frame(Answer.BEGIN, b"\1" + ENTRY.pack(5, 1, 1, 1) + bytes(8))
END = frame(Answer.END, b"\0" + ENTRY.pack(5, 1, 1, 1) + text(b""))


def directory(
    path: bytes = b"a", files: tuple[bytes, ...] = (), names: tuple[bytes, ...] = (), flags: int = 1, size: int = 1, **columns: bytes
) -> bytes:
    ones = b",".join([b"1"] * len(files))
    sizes = b",".join([b"%d" % size] * len(files))
    every = {"names": b"/".join(files), "sizes": sizes, "mtimes": ones, "lags": ones, "inodes": ones, **columns}
    return frame(
        Answer.DIRECTORY,
        bytes([flags])
        + text(path)
        + struct.pack(">QI", 1, len(files))
        + b"".join(struct.pack(">I", len(column)) + column for column in every.values())
        + struct.pack(">I", len(names))
        + b"".join(map(text, names)),
    )


async def connect(first: bytes, second: bytes = b"", *, stay: bool = True) -> AgentConnection:
    """A connection to a far side that says `first` at once, and `second` when it is asked something."""
    launcher = ChildLauncher([sys.executable, "-c", _LIAR, first.hex(), second.hex(), "stay" if stay else ""], "the liar")
    return await AgentConnection.open(launcher, [b"/root"], "child", NamedFolders())


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        yield


async def fails(work: Coroutine[Any, Any, object]) -> MediasyncError:
    with pytest.raises(MediasyncError) as raised:
        await work
    assert raised.value.reason is Reason.SOURCE_PROTOCOL
    return raised.value


async def test_a_liar_that_tells_the_truth_is_believed() -> None:
    connection = await connect(b"Welcome to vast.ai\r\n" + MARKER + READY, directory(files=(b"x.txt",)) + SCANNED)
    records = [record async for record in connection.scan(ScanRequest())]
    assert len(records) == 2
    await connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(directory(b"../../etc"), id="a path that leads out"),
        pytest.param(directory(b"/etc"), id="an absolute path"),
        pytest.param(directory(b"a//b"), id="an empty part"),
        pytest.param(directory(b"a/" * 2047 + b"abc"), id="an endless path"),
        pytest.param(directory(files=(b"..",)), id="a name that leads out"),
        pytest.param(directory(files=(b".",)), id="a name that is the folder"),
        pytest.param(directory(files=(b"a/b",)), id="a name with a slash"),
        pytest.param(directory(files=(b"a\0b",)), id="a name with NUL"),
        pytest.param(directory(files=(b"",)), id="an empty name"),
        pytest.param(directory(files=(b"n" * 256,)), id="an endless name"),
        pytest.param(directory(b"d/" * 1950 + b"d", files=(b"n" * 250,)), id="a name that makes the path endless"),
        pytest.param(directory(files=(b"b", b"a")), id="files out of order"),
        pytest.param(directory(files=(b"a", b"a")), id="a file twice"),
        pytest.param(directory(files=(b"a",), sizes=b"1,1"), id="more sizes than files"),
        pytest.param(directory(files=(b"a",), flags=17, births=b"1,1", accesses=b"1"), id="more births than files"),
        pytest.param(directory(files=(b"a",), flags=17, births=b"--", accesses=b"1"), id="a birth that is no number"),
        pytest.param(directory(files=(b"a",), flags=17), id="ages that are missing"),
        pytest.param(directory(files=(b"a",), births=b"1", accesses=b"1"), id="ages that were not announced"),
        pytest.param(directory(files=(b"a", b"b"), inodes=b"1,"), id="a number without a digit"),
        pytest.param(directory(files=(b"a",), sizes=b"-1"), id="a size below nothing"),
        pytest.param(directory(files=(b"a",), mtimes=b"1-1"), id="a minus where none may be"),
        pytest.param(directory(files=(b"a",), lags=b"1_0"), id="a number with other signs in it"),
        pytest.param(directory(files=(b"a",), mtimes=b"1" * 20), id="an endless number"),
        pytest.param(directory(inodes=b"1"), id="columns of no files"),
        pytest.param(directory(names=(b"b", b"a"), flags=2), id="names out of order"),
        pytest.param(directory(names=(b"../a",), flags=2), id="names that lead out"),
        pytest.param(directory(files=(b"a",), size=1 << 63), id="a size beyond all disks"),
        pytest.param(frame(Answer.DIRECTORY, b"\1\0\0" + struct.pack(">QI", 1 << 63, 0) + bytes(24)), id="an inode beyond all disks"),
        pytest.param(frame(Answer.DIRECTORY, b""), id="an empty frame"),
        pytest.param(frame(Answer.DIRECTORY, directory()[5:-1]), id="a cut frame"),
        pytest.param(frame(Answer.DIRECTORY, directory()[5:] + b"x"), id="a frame with more in it"),
        pytest.param(frame(Answer.DIRECTORY, b"\1\0\0" + struct.pack(">QI", 1, 0xFFFFFFFF)), id="four thousand million files"),
        pytest.param(frame(Answer.UNREADABLE_DIRECTORY, text(b"../x") + text(b"")), id="an unreadable folder outside"),
        pytest.param(frame(Answer.SCANNED, bytes(8 * (3 + len(FilterReason)) - 1)), id="a cut end"),
        pytest.param(struct.pack(">BI", Answer.DIRECTORY, 0xFFFFFFFF), id="an oversize frame"),
        pytest.param(struct.pack(">BI", Answer.DIRECTORY, wire.MAX_FRAME + 1) + bytes(100), id="a frame just too large"),
        pytest.param(frame(Answer.BEGIN, BEGIN[5:]), id="a file in a scan"),
        pytest.param(frame(200, b""), id="an unknown frame"),
        pytest.param(frame(Answer.FAILED, b"\3" + text(b"ValueError: boom\x1b[2J")), id="a failure"),
    ],
)
async def test_i7_a_scan_that_lies_is_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)
    error = await fails(scan(connection))
    assert "\x1b" not in error.message
    with pytest.raises(MediasyncError):
        await connection.list_folders()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(END, id="an end without a begin"),
        pytest.param(BEGIN + b"12345" + BEGIN, id="a begin without an end"),
        pytest.param(BEGIN + b"12345" + frame(Answer.SKIPPED, b"\2\0" + text(b"")), id="a file that was sent and skipped"),
        pytest.param(frame(Answer.BEGIN, b"\1" + ENTRY.pack(1 << 40, 1, 1, 1) + bytes(8)), id="another size than was asked for"),
        pytest.param(BEGIN + b"12345" + frame(Answer.END, b"\7" + END[6:]), id="an unknown verdict"),
        pytest.param(BEGIN + b"12345" + frame(Answer.END, END[5:-1]), id="a cut end"),
        pytest.param(frame(Answer.SKIPPED, b"\0\0" + text(b"")), id="a good verdict on nothing"),
        pytest.param(frame(Answer.SKIPPED, b"\2"), id="a cut skip"),
        pytest.param(frame(Answer.SKIPPED, b"\2\1" + ENTRY.pack(1 << 63, 1, 1, 1) + text(b"")), id="a size beyond all disks"),
        pytest.param(BEGIN + b"12345" + END + END, id="more files than were asked for"),
        pytest.param(directory(), id="a directory in a read"),
    ],
)
async def test_i7_a_read_that_lies_is_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)
    more = asyncio.Event()

    async def batches() -> AsyncIterator[list[WantedFile]]:
        yield [WANTED]
        await more.wait()

    async def outcomes() -> list[FileRead]:
        return [outcome async for outcome in connection.read(batches(), Collector().open)]

    await fails(outcomes())


def resumed(offset: int) -> bytes:
    return frame(Answer.BEGIN, b"\1" + ENTRY.pack(5, 1, 1, 1) + struct.pack(">Q", offset))


@pytest.mark.parametrize("offset", [1, 4, 5, 6, (1 << 64) - 1])
@pytest.mark.parametrize("partial", [None, Partial(3, bytes(32)), Partial(9, bytes(32))])
async def test_a_rest_that_was_not_asked_for_is_refused(offset: int, partial: Partial | None) -> None:
    connection = await connect(MARKER + READY, resumed(offset) + b"12345" + END)
    await fails(read(connection, [replace(WANTED, partial=partial)]))


async def test_a_rest_is_never_longer_than_what_is_missing() -> None:
    sinks = Collector()
    connection = await connect(MARKER + READY, resumed(3) + b"45" + END)
    (outcome,) = await read(connection, [replace(WANTED, partial=Partial(3, bytes(32)))], sinks)
    assert outcome.status is ReadStatus.OK
    assert (sinks.offsets, sinks.files) == ({WANTED.path: 3}, {WANTED.path: b"45"})
    await connection.close()


def hashed(verdict: int = 0, flags: int = 1, size: int = 5, rest: bytes = text(b"") + bytes(32)) -> bytes:
    entry = ENTRY.pack(size, 1, 1, 1) if flags else b""
    return frame(Answer.HASHED, bytes([verdict, flags]) + entry + rest)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(hashed(rest=text(b"")), id="a good verdict without a hash"),
        pytest.param(hashed(rest=text(b"") + bytes(31)), id="a short hash"),
        pytest.param(hashed(rest=text(b"") + bytes(33)), id="a long hash"),
        pytest.param(hashed(2), id="a hash of a changed file"),
        pytest.param(hashed(1, rest=text(b"")), id="an unsettled file"),
        pytest.param(hashed(9, rest=text(b"")), id="an unknown verdict"),
        pytest.param(hashed(flags=0), id="a hash of nothing"),
        pytest.param(hashed(size=6), id="the hash of a file of another size"),
        pytest.param(hashed(size=1 << 63), id="a size beyond all disks"),
        pytest.param(hashed() + hashed(), id="more hashes than were asked for"),
        pytest.param(BEGIN + b"12345" + END, id="a file in place of its hash"),
        pytest.param(frame(Answer.DELETED, b"\0" + text(b"")), id="a deletion that nobody asked for"),
    ],
)
async def test_i7_hashes_that_lie_are_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)
    more = asyncio.Event()

    async def batches() -> AsyncIterator[list[WantedFile]]:
        yield [WANTED]
        await more.wait()

    async def outcomes() -> list[object]:
        return [outcome async for outcome in connection.hash_files(batches())]

    await fails(outcomes())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(frame(Answer.DELETED, b"\5" + text(b"")), id="an unknown outcome"),
        pytest.param(frame(Answer.DELETED, b"\4" + text(b"")), id="one that was kept for the sake of no other"),
        pytest.param(frame(Answer.DELETED, b"\0"), id="a cut frame"),
        pytest.param(frame(Answer.DELETED, b"\0" + text(b"") + b"x"), id="a frame with more in it"),
        pytest.param(frame(Answer.DELETED, b"\0" + text(b"")) * 2, id="more deletions than were asked for"),
        pytest.param(hashed(), id="a hash that nobody asked for"),
    ],
)
async def test_i3_deletions_that_lie_are_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)
    more = asyncio.Event()

    async def files() -> AsyncIterator[list[DoomedFile]]:
        yield [DoomedFile(b"a/x.txt", 5, 1, 1, bytes(32))]
        await more.wait()

    async def outcomes() -> list[object]:
        return [outcome async for outcome in connection.delete_unchanged(files())]

    await fails(outcomes())


def deleted(*numbers: int) -> bytes:
    return b"".join(frame(Answer.DELETED, bytes([number]) + text(b"")) for number in numbers)


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        pytest.param(deleted(4, 4, 4), "kept", id="all kept for the sake of none"),
        pytest.param(deleted(1, 0, 4), "after", id="a deletion after one that was none"),
        pytest.param(deleted(0, 4, 3), "before", id="one that was kept before what it was kept for"),
        pytest.param(deleted(0, 0, 4), "kept", id="the last one kept for nothing"),
        pytest.param(deleted(0, 0, 0, 0), "not asked for", id="an outcome too many"),
        pytest.param(deleted(0, 0) + frame(Answer.MOVED, bytes(4)), "in place of a deletion", id="something else in a group"),
    ],
)
async def test_i3_the_outcomes_of_a_group_cannot_be_just_any(answer: bytes, more: str) -> None:
    connection = await connect(MARKER + READY, answer)
    group = [DoomedFile(b"a/%d.txt" % number, 5, 1, 1, bytes(32), number > 0) for number in range(3)]
    seen: list[object] = []
    waiting = asyncio.Event()

    async def files() -> AsyncIterator[list[DoomedFile]]:
        yield group
        await waiting.wait()

    async def outcomes() -> None:
        async for outcome in connection.delete_unchanged(files()):
            seen.append(outcome)  # noqa: PERF401 - what came before the error counts

    assert more in (await fails(outcomes())).message
    assert len(seen) in (0, 3), "an outcome of a group is told with all of them"


def names(*paths: bytes) -> bytes:
    return frame(Answer.NAMES, struct.pack(">I", len(paths)) + b"".join(map(text, paths)))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(names(b"c"), id="one that was not asked for"),
        pytest.param(names(b"../a"), id="one that leads out"),
        pytest.param(names(b"/a"), id="an absolute one"),
        pytest.param(names(b"b", b"a"), id="out of order"),
        pytest.param(names(b"a", b"a"), id="one twice"),
        pytest.param(names(b""), id="the root"),
        pytest.param(deleted(0), id="something else"),
    ],
)
async def test_folders_that_were_not_to_be_removed_are_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)
    await fails(connection.remove_empty_folders([b"a", b"b"]))


@pytest.mark.parametrize("payload", [b"", b"\xff" * 8 + text(b""), bytes(8) + text(b"") + b"x", bytes(8) + b"\0\5x"])
async def test_an_emptying_that_lies_is_refused(payload: bytes) -> None:
    connection = await connect(MARKER + READY, frame(Answer.EMPTIED, payload))
    await fails(connection.empty_aside(b"trash", "2026-01-02"))


def moved(*paths: bytes) -> bytes:
    return frame(Answer.MOVED, struct.pack(">I", len(paths)) + b"".join(map(text, paths)))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(moved(b"../etc"), id="a directory that leads out"),
        pytest.param(moved(b"/etc"), id="an absolute one"),
        pytest.param(moved(b"a/b\0c"), id="one with NUL"),
        pytest.param(moved(b"a/" + b"n" * 256), id="an endless name"),
        pytest.param(moved(b"b"), id="one outside of the folder"),
        pytest.param(moved(b"ab"), id="one beside the folder"),
        pytest.param(moved(b""), id="the root, which was not asked for"),
        pytest.param(moved(b"a") + frame(Answer.MOVED, b"\xff\xff\xff\xff"), id="four thousand million"),
        pytest.param(SCANNED, id="the end of a scan"),
    ],
)
async def test_i7_a_watch_that_lies_is_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)

    async def outcomes() -> list[object]:
        return [paths async for paths in connection.watch(ScanRequest(b"a"))]

    await fails(outcomes())


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(directory(b"b"), id="a directory outside of the folder"),
        pytest.param(directory(b""), id="the root"),
        pytest.param(frame(Answer.GONE, text(b"b")), id="the end of one outside"),
        pytest.param(frame(Answer.GONE, text(b"a/b")), id="the end of one that was not known"),
        pytest.param(frame(Answer.GONE, text(b"a/../b")), id="the end of one that leads out"),
        pytest.param(frame(Answer.FILTERED, b"\1" + bytes(8) + text(b"a/..")), id="something left out that leads out"),
        pytest.param(frame(Answer.FILTERED, b"\0" + bytes(8) + text(b"a/x")), id="an unknown reason"),
        pytest.param(frame(Answer.FILTERED, b"\1" + b"\xff" * 8 + text(b"a/x")), id="a size beyond all disks"),
        pytest.param(frame(Answer.FILTERED, b"\1" + bytes(8) + text(b"")), id="nothing left out"),
        pytest.param(frame(Answer.UNREADABLE_DIRECTORY, text(b"b") + text(b"")), id="one that cannot be read outside"),
    ],
)
async def test_i7_a_scan_of_a_folder_that_lies_is_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)
    await fails(scan(connection, b"a", 1, {b"a": 1}, quick=True))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(frame(Answer.FREE, bytes(15)), id="a cut frame"),
        pytest.param(frame(Answer.FREE, b"\xff" * 16 + bytes(4)), id="a disk beyond all disks"),
        pytest.param(frame(Answer.NAMES, bytes(4)), id="names"),
    ],
)
async def test_surroundings_that_lie_are_refused(answer: bytes) -> None:
    connection = await connect(MARKER + READY, answer)
    await fails(connection.surroundings())


async def test_a_pace_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LINE_SECONDS", 0.2)

    class Slow:
        def took(self, count: int) -> float:
            return 0.8 if count == 5 else 0.0

    connection = await connect(MARKER + READY, BEGIN + b"12345" + END)
    outcomes = [outcome async for outcome in connection.read(batches_of([WANTED]), Collector().open, pace=Slow())]
    assert [outcome.status for outcome in outcomes] == [ReadStatus.OK]
    await connection.close()


async def test_a_file_is_never_longer_than_was_asked_for() -> None:
    sinks = Collector()
    connection = await connect(MARKER + READY, BEGIN + b"12345" + END)
    (outcome,) = await read(connection, [WANTED], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files == {WANTED.path: b"12345"}
    await connection.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(frame(Answer.READY, b""), id="an empty hello"),
        pytest.param(frame(Answer.READY, struct.pack(">q", 0) + text(b"") + text(b"") + text(b"relative")), id="a relative root"),
        pytest.param(frame(Answer.READY, READY[5:] + b"more"), id="a hello with more in it"),
        pytest.param(directory(), id="a directory first"),
        pytest.param(frame(Answer.FAILED, b"\1" + bytes(4)), id="a failure without a reason"),
        pytest.param(frame(Answer.FAILED, b""), id="an empty failure"),
        pytest.param(READY + directory(), id="an answer that nobody asked for"),
    ],
)
async def test_a_hello_that_lies_is_refused(answer: bytes) -> None:
    async def talk() -> None:
        connection = await connect(MARKER + answer)
        try:
            await connection.list_folders()
        finally:
            await connection.close()

    await fails(talk())


async def test_a_marker_with_another_number_is_only_a_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "START_SECONDS", 1.0)
    error = await fails(connect(wire.MARKER + b"0" * 32 + b"\n" + READY))
    assert "mediasync-agent" in error.message


async def test_an_endless_greeting_is_cut_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_GREETING", 4096)
    error = await fails(connect(b"spam and eggs " * 1000))
    assert "more than 4096 bytes" in error.message
    assert "spam and eggs" in error.message


async def test_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "START_SECONDS", 0.5)
    error = await fails(connect(b""))
    assert "did not answer within" in error.message


async def test_what_was_printed_instead_is_shown() -> None:
    error = await fails(connect(b"This account is not available.\n", stay=False))
    assert "This account is not available." in error.message
    assert "exit status 0" in error.message


async def test_silence_in_the_middle_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LINE_SECONDS", 0.4)
    connection = await connect(MARKER + READY, BEGIN + b"123")
    with pytest.raises(MediasyncError) as raised:
        await read(connection, [WANTED])
    assert raised.value.reason is Reason.CONNECTION_LOST
    assert "has sent nothing for" in raised.value.message


async def test_a_far_side_that_lives_and_gets_nowhere_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "STALL_SECONDS", 0.4)
    connection = await connect(MARKER + READY, frame(Answer.TICK, b"") + frame(Answer.ALIVE, b""))
    with pytest.raises(MediasyncError) as raised:
        await read(connection, [WANTED])
    assert raised.value.reason is Reason.CONNECTION_LOST
    assert "has got nowhere for" in raised.value.message


async def test_a_lagging_caller_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LINE_SECONDS", 0.2)
    connection = await connect(MARKER + READY, BEGIN + b"12345" + END)
    waiting = asyncio.Event()

    async def batches() -> AsyncIterator[list[WantedFile]]:
        yield [WANTED]
        asyncio.get_running_loop().call_later(0.6, waiting.set)
        await waiting.wait()

    outcomes = [outcome async for outcome in connection.read(batches(), Collector().open)]
    assert [outcome.status for outcome in outcomes] == [ReadStatus.OK]
    await connection.close()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 4096])
def test_frames_are_found_however_they_are_cut(piece: int) -> None:
    stream = frame(1, b"") + frame(2, b"x" * 10) + frame(3, bytes(1000)) + frame(4, b"y")
    parser, found = wire.FrameParser(), []
    for start in range(0, len(stream), piece):
        view = memoryview(stream[start : start + piece])
        while len(view):
            step = parser.next(view)
            if step is None:
                break
            found.append(step[:2])
            view = step[2]
    assert found == [(1, b""), (2, b"x" * 10), (3, bytes(1000)), (4, b"y")]
