"""What breaks: lines, sinks, callers that leave, and connections that are closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection, DirectoryScanned, ScanFinished, ScanRequest, WantedFile
from tests.fixtures.backends import LARGE, Can, needs
from tests.fixtures.sources import Collector, FarSide, read, scan, want


async def test_a_sink_that_fails_ends_the_read_with_its_error(far: FarSide, connection: Connection) -> None:
    far.put("x.bin", bytes(LARGE))
    found = await scan(connection)

    def full(wanted: WantedFile) -> None:
        raise OSError(28, "No space left on device")

    async with asyncio.timeout(20):
        with pytest.raises(OSError, match="No space left"):
            await read(connection, [want(found.files[b"x.bin"])], Collector(full))
        with pytest.raises(MediasyncError) as raised:
            await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST


async def test_batches_that_fail_end_the_read_with_their_error(far: FarSide, connection: Connection) -> None:
    async def batches() -> AsyncIterator[Sequence[WantedFile]]:
        raise LookupError("no more batches")
        yield []

    with pytest.raises(LookupError):
        async for _ in connection.read(batches(), Collector().open):
            pass


@needs(Can.LINE)
async def test_a_cut_line_ends_a_read_once_and_for_all(far: FarSide, connection: Connection) -> None:
    far.put("x.bin", bytes(LARGE))
    found = await scan(connection)
    sinks = Collector(lambda wanted: far.cut(connection))
    async with asyncio.timeout(20):
        with pytest.raises(MediasyncError) as raised:
            await read(connection, [want(found.files[b"x.bin"])], sinks)
        assert raised.value.reason is Reason.CONNECTION_LOST
        with pytest.raises(MediasyncError) as again:
            await scan(connection)
        assert again.value.reason is Reason.CONNECTION_LOST
        await connection.close()
        # A new connection works.
        fresh = await far.connect()
        try:
            assert set((await scan(fresh)).files) == {b"x.bin"}
        finally:
            await fresh.close()


@needs(Can.LINE)
async def test_a_cut_line_is_noticed_by_the_next_call(far: FarSide, connection: Connection) -> None:
    far.cut(connection)
    async with asyncio.timeout(20):
        with pytest.raises(MediasyncError) as raised:
            await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST


async def test_a_read_that_is_cancelled_closes_the_connection(far: FarSide, connection: Connection) -> None:
    far.put("x.bin", bytes(LARGE))
    found = await scan(connection)
    started = asyncio.Event()
    task = asyncio.create_task(read(connection, [want(found.files[b"x.bin"])], Collector(lambda wanted: started.set())))
    async with asyncio.timeout(20):
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(MediasyncError):
            await connection.list_folders()


async def test_a_scan_that_is_left_early_closes_the_connection(far: FarSide, connection: Connection) -> None:
    for number in range(3000):
        far.put(f"{number}.txt", b"")
    records = connection.scan(ScanRequest())
    async with asyncio.timeout(20):
        assert isinstance(await anext(records), DirectoryScanned)
        await records.aclose()  # type: ignore[attr-defined]
        with pytest.raises(MediasyncError):
            await connection.list_folders()


async def test_two_things_at_once_on_one_connection_are_refused(far: FarSide, connection: Connection) -> None:
    far.put("x.txt")
    records = connection.scan(ScanRequest())
    await anext(records)
    with pytest.raises(RuntimeError):
        await connection.list_folders()
    assert [type(record) async for record in records][-1] is ScanFinished
    assert await connection.list_folders() == []


async def test_closing_is_harmless_at_any_time_and_more_than_once(far: FarSide) -> None:
    connection = await far.connect()
    await asyncio.gather(connection.close(), connection.close())
    await connection.close()
    with pytest.raises(MediasyncError) as raised:
        await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST
