"""Folders of this machine: bytes that go from file to file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FollowSymlinks, LocalConnection, SourceSpec, SourceType
from mediasync.sources.base import Connection, ReadStatus, WantedFile
from mediasync.sources.factory import open_source
from mediasync.sources.local.copying import Copier
from mediasync.sources.selection import Selection
from tests.fixtures.sources import batches_of, read, scan, want

LARGE = 9_000_001


class FileSinks:
    """Files that a source can copy into, and how their bytes came."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.files: dict[bytes, FileSinks.One] = {}

    class One:
        def __init__(self, path: Path) -> None:
            self.path = path
            self.written = self.copied_count = 0
            self._fd = os.open(path, os.O_CREAT | os.O_RDWR)

        @property
        def folder(self) -> bytes:
            return os.fsencode(self.path.parent)

        def fileno(self) -> int:
            return self._fd

        def write(self, data: bytes) -> None:
            self.written += os.write(self._fd, data)

        def copied(self, count: int) -> None:
            self.copied_count += count
            os.lseek(self._fd, self.copied_count, os.SEEK_SET)

        def coming(self, count: int) -> None:
            raise AssertionError("nothing is announced of a folder's files")

        def adopt(self, path: bytes) -> None:
            raise AssertionError("nothing is adopted from a folder")

        def content(self) -> bytes:
            os.close(self._fd)
            return self.path.read_bytes()

    def open(self, wanted: WantedFile, offset: int) -> FileSinks.One:
        assert offset == 0
        self.files[wanted.path] = FileSinks.One(self._folder / str(len(self.files)))
        return self.files[wanted.path]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "small.bin").write_bytes(b"small")
    (folder / "large.bin").write_bytes(os.urandom(LARGE))
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))
    return folder


async def connect(root: Path | bytes, tmp_path: Path, kind: SourceType = SourceType.LOCAL) -> Connection:
    return await open_source(SourceSpec(LocalConnection(), os.fsencode(root), kind), home=tmp_path / "home").connect()


async def taken(outputs: Path, tmp_path: Path, target: Path) -> FileSinks:
    connection = await connect(outputs, tmp_path)
    try:
        found = await scan(connection)
        sinks = FileSinks(target)
        batch = batches_of([want(entry) for entry in found.files.values()])
        outcomes = [outcome async for outcome in connection.read(batch, sinks.open)]
        assert {outcome.status for outcome in outcomes} == {ReadStatus.OK}
        return sinks
    finally:
        await connection.close()


async def test_files_go_from_file_to_file(outputs: Path, tmp_path: Path) -> None:
    sinks = await taken(outputs, tmp_path, tmp_path / "target")
    assert (sinks.files[b"small.bin"].written, sinks.files[b"small.bin"].copied_count) == (0, 5)
    assert (sinks.files[b"large.bin"].written, sinks.files[b"large.bin"].copied_count) == (0, LARGE)
    assert {path: sink.content() for path, sink in sinks.files.items()} == {
        path: (outputs / os.fsdecode(path)).read_bytes() for path in sinks.files
    }


async def test_where_the_kernel_copies_nothing_bytes_are_read_and_written(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse)
    sinks = await taken(outputs, tmp_path, tmp_path / "target")
    assert (sinks.files[b"large.bin"].written, sinks.files[b"large.bin"].copied_count) == (0, LARGE)
    assert sinks.files[b"small.bin"].content() == b"small"
    assert sinks.files[b"large.bin"].content() == (outputs / "large.bin").read_bytes()


async def test_with_links_followed_the_agent_reads(outputs: Path, tmp_path: Path) -> None:
    (outputs / "link.bin").symlink_to("small.bin")
    connection = await connect(outputs, tmp_path)
    selection = Selection(FollowSymlinks.FILES)
    found = await scan(connection, selection=selection)
    (outcome,) = await read(connection, [want(found.files[b"link.bin"])], selection=selection)
    assert outcome.status is ReadStatus.OK
    await connection.close()


async def test_a_folder_that_is_missing_is_told_with_what_is_there(outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(MediasyncError, match=r"there is no folder .*/output at this machine; .* holds .*outputs") as caught:
        await connect(tmp_path / "output", tmp_path)
    assert caught.value.reason is Reason.SOURCE_ROOT_MISSING


async def test_blocks_are_shared_where_the_file_system_can(tmp_path: Path) -> None:
    image, mount = tmp_path / "image", tmp_path / "mount"
    image.touch()
    os.truncate(image, 400 << 20)
    mount.mkdir()
    made = subprocess.run(["mkfs.xfs", "-q", str(image)], check=False, capture_output=True) if _has("mkfs.xfs") else None
    if (
        made is None
        or made.returncode
        or subprocess.run(["mount", "-o", "loop", image, mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs root, loop devices and mkfs.xfs (package xfsprogs)")
    try:
        (mount / "a").write_bytes(b"content" * 10_000)
        with (mount / "a").open("rb") as source, (mount / "b").open("wb") as target:
            assert Copier().clone(source.fileno(), target.fileno())
        assert (mount / "b").read_bytes() == b"content" * 10_000
    finally:
        subprocess.run(["umount", mount], check=True)


def _has(program: str) -> bool:
    import shutil

    return shutil.which(program, path="/sbin:/usr/sbin:/bin:/usr/bin") is not None
