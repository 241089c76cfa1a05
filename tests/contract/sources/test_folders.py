"""Folders: those that are there, and a probe of the far side."""

from __future__ import annotations

import os

from mediasync.sources.base import Connection
from tests.fixtures.backends import Backend
from tests.fixtures.sources import FarSide


async def test_a_probe_says_where_the_root_is_and_what_runs_there(backend: Backend, far: FarSide, connection: Connection) -> None:
    assert connection.probe.root == (far.root_there or os.fsencode(far.root))
    assert backend.engine in connection.probe.engine
    assert abs(connection.probe.clock_offset_seconds) < 5
    assert 0 <= connection.probe.round_trip_seconds < 5


async def test_folders_of_the_root_are_listed_in_order_and_bounded(far: FarSide, connection: Connection) -> None:
    for name in (b"zeta", b"Alpha", b"beta \xff"):
        os.mkdir(os.path.join(os.fsencode(far.root), name))
    far.put("file.txt")
    (far.root / ".hidden").mkdir()
    (far.root / "linked").symlink_to("zeta")
    assert await connection.list_folders() == [b"Alpha", b"beta \xff", b"linked", b"zeta"]
    assert await connection.list_folders(2) == [b"Alpha", b"beta \xff"]


async def test_folders_that_are_missing_are_named_in_the_order_asked(far: FarSide, connection: Connection) -> None:
    (far.root / "there" / "below").mkdir(parents=True)
    (far.root / "linked").symlink_to("there")
    (far.root / "dangling").symlink_to("nowhere")
    far.put("file.txt")
    asked = [b"zzz", b"there", b"there/below", b"linked", b"dangling", b"file.txt", b"there/nope"]
    assert await connection.missing_folders(asked) == [b"zzz", b"dangling", b"file.txt", b"there/nope"]
    assert await connection.missing_folders([]) == []


async def test_free_space_and_tools_are_told(far: FarSide, connection: Connection) -> None:
    there = await connection.surroundings()
    assert (there.free_bytes is None) == (there.total_bytes is None)
    if there.free_bytes is not None and there.total_bytes is not None:
        assert 0 <= there.free_bytes <= there.total_bytes
    assert all(isinstance(tool, str) and tool for tool in there.tools)
    assert await connection.list_folders() == []
