"""Which engine a source over SSH gets: the one that was asked for, or with `auto` the best that the far side has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncssh
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Engine
from mediasync.sources.base import Source
from mediasync.sources.factory import open_source
from tests.fixtures.sftp_backends import SFTP_ONLY
from tests.fixtures.sources import scan
from tests.fixtures.ssh import AsyncsshServers, FaultyServer, SshServer, start_sshd

# Whatever asks for Python is told that there is none; everything else runs.
WITHOUT_PYTHON = ["/bin/sh", "-c", 'case "$2" in *python3*) exit 86;; esac; exec /bin/sh -c "$2"', "sh"]


class _Counting(FaultyServer):
    logins = 0

    def auth_completed(self) -> None:
        _Counting.logins += 1


@pytest.fixture
def logins() -> Iterator[type[_Counting]]:
    _Counting.logins = 0
    yield _Counting


@pytest.fixture
def sftp_only(tmp_path: Path) -> Iterator[SshServer]:
    root = tmp_path / "source"
    root.mkdir(exist_ok=True)
    server = start_sshd(tmp_path / "sftp-only", root, SFTP_ONLY)
    yield server
    server.stop()


def _source(server: SshServer, tmp_path: Path, engine: Engine) -> Source:
    return open_source(server.spec(engine=engine), home=tmp_path / "home")


async def _engine(source: Source) -> str:
    connection = await source.connect()
    try:
        assert set((await scan(connection)).files) == {b"x.txt"}
        return connection.probe.engine
    finally:
        await connection.close()


async def _refused(server: SshServer, tmp_path: Path, engine: Engine) -> MediasyncError:
    with pytest.raises(MediasyncError) as raised:
        await _source(server, tmp_path, engine).connect()
    return raised.value


@pytest.fixture
async def pythonless(ssh_servers: AsyncsshServers, logins: type[_Counting]) -> AsyncIterator[SshServer]:
    server = await ssh_servers.start(shell=WITHOUT_PYTHON, server=logins)
    (ssh_servers.root / "x.txt").write_text("x")
    yield server


async def test_where_there_is_no_python_its_shell_is_used_on_the_same_login(
    pythonless: SshServer, logins: type[_Counting], tmp_path: Path
) -> None:
    source = _source(pythonless, tmp_path, Engine.AUTO)
    assert "posix" in await _engine(source)
    assert logins.logins == 1
    # It is not looked for again.
    assert "posix" in await _engine(source)
    assert logins.logins == 2


async def test_where_no_command_runs_its_file_service_is_used(sftp_only: SshServer, tmp_path: Path) -> None:
    (sftp_only.root / "x.txt").write_text("x")
    source = _source(sftp_only, tmp_path, Engine.AUTO)
    assert "sftp" in await _engine(source)
    assert "sftp" in await _engine(source)


async def test_an_engine_that_was_asked_for_is_that_or_none(pythonless: SshServer, sftp_only: SshServer, tmp_path: Path) -> None:
    assert (await _refused(pythonless, tmp_path, Engine.AGENT)).reason is Reason.SOURCE_WITHOUT_PYTHON
    # asyncssh's server was given no file service, and OpenSSH's runs no command.
    assert (await _refused(pythonless, tmp_path, Engine.SFTP)).reason is Reason.SOURCE_PROTOCOL
    assert (await _refused(sftp_only, tmp_path, Engine.POSIX)).reason is Reason.SOURCE_PROTOCOL
    assert (await _refused(sftp_only, tmp_path, Engine.ARCHIVE)).reason is Reason.ENGINE_CANNOT


async def test_where_no_engine_fits_the_first_ones_trouble_is_told(ssh_servers: AsyncsshServers, tmp_path: Path) -> None:
    def refuse(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(b"This account is currently not available.\n")
        process.exit(1)

    server = await ssh_servers.start(handler=refuse)
    error = await _refused(server, tmp_path, Engine.AUTO)
    assert error.reason is Reason.SOURCE_PROTOCOL
    assert "not available" in error.message


async def test_a_root_that_is_missing_is_told_by_every_engine(pythonless: SshServer, sftp_only: SshServer, tmp_path: Path) -> None:
    for server, engine in ((pythonless, Engine.POSIX), (sftp_only, Engine.SFTP), (pythonless, Engine.AUTO), (sftp_only, Engine.AUTO)):
        (server.root / "there").mkdir(exist_ok=True)
        with pytest.raises(MediasyncError) as raised:
            await open_source(server.spec(server.root / "nowhere", engine=engine), home=tmp_path / "home").connect()
        assert raised.value.reason is Reason.SOURCE_ROOT_MISSING
        assert "there" in raised.value.message
