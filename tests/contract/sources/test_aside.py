"""Moving aside in place of deleting, the end of what was moved aside, and of empty folders."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection, DeleteStatus, DoomedFile, FileDeleted
from tests.contract.sources.test_deleting import doomed
from tests.contract.sources.test_groups import joined
from tests.fixtures.backends import Can, lacks, needs
from tests.fixtures.sources import FarSide

TRASH = ".mediasync/trash"
DELETED, CHANGED, VANISHED, REFUSED, KEPT = DeleteStatus


async def move(connection: Connection, files: Sequence[DoomedFile], into: bytes = TRASH.encode() + b"/2026-01-02") -> list[FileDeleted]:
    async def feed() -> AsyncIterator[Sequence[DoomedFile]]:
        yield files

    return [outcome async for outcome in connection.move_aside(feed(), into)]


@needs(Can.ASIDE)
async def test_files_are_moved_to_their_paths_below_the_folder(far: FarSide, connection: Connection) -> None:
    for name in ("a/b/1.png", "a/b/1.txt", "2.png", "3.png", "4.png"):
        far.put(name, b"content")
    files = await doomed(connection, b"content", "a/b/1.png", "a/b/1.txt", "2.png", "3.png", "4.png")
    files[3] = replace(files[3], sha256=b"")
    files[4] = replace(files[4], sha256=bytes(32))
    outcomes = await move(connection, [*joined(*files[:2]), *files[2:]])
    assert [outcome.status for outcome in outcomes] == [DELETED] * 4 + [CHANGED]
    day = far.root / TRASH / "2026-01-02"
    assert {str(file.relative_to(day)) for file in day.rglob("*.*")} == {"a/b/1.png", "a/b/1.txt", "2.png", "3.png"}
    assert (day / "a" / "b" / "1.txt").read_bytes() == b"content"
    assert {(far.root / way).stat().st_mode & 0o777 for way in (".mediasync", TRASH, f"{TRASH}/2026-01-02/a/b")} == {0o700}
    assert sorted(os.listdir(far.root)) == [".mediasync", "4.png", "a"]


@needs(Can.ASIDE)
async def test_i1_nothing_is_replaced_by_what_is_moved_aside(far: FarSide, connection: Connection) -> None:
    far.put("1.png", b"content")
    there = far.put(f"{TRASH}/2026-01-02/1.png", b"another")
    (outcome,) = await move(connection, await doomed(connection, b"content", "1.png"))
    assert outcome.status is REFUSED
    assert outcome.message
    assert ((far.root / "1.png").read_bytes(), there.read_bytes()) == (b"content", b"another")


@needs(Can.ASIDE)
async def test_i7_no_link_leads_out_by_way_of_the_folder(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("1.png", b"content")
    (tmp_path / "outside" / "2020-01-01").mkdir(parents=True)
    (tmp_path / "outside" / "2020-01-01" / "x").write_bytes(b"x")
    (far.root / ".mediasync").mkdir()
    (far.root / TRASH).symlink_to(tmp_path / "outside")
    (outcome,) = await move(connection, await doomed(connection, b"content", "1.png"))
    assert outcome.status is REFUSED
    with pytest.raises(MediasyncError) as raised:
        await connection.empty_aside(TRASH.encode(), "2026-01-01")
    assert raised.value.reason is Reason.SOURCE_UNREADABLE
    assert os.listdir(tmp_path / "outside") == ["2020-01-01"]
    for path in (b"../x", b"/tmp", b""):
        with pytest.raises(MediasyncError) as raised:
            await connection.empty_aside(path, "2026-01-01")
        assert raised.value.reason is Reason.FILE_NAME_UNSAFE
    assert (tmp_path / "outside" / "2020-01-01" / "x").exists()


@needs(Can.ASIDE)
async def test_only_days_before_are_emptied_and_links_in_them_not_followed(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    assert await connection.empty_aside(TRASH.encode(), "2026-01-02") == 0
    for name in ("2026-01-01/a/b/1.png", "2026-01-01/2.png", "2026-01-02/3.png", "2025-13-99x/4.png", "note.txt"):
        far.put(f"{TRASH}/{name}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"x")
    (far.root / TRASH / "2026-01-01" / "link").symlink_to(tmp_path / "outside")
    assert await connection.empty_aside(TRASH.encode(), "2026-01-02") == 3
    assert sorted(os.listdir(far.root / TRASH)) == ["2025-13-99x", "2026-01-02", "note.txt"]
    assert (tmp_path / "outside" / "kept").exists()
    assert await connection.empty_aside(TRASH.encode(), "2026-01-02") == 0


@needs(Can.DELETE)
async def test_empty_folders_are_removed_and_no_others(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    for folder in ("a/b/c", "full", "d/e"):
        (far.root / folder).mkdir(parents=True)
    far.put("full/1.png")
    far.put("file")
    (tmp_path / "outside" / "empty").mkdir(parents=True)
    (far.root / "link").symlink_to(tmp_path / "outside")
    asked = [b"a/b/c", b"a/b", b"a", b"full", b"file", b"link", b"link/empty", b"gone", b"d/e"]
    assert await connection.remove_empty_folders(asked) == [b"a/b/c", b"a/b", b"a", b"d/e"]
    assert sorted(os.listdir(far.root)) == ["d", "file", "full", "link"]
    assert os.listdir(tmp_path / "outside") == ["empty"]
    assert await connection.remove_empty_folders([]) == []


@needs(Can.DELETE)
@pytest.mark.parametrize("path", [b"", b"..", b"a/../../x", b"/tmp"])
async def test_i7_no_folder_outside_is_removed(far: FarSide, connection: Connection, path: bytes) -> None:
    with pytest.raises(MediasyncError) as raised:
        await connection.remove_empty_folders([path])
    assert raised.value.reason is Reason.FILE_NAME_UNSAFE


@lacks(Can.ASIDE)
async def test_moving_aside_is_refused(far: FarSide, connection: Connection) -> None:
    far.put("1.png", b"content")
    with pytest.raises(MediasyncError) as raised:
        await move(connection, [])
    assert raised.value.reason is Reason.ENGINE_CANNOT
    with pytest.raises(MediasyncError) as raised:
        await connection.empty_aside(TRASH.encode(), "2026-01-01")
    assert raised.value.reason is Reason.ENGINE_CANNOT
    assert not connection.broken


@lacks(Can.DELETE)
async def test_removing_folders_is_refused(far: FarSide, connection: Connection) -> None:
    (far.root / "a").mkdir()
    with pytest.raises(MediasyncError) as raised:
        await connection.remove_empty_folders([b"a"])
    assert raised.value.reason is Reason.ENGINE_CANNOT
    assert (far.root / "a").exists()
