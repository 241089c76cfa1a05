"""Hashes that are taken where the files are."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection, FileHashed, ReadStatus, WantedFile
from tests.fixtures.backends import LARGE, Can, needs
from tests.fixtures.sources import COMPLETE, Collector, FarSide, batches_of, read, scan, want

pytestmark = needs(Can.HASH)


async def hashed(connection: Connection, *batches: list[WantedFile]) -> list[FileHashed]:
    return [outcome async for outcome in connection.hash_files(batches_of(*batches))]


async def test_files_are_hashed_in_order_over_many_batches(far: FarSide, connection: Connection) -> None:
    contents = {f"{number:03}.txt".encode(): os.urandom(number) for number in range(50)} | {b"large.bin": bytes(LARGE)}
    for path, content in contents.items():
        far.put(path, content)
    found = await scan(connection)
    wanted = [want(entry) for entry in found.files.values()]
    outcomes = await hashed(connection, *[wanted[at : at + 7] for at in range(0, len(wanted), 7)])
    assert [outcome.wanted for outcome in outcomes] == wanted
    assert {outcome.wanted.path: outcome.sha256 for outcome in outcomes} == {
        path: hashlib.sha256(content).digest() for path, content in contents.items()
    }
    assert all(outcome.status is ReadStatus.OK and outcome.entry == found.files[outcome.wanted.path] for outcome in outcomes)
    # The connection is good for more.
    sinks = Collector()
    await read(connection, [wanted[1]], sinks)
    assert sinks.files == {b"001.txt": contents[b"001.txt"]}


async def test_a_file_need_not_be_complete_to_be_hashed(far: FarSide, connection: Connection) -> None:
    half = COMPLETE["png"][:-1]
    far.put("x.png", half, age_seconds=10)
    found = await scan(connection)
    (outcome,) = await hashed(connection, [want(found.files[b"x.png"])])
    assert outcome.sha256 == hashlib.sha256(half).digest()


async def test_a_file_that_is_not_what_was_said_has_no_hash(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    for name in ("gone", "touched", "linked", "good"):
        far.put(f"{name}.txt", name.encode())
    found = await scan(connection)
    (far.root / "gone.txt").unlink()
    os.utime(far.root / "touched.txt", (1e9, 1e9))
    (far.root / "linked.txt").rename(tmp_path / "outside.txt")
    (far.root / "linked.txt").symlink_to(tmp_path / "outside.txt")
    wanted = [want(found.files[f"{name}.txt".encode()]) for name in ("gone", "touched", "linked", "good")]
    outcomes = await hashed(connection, wanted)
    assert [outcome.status for outcome in outcomes[:2]] == [ReadStatus.VANISHED, ReadStatus.CHANGED]
    assert outcomes[2].status in (ReadStatus.CHANGED, ReadStatus.VANISHED)
    assert [outcome.sha256 for outcome in outcomes] == [None, None, None, hashlib.sha256(b"good").digest()]


@needs(Can.DENIED)
async def test_a_file_that_cannot_be_read_says_why(far: FarSide, connection: Connection) -> None:
    far.put("closed.txt").chmod(0)
    found = await scan(connection)
    (outcome,) = await hashed(connection, [want(found.files[b"closed.txt"])])
    assert (outcome.status, outcome.sha256) == (ReadStatus.UNREADABLE, None)
    assert "denied" in outcome.message


async def test_i7_a_path_that_leads_out_is_not_hashed(far: FarSide, connection: Connection) -> None:
    far.put("x.txt")
    found = await scan(connection)
    with pytest.raises(MediasyncError) as raised:
        await hashed(connection, [replace(want(found.files[b"x.txt"]), path=b"../x.txt")])
    assert raised.value.reason is Reason.FILE_NAME_UNSAFE
