"""Watching: which directories something moved in."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection, ScanRequest
from tests.fixtures.backends import Can, needs
from tests.fixtures.sources import FarSide, scan

pytestmark = needs(Can.WATCH)


class Watched:
    """What is told, until all that is waited for was."""

    def __init__(self, told: AsyncIterator[frozenset[bytes]]) -> None:
        self._told = told
        self.seen: set[bytes] = set()

    async def until(self, *paths: bytes) -> None:
        """Waits for news of all of `paths`; what is known is forgotten then."""
        async with asyncio.timeout(30):
            while not set(paths) <= self.seen:
                self.seen |= await anext(self._told)
        self.seen.clear()


@asynccontextmanager
async def watching(far: FarSide, connection: Connection, folder: bytes = b"") -> AsyncIterator[Watched]:
    request = ScanRequest(folder, known_directories=(await scan(connection)).known)
    async with aclosing(connection.watch(request)) as told:  # type: ignore[type-var]
        async with asyncio.timeout(30):
            assert await anext(told) == frozenset()  # it watches
        yield Watched(told)


async def test_what_comes_goes_and_is_renamed_is_told_by_its_directory(far: FarSide, connection: Connection) -> None:
    file = far.put("a/old.txt")
    far.put("b/old.txt")
    far.put("c/d/old.txt")
    async with watching(far, connection) as watched:
        far.put("a/new.txt")
        await watched.until(b"a")
        file.unlink()
        await watched.until(b"a")
        os.rename(far.root / "b" / "old.txt", far.root / "c" / "d" / "moved.txt")
        await watched.until(b"b", b"c/d")
        far.put("in root.txt")
        await watched.until(b"")


async def test_a_file_that_is_written_and_renamed_into_place_is_told(far: FarSide, connection: Connection) -> None:
    far.put("a/old.png")
    async with watching(far, connection) as watched:
        far.put("a/new.png.tmp", b"half")
        os.rename(far.root / "a" / "new.png.tmp", far.root / "a" / "new.png")
        await watched.until(b"a")


async def test_a_directory_that_appears_is_told_and_watched_from_then_on(far: FarSide, connection: Connection) -> None:
    far.put("a/x.txt")
    async with watching(far, connection) as watched:
        (far.root / "a" / "2026-11-21" / "deep").mkdir(parents=True)
        await watched.until(b"a", b"a/2026-11-21/deep")
        far.put("a/2026-11-21/deep/new.txt")
        await watched.until(b"a/2026-11-21/deep")


async def test_a_directory_that_goes_and_comes_back_is_told_both_times(far: FarSide, connection: Connection) -> None:
    far.put("a/b/x.txt")
    async with watching(far, connection) as watched:
        shutil.rmtree(far.root / "a")
        await watched.until(b"")
        far.put("a/b/y.txt")
        await watched.until(b"a/b")
        far.put("a/b/z.txt")
        await watched.until(b"a/b")


async def test_only_what_is_below_the_folder_is_told(far: FarSide, connection: Connection) -> None:
    far.put("in/x.txt")
    far.put("out/x.txt")
    async with watching(far, connection, b"in") as watched:
        far.put("out/y.txt")
        far.put("in/y.txt")
        await watched.until(b"in")
        assert b"out" not in watched.seen


async def test_watching_that_is_left_closes_the_connection(far: FarSide, connection: Connection) -> None:
    far.put("a/x.txt")
    async with watching(far, connection):
        pass
    with pytest.raises(MediasyncError) as raised:
        await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST


@needs(Can.WATCH, Can.LINE)
async def test_a_line_that_is_cut_ends_the_watching(far: FarSide, connection: Connection) -> None:
    far.put("a/x.txt")
    async with watching(far, connection) as watched:
        far.cut(connection)
        with pytest.raises(MediasyncError) as raised:
            await watched.until(b"nothing")
        assert raised.value.reason is Reason.CONNECTION_LOST
