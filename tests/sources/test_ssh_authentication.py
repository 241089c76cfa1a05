"""Being let in: certificates, passphrases, passwords, and what is said when it does not work. Secrets appear nowhere."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec
from mediasync.sources import ssh_terms
from mediasync.sources.factory import open_source
from mediasync.sources.secrets import PASSPHRASE_VARIABLE, PASSWORD_VARIABLE
from tests.fixtures.ssh import AsyncsshServers, FaultyServer, SshServer, start_sshd

SECRET = "correct horse battery staple"


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, so that nobody's own keys and settings take part."""
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("SSH_AUTH_SOCK", PASSWORD_VARIABLE, PASSPHRASE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(60):
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "home"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running ssh-agent without keys."""
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield path
    process.terminate()
    process.wait()
    process.stdout.close()


async def connects(spec: SourceSpec, home: Path) -> None:
    """Connects, and looks whether it works."""
    connection = await open_source(spec, home=home).connect()
    await connection.list_folders()
    await connection.close()


async def refused(spec: SourceSpec, home: Path) -> MediasyncError:
    """The error of a login that must fail. It holds no secret."""
    with pytest.raises(MediasyncError) as raised:
        await connects(spec, home)
    error = raised.value
    assert error.reason is Reason.AUTHENTICATION_FAILED
    assert error.remedy
    assert SECRET not in f"{error}{error.message}{error.remedy}{error.metadata}{error.__cause__!r}"
    return error


def secret_file(folder: Path, text: str = SECRET) -> str:
    """A file that holds a secret, with the line end that editors write."""
    file = folder / "secret"
    file.write_text(f"{text}\n")
    file.chmod(0o600)
    return str(file)


def make_key(path: Path, passphrase: str | None = None) -> asyncssh.SSHKey:
    key = asyncssh.generate_private_key("ssh-ed25519", comment=path.name)
    key.write_private_key(path, passphrase=passphrase)
    path.chmod(0o600)
    return key


def signed(authority: asyncssh.SSHKey, host_key: asyncssh.SSHKey, file: Path) -> str:
    """Has a host's key signed; returns the line of the server's configuration that shows the certificate."""
    authority.generate_host_certificate(host_key, "host", principals=["127.0.0.1"]).write_certificate(file)
    return f"HostCertificate {file}"


def lets_in(server: SshServer, key: asyncssh.SSHKey) -> None:
    """Makes `key` the one that OpenSSH's server lets in."""
    (server.identity_file.parent / "authorized_keys").write_bytes(key.export_public_key())


# Certificates


@pytest.fixture
def authority() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
def trusting(tmp_path: Path, authority: asyncssh.SSHKey) -> Iterator[SshServer]:
    """OpenSSH's server, which lets in whom `authority` signed, and no other key."""
    (tmp_path / "source").mkdir()
    authority.write_public_key(tmp_path / "authority.pub")
    server = start_sshd(tmp_path / "sshd", tmp_path / "source", f"TrustedUserCAKeys {tmp_path}/authority.pub")
    (tmp_path / "sshd" / "authorized_keys").unlink()
    yield server
    server.stop()


@pytest.mark.needs_sshd
async def test_a_certificate_beside_the_key_is_shown(trusting: SshServer, authority: asyncssh.SSHKey, home: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path / "id")
    spec = trusting.spec(identity_files=(str(tmp_path / "id"),))
    await refused(spec, home)
    authority.generate_user_certificate(key, "me", principals=[trusting.user]).write_certificate(tmp_path / "id-cert.pub")
    await connects(spec, home)


@pytest.mark.needs_sshd
async def test_a_certificate_that_ssh_config_names_is_shown(
    trusting: SshServer, authority: asyncssh.SSHKey, home: Path, tmp_path: Path, user_home: Path
) -> None:
    key = make_key(tmp_path / "id")
    authority.generate_user_certificate(key, "me", principals=[trusting.user]).write_certificate(tmp_path / "elsewhere.pub")
    (user_home / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {tmp_path}/id\n  CertificateFile {tmp_path}/elsewhere.pub\n")
    await connects(trusting.spec(identity_files=()), home)


@pytest.mark.needs_sshd
async def test_a_certificate_goes_with_a_key_that_only_the_agent_can_use(
    trusting: SshServer, authority: asyncssh.SSHKey, home: Path, tmp_path: Path, agent: Path
) -> None:
    key = make_key(tmp_path / "plain")
    subprocess.run(["ssh-add", "-q", tmp_path / "plain"], check=True)
    key.write_private_key(tmp_path / "id", passphrase=SECRET)
    (tmp_path / "id").chmod(0o600)
    authority.generate_user_certificate(key, "me", principals=[trusting.user]).write_certificate(tmp_path / "id-cert.pub")
    await connects(trusting.spec(identity_files=(str(tmp_path / "id"),)), home)


@pytest.mark.needs_sshd
async def test_a_certificate_that_is_no_good_is_named_with_what_is_wrong(
    trusting: SshServer, authority: asyncssh.SSHKey, home: Path, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "id")
    spec = trusting.spec(identity_files=(str(tmp_path / "id"),))
    for options, said in (
        ({"principals": [trusting.user], "valid_after": 1, "valid_before": 2}, "expired certificate"),
        ({"principals": [trusting.user], "valid_after": "+1d", "valid_before": "+2d"}, "certificate that is not valid yet"),
        ({"principals": ["somebody"]}, f"certificate for somebody, not for {trusting.user}"),
    ):
        authority.generate_user_certificate(key, "me", **options).write_certificate(tmp_path / "id-cert.pub")
        assert f"{tmp_path}/id-cert.pub ({said})" in (await refused(spec, home)).message


@pytest.mark.needs_sshd
async def test_a_host_certificate_of_openssh_is_verified(authority: asyncssh.SSHKey, home: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    certificate = tmp_path / "host-cert.pub"
    server = start_sshd(tmp_path / "sshd", tmp_path / "source", certify=lambda key: signed(authority, key, certificate))
    try:
        server.known_hosts.write_bytes(b"@cert-authority * " + authority.export_public_key())
        await connects(server.spec(), home)
        server.known_hosts.write_bytes(b"@cert-authority * " + server.host_key.export_public_key())
        with pytest.raises(MediasyncError) as raised:
            await connects(server.spec(), home)
        assert raised.value.reason is Reason.HOST_KEY_UNKNOWN
    finally:
        server.stop()


async def test_a_host_certificate_that_expired_is_refused(ssh_servers: AsyncsshServers, authority: asyncssh.SSHKey, home: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_host_certificate(key, "host", principals=["127.0.0.1"], valid_after=1, valid_before=2)
    server = await ssh_servers.start(server_host_keys=[(key, certificate)])
    server.known_hosts.write_bytes(b"@cert-authority * " + authority.export_public_key())
    with pytest.raises(MediasyncError) as raised:
        await connects(server.spec(accept_new_host_key=True), home)
    assert raised.value.reason is Reason.HOST_KEY_UNKNOWN
    assert "expired" in raised.value.message


# Passphrases


async def test_a_key_is_opened_with_the_passphrase_of_a_file_or_the_environment(
    sshd: SshServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lets_in(sshd, make_key(tmp_path / "id", SECRET))
    spec = sshd.spec(identity_files=(str(tmp_path / "id"),))
    await refused(spec, home)
    await connects(sshd.spec(identity_files=(str(tmp_path / "id"),), passphrase_file=secret_file(tmp_path)), home)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, SECRET)
    await connects(spec, home)


async def test_a_wrong_passphrase_is_told_from_a_missing_one(sshd: SshServer, home: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "id", "another")
    spec = sshd.spec(identity_files=(str(tmp_path / "id"),))
    assert f"{tmp_path}/id (encrypted: give its passphrase" in (await refused(spec, home)).message
    spec = sshd.spec(identity_files=(str(tmp_path / "id"),), passphrase_file=secret_file(tmp_path))
    assert f"{tmp_path}/id (encrypted: the passphrase that was given does not open it)" in (await refused(spec, home)).message


async def test_a_key_that_does_not_open_hides_no_other(sshd: SshServer, home: Path, tmp_path: Path, user_home: Path) -> None:
    make_key(tmp_path / "id", "another")
    await connects(sshd.spec(identity_files=(str(tmp_path / "id"), str(sshd.identity_file))), home)
    (user_home / ".ssh" / "config").write_text(f"IdentityFile {tmp_path}/nowhere\nIdentityFile {sshd.identity_file}\n")
    await connects(sshd.spec(identity_files=()), home)


# Passwords


class AsksForPassword(FaultyServer):
    """Lets in with the password alone."""

    def public_key_auth_supported(self) -> bool:
        return False

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == SECRET


class AsksQuestions(FaultyServer):
    """Lets in who answers its question, as PAM asks."""

    question = "Passwort: "
    echo = False

    def public_key_auth_supported(self) -> bool:
        return False

    def kbdint_auth_supported(self) -> bool:
        return True

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> object:
        return "", "Welcome", "", [(self.question, self.echo)]

    def validate_kbdint_response(self, username: str, responses: list[str]) -> bool:
        return list(responses) == [SECRET]


class AsksForCode(AsksQuestions):
    """Asks for what nobody here knows."""

    question = "Your mother's name: "
    echo = True


@pytest.mark.parametrize("kind", [AsksForPassword, AsksQuestions])
async def test_a_password_lets_in(
    ssh_servers: AsyncsshServers, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[FaultyServer]
) -> None:
    server = await ssh_servers.start(server=kind)
    await connects(server.spec(password_file=secret_file(tmp_path)), home)
    monkeypatch.setenv(PASSWORD_VARIABLE, SECRET)
    await connects(server.spec(), home)


@pytest.mark.parametrize("kind", [AsksForPassword, AsksQuestions])
async def test_a_wrong_password_and_a_missing_one_are_told_apart(
    ssh_servers: AsyncsshServers, home: Path, tmp_path: Path, kind: type[FaultyServer]
) -> None:
    server = await ssh_servers.start(server=kind)
    wrong = await refused(server.spec(password_file=secret_file(tmp_path, "wrong")), home)
    assert wrong.message.partition("; tried ")[2].endswith("the password; it takes no key")
    assert "user's name and the password" in wrong.remedy
    missing = await refused(server.spec(), home)
    assert "it would take a password and takes no key" in missing.message
    assert "--password-file" in missing.remedy


async def test_a_question_that_cannot_be_answered_is_repeated(ssh_servers: AsyncsshServers, home: Path, tmp_path: Path) -> None:
    server = await ssh_servers.start(server=AsksForCode)
    error = await refused(server.spec(password_file=secret_file(tmp_path)), home)
    assert "it asks what we cannot answer: Your mother's name:" in error.message


async def test_a_jump_host_is_never_given_the_password(
    sshd: SshServer, ssh_servers: AsyncsshServers, home: Path, tmp_path: Path, user_home: Path
) -> None:
    given: list[str] = []

    class Jump(AsksForPassword):
        def validate_password(self, username: str, password: str) -> bool:
            given.append(password)
            return False

    jump = await ssh_servers.start(server=Jump)
    (user_home / ".ssh" / "known_hosts").write_text(jump.known_hosts.read_text() + sshd.known_hosts.read_text())
    (user_home / ".ssh" / "config").write_text(f"Host target\n  HostName 127.0.0.1\n  ProxyJump {jump.user}@127.0.0.1:{jump.port}\n")
    spec = sshd.spec(known_hosts_files=(), password_file=secret_file(tmp_path))
    await refused(replace(spec, connection=replace(spec.connection, host="target")), home)
    assert given == []


# Agents, and the patience of servers


async def test_an_agent_without_keys_and_one_that_is_gone_are_named(sshd: SshServer, home: Path, agent: Path, user_home: Path) -> None:
    assert f"the agent at {agent} (it has no keys)" in (await refused(sshd.spec(identity_files=()), home)).message
    (user_home / ".ssh" / "config").write_text("IdentityAgent ~/gone.sock\n")
    assert f"the agent at {user_home}/gone.sock (cannot be asked" in (await refused(sshd.spec(identity_files=()), home)).message
    (user_home / ".ssh" / "config").write_text("IdentityAgent none\n")
    assert "the agent" not in (await refused(sshd.spec(identity_files=()), home)).message


async def test_the_named_key_is_shown_before_the_many_of_an_agent(sshd: SshServer, home: Path, agent: Path, tmp_path: Path) -> None:
    for number in range(8):
        make_key(tmp_path / f"other{number}")
    subprocess.run(["ssh-add", "-q", *(tmp_path / f"other{number}" for number in range(8))], check=True)
    await connects(sshd.spec(), home)
    error = await refused(sshd.spec(identity_files=()), home)
    assert "it hung up after that many tries" in error.message
    assert "--identity-file" in error.remedy


# Nothing is told


async def test_secrets_are_in_no_log_line(
    ssh_servers: AsyncsshServers, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = await ssh_servers.start(server=AsksForPassword)
    make_key(tmp_path / "id", SECRET)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "asyncssh")
    spec = server.spec(identity_files=(str(tmp_path / "id"),), password_file=secret_file(tmp_path), passphrase_file=secret_file(tmp_path))
    await connects(spec, home)
    assert caplog.records
    assert SECRET not in caplog.text
    assert SECRET not in repr(spec)
    for folder, _, names in os.walk(home):
        assert all(SECRET.encode() not in Path(folder, name).read_bytes() for name in names)


def test_a_black_hole_is_noticed_within_half_a_minute() -> None:
    # asyncssh gives up one interval after the last try.
    assert ssh_terms.KEEPALIVE_SECONDS * (ssh_terms.KEEPALIVE_TRIES + 1) <= 30


async def test_files_that_others_can_read_are_warned_of_once(
    ssh_servers: AsyncsshServers, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = await ssh_servers.start(server=AsksForPassword)
    make_key(tmp_path / "id").write_private_key(tmp_path / "id")
    (tmp_path / "id").chmod(0o644)
    Path(secret_file(tmp_path)).chmod(0o644)
    spec = server.spec(identity_files=(str(tmp_path / "id"),), password_file=str(tmp_path / "secret"))
    for _ in range(2):
        await connects(spec, home)
    warned = [record.getMessage() for record in caplog.records if "by others" in record.getMessage()]
    assert sorted(warned) == sorted(
        [
            f"the key {tmp_path}/id can be read by others; ssh itself would refuse it: chmod 600 it",
            f"{tmp_path}/secret holds a secret and can be read by others: chmod 600 it",
        ]
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """By which methods anybody asked to be let in."""
    methods: list[bytes] = []
    request = asyncssh.SSHClientConnection.send_userauth_request

    async def recorded(connection: asyncssh.SSHClientConnection, method: bytes, *args: bytes, **kwargs: object) -> None:
        methods.append(method)
        await request(connection, method, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncssh.SSHClientConnection, "send_userauth_request", recorded)
    return methods


@pytest.mark.needs_sshd
async def test_the_only_key_is_signed_with_at_once(sshd: SshServer, home: Path, asked: list[bytes]) -> None:
    await connects(sshd.spec(), home)
    assert asked == [b"publickey"]


@pytest.mark.needs_sshd
async def test_a_server_that_refuses_the_only_key_is_asked_for_what_else_there_is(
    sshd: SshServer, home: Path, tmp_path: Path, asked: list[bytes]
) -> None:
    make_key(tmp_path / "stranger")
    error = await refused(sshd.spec(identity_files=(str(tmp_path / "stranger"),)), home)
    assert "stranger" in error.message
    assert asked == [b"publickey", b"none"]


@pytest.mark.needs_sshd
async def test_who_has_a_password_too_begins_as_usual(
    sshd: SshServer, home: Path, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, SECRET)
    await connects(sshd.spec(), home)
    assert asked[0] == b"none"
