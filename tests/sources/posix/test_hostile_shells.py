"""A far side that answers otherwise than our program in its shell would: every such answer ends the call with SOURCE_PROTOCOL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.agent.connection import NamedFolders
from mediasync.sources.base import DoomedFile, WantedFile
from mediasync.sources.channel import Launched, Receiver
from mediasync.sources.posix import wire
from mediasync.sources.posix.connection import PosixConnection
from tests.fixtures.sources import Collector, batches_of, read, scan

TOOLS = b" gnu find xargs stat proc dd sha256sum readlink"
READY = b"ready" + TOOLS + b"\n/root\0/root\0Linux x\x001700000000.5\n"
CLOCK = b"//@1700000000.5\n"
DIRECTORY = b"4096|2|1700000000|2023-11-14 22:13:20.000000000 +0000|1700000000|2023-11-14 22:13:20.000000000 +0000|41ed|2"
FILE = b"5|9|1700000000|2023-11-14 22:13:20.000000000 +0000|1700000000|2023-11-14 22:13:20.000000000 +0000|81a4|1"
FOUND = b"5|9|1700000000.0|1700000000.0|f"
WANTED = WantedFile(b"x.txt", 5, 1_700_000_000 * 10**9, 9, settle_seconds=0)


class _Channel:
    def __init__(self, receiver: Receiver, answers: dict[bytes, bytes]) -> None:
        self._receiver = receiver
        self._answers = answers
        self._nonce = b""
        self._sent = b""

    def write(self, data: bytes) -> None:
        self._sent += data
        *lines, self._sent = self._sent.split(b"\n")
        for line in lines:
            if not self._nonce and len(line) == 32:
                self._nonce = line
                self._say(b"greeting\0mediasync-posix NONCE\n" + self._answers.get(b"hello", READY))
            answer = self._answers.get(line.partition(b" ")[0])
            if answer is not None and self._nonce:
                self._say(answer)

    def _say(self, answer: bytes) -> None:
        self._receiver.data_received(answer.replace(b"NONCE", self._nonce))

    async def drain(self) -> None:
        return

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    async def close(self) -> None:
        return


class _Launcher:
    place = "the far side"

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers

    async def launch(self, receiver: Receiver) -> Launched:
        return Launched(_Channel(receiver, self._answers))


async def _connect(answers: dict[bytes, bytes]) -> PosixConnection:
    return await PosixConnection.open(_Launcher(answers), [b"/root"], "fake", NamedFolders())


async def _refused(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(MediasyncError) as raised:
            await call()
    assert raised.value.reason is Reason.SOURCE_PROTOCOL


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\n",
        b"missing\n/root\0/\0a\0b\0c\0d\0e\0f\0g\0h\0i\0j\0k\0l\0m\0\0" + b"13\n",
        b"missing\n/root\0/\0\0many\n",
        b"ready" + TOOLS + b"\nroot\0root\0Linux\x001.5\n",
        b"ready" + TOOLS + b"\n/root\0/root\0Linux\0soon\n",
        b"ready" + b" x" * 40_000 + b"\n",
    ],
)
async def test_a_beginning_that_is_none_is_refused(answer: bytes) -> None:
    await _refused(lambda: _connect({b"hello": answer + b"\0\0\n" * 8}))


async def test_a_shell_without_the_tools_is_told() -> None:
    with pytest.raises(MediasyncError) as raised:
        await _connect({b"hello": b"ready find stat\n/root\0/root\0BSD\x001.5\n"})
    assert raised.value.reason is Reason.ENGINE_CANNOT
    assert "xargs" in raised.value.message


def _listing(*records: bytes) -> bytes:
    return CLOCK + b".//^" + DIRECTORY + b"\n" + b"".join(records) + b"//.\n"


async def test_a_listing_as_it_should_be_is_taken() -> None:
    connection = await _connect(
        {b"tree": _listing(b"./x.txt//" + FOUND + b"\n"), b"many": b"O 0 " + FILE + b"\nhelloNONCE 0 " + FILE + b"\n"}
    )
    found = await scan(connection)
    assert set(found.files) == {b"x.txt"}
    sinks = Collector()
    await read(connection, [WANTED], sinks)
    assert sinks.files == {b"x.txt": b"hello"}


@pytest.mark.parametrize(
    "records",
    [
        b"./../x//" + FOUND + b"\n",
        b"/etc/passwd//" + FOUND + b"\n",
        b"x.txt//" + FOUND + b"\n",
        b"./a/./x//" + FOUND + b"\n",
        b"./nul\0x//" + FOUND + b"\n",
        b"./a/x//" + FOUND + b"\n",
        b"./x//" + FOUND + b"\n./x//" + FOUND + b"\n",
        b"./x//1|2\n",
        b"./x//-1|9|1.0|1.0|f\n",
        b"./x//99999999999999999999|9|1.0|1.0|f\n",
        b"./x//5|x|1.0|1.0|f\n",
        b"./x//5|9|now|1.0|f\n",
        b"./x//5|9|1|never.1|1|x|81a4|1\n",
        b"./x//5|9|1|x|1|x|zz|1\n",
        b"//&\n",
        b"//@later\n",
        b"./x//y//z\n",
    ],
)
async def test_a_record_that_is_none_is_refused(records: bytes) -> None:
    connection = await _connect({b"tree": _listing(records)})
    await _refused(lambda: scan(connection))
    assert connection.broken


async def test_a_listing_without_its_clock_or_its_end_is_refused() -> None:
    for answer in (b".//^" + DIRECTORY + b"\n//.\n", _listing() + b"more", CLOCK + b"./" + b"x" * 70_000):
        connection = await _connect({b"tree": answer})
        await _refused(lambda connection=connection: scan(connection))  # type: ignore[misc]


@pytest.mark.parametrize(
    "answer",
    [
        b"Z\n",
        b"O\n",
        b"O x " + FILE + b"\n",
        b"O 3 " + FILE + b"\nloNONCE 0 " + FILE + b"\n",
        b"O 0 " + FILE.replace(b"5|9", b"6|9") + b"\n",
        b"O 0 " + FILE.replace(b"5|9", b"5|8") + b"\n",
        b"O 0 " + FILE + b"\nhelloNONCE\n",
        b"O 0 " + FILE + b"\nhelloNONCE 0 nonsense\n",
        b"C nonsense\n",
        b"x" * 70_000,
        b"M\nnonsense\n",
        b"M\n" + FILE.replace(b"5|9", b"5|8") + b"\n",
        b"M\n" + FILE + b"\nhelloNONCE 0 \n",
    ],
)
async def test_an_answer_to_a_read_that_is_none_is_refused(answer: bytes) -> None:
    connection = await _connect({b"many": answer})
    await _refused(lambda: read(connection, [WANTED]))


@pytest.mark.parametrize("data", [b"hell", b"hello and more", b""])
async def test_bytes_of_another_number_are_never_taken_for_the_file(data: bytes) -> None:
    connection = await _connect({b"many": b"O 0 " + FILE + b"\n" + data + b"NONCE 0 " + FILE + b"\n"})
    sinks = Collector()
    (outcome,) = await read(connection, [WANTED], sinks)
    assert outcome.status.value == "unreadable"
    assert sinks.files == {}


async def test_a_group_in_which_one_changed_gives_nothing_behind_it() -> None:
    changed = FILE.replace(b"5|9|1700000000", b"6|9|1700000001")
    answer = b"M\n" + (FILE + b"\n") * 3 + b"hello" + b"hello!" + b"hello" + b"NONCE 0 " + FILE + b"\n" + changed + b"\n" + FILE + b"\n"
    connection = await _connect({b"many": answer})
    sinks = Collector()
    outcomes = await read(connection, [replace(WANTED, path=path) for path in (b"a.txt", b"b.txt", b"c.txt")], sinks)
    assert [outcome.status.value for outcome in outcomes] == ["ok", "changed", "changed"]
    assert sinks.files == {b"a.txt": b"hello"}


@pytest.mark.parametrize("answer", [b"O 0 " + FILE + b"\nnonsenseNONCE 0 " + FILE + b"\n", b"D\n"])
async def test_a_hash_that_is_none_is_refused(answer: bytes) -> None:
    connection = await _connect({b"sum": answer})

    async def hashed() -> None:
        async for outcome in connection.hash_files(batches_of([WANTED])):
            raise AssertionError(outcome)

    await _refused(hashed)


async def test_a_file_that_is_sent_instead_of_deleted_is_refused() -> None:
    connection = await _connect({b"remove": b"O 0 " + FILE + b"\n"})

    async def doomed() -> AsyncIterator[Sequence[DoomedFile]]:
        yield [DoomedFile(b"x.txt", 5, WANTED.mtime_ns, 9, bytes(32))]

    async def deleted() -> None:
        async for outcome in connection.delete_unchanged(doomed()):
            raise AssertionError(outcome)

    await _refused(deleted)


@pytest.mark.parametrize("answer", [b"K\nK\n", b"C\nD\n", b"D\nK\n", b"D\nO 0 " + FILE + b"\n", b"D\nE\n"])
async def test_i3_the_outcomes_of_a_group_cannot_be_just_any(answer: bytes) -> None:
    connection = await _connect({b"together": answer})

    async def doomed() -> AsyncIterator[Sequence[DoomedFile]]:
        yield [DoomedFile(b"%d.txt" % number, 5, WANTED.mtime_ns, 9, bytes(32), number > 0) for number in range(2)]

    async def deleted() -> None:
        async for outcome in connection.delete_unchanged(doomed()):
            raise AssertionError(outcome)

    await _refused(deleted)


async def test_a_folder_that_is_neither_removed_nor_kept_is_refused() -> None:
    connection = await _connect({b"drop": b"./other\n"})

    async def removed() -> None:
        await connection.remove_empty_folders([b"a"])

    await _refused(removed)


def test_i7_a_word_holds_nothing_that_a_shell_would_read() -> None:
    every = bytes(range(1, 256))
    word = wire.word(every)
    assert set(word) <= set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._/+=@%,:-\\")
    assert wire.path_word(b"-rf") == b"./-rf"
