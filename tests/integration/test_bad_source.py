"""A source that is not there, does not let us in, or is not what it should be: what the user is told, and that nothing happens."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.fixtures.installation import Result
from tests.fixtures.mistakes import Case, Running, far_side, refused

pytestmark = pytest.mark.needs_sshd


def quoted(text: str, command: str) -> list[str]:
    """The command that begins with `command` and stands in backquotes in a message, as a shell takes it apart."""
    found = re.search(f"`({command}[^`]*)`", text)
    assert found, text
    return shlex.split(found[1])


@contextlib.contextmanager
def listener(answer: bytes = b"") -> Iterator[int]:
    """A port where somebody listens who is no SSH server: says `answer` and hangs up, or never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.recv(100)
                        connection.sendall(answer)

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])
        # close() alone would not wake accept().
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module", autouse=True)
def unanswered(running: Running) -> Iterator[subprocess.Popen[str]]:
    """A sync from a host that never answers, under way while the other tests run."""
    with listener() as port:
        url, library = f"ssh://127.0.0.1:{port}/x", running.installation.library
        process = running.installation.start("sync", url, library, "--json", "--coordinator", running.address)
        yield process
        process.kill()
        process.communicate()


def test_an_unknown_host_is_named(case: Case) -> None:
    case.refuse(3, "HOST_NOT_FOUND", "no-such-host.invalid was not found", "~/.ssh/config", url="ssh://no-such-host.invalid/x")


