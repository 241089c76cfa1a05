"""Files of which the beginning is here already."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import replace

import pytest

from mediasync.sources.base import Connection, FileEntry, Partial, ReadStatus, WantedFile
from tests.fixtures.backends import LARGE, Can, lacks, needs
from tests.fixtures.sources import Collector, FarSide, read, scan, want

SMALL = 100_000


def _with(entry: FileEntry, beginning: bytes) -> WantedFile:
    return replace(want(entry), partial=Partial(len(beginning), hashlib.sha256(beginning).digest()))


@needs(Can.RESUME)
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_only_the_rest_of_a_file_that_begins_the_same_is_sent(far: FarSide, connection: Connection, size: int) -> None:
    content = random.Random(size).randbytes(size)
    far.put("x.bin", content)
    far.put("y.txt", b"after it")
    found = await scan(connection)
    have = content[: size // 3]
    sinks = Collector()
    outcomes = await read(connection, [_with(found.files[b"x.bin"], have), want(found.files[b"y.txt"])], sinks)
    assert [outcome.status for outcome in outcomes] == [ReadStatus.OK, ReadStatus.OK]
    assert sinks.offsets == {b"x.bin": len(have), b"y.txt": 0}
    assert have + sinks.files[b"x.bin"] == content
    assert sinks.files[b"y.txt"] == b"after it"


@needs(Can.RESUME)
async def test_a_file_that_is_here_already_is_confirmed_without_a_byte(far: FarSide, connection: Connection) -> None:
    far.put("x.txt", b"all of it")
    found = await scan(connection)
    sinks = Collector()
    (outcome,) = await read(connection, [_with(found.files[b"x.txt"], b"all of it")], sinks)
    assert outcome.status is ReadStatus.OK
    assert (sinks.offsets, sinks.files) == ({b"x.txt": 9}, {b"x.txt": b""})


@pytest.mark.parametrize("have", [b"other", b"", b"content and more than there is"])
async def test_a_file_that_begins_otherwise_is_sent_from_its_beginning(far: FarSide, connection: Connection, have: bytes) -> None:
    far.put("x.txt", b"content")
    found = await scan(connection)
    sinks = Collector()
    (outcome,) = await read(connection, [_with(found.files[b"x.txt"], have)], sinks)
    assert outcome.status is ReadStatus.OK
    assert (sinks.offsets, sinks.files) == ({b"x.txt": 0}, {b"x.txt": b"content"})


async def test_a_file_that_changes_while_its_rest_is_read_is_not_taken(far: FarSide, connection: Connection) -> None:
    content = bytes(LARGE)
    file = far.put("x.bin", content)
    found = await scan(connection)

    def change(wanted: WantedFile) -> None:
        with file.open("r+b") as target:
            target.seek(LARGE - 5)
            target.write(b"other")
        os.utime(file)

    (outcome,) = await read(connection, [_with(found.files[b"x.bin"], content[:1000])], Collector(change))
    assert outcome.status is ReadStatus.CHANGED


@lacks(Can.RESUME)
async def test_an_engine_that_cannot_tell_sends_all_of_it(far: FarSide, connection: Connection) -> None:
    far.put("x.txt", b"content")
    found = await scan(connection)
    sinks = Collector()
    (outcome,) = await read(connection, [_with(found.files[b"x.txt"], b"cont")], sinks)
    assert outcome.status is ReadStatus.OK
    assert (sinks.offsets, sinks.files) == ({b"x.txt": 0}, {b"x.txt": b"content"})
