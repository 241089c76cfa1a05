"""The system's own SSH client for a host that is near: used where it decides as we do, and never instead of us where it would not."""

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Engine, SourceSpec, SshConnection
from mediasync.sources import ssh_program
from mediasync.sources.base import Connection, FileEntry, ReadStatus
from mediasync.sources.factory import open_source
from mediasync.sources.secrets import PASSPHRASE_VARIABLE, PASSWORD_VARIABLE
from mediasync.sources.ssh_near import find_program
from tests.fixtures.sources import Collector, read, want
from tests.fixtures.ssh import SshServer


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, so that nobody's own keys and settings take part."""
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("SSH_AUTH_SOCK", PASSWORD_VARIABLE, PASSPHRASE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return home


def login(spec: SourceSpec) -> SshConnection:
    """How a source is reached."""
    assert isinstance(spec.connection, SshConnection)
    return spec.connection


def clients() -> list[str]:
    """The command lines of our child processes that are SSH clients."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    lines = [Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode() for child in children]
    return [line for line in lines if line.split(" ")[0].endswith("/ssh")]


async def connected(spec: SourceSpec, home: Path) -> Connection:
    """Connects as a receiver near the source does."""
    program = await find_program(spec, home)
    connection = await ssh_program.connect(program, ()) if program is not None else None
    return connection or await open_source(spec, home=home).connect()


async def test_a_near_host_is_reached_by_the_systems_client(sshd: SshServer, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    content = os.urandom(300_000)
    (tmp_path / "root" / "a.png").write_bytes(content)
    connection = await connected(sshd.spec(tmp_path / "root"), tmp_path)
    try:
        (line,) = clients()
        assert str(sshd.port) in line and "BatchMode=yes" in line
        os.utime(tmp_path / "root" / "a.png", (1_700_000_000, 1_700_000_000))
        status = (tmp_path / "root" / "a.png").stat()
        collector = Collector()
        entry = FileEntry(b"a.png", status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        (outcome,) = await read(connection, [want(entry, incomplete_after_seconds=0.0)], collector)
        assert outcome.status is ReadStatus.OK
        assert collector.files[b"a.png"] == content
    finally:
        await connection.close()
    assert not clients()


async def test_another_host_key_is_refused_whoever_logs_in(sshd: SshServer, tmp_path: Path) -> None:
    sshd.know(asyncssh.generate_private_key("ssh-ed25519"))
    with pytest.raises(MediasyncError) as raised:
        await connected(sshd.spec(tmp_path), tmp_path)
    assert raised.value.reason is Reason.HOST_KEY_CHANGED
    assert not clients()


async def test_what_the_client_would_be_asked_for_is_ours_to_answer(
    sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sshd.spec(tmp_path)
    encrypted = tmp_path / "encrypted"
    encrypted.write_bytes(Path(login(spec).identity_files[0]).read_bytes())
    encrypted.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", str(encrypted)], check=True, stdout=subprocess.DEVNULL)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "secret words")
    locked = replace(spec, connection=replace(login(spec), identity_files=(str(encrypted),)))
    connection = await connected(locked, tmp_path)
    assert not clients()
    await connection.close()


@pytest.mark.parametrize("hindrance", ["no client", "a client that fails", "another engine", "a key that others can read"])
async def test_the_client_that_is_built_in_does_it_where_the_other_cannot(
    sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hindrance: str
) -> None:
    caplog.set_level(logging.INFO)
    spec = sshd.spec(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    if hindrance == "a client that fails":
        (programs / "ssh").write_text("#!/bin/sh\necho 'it has its reasons' >&2; exit 255\n")
        (programs / "ssh").chmod(0o755)
    if hindrance in ("no client", "a client that fails"):
        monkeypatch.setenv("PATH", str(programs))
    elif hindrance == "another engine":
        spec = replace(spec, engine=Engine.POSIX)
    else:
        Path(login(spec).identity_files[0]).chmod(0o644)
    connection = await connected(spec, tmp_path)
    try:
        assert not clients()
        assert ("does not start the agent" in caplog.text) == (hindrance == "a client that fails")
    finally:
        await connection.close()
