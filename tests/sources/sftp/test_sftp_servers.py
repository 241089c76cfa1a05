"""SFTP servers that lie, and names of any bytes."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncssh
import pytest
from hypothesis import HealthCheck, given, settings

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Engine
from mediasync.sources.factory import open_source
from mediasync.sources.sftp.client import Look
from mediasync.sources.sftp.sightings import Sightings
from tests.fixtures.sftp_backends import SFTP_ONLY
from tests.fixtures.sources import Collector, read, scan, status_of, want
from tests.fixtures.ssh import AsyncsshServers, SshServer, start_sshd
from tests.sources.posix.test_any_name import NAMES


@pytest.fixture(scope="module")
def sftp_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    folder = tmp_path_factory.mktemp("sftp")
    server = start_sshd(folder / "sshd", folder / "source", SFTP_ONLY)
    yield server
    server.stop()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(names=NAMES)
async def test_i7_any_name_round_trips(sftp_only: SshServer, tmp_path: Path, names: list[bytes]) -> None:
    root = tempfile.mkdtemp(dir=tmp_path).encode()
    for name in names:
        os.mkdir(root + b"/" + name)
        with open(root + b"/" + name + b"/" + name, "wb") as file:
            file.write(name)
    connection = await open_source(sftp_only.spec(root, engine=Engine.SFTP), home=tmp_path / "home").connect()
    try:
        found = await scan(connection)
        assert set(found.files) == {name + b"/" + name for name in names}
        sinks = Collector()
        await read(connection, [want(entry, settle_seconds=0) for entry in found.files.values()], sinks)
        assert {path: bytes(data) for path, data in sinks.files.items()} == {name + b"/" + name: name for name in names}
        assert await connection.missing_folders([*names, b"nowhere"]) == [b"nowhere"]
    finally:
        await connection.close()
        shutil.rmtree(root)


class _Names(asyncssh.SFTPServer):
    """Names a file that is none."""

    name = b""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        yield asyncssh.SFTPName(self.name, attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644, mtime=1, atime=1, uid=0, gid=0))
        if self.name == b"twice":
            yield asyncssh.SFTPName(self.name, attrs=asyncssh.SFTPAttrs(size=1, permissions=0o100644, mtime=1, atime=1, uid=0, gid=0))


class _Kinds(asyncssh.SFTPServer):
    """Says of nothing what it is."""

    def stat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return asyncssh.SFTPAttrs(size=1, mtime=1, atime=1)


async def _refused(server: SshServer, tmp_path: Path) -> None:
    source = open_source(server.spec(engine=Engine.SFTP), home=tmp_path / "home")
    async with asyncio.timeout(20):
        with pytest.raises(MediasyncError) as raised:
            connection = await source.connect()
            await scan(connection)
    assert raised.value.reason is Reason.SOURCE_PROTOCOL


@pytest.mark.parametrize("name", [b"../x", b"a/b", b"/etc/passwd", b"nul\0x", b"", b"twice"])
async def test_a_name_that_is_none_is_refused(ssh_servers: AsyncsshServers, tmp_path: Path, name: bytes) -> None:
    server = await ssh_servers.start(sftp_factory=type("Names", (_Names,), {"name": name}))
    await _refused(server, tmp_path)


async def test_a_path_without_its_kind_is_refused(ssh_servers: AsyncsshServers, tmp_path: Path) -> None:
    await _refused(await ssh_servers.start(sftp_factory=_Kinds), tmp_path)


class _Short(asyncssh.SFTPServer):
    """Gives less of a file than it says there is."""

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        data = super().read(file_obj, offset, size)
        assert isinstance(data, bytes)
        return data if offset else data[: len(data) // 2]


async def test_short_answers_are_asked_for_again(ssh_servers: AsyncsshServers, tmp_path: Path) -> None:
    server = await ssh_servers.start(sftp_factory=_Short)
    content = bytes(range(256)) * 100
    (ssh_servers.root / "x.txt").write_bytes(content)
    connection = await open_source(server.spec(engine=Engine.SFTP), home=tmp_path / "home").connect()
    try:
        found = await scan(connection)
        sinks = Collector()
        await read(connection, [want(found.files[b"x.txt"], settle_seconds=0)], sinks)
        assert sinks.files == {b"x.txt": content}
    finally:
        await connection.close()


class _Failing(asyncssh.SFTPServer):
    """Cannot read past the first 2 MB."""

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        if offset >= 2 * 1024 * 1024:
            raise asyncssh.SFTPFailure("Input/output error")
        data = super().read(file_obj, offset, size)
        assert isinstance(data, bytes)
        return data


async def test_a_disk_that_fails_is_a_result(ssh_servers: AsyncsshServers, tmp_path: Path) -> None:
    server = await ssh_servers.start(sftp_factory=_Failing)
    (ssh_servers.root / "x.bin").write_bytes(bytes(5 * 1024 * 1024))
    (ssh_servers.root / "y.txt").write_bytes(b"y")
    connection = await open_source(server.spec(engine=Engine.SFTP), home=tmp_path / "home").connect()
    try:
        found = await scan(connection)
        outcomes = await read(connection, [want(found.files[path], settle_seconds=0) for path in (b"x.bin", b"y.txt")])
        assert [outcome.status.value for outcome in outcomes] == ["unreadable", "ok"]
        assert "Input/output error" in outcomes[0].message
        assert (await status_of(connection, b"y.txt", settle_seconds=0)).value == "ok"
    finally:
        await connection.close()


def test_a_file_ahead_of_our_clock_ages_from_when_it_was_first_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [0.0]
    monkeypatch.setattr("mediasync.sources.sftp.sightings.time.monotonic", lambda: moments[0])
    sightings = Sightings()
    ahead = Look("f", 1, 1 << 62)
    assert sightings.age_seconds(b"x", ahead) == 0
    moments[0] = 5
    assert sightings.age_seconds(b"x", ahead) == 5
    assert sightings.age_seconds(b"x", Look("f", 2, 1 << 62)) == 0
