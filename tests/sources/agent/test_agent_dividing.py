"""An exact scan of many directories is divided among processes, and nobody can tell."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from mediasync.model import FilterReason
from mediasync.sources import shell
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.process import ChildLauncher
from tests.fixtures.sources import clock_tick, scan
from tests.fixtures.ssh import without_override

_DIRECTORIES = 300


@pytest_asyncio.fixture
async def connection(tmp_path: Path) -> AsyncIterator[AgentConnection]:
    """An agent at tmp_path/root, which holds many directories."""
    root = tmp_path / "root"
    for number in range(_DIRECTORIES):
        folder = root / f"{number % 10}" / f"{number:03}"
        folder.mkdir(parents=True)
        (folder / "1.txt").write_bytes(b"1")
    command = [*without_override(), *shell.agent_arguments(sys.executable)]
    opened = await AgentConnection.open(ChildLauncher(command), [os.fsencode(root)], "child", NamedFolders())
    yield opened
    await opened.close()


async def test_a_full_scan_is_divided_once_there_is_much_to_go_into(connection: AgentConnection, tmp_path: Path) -> None:
    root = tmp_path / "root" / "wide"
    for number in range(_DIRECTORIES):
        (root / f"{number:03}" / "below").mkdir(parents=True)
        (root / f"{number:03}" / "below" / "2.txt").write_bytes(b"22")
    (root / "007" / "x.tmp").write_bytes(b"half")
    (root / "008" / "link").symlink_to("below")
    (root / "009").chmod(0)
    try:
        found = await scan(connection, ages=True)
    finally:
        (root / "009").chmod(0o755)
    paths = [record.path for record in found.records if hasattr(record, "files")]
    assert len(paths) == len(set(paths)) == _DIRECTORIES + 11 + 1 + 2 * _DIRECTORIES - 2
    assert list(found.unreadable) == [b"wide/009"]
    assert found.finished.files_seen == len(found.files) == 2 * _DIRECTORIES - 1
    assert found.finished.bytes_seen == _DIRECTORIES + 2 * (_DIRECTORIES - 1)
    assert found.finished.filtered == {FilterReason.TEMPORARY: 1, FilterReason.LINK: 1}
    assert all(entry.accessed_ns is not None for entry in found.files.values())


async def test_a_divided_scan_finds_what_moved_wherever_it_is(connection: AgentConnection, tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = await scan(connection)
    assert len(first.known) == _DIRECTORIES + 11
    since = clock_tick(tmp_path, max(entry.ctime_ns for entry in first.files.values()))
    (root / "3/003/2.txt").write_bytes(b"22")
    (root / "4/004/1.txt").write_bytes(b"one")
    new = root / "5/new/deep"
    new.mkdir(parents=True)
    (new / "1.txt").write_bytes(b"new")
    for folder in (root / "3/003", root / "4/004", new):
        (folder / "x.tmp").write_bytes(b"half")
    (root / "0/000/link").symlink_to("1.txt")
    shutil.rmtree(root / "6/006")
    (root / "7/007").rename(root / "8/moved")
    for number in range(2500):
        (root / "9/009" / f"{number:04}.txt").write_bytes(b"x")
    closed = [root / "1/001", root / "2"]
    for folder in closed:
        folder.chmod(0)
    found = await scan(connection, since=since, known=first.known)
    for folder in closed:
        folder.chmod(0o755)
    paths = [record.path for record in found.records if hasattr(record, "files")]
    expected = {path for path in first.known if path not in (b"6/006", b"7/007", b"1/001", b"2") and not path.startswith(b"2/")}
    assert set(paths) == expected | {b"5/new", b"5/new/deep", b"8/moved"}
    assert set(found.unreadable) == {b"1/001", b"2"}
    assert {path for path in found.files if not path.startswith(b"9/009/")} == {
        *(b"3/003/2.txt", b"4/004/1.txt", b"5/new/deep/1.txt", b"8/moved/1.txt")
    }
    assert sum(path.startswith(b"9/009/") for path in found.files) == 2501
    # The pieces of a large directory come one after the other, in order.
    first_piece, last_piece = paths.index(b"9/009"), len(paths) - 1 - paths[::-1].index(b"9/009")
    assert paths[first_piece : last_piece + 1] == [b"9/009"] * 3
    assert found.finished.files_seen == _DIRECTORIES - 1 - 30 - 1 + 1 + 1 + 2500
    assert found.finished.filtered == {FilterReason.TEMPORARY: 3, FilterReason.LINK: 1}
    assert found.directories[b"3/003"].names == (b"1.txt", b"2.txt")


async def test_nothing_is_left_behind_by_a_divided_scan(connection: AgentConnection) -> None:
    first = await scan(connection)
    for _ in range(3):
        again = await scan(connection, since=first.finished.started_ns + 1, known=first.known)
        assert again.finished.files_seen == _DIRECTORIES
    pid = connection._session._channel._transport.get_pid()
    assert (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text() == ""
