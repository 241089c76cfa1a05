"""Getting to a far side over SSH: ways in, ways to be refused, and what is said then."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import HostKeyTrust, SourceSpec, SourceType, SshConnection
from mediasync.sources import shell, ssh_login
from mediasync.sources.base import Connection
from mediasync.sources.factory import open_source
from tests.fixtures.proxy import StartProxy
from tests.fixtures.sources import read, scan, want
from tests.fixtures.ssh import AsyncsshServers, FaultyServer, SshServer, start_sshd

OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, so that nobody's own keys and settings take part."""
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "home"


async def connects(spec: SourceSpec, home: Path) -> None:
    """Connects, and looks whether it works."""
    connection = await open_source(spec, home=home).connect()
    await connection.list_folders()
    await connection.close()


async def refused(spec: SourceSpec, home: Path) -> MediasyncError:
    """The error of a connect that must fail."""
    with pytest.raises(MediasyncError) as raised:
        await connects(spec, home)
    assert raised.value.remedy
    return raised.value


# Reaching the host


async def test_an_unknown_host_is_named(ssh_server: SshServer, home: Path) -> None:
    error = await refused(ssh_server.spec(host="no-such-host.invalid"), home)
    assert error.reason is Reason.HOST_NOT_FOUND
    assert "no-such-host.invalid" in error.message


