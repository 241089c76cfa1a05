"""Reading: bytes as they are, in order, without waiting in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

from mediasync.sources.base import Connection, FileEntry, ReadStatus, WantedFile
from tests.fixtures.backends import LARGE, Can, needs
from tests.fixtures.sources import PNG, Collector, FarSide, batches_of, digest, read, scan, want


async def test_files_of_every_size_arrive_as_they_are_and_in_order(far: FarSide, connection: Connection) -> None:
    numbers = random.Random(1)
    sizes = [0, 1, 4095, 65_536, 262_143, 262_144, 262_145, 300_000, 1_048_577, LARGE, 0, 5]
    contents = {f"{index:02}.bin".encode(): numbers.randbytes(size) for index, size in enumerate(sizes)}
    for path, content in contents.items():
        far.put(path, content)
    found = await scan(connection)
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [outcome.wanted.path for outcome in outcomes] == sorted(contents)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert {path: digest(data) for path, data in sinks.files.items()} == {path: digest(data) for path, data in contents.items()}
    assert all(outcome.entry == found.files[outcome.wanted.path] for outcome in outcomes)


async def test_a_connection_does_one_thing_after_the_other(far: FarSide, connection: Connection) -> None:
    far.put("a/x.txt", b"one")
    for _ in range(3):
        found = await scan(connection)
        assert await connection.list_folders() == [b"a"]
        sinks = Collector()
        await read(connection, [want(entry) for entry in found.files.values()], sinks)
        assert sinks.files == {b"a/x.txt": b"one"}
    assert await read(connection, []) == []


@needs(Can.PIPELINE)
async def test_the_next_batch_is_asked_for_while_the_last_one_streams(far: FarSide, connection: Connection) -> None:
    far.put("first.bin", bytes(LARGE))
    far.put("second.txt", b"second")
    found = await scan(connection)
    steps: list[str] = []

    async def batches() -> AsyncIterator[Sequence[WantedFile]]:
        for path in (b"first.bin", b"second.txt"):
            steps.append(f"asked for {path.decode()}")
            yield [want(found.files[path])]

    async for outcome in connection.read(batches(), Collector().open):
        steps += [f"got {outcome.wanted.path.decode()}"]
    assert steps == ["asked for first.bin", "asked for second.txt", "got first.bin", "got second.txt"]


async def test_a_batch_that_comes_late_is_read_when_it_comes(far: FarSide, connection: Connection) -> None:
    far.put("a.txt", b"a")
    far.put("b.txt", b"b")
    found = await scan(connection)
    got_first = asyncio.Event()

    async def batches() -> AsyncIterator[Sequence[WantedFile]]:
        yield [want(found.files[b"a.txt"])]
        await got_first.wait()
        yield []
        yield [want(found.files[b"b.txt"])]

    paths = []
    async with asyncio.timeout(20):
        async for outcome in connection.read(batches(), Collector().open):
            paths.append(outcome.wanted.path)
            got_first.set()
    assert paths == [b"a.txt", b"b.txt"]


@needs(Can.DENIED)
async def test_a_file_that_cannot_be_read_is_a_result_and_the_rest_goes_on(far: FarSide, connection: Connection) -> None:
    far.put("closed.txt").chmod(0)
    far.put("open.txt", b"open")
    found = await scan(connection)
    sinks = Collector()
    outcomes = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert [outcome.status for outcome in outcomes] == [ReadStatus.UNREADABLE, ReadStatus.OK]
    assert "denied" in outcomes[0].message
    assert sinks.files == {b"open.txt": b"open"}


async def test_an_empty_file_opens_a_sink(far: FarSide, connection: Connection) -> None:
    far.put("empty.txt", b"")
    found = await scan(connection)
    sinks = Collector()
    (outcome,) = await read(connection, [want(found.files[b"empty.txt"])], sinks)
    assert outcome.status is ReadStatus.OK
    assert sinks.files == {b"empty.txt": b""}


async def test_several_connections_work_at_once(far: FarSide) -> None:
    entries: dict[bytes, FileEntry] = {}
    for number in range(4):
        far.put(f"{number}.bin", bytes([number]) * 3_000_000)
    connections = await asyncio.gather(*(far.connect() for _ in range(4)))
    try:
        entries = (await scan(connections[0])).files
        sinks = Collector()
        outcomes = await asyncio.gather(
            *(read(connection, [want(entries[f"{number}.bin".encode()])], sinks) for number, connection in enumerate(connections))
        )
        assert all(outcome.status is ReadStatus.OK for (outcome,) in outcomes)
        assert all(sinks.files[f"{number}.bin".encode()] == bytes([number]) * 3_000_000 for number in range(4))
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


@needs(Can.PIPELINE)
async def test_a_consumer_that_lags_makes_the_far_side_wait(far: FarSide, connection: Connection) -> None:
    for number in range(1000):
        far.put(f"{number:04}.txt", PNG)
    found = await scan(connection)
    sinks = Collector()
    most_ahead = taken = 0
    async for _ in connection.read(batches_of([want(entry) for entry in found.files.values()]), sinks.open):
        taken += 1
        most_ahead = max(most_ahead, len(sinks.files) - taken)
        await asyncio.sleep(0)
    assert taken == 1000
    assert most_ahead < 1000


class _Slow:
    """Lets nothing more come for a moment, as often as it may."""

    def __init__(self, times: int) -> None:
        self.bytes = 0
        self._times = times

    def took(self, count: int) -> float:
        self.bytes += count
        self._times -= 1
        return 0.001 if self._times >= 0 else 0.0


async def test_a_pace_holds_the_far_side_back_and_loses_nothing(far: FarSide, connection: Connection) -> None:
    contents = {f"{number:03}.bin".encode(): bytes([number]) * 50_000 for number in range(40)} | {b"large.bin": bytes(5_000_000)}
    for path, content in contents.items():
        far.put(path, content)
    found = await scan(connection)
    pace, sinks = _Slow(50), Collector()
    wanted = [want(entry) for entry in found.files.values()]
    outcomes = [outcome async for outcome in connection.read(batches_of(wanted[:10], wanted[10:]), sinks.open, pace=pace)]
    assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
    assert {path: digest(data) for path, data in sinks.files.items()} == {path: digest(data) for path, data in contents.items()}
    assert pace.bytes >= sum(map(len, contents.values()))
    assert set((await scan(connection)).files) == set(contents)