def test_a_closed_port_is_named_at_once(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = (f"127.0.0.1 refuses connections on port {port}", "SSH port is published")
    result = case.refuse(3, "HOST_UNREACHABLE", *said, url=f"ssh://127.0.0.1:{port}/x")
    assert result.json["duration_seconds"] < 4, "retries make no sense for a port that was never open"


def test_a_port_with_something_else_behind_it_is_told_from_an_ssh_server(case: Case) -> None:
    with listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        case.refuse(
            3, "HOST_UNREACHABLE", f"127.0.0.1 port {port}", "Check that it is the container's SSH port", url=f"ssh://127.0.0.1:{port}/x"
        )


def test_a_wrong_key_is_refused_with_the_keys_that_were_tried(case: Case) -> None:
    stranger = case.folder / "stranger"
    asyncssh.generate_private_key("ssh-ed25519", comment="a stranger's").write_private_key(stranger)
    login = ("--identity-file", str(stranger), *case.login[2:])
    said = (f"does not let {case.server.user} in", "tried ssh-ed25519 a stranger's", "--identity-file", "authorized_keys")
    case.refuse(3, "AUTHENTICATION_FAILED", *said, login=login)


def test_a_passphrase_opens_the_key_and_is_nowhere_to_be_found_afterwards(case: Case) -> None:
    secret, file, locked = "a passphrase of many words", case.folder / "passphrase", case.folder / "locked"
    asyncssh.read_private_key(case.server.identity_file).write_private_key(locked, passphrase=secret)
    known = case.login[2:]
    file.write_text("not that one\n")
    locked.chmod(0o600)
    file.chmod(0o600)
    wrong = ("--identity-file", str(locked), "--passphrase-file", str(file), *known)
    case.refuse(3, "AUTHENTICATION_FAILED", "the passphrase that was given does not open it", login=wrong)
    case.refuse(3, "AUTHENTICATION_FAILED", "give its passphrase", login=("--identity-file", str(locked), *known))
    file.write_text(f"{secret}\n")
    result = case.run("sync", case.url, case.library, *wrong, "--json")
    assert result.code == 0, result.err
    assert secret not in result.out + result.err
    for path in (path for folder in (case.home, case.library) for path in folder.rglob("*") if path.is_file()):
        assert secret.encode() not in path.read_bytes(), path


def test_a_key_file_that_is_not_there_is_found_before_anything_starts(case: Case) -> None:
    result = case.run(
        "sync", case.url, case.library, "--identity-file", "missing-key", "--json", MEDIASYNC_HOME=str(case.folder / "unused")
    )
    refused(result, 2, "INVALID_ARGUMENT", f"--identity-file: there is no file {case.folder}/missing-key")
    assert not (case.folder / "unused").exists()


def test_an_unknown_host_key_is_shown_and_the_command_that_is_named_accepts_it(case: Case) -> None:
    known_hosts = case.folder / "my known hosts"
    login = (*case.login[:2], "--known-hosts", str(known_hosts))
    fingerprint = case.server.host_key.get_fingerprint()
    result = case.refuse(3, "HOST_KEY_UNKNOWN", fingerprint, "--accept-new-host-key", login=login)
    assert not known_hosts.exists()

    program, *trust = quoted(result.err, "mediasync sources trust")
    assert program == "mediasync"
    another = [word if word != fingerprint else "SHA256:" + "A" * 43 for word in trust]
    refused(case.run(*another, "--json"), 3, "HOST_KEY_CHANGED", fingerprint, "ssh-keygen -lf")
    assert not known_hosts.exists()

    trusted = case.run(*trust)
    assert trusted.code == 0, trusted.err
    assert f"is trusted from now on: ssh-ed25519 {fingerprint}, in {known_hosts}" in trusted.out
    assert case.run("sync", case.url, case.library, *login).code == 0
    assert case.hashes(case.library).keys() == {b"kept.txt", b"txt2img-images/00001.txt"}


def test_a_new_host_key_can_be_accepted_on_the_way_and_is_remembered(case: Case) -> None:
    with far_side(case) as there:
        key = there.login[:2]
        assert there.refuse(3, "HOST_KEY_UNKNOWN", login=key)
        accepted = there.run("sync", there.url, there.library, *key, "--accept-new-host-key")
        assert accepted.code == 0, accepted.err
        assert f"[127.0.0.1]:{there.server.port} ssh-ed25519" in (there.home / "known_hosts").read_text()
        assert there.run("sync", there.url, there.library, *key).code == 0


def test_a_changed_host_key_is_accepted_by_no_flag_and_can_be_forgotten_by_hand(case: Case) -> None:
    known_hosts = case.folder / "known hosts"
    old = asyncssh.generate_private_key("ssh-ed25519")
    line = f"[127.0.0.1]:{case.server.port} {old.export_public_key('openssh').decode()}"
    known_hosts.write_text(line)
    login = (*case.login[:2], "--known-hosts", str(known_hosts))
    new = case.server.host_key.get_fingerprint()
    said = ("has changed", new, old.get_fingerprint(), f"{known_hosts} line 1", "Somebody may be listening in")
    result = case.refuse(3, "HOST_KEY_CHANGED", *said, login=login)
    case.refuse(3, "HOST_KEY_CHANGED", *said, login=(*login, "--accept-new-host-key"))
    for fingerprint in ((), ("--fingerprint", new)):
        refused(case.run("sources", "trust", case.url, *login[2:], *fingerprint, "--json"), 3, "HOST_KEY_CHANGED", *said)
    assert known_hosts.read_text() == line

    subprocess.run(quoted(result.err, "ssh-keygen"), check=True, capture_output=True)
    case.refuse(3, "HOST_KEY_UNKNOWN", new, login=login)


def test_a_missing_path_names_what_is_there(case: Case) -> None:
    case.write("img2img-images/1.txt")
    said = (
        f"there is no folder {case.source}/outputs at",
        f"{case.source} holds img2img-images, txt2img-images",
        "as the path of the source",
    )
    case.refuse(3, "SOURCE_ROOT_MISSING", *said, url=f"{case.url}/outputs")


def test_a_missing_folder_names_those_that_are_there_and_the_nearest(case: Case) -> None:
    case.write("extras/1.txt")
    said = ("has no folder txt2img-image below", "there is: extras, txt2img-images", "Did you mean `txt2img-images`?", "leave --folder out")
    case.refuse(3, "SOURCE_FOLDER_MISSING", *said, login=(*case.login, "--folder", "txt2img-image"))


def test_a_file_and_a_folder_that_cannot_be_read_fail_alone_and_are_taken_once_they_can(case: Case) -> None:
    file = case.write("txt2img-images/private.txt")
    folder = case.write("closed/1.txt").parent
    file.chmod(0)
    folder.chmod(0)
    with far_side(case, unprivileged=True) as there:
        result = there.sync()
        assert result.code == 1, result.err
        told = result.json
        assert (told["state"], told["files_transferred"], told["files_failed"]) == ("complete_with_errors", 1, 2)
        assert [(error["path"], error["reason"]) for error in told["errors"]] == [
            ("closed", "FOLDER_UNREADABLE"),
            ("txt2img-images/private.txt", "FILE_UNREADABLE"),
        ]
        shown = there.run("sync", there.url, there.library, *there.login)
        assert shown.code == 1
        for text in (
            "Sync complete, but some files failed",
            "the folder closed cannot be read at the source: Permission denied",
            "✗ txt2img-images/private.txt cannot be read at the source: Permission denied",
            "Make it readable for the login user",
        ):
            assert text in shown.out
        file.chmod(0o644)
        folder.chmod(0o755)
        assert there.complete().json["files_transferred"] == 2


def test_a_source_whose_folder_cannot_be_read_at_all_is_refused(case: Case) -> None:
    case.source.chmod(0o300)
    try:
        with far_side(case, unprivileged=True) as there:
            result = there.run("sync", there.url, there.library, *there.login, "--json")
    finally:
        case.source.chmod(0o755)
    refused(result, 3, "SOURCE_UNREADABLE", f"{case.source} at", "cannot be read: Permission denied", "Log in as a user who may read")


def test_a_far_side_without_python_is_read_by_its_tools_and_refused_if_the_agent_was_asked_for(case: Case) -> None:
    # The very command, looking for names that are nowhere.
    hidden = 'ForceCommand sh -c "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed s/python/no-such-python/g)"'
    with far_side(case, hidden) as there:
        result = there.run("sync", there.url, there.library, *there.login, "--engine", "agent", "--json")
        refused(result, 3, "SOURCE_WITHOUT_PYTHON", "no Python 3.6 or later was found", "looked for python3", "Install python3")
        there.complete()


def test_an_account_that_may_run_nothing_is_refused_with_what_it_printed(case: Case) -> None:
    with far_side(case, "ForceCommand echo This account is currently not available.; exit 1") as there:
        said = ("exit status 1", "it printed: This account is currently not available.", "Log in as a user who may run commands")
        there.refuse(3, "SOURCE_PROTOCOL", *said)


def test_a_login_shell_that_prints_greetings_does_no_harm(case: Case) -> None:
    greeting = r'echo "Welcome to vast.ai. Have fun!"; printf "\000\377\033[31m"; eval "$SSH_ORIGINAL_COMMAND"'
    with far_side(case, f"ForceCommand {greeting}") as there:
        there.complete()


def test_a_host_that_never_answers_is_given_up(unanswered: subprocess.Popen[str]) -> None:
    out, err = unanswered.communicate(timeout=60)
    result = Result(unanswered.returncode, out, err)
    refused(result, 3, "HOST_UNREACHABLE", "did not answer within 15 s", "Check that the container runs")
    assert 15 <= result.json["duration_seconds"] < 30


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("forge.lan:/outputs", "did you mean `ssh://forge.lan/outputs`?"),
        ("forge.lan:2222/outputs", "did you mean `ssh://forge.lan:2222/outputs`?"),
        ("ssh://forge.lan:99999/outputs", "'99999' is no port; expected a whole number from 1 to 65535"),
        ("ssh://me:s3cret@forge.lan/outputs", "a password does not belong in a URL"),
        ("ftp://forge.lan/outputs", "unknown kind of source `ftp://`"),
    ],
)
def test_a_url_with_a_mistake_is_corrected_before_anything_starts(tmp_path: Path, case: Case, url: str, said: str) -> None:
    result = case.run("sync", url, case.library, "--json", MEDIASYNC_HOME=str(tmp_path / "unused"))
    refused(result, 2, "INVALID_ARGUMENT", said)
    assert "s3cret" not in result.out + result.err
    assert not (tmp_path / "unused").exists()
