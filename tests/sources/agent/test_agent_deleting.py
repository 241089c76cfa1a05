"""The agent's deletions where the system refuses or something moves in the last moment, on every Python that is installed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mediasync.sources import shell
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import DeleteStatus, DoomedFile
from mediasync.sources.process import ChildLauncher
from tests.contract.sources.test_deleting import delete
from tests.contract.sources.test_groups import joined
from tests.fixtures.sources import scan
from tests.sources.agent.test_agent_program import _pythons

DELETED, CHANGED, VANISHED, REFUSED, KEPT = DeleteStatus
DATA = b"content" * 30_000  # enough for the threads

# Removing a file whose name begins with `bad` fails.
_REFUSING = """
import errno, os
def unlink(name, real=os.unlink, **options):
    if name.startswith(b"bad"):
        raise OSError(errno.NUMBER, "")
    return real(name, **options)
os.unlink = unlink
"""
# Another file is put in the place of `swapped` between its hashing and the last look at it.
_SWAPPING = """
import os
def stat(name, real=os.stat, looks=[], **options):
    if name == b"swapped.png":
        looks.append(name)
        if len(looks) == 2:
            os.rename(ROOT + b"/other.png", ROOT + b"/swapped.png")
    return real(name, **options)
os.stat = stat
"""


async def connect(root: Path, before: str = "", python: str = "") -> AgentConnection:
    arguments = shell.agent_arguments(python) if python else shell.agent_arguments(_pythons()[0])
    arguments[-1] = before + arguments[-1]
    return await AgentConnection.open(ChildLauncher(arguments), [os.fsencode(root)], "child", NamedFolders())


async def doomed(connection: AgentConnection, *names: str) -> list[DoomedFile]:
    files = (await scan(connection, ages=True)).files
    found = [files[name.encode()] for name in names]
    return [DoomedFile(e.path, e.size_bytes, e.mtime_ns, e.inode, hashlib.sha256(DATA).digest()) for e in found]


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(DATA)
        os.utime(root / name, (1e9, 1e9))


@pytest.mark.parametrize(
    ("number", "said"), [("EROFS", "Read-only file system"), ("EPERM", "not permitted"), ("EIO", "Input/output error")]
)
async def test_i3_what_the_system_refuses_is_told_and_what_went_before_it_too(tmp_path: Path, number: str, said: str) -> None:
    put(tmp_path, "1.png", "bad.txt", "1.json", "2.png")
    connection = await connect(tmp_path, _REFUSING.replace("NUMBER", number))
    try:
        one, bad, json, two = await doomed(connection, "1.png", "bad.txt", "1.json", "2.png")
        outcomes = await delete(connection, [*joined(one, bad, json), two])
        assert [outcome.status for outcome in outcomes] == [DELETED, REFUSED, KEPT, DELETED]
        assert said in outcomes[1].message
        assert sorted(os.listdir(tmp_path)) == ["1.json", "bad.txt"]
    finally:
        await connection.close()


async def test_i3_a_file_that_takes_the_place_in_the_last_moment_stays(tmp_path: Path) -> None:
    put(tmp_path, "swapped.png", "other.png", "with.txt")
    connection = await connect(tmp_path, _SWAPPING.replace("ROOT", repr(os.fsencode(tmp_path))))
    try:
        outcomes = await delete(connection, joined(*await doomed(connection, "swapped.png", "with.txt")))
        assert [outcome.status for outcome in outcomes] == [CHANGED, KEPT]
        assert sorted(os.listdir(tmp_path)) == ["swapped.png", "with.txt"]
    finally:
        await connection.close()


@pytest.mark.parametrize("python", _pythons())
async def test_every_python_deletes_moves_and_tells_ages(tmp_path: Path, python: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    names = [f"{number}.png" for number in range(40)]
    put(root, *names)
    connection = await connect(root, python=python)
    try:
        entry = (await scan(connection, ages=True)).files[b"0.png"]
        assert entry.accessed_ns == 10**18
        assert entry.birth_ns is None or entry.birth_ns > 10**18
        files = await doomed(connection, *names)
        assert {outcome.status for outcome in await delete(connection, files[:20], files[20:39])} == {DELETED}

        async def last():  # type: ignore[no-untyped-def]
            yield files[39:]

        assert [outcome.status async for outcome in connection.move_aside(last(), b"t/2026-01-01")] == [DELETED]
        assert (root / "t/2026-01-01/39.png").read_bytes() == DATA
        assert await connection.empty_aside(b"t", "2026-01-02") == 1
        assert await connection.remove_empty_folders([b"t"]) == [b"t"]
    finally:
        await connection.close()
