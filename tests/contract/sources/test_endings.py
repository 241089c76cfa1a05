"""Which files count as complete: their format's own end, or their age."""

from __future__ import annotations

import pytest

from mediasync.sources.base import Connection, ReadStatus
from tests.fixtures.backends import Can, lacks, needs
from tests.fixtures.sources import COMPLETE, PNG, Collector, FarSide, read, scan, status_of, want


@needs(Can.ENDINGS)
@pytest.mark.parametrize("kind", list(COMPLETE))
async def test_a_known_format_is_taken_at_once_when_its_end_is_there(far: FarSide, connection: Connection, kind: str) -> None:
    far.put(f"x.{kind}", COMPLETE[kind], age_seconds=0)
    assert await status_of(connection, f"x.{kind}".encode()) is ReadStatus.OK


@needs(Can.ENDINGS)
@pytest.mark.parametrize("kind", list(COMPLETE))
async def test_a_known_format_without_its_end_waits_and_is_taken_as_incomplete_in_the_end(
    far: FarSide, connection: Connection, kind: str
) -> None:
    half = COMPLETE[kind][:-1]
    far.put(f"new.{kind}", half, age_seconds=100)
    far.put(f"old.{kind}", half, age_seconds=5000)
    found = await scan(connection)
    sinks = Collector()
    new, old = await read(connection, [want(entry) for entry in found.files.values()], sinks)
    assert (new.status, new.entry) == (ReadStatus.UNSETTLED, found.files[f"new.{kind}".encode()])
    assert (old.status, old.incomplete) == (ReadStatus.OK, True)
    assert sinks.files == {f"old.{kind}".encode(): half}


async def test_a_format_without_an_end_settles_by_its_age(far: FarSide, connection: Connection) -> None:
    far.put("new.txt", age_seconds=0)
    far.put("old.txt", age_seconds=30)
    assert await status_of(connection, b"new.txt", settle_seconds=20) is ReadStatus.UNSETTLED
    assert await status_of(connection, b"old.txt", settle_seconds=20) is ReadStatus.OK
    assert await status_of(connection, b"new.txt", settle_seconds=0) is ReadStatus.OK


async def test_an_mtime_in_the_future_waits_for_the_ctime_alone(far: FarSide, connection: Connection) -> None:
    far.put("x.txt", age_seconds=-86_400)
    assert await status_of(connection, b"x.txt", settle_seconds=3600) is ReadStatus.UNSETTLED
    assert await status_of(connection, b"x.txt", settle_seconds=0) is ReadStatus.OK


@needs(Can.ENDINGS)
async def test_a_writer_that_stalls_is_waited_for(far: FarSide, connection: Connection) -> None:
    for kind, data in COMPLETE.items():
        far.put(f"stalled.{kind}", data[: len(data) // 2], age_seconds=600)
    found = await scan(connection)
    sinks = Collector()
    outcomes = await read(connection, map(want, found.files.values()), sinks)
    assert {outcome.status for outcome in outcomes} == {ReadStatus.UNSETTLED}
    assert sinks.files == {}
    for kind, data in COMPLETE.items():
        far.put(f"stalled.{kind}", data, age_seconds=0)
    assert await status_of(connection, b"stalled.png") is ReadStatus.OK


@needs(Can.ENDINGS)
async def test_a_file_that_is_truncated_and_written_anew_is_taken_as_it_is_in_the_end(far: FarSide, connection: Connection) -> None:
    file = far.put("x.png", PNG, age_seconds=0)
    found = await scan(connection)
    with file.open("r+b") as writer:
        writer.truncate(0)
        assert [outcome.status for outcome in await read(connection, map(want, found.files.values()))] == [ReadStatus.CHANGED]
        assert await status_of(connection, b"x.png") is ReadStatus.UNSETTLED
        writer.write(PNG[:30])
        writer.flush()
        assert await status_of(connection, b"x.png") is ReadStatus.UNSETTLED
        writer.write(PNG[30:])
    assert await status_of(connection, b"x.png") is ReadStatus.OK


@needs(Can.ENDINGS)
async def test_a_file_that_is_written_aside_and_renamed_into_place_is_seen_once_and_whole(far: FarSide, connection: Connection) -> None:
    aside = far.put("x.tmp", PNG[:30], age_seconds=0)
    assert (await scan(connection)).files == {}
    aside.write_bytes(PNG)
    aside.rename(far.root / "x.png")
    sinks = Collector()
    found = await scan(connection)
    (outcome,) = await read(connection, map(want, found.files.values()), sinks)
    assert (outcome.status, sinks.files) == (ReadStatus.OK, {b"x.png": PNG})
    # The next one takes its place.
    second = far.put("x.tmp", PNG + b"other", age_seconds=0)
    second.replace(far.root / "x.png")
    assert [outcome.status for outcome in await read(connection, map(want, found.files.values()))] == [ReadStatus.CHANGED]
    assert await status_of(connection, b"x.png") is ReadStatus.OK


@lacks(Can.ENDINGS)
async def test_every_format_settles_by_its_age_where_its_end_cannot_be_looked_at(far: FarSide, connection: Connection) -> None:
    far.put("new.png", PNG, age_seconds=0)
    far.put("old.png", PNG, age_seconds=30)
    assert await status_of(connection, b"new.png", settle_seconds=20) is ReadStatus.UNSETTLED
    assert await status_of(connection, b"old.png", settle_seconds=20) is ReadStatus.OK
