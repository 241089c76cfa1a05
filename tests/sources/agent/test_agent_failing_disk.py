"""A far side whose disk fails while it is read: the file is told, and disturbs none behind it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mediasync.sources import shell
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import DoomedFile, ReadStatus
from mediasync.sources.process import ChildLauncher
from tests.fixtures.sources import Collector, batches_of, read, scan, want

# Reading past so many bytes of a file called bad.bin is an I/O error, by whichever call.
_FAILING = """
import errno, os
def failing(real, fd_at, offset_at):
    def call(*args):
        if os.readlink("/proc/self/fd/%d" % args[fd_at]).endswith("/bad.bin") and args[offset_at] >= LIMIT:
            raise OSError(errno.EIO, "Input/output error")
        return real(*args)
    return call
os.pread = failing(os.pread, 0, 2)
os.preadv = failing(os.preadv, 0, 2)
os.sendfile = failing(os.sendfile, 1, 2)
"""
LARGE = 3 << 20


@pytest.mark.parametrize("limit", [0, 1 << 20])
async def test_an_io_error_at_the_source_is_of_that_file_alone(tmp_path: Path, limit: int) -> None:
    contents = {"a.bin": b"a" * 100, "bad.bin": b"b" * LARGE, "c.bin": b"c" * LARGE}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (1_790_000_000, 1_790_000_000))
    arguments = shell.agent_arguments(sys.executable)
    arguments[-1] = _FAILING.replace("LIMIT", str(limit)) + arguments[-1]
    connection = await AgentConnection.open(ChildLauncher(arguments), [os.fsencode(tmp_path)], "child", NamedFolders())
    try:
        files = (await scan(connection)).files
        wanted = [want(files[name.encode()]) for name in contents]
        collector = Collector()
        outcomes = await read(connection, wanted, collector)
        assert [outcome.status for outcome in outcomes] == [ReadStatus.OK, ReadStatus.UNREADABLE, ReadStatus.OK]
        assert "Input/output error" in outcomes[1].message
        assert bytes(collector.files[b"c.bin"]) == contents["c.bin"]
        hashed = [item async for item in connection.hash_files(batches_of(wanted))]
        assert [item.status for item in hashed] == [ReadStatus.OK, ReadStatus.UNREADABLE, ReadStatus.OK]
        bad = files[b"bad.bin"]
        doomed = DoomedFile(bad.path, bad.size_bytes, bad.mtime_ns, bad.inode, bytes(32))
        [deleted] = [item async for item in connection.delete_unchanged(batches_of([doomed]))]
        assert "Input/output error" in deleted.message
        assert (tmp_path / "bad.bin").exists(), "I3: what cannot be read back is kept"
    finally:
        await connection.close()
