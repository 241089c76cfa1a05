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


@lacks(Can.ENDINGS)
async def test_every_format_settles_by_its_age_where_its_end_cannot_be_looked_at(far: FarSide, connection: Connection) -> None:
    far.put("new.png", PNG, age_seconds=0)
    far.put("old.png", PNG, age_seconds=30)
    assert await status_of(connection, b"new.png", settle_seconds=20) is ReadStatus.UNSETTLED
    assert await status_of(connection, b"old.png", settle_seconds=20) is ReadStatus.OK
