"""Deleting at a source: only what is still exactly what is said of it (invariant I3)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import Connection, DeleteStatus, DoomedFile, FileDeleted
from tests.fixtures.backends import Backend, Can, needs
from tests.fixtures.sources import FarSide, scan

pytestmark = needs(Can.DELETE)


async def doomed(connection: Connection, content: bytes, *paths: str) -> list[DoomedFile]:
    files = (await scan(connection, ages=True)).files
    digest = hashlib.sha256(content).digest()
    entries = [files[path.encode()] for path in paths]
    return [DoomedFile(entry.path, entry.size_bytes, entry.mtime_ns, entry.inode, digest) for entry in entries]


async def delete(connection: Connection, *batches: Sequence[DoomedFile]) -> list[FileDeleted]:
    async def feed() -> AsyncIterator[Sequence[DoomedFile]]:
        for batch in batches:
            yield batch

    return [outcome async for outcome in connection.delete_unchanged(feed())]


async def test_files_that_are_what_was_said_are_deleted_in_order(far: FarSide, connection: Connection) -> None:
    paths = [f"a/{number:03}.txt" for number in range(40)] + ["b.txt"]
    for path in paths:
        far.put(path, b"content")
    far.put("a/stays.txt", b"content")
    files = await doomed(connection, b"content", *paths)
    outcomes = await delete(connection, files[:15], files[15:])
    assert [outcome.doomed for outcome in outcomes] == files
    assert {outcome.status for outcome in outcomes} == {DeleteStatus.DELETED}
    assert [file.name for file in far.root.rglob("*.txt")] == ["stays.txt"]
    assert set((await scan(connection)).files) == {b"a/stays.txt"}


async def test_i3_nothing_else_than_what_was_said_is_deleted(
    backend: Backend, far: FarSide, connection: Connection, tmp_path: Path
) -> None:
    replaced = ["replaced"] if Can.INODE in backend.capabilities else []
    names = ["other hash", "grown", "touched", "same size", *replaced, "linked", "folder", "hardlink kept"]
    for name in names:
        far.put(f"{name}.txt", b"content")
    files = dict(zip(names, await doomed(connection, b"content", *[f"{name}.txt" for name in names]), strict=True))
    files["other hash"] = replace(files["other hash"], sha256=bytes(32))
    with (far.root / "grown.txt").open("ab") as target:
        target.write(b"more")
    os.utime(far.root / "touched.txt", (1e9, 1e9))
    # Written in place, with its old size and mtime: only its bytes tell.
    before = (far.root / "same size.txt").stat()
    (far.root / "same size.txt").write_bytes(b"CONTENT")
    os.utime(far.root / "same size.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    # The same bytes in another file.
    for name in replaced:
        file = far.root / f"{name}.txt"
        before = file.stat()
        file.rename(tmp_path / name)
        file.write_bytes(b"content")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    (far.root / "linked.txt").rename(tmp_path / "linked")
    (far.root / "linked.txt").symlink_to(tmp_path / "linked")
    (far.root / "folder.txt").unlink()
    (far.root / "folder.txt").mkdir()
    outcomes = await delete(connection, list(files.values()))
    assert {path: outcome.status for path, outcome in zip(names[:-1], outcomes, strict=False)} == dict.fromkeys(
        names[:-1], DeleteStatus.CHANGED
    )
    assert outcomes[-1].status is DeleteStatus.DELETED
    assert sorted(os.listdir(far.root)) == sorted(f"{name}.txt" for name in names[:-1])
    assert (tmp_path / "linked").read_bytes() == b"content"


async def test_i3_a_folder_swapped_for_a_link_leads_nowhere(far: FarSide, connection: Connection, tmp_path: Path) -> None:
    far.put("a/b/x.txt", b"content")
    files = await doomed(connection, b"content", "a/b/x.txt")
    (far.root / "a").rename(tmp_path / "outside")
    (far.root / "a").symlink_to(tmp_path / "outside")
    (outcome,) = await delete(connection, files)
    assert outcome.status in (DeleteStatus.CHANGED, DeleteStatus.VANISHED)
    assert (tmp_path / "outside" / "b" / "x.txt").read_bytes() == b"content"


async def test_what_is_gone_already_is_vanished_and_the_rest_goes_on(far: FarSide, connection: Connection) -> None:
    for name in ("a/1.txt", "b/2.txt", "b/3.txt"):
        far.put(name, b"content")
    files = await doomed(connection, b"content", "a/1.txt", "b/2.txt", "b/3.txt")
    (far.root / "a" / "1.txt").unlink()
    (far.root / "a").rmdir()
    (far.root / "b" / "2.txt").unlink()
    outcomes = await delete(connection, files)
    assert [outcome.status for outcome in outcomes] == [DeleteStatus.VANISHED, DeleteStatus.VANISHED, DeleteStatus.DELETED]


@needs(Can.DENIED)
async def test_what_may_not_be_deleted_or_read_is_refused_with_its_reason(far: FarSide, connection: Connection) -> None:
    far.put("closed.txt", b"content")
    far.put("folder/x.txt", b"content")
    far.put("open.txt", b"content")
    files = await doomed(connection, b"content", "closed.txt", "folder/x.txt", "open.txt")
    (far.root / "closed.txt").chmod(0)
    (far.root / "folder").chmod(0o555)
    try:
        outcomes = await delete(connection, files)
    finally:
        (far.root / "folder").chmod(0o755)
    assert [outcome.status for outcome in outcomes] == [DeleteStatus.REFUSED, DeleteStatus.REFUSED, DeleteStatus.DELETED]
    assert all("denied" in outcome.message for outcome in outcomes[:2])
    assert (far.root / "folder" / "x.txt").exists()


@pytest.mark.parametrize("path", [b"../x.txt", b"/etc/hostname", b"a/../../x.txt", b""])
async def test_i7_a_path_that_leads_out_is_never_deleted(far: FarSide, connection: Connection, path: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"content")
    far.put("x.txt", b"content")
    (file,) = await doomed(connection, b"content", "x.txt")
    with pytest.raises(MediasyncError) as raised:
        await delete(connection, [replace(file, path=path)])
    assert raised.value.reason is Reason.FILE_NAME_UNSAFE
    assert (tmp_path / "x.txt").exists()


@needs(Can.ANY_NAME)
async def test_i7_odd_names_are_names_and_no_commands(far: FarSide, connection: Connection) -> None:
    names = [b"new\nline.txt", b"-rf", b"$(touch pwned)", b"in\xffvalid", b"quote'\"`", b"* ?[a]"]
    for name in [*names, b"a", b"other"]:
        far.put(name, b"content")
    found = await scan(connection, ages=True)
    digest = hashlib.sha256(b"content").digest()
    entries = [found.files[name] for name in names]
    outcomes = await delete(connection, [DoomedFile(e.path, e.size_bytes, e.mtime_ns, e.inode, digest) for e in entries])
    assert {outcome.status for outcome in outcomes} == {DeleteStatus.DELETED}
    assert sorted(os.listdir(far.root)) == ["a", "other"]
