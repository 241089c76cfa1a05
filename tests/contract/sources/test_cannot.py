"""What an engine cannot do: it says so, by one reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FollowSymlinks
from mediasync.sources.base import Connection, DoomedFile, ScanRequest
from mediasync.sources.selection import Selection
from tests.fixtures.backends import Can, lacks
from tests.fixtures.sources import FarSide, batches_of, scan, want


async def _refused(answers: AsyncIterator[object]) -> str:
    async with asyncio.timeout(20):
        with pytest.raises(MediasyncError) as raised:
            async for _ in answers:
                pass
    assert raised.value.reason is Reason.ENGINE_CANNOT
    assert raised.value.remedy
    return raised.value.message


@lacks(Can.HASH)
async def test_hashing_is_refused(far: FarSide, connection: Connection) -> None:
    far.put("x.txt")
    entry = (await scan(connection)).files[b"x.txt"]
    assert await _refused(connection.hash_files(batches_of([want(entry)])))
    assert not connection.broken


@lacks(Can.DELETE)
async def test_deleting_is_refused_and_deletes_nothing(far: FarSide, connection: Connection) -> None:
    file = far.put("x.txt")
    entry = (await scan(connection)).files[b"x.txt"]

    async def doomed() -> AsyncIterator[Sequence[DoomedFile]]:
        yield [DoomedFile(b"x.txt", entry.size_bytes, entry.mtime_ns, entry.inode, bytes(32))]

    assert await _refused(connection.delete_unchanged(doomed()))
    assert file.exists()
    assert not connection.broken


@lacks(Can.WATCH)
async def test_watching_is_refused(far: FarSide, connection: Connection) -> None:
    assert await _refused(connection.watch(ScanRequest()))
    assert not connection.broken


@lacks(Can.FOLLOW)
async def test_following_links_is_refused(far: FarSide, connection: Connection) -> None:
    assert await _refused(connection.scan(ScanRequest(selection=Selection(FollowSymlinks.ALL))))
    assert not connection.broken


@lacks(Can.EXPLAIN)
async def test_explaining_is_refused(far: FarSide, connection: Connection) -> None:
    assert await _refused(connection.scan(ScanRequest(explain=True)))
    assert not connection.broken