async def test_a_closed_port_is_unreachable(ssh_server: SshServer, home: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        error = await refused(ssh_server.spec(port=port), home)
    assert error.reason is Reason.HOST_UNREACHABLE
    assert f"127.0.0.1 refuses connections on port {port}" in error.message


async def test_a_host_that_does_not_answer_is_given_up(
    ssh_server: SshServer, home: Path, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_login, "CONNECT_SECONDS", 0.5)
    proxy = await start_proxy(ssh_server.port)
    proxy.stall()
    error = await refused(ssh_server.through(proxy.port).spec(), home)
    assert error.reason is Reason.HOST_UNREACHABLE
    assert "did not answer within" in error.message


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"SSH-1.5-old\r\n", b"\0" * 5000])
async def test_a_port_of_something_else_is_told_apart(home: Path, ssh_server: SshServer, greeting: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    error = await refused(ssh_server.spec(port=server.sockets[0].getsockname()[1]), home)
    server.close()
    await server.wait_closed()
    assert error.reason is Reason.HOST_UNREACHABLE
    assert "SSH" in error.message + error.remedy


async def test_a_line_that_goes_silent_is_lost(
    ssh_server: SshServer, home: Path, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_login, "KEEPALIVE_SECONDS", 0.2)
    proxy = await start_proxy(ssh_server.port)
    connection = await open_source(ssh_server.through(proxy.port).spec(), home=home).connect()
    proxy.stall()
    with pytest.raises(MediasyncError) as raised:
        await scan(connection)
    assert raised.value.reason is Reason.CONNECTION_LOST
    await connection.close()


async def test_a_line_that_is_cut_while_it_logs_in_is_said(ssh_server: SshServer, home: Path, start_proxy: StartProxy) -> None:
    for after in (0, 500, 1500):
        proxy = await start_proxy(ssh_server.port)
        proxy.cut_after_bytes = after
        error = await refused(ssh_server.through(proxy.port).spec(), home)
        assert error.reason in (Reason.HOST_UNREACHABLE, Reason.CONNECTION_LOST)


async def test_the_round_trip_is_measured(ssh_server: SshServer, home: Path, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(ssh_server.port)
    proxy.delay_seconds = 0.1
    connection = await open_source(ssh_server.through(proxy.port).spec(), home=home).connect()
    assert 0.19 < connection.probe.round_trip_seconds < 1.0
    assert abs(connection.probe.clock_offset_seconds) < 0.5
    await connection.close()


# Being let in


async def test_a_wrong_key_is_refused_and_what_was_tried_is_listed(sshd: SshServer, home: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong_key"
    OTHER_KEY.write_private_key(wrong)
    error = await refused(sshd.spec(identity_files=(str(wrong),)), home)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert f"does not let {sshd.user} in" in error.message
    assert "wrong_key" in error.message


async def test_no_key_at_all_is_said(sshd: SshServer, home: Path) -> None:
    error = await refused(sshd.spec(identity_files=()), home)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert "no key to try" in error.message


async def test_an_identity_file_that_is_missing_or_none_is_named(sshd: SshServer, home: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("-----BEGIN garbage")
    for name in ("nowhere", "garbage"):
        error = await refused(sshd.spec(identity_files=(str(tmp_path / name),)), home)
        assert error.reason is Reason.AUTHENTICATION_FAILED
        assert str(tmp_path / name) in error.message


async def test_an_encrypted_key_says_what_to_do(sshd: SshServer, home: Path, tmp_path: Path) -> None:
    OTHER_KEY.write_private_key(tmp_path / "secret", passphrase="hunter2")
    error = await refused(sshd.spec(identity_files=(str(tmp_path / "secret"),)), home)
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert "ssh-add" in error.message


async def test_the_default_key_is_used(sshd: SshServer, home: Path, user_home: Path) -> None:
    shutil.copy(sshd.identity_file, user_home / ".ssh" / "id_ed25519")
    await connects(sshd.spec(identity_files=()), home)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A running ssh-agent."""
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield str(path)
    process.terminate()
    process.wait()
    process.stdout.close()


async def test_the_agent_is_asked(sshd: SshServer, home: Path, agent: str, tmp_path: Path) -> None:
    error = await refused(sshd.spec(identity_files=()), home)
    assert "no key to try" in error.message
    OTHER_KEY.write_private_key(tmp_path / "other")
    (tmp_path / "other").chmod(0o600)
    subprocess.run(["ssh-add", "-q", tmp_path / "other"], check=True)
    assert "(agent)" in (await refused(sshd.spec(identity_files=()), home)).message
    subprocess.run(["ssh-add", "-q", sshd.identity_file], check=True)
    await connects(sshd.spec(identity_files=()), home)


# Host keys


async def test_an_unknown_host_key_is_refused_with_the_command_that_accepts_it(sshd: SshServer, home: Path) -> None:
    error = await refused(sshd.spec(known_hosts_files=()), home)
    print_ = sshd.host_key.get_fingerprint()
    assert error.reason is Reason.HOST_KEY_UNKNOWN
    assert print_ in error.message
    assert f"mediasync sources trust ssh://{sshd.user}@127.0.0.1:{sshd.port} --fingerprint {print_}" in error.remedy
    assert "--accept-new-host-key" in error.remedy
    assert error.metadata["fingerprint"] == print_


async def test_a_new_host_key_is_accepted_when_told_so_and_known_from_then_on(sshd: SshServer, home: Path) -> None:
    await asyncio.gather(*(connects(sshd.spec(known_hosts_files=(), accept_new_host_key=True), home) for _ in range(3)))
    assert (home / "known_hosts").read_text().count("\n") == 1
    await connects(sshd.spec(known_hosts_files=()), home)


async def test_a_named_known_hosts_file_gets_the_accepted_key(sshd: SshServer, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    await connects(sshd.spec(known_hosts_files=(str(file),), accept_new_host_key=True), home)
    assert file.read_text().startswith(f"[127.0.0.1]:{sshd.port} ssh-ed25519 ")
    assert not (home / "known_hosts").exists()
    error = await refused(sshd.spec(known_hosts_files=(str(tmp_path / "other"),)), home)
    assert f"--known-hosts {tmp_path / 'other'}" in error.remedy


@pytest.mark.parametrize("accept", [False, True])
async def test_a_changed_host_key_is_never_accepted(sshd: SshServer, home: Path, accept: bool) -> None:
    sshd.know(OTHER_KEY)
    before = sshd.known_hosts.read_text()
    error = await refused(sshd.spec(accept_new_host_key=accept), home)
    assert error.reason is Reason.HOST_KEY_CHANGED
    assert f"{sshd.known_hosts} line 1" in error.message
    assert f"ssh-keygen -f {sshd.known_hosts} -R '[127.0.0.1]:{sshd.port}'" in error.remedy
    assert sshd.known_hosts.read_text() == before


async def test_a_host_with_another_kind_of_key_on_record_has_changed(sshd: SshServer, home: Path) -> None:
    sshd.know(asyncssh.generate_private_key("ecdsa-sha2-nistp256"))
    assert (await refused(sshd.spec(), home)).reason is Reason.HOST_KEY_CHANGED


async def test_a_host_with_several_keys_shows_the_one_on_record(ssh_servers: AsyncsshServers, home: Path) -> None:
    ecdsa = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    server = await ssh_servers.start(server_host_keys=[asyncssh.generate_private_key("ssh-ed25519"), ecdsa])
    server.know(ecdsa)
    await connects(server.spec(), home)


async def test_a_host_certificate_of_a_known_authority_is_trusted(ssh_servers: AsyncsshServers, home: Path) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_host_certificate(key, "host", principals=["127.0.0.1"])
    server = await ssh_servers.start(server_host_keys=[(key, certificate)])
    server.known_hosts.write_text("@cert-authority * " + authority.export_public_key("openssh").decode())
    await connects(server.spec(), home)
    server.known_hosts.write_text("")
    assert (await refused(server.spec(), home)).metadata["fingerprint"] == key.get_fingerprint()


async def test_a_host_key_is_shown_and_trusted_by_its_fingerprint(sshd: SshServer, home: Path) -> None:
    source = open_source(sshd.spec(known_hosts_files=(), identity_files=()), home=home)
    key = await source.host_key()
    assert (key.host, key.algorithm, key.trust) == (f"[127.0.0.1]:{sshd.port}", "ssh-ed25519", HostKeyTrust.UNKNOWN)
    assert key.fingerprint == sshd.host_key.get_fingerprint()
    with pytest.raises(MediasyncError) as raised:
        await source.trust_host_key("SHA256:" + "A" * 43)
    assert raised.value.reason is Reason.HOST_KEY_CHANGED
    assert not (home / "known_hosts").exists()
    assert await source.trust_host_key(key.fingerprint) == str(home / "known_hosts")
    assert await source.trust_host_key(key.fingerprint.removeprefix("SHA256:")) == str(home / "known_hosts")
    assert (await source.host_key()).trust is HostKeyTrust.TRUSTED
    await connects(sshd.spec(known_hosts_files=()), home)


async def test_a_changed_host_key_is_shown_as_such_and_not_trusted(sshd: SshServer, home: Path) -> None:
    sshd.know(OTHER_KEY)
    source = open_source(sshd.spec(), home=home)
    key = await source.host_key()
    assert (key.trust, key.known_hosts_file) == (HostKeyTrust.CHANGED, str(sshd.known_hosts))
    with pytest.raises(MediasyncError) as raised:
        await source.trust_host_key(key.fingerprint)
    assert raised.value.reason is Reason.HOST_KEY_CHANGED


async def test_the_key_of_a_host_that_is_not_there_cannot_be_asked_for(ssh_server: SshServer, home: Path) -> None:
    ssh_server.stop()
    with pytest.raises(MediasyncError) as raised:
        await open_source(ssh_server.spec(), home=home).host_key()
    assert raised.value.reason is Reason.HOST_UNREACHABLE


# ~/.ssh/config


async def test_an_alias_brings_everything(sshd: SshServer, home: Path, user_home: Path, tmp_path: Path) -> None:
    (user_home / ".ssh" / "config").write_text(
        f"""Host forge
    HostName 127.0.0.1
    Port {sshd.port}
    User {sshd.user}
    IdentityFile {sshd.identity_file}
    UserKnownHostsFile {sshd.known_hosts}
"""
    )
    await connects(SourceSpec(SshConnection("forge"), os.fsencode(sshd.root)), home)
    # A type's port is for hosts that nothing else is known of.
    await connects(SourceSpec(SshConnection("forge"), os.fsencode(sshd.root), SourceType.FORGE), home)
    error = await refused(SourceSpec(SshConnection("forge", port=1), os.fsencode(sshd.root)), home)
    assert "127.0.0.1 refuses connections on port 1" in error.message


async def test_no_setting_weakens_the_check_of_the_hosts_key(sshd: SshServer, home: Path, user_home: Path) -> None:
    (user_home / ".ssh" / "config").write_text("Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n")
    assert (await refused(sshd.spec(known_hosts_files=()), home)).reason is Reason.HOST_KEY_UNKNOWN


async def test_the_users_known_hosts_file_is_used(sshd: SshServer, home: Path, user_home: Path) -> None:
    shutil.copy(sshd.known_hosts, user_home / ".ssh" / "known_hosts")
    await connects(sshd.spec(known_hosts_files=()), home)


async def test_jump_hosts_are_passed(sshd: SshServer, ssh_servers: AsyncsshServers, home: Path, user_home: Path) -> None:
    passed: list[tuple[str, int]] = []

    class Jump(FaultyServer):
        def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
            passed.append((dest_host, dest_port))
            return True

    first, second = await ssh_servers.start(server=Jump), await ssh_servers.start(server=Jump)
    hops = "".join(
        f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  User {server.user}\n  IdentityFile {server.identity_file}\n"
        for name, server in (("first", first), ("second", second))
    )
    (user_home / ".ssh" / "known_hosts").write_text("".join(server.known_hosts.read_text() for server in (sshd, first, second)))
    target = replace_host(sshd.spec(known_hosts_files=()), "target")
    for jumps, ports in (
        ("first", [sshd.port]),
        ("first,second", [second.port, sshd.port]),
        (f"{second.user}@second:{second.port}", [sshd.port]),
        ("ssh://first", [sshd.port]),
        ("none", []),
    ):
        (user_home / ".ssh" / "config").write_text(f"{hops}Host target\n  HostName 127.0.0.1\n  ProxyJump {jumps}\n")
        passed.clear()
        await connects(target, home)
        assert [port for _, port in passed] == ports
        assert (await open_source(target, home=home).host_key()).trust is HostKeyTrust.TRUSTED


def replace_host(spec: SourceSpec, host: str) -> SourceSpec:
    return replace(spec, connection=replace(spec.connection, host=host))


async def test_a_jump_hosts_key_is_verified_too(sshd: SshServer, ssh_server: SshServer, home: Path, user_home: Path) -> None:
    (user_home / ".ssh" / "config").write_text(f"Host target\n  HostName 127.0.0.1\n  ProxyJump localhost:{ssh_server.port}\n")
    shutil.copy(sshd.known_hosts, user_home / ".ssh" / "known_hosts")
    error = await refused(replace_host(sshd.spec(known_hosts_files=()), "target"), home)
    assert error.reason is Reason.HOST_KEY_UNKNOWN
    assert f"sources trust ssh://localhost:{ssh_server.port} " in error.remedy


async def test_jump_hosts_in_a_circle_are_noticed(sshd: SshServer, home: Path, user_home: Path) -> None:
    (user_home / ".ssh" / "config").write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    error = await refused(replace_host(sshd.spec(), "a"), home)
    assert error.reason is Reason.CONFIGURATION_INVALID


@pytest.mark.parametrize("content", ["Port many\n", "Host *\n  ProxyJump :x\n"])
async def test_a_config_that_cannot_be_read_is_named(sshd: SshServer, home: Path, user_home: Path, content: str) -> None:
    (user_home / ".ssh" / "config").write_text(content)
    error = await refused(sshd.spec(), home)
    assert error.reason is Reason.CONFIGURATION_INVALID


async def test_a_type_brings_port_and_user(home: Path) -> None:
    for kind, where in ((SourceType.FORGE, "port 2222"), (SourceType.SSH, "port 22")):
        spec = SourceSpec(SshConnection("no-such-host.invalid"), b"/x", kind)
        source = open_source(spec, home=home)
        target = await source._gate.resolve(spec.connection)  # type: ignore[attr-defined]
        assert where == f"port {target.host.port}"
    spec = SourceSpec(SshConnection("no-such-host.invalid"), b"/x", SourceType.VASTAI)
    assert (await open_source(spec, home=home)._gate.resolve(spec.connection)).user == "root"  # type: ignore[attr-defined]


# The far side's shell


async def test_a_greeting_before_the_program_is_no_harm(ssh_servers: AsyncsshServers, home: Path) -> None:
    server = await ssh_servers.start(prelude=b"Welcome to vast.ai. If authentication fails, try again.\r\n\0binary\xff\n" * 50)
    await connects(server.spec(), home)


async def test_a_far_side_without_python_is_refused(ssh_servers: AsyncsshServers, home: Path) -> None:
    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        # The very command, looking for names that are nowhere.
        command = (process.command or "").replace("python", "no-such-python")
        done = await asyncio.create_subprocess_exec("sh", "-c", command, stdin=asyncio.subprocess.DEVNULL)
        process.exit(await done.wait())

    server = await ssh_servers.start(handler=run)
    error = await refused(server.spec(), home)
    assert error.reason is Reason.SOURCE_WITHOUT_PYTHON
    assert "python3" in error.message


async def test_an_account_without_a_shell_is_shown_what_it_printed(ssh_servers: AsyncsshServers, home: Path) -> None:
    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(b"This account is currently not available.\n")
        process.exit(1)

    error = await refused((await ssh_servers.start(handler=run)).spec(), home)
    assert error.reason is Reason.SOURCE_PROTOCOL
    assert "This account is currently not available." in error.message


async def test_a_server_that_runs_no_commands_is_said(home: Path, ssh_servers: AsyncsshServers) -> None:
    error = await refused((await ssh_servers.start(process_factory=None)).spec(), home)
    assert error.reason is Reason.SOURCE_PROTOCOL
    assert "run no command" in error.message


async def test_a_server_that_ends_its_output_and_stays_is_not_waited_for(
    home: Path, ssh_servers: AsyncsshServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediasync.sources.ssh_line.EOF_SECONDS", 0.2)
    leave = asyncio.Event()

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write_eof()
        await leave.wait()
        process.exit(0)

    error = await refused((await ssh_servers.start(handler=run)).spec(), home)
    leave.set()
    assert error.reason is Reason.SOURCE_PROTOCOL


async def test_a_missing_root_is_said_with_what_is_there(sshd: SshServer, home: Path) -> None:
    (sshd.root / "outputs").mkdir()
    error = await refused(sshd.spec(sshd.root / "output"), home)
    assert error.reason is Reason.SOURCE_ROOT_MISSING
    assert f"{sshd.root} holds outputs" in error.message
    assert f"127.0.0.1 port {sshd.port}" in error.message


async def test_a_types_own_roots_are_tried(sshd: SshServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The far side's home is its own, whatever ours is.
    spec = replace(sshd.spec(), root=b"", type=SourceType.FORGE)
    error = await refused(spec, home)
    assert error.reason is Reason.SOURCE_ROOT_MISSING
    assert "/app/outputs" in error.message
    assert "/workspace/stable-diffusion-webui-forge/outputs" in error.message


async def test_a_source_without_a_folder_asks_for_one(sshd: SshServer, home: Path) -> None:
    error = await refused(replace(sshd.spec(), root=b""), home)
    assert error.reason is Reason.INVALID_ARGUMENT


# Ends


def _agents_of(server: SshServer) -> list[int]:
    """Processes that came from the server and run our command."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"sys.stdin.buffer.raw" in words and b"SSH_CONNECTION=127.0.0.1" in environment and f" {server.port}\0".encode() in environment:
            found.append(int(entry.name))
    return found


async def _gone(server: SshServer) -> None:
    while _agents_of(server):
        await asyncio.sleep(0.02)


async def test_nothing_is_left_at_the_far_side_when_a_connection_closes(sshd: SshServer, home: Path) -> None:
    connection = await open_source(sshd.spec(), home=home).connect()
    assert _agents_of(sshd)
    await connection.close()
    await _gone(sshd)


async def test_nothing_is_left_at_the_far_side_when_a_read_is_cancelled(sshd: SshServer, home: Path) -> None:
    with (sshd.root / "x.bin").open("wb") as file:
        file.truncate(200_000_000)
    os.utime(sshd.root / "x.bin", (1e9, 1e9))
    connection: Connection = await open_source(sshd.spec(), home=home).connect()
    found = await scan(connection)
    started = asyncio.Event()

    class Sink:
        def write(self, data: bytes) -> None:
            started.set()

    async def pull() -> None:
        async def batches() -> AsyncIterator[list[object]]:
            yield [want(found.files[b"x.bin"])]

        async for _ in connection.read(batches(), lambda wanted, offset: Sink()):  # type: ignore[arg-type]
            pass

    task = asyncio.create_task(pull())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _gone(sshd)


async def test_nothing_is_left_open_when_a_connect_is_cancelled(sshd: SshServer, home: Path, start_proxy: StartProxy) -> None:
    proxy = await start_proxy(sshd.port)
    proxy.delay_seconds = 0.05
    source = open_source(sshd.through(proxy.port).spec(), home=home)
    for moment in (0.02, 0.2, 0.5, 0.8):
        task = asyncio.create_task(source.connect())
        await asyncio.wait([task], timeout=moment)
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        if not isinstance(results[0], BaseException):
            await results[0].close()
    await _gone(sshd)
    while proxy._pairs:
        await asyncio.sleep(0.02)


async def test_a_killed_server_is_a_lost_connection(tmp_path: Path, home: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    server = start_sshd(tmp_path / "mortal", root)
    connection = await open_source(server.spec(), home=home).connect()
    for pid in _children_of(server.pid):
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(MediasyncError) as raised:
        while True:
            await read(connection, [])
            await connection.list_folders()
    assert raised.value.reason is Reason.CONNECTION_LOST
    server.stop()
    await connection.close()


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_nothing_from_a_user_is_in_the_command() -> None:
    assert shell.agent_command() == shell.agent_command()
    assert "%" not in shell.agent_command()
