"""known_hosts files: what counts as known, as changed, and how a key is remembered."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import asyncssh
import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import HostKeyTrust
from mediasync.sources.hostkeys import Host, HostKeys, Kind, fingerprint

KEY, OTHER = (asyncssh.generate_private_key("ssh-ed25519").convert_to_public() for _ in range(2))
RSA = asyncssh.generate_private_key("ssh-rsa", key_size=2048).convert_to_public()
HOST = Host("forge.lan", 2222)


def line(names: str, key: asyncssh.SSHKey = KEY, marker: str = "") -> str:
    return f"{marker}{names} {key.export_public_key('openssh').decode().strip()}\n"


def keys(tmp_path: Path, *files: str) -> HostKeys:
    paths = []
    for number, content in enumerate(files):
        paths.append(tmp_path / f"known_{number}")
        paths[-1].write_text(content)
    store = tmp_path / "store"
    return HostKeys([*map(str, paths), str(store)], str(store))


@pytest.mark.parametrize(
    ("names", "host", "expected"),
    [
        ("[forge.lan]:2222", HOST, HostKeyTrust.TRUSTED),
        ("[FORGE.lan]:2222".lower(), Host("Forge.LAN", 2222), HostKeyTrust.TRUSTED),
        ("other,[forge.lan]:2222", HOST, HostKeyTrust.TRUSTED),
        ("[*.lan]:2222", HOST, HostKeyTrust.TRUSTED),
        ("forge.lan", Host("forge.lan", 22), HostKeyTrust.TRUSTED),
        ("forge.lan", HOST, HostKeyTrust.TRUSTED),
        ("[forge.lan]:2222", Host("forge.lan", 22), HostKeyTrust.UNKNOWN),
        ("[forge.lan]:2223", HOST, HostKeyTrust.UNKNOWN),
        ("forge", Host("10.0.0.7", 2222, "forge"), HostKeyTrust.TRUSTED),
        ("10.0.0.7", Host("10.0.0.7", 2222, "forge"), HostKeyTrust.UNKNOWN),
        ("[::1]:2222", Host("::1", 2222), HostKeyTrust.TRUSTED),
    ],
)
def test_a_key_is_known_by_the_names_of_its_line(tmp_path: Path, names: str, host: Host, expected: HostKeyTrust) -> None:
    assert keys(tmp_path, line(names)).trust(host, KEY)[0] is expected


def test_hashed_names_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "hashed"
    file.write_text(line("[forge.lan]:2222") + line("plain.lan", OTHER))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "forge" not in file.read_text()
    hashed = HostKeys([str(file)], str(file))
    assert hashed.trust(HOST, KEY)[0] is HostKeyTrust.TRUSTED
    assert hashed.trust(Host("plain.lan", 22), KEY)[0] is HostKeyTrust.CHANGED


def test_another_key_for_the_host_is_a_changed_one_and_the_line_is_named(tmp_path: Path) -> None:
    trust, known = keys(tmp_path, "# comment\n\n" + line("[forge.lan]:2222", OTHER)).trust(HOST, KEY)
    assert trust is HostKeyTrust.CHANGED
    assert known is not None
    assert (known.file, known.line) == (str(tmp_path / "known_0"), 3)


def test_a_key_of_another_kind_is_a_changed_one_too(tmp_path: Path) -> None:
    assert keys(tmp_path, line("[forge.lan]:2222", RSA)).trust(HOST, KEY)[0] is HostKeyTrust.CHANGED


def test_a_second_key_on_record_is_as_good_as_the_first(tmp_path: Path) -> None:
    assert keys(tmp_path, line("[forge.lan]:2222", RSA), line("[forge.lan]:2222", KEY)).trust(HOST, KEY)[0] is HostKeyTrust.TRUSTED


def test_another_servers_key_on_the_same_host_is_no_change(tmp_path: Path) -> None:
    # The machine has its own server on port 22; a container listens on 2222.
    assert keys(tmp_path, line("forge.lan", OTHER)).trust(HOST, KEY)[0] is HostKeyTrust.UNKNOWN


def test_a_revoked_key_is_never_trusted(tmp_path: Path) -> None:
    store = keys(tmp_path, line("[forge.lan]:2222") + line("*", KEY, "@revoked "))
    trust, known = store.trust(HOST, KEY)
    assert trust is HostKeyTrust.CHANGED
    assert known is not None
    assert known.kind is Kind.REVOKED
    with pytest.raises(MediasyncError, match="revoked"):
        store.remember(HOST, KEY)
    assert store.trusted(HOST)[2] == [KEY, KEY]


def test_lines_that_cannot_be_read_hide_no_others(tmp_path: Path) -> None:
    content = "garbage\n@what forge.lan x\n|1|bad|hash ssh-ed25519 AAAA\n[forge.lan]:2222 ssh-future AAAA\n\xff\n" + line(
        "[forge.lan]:2222"
    )
    assert keys(tmp_path, content).trust(HOST, KEY)[0] is HostKeyTrust.TRUSTED


def test_authorities_are_told_apart(tmp_path: Path) -> None:
    store = keys(tmp_path, line("*.lan,[*.lan]:*", OTHER, "@cert-authority "))
    assert store.trust(HOST, KEY)[0] is HostKeyTrust.UNKNOWN
    assert OTHER in store.trusted(HOST)[1]


def test_a_key_is_remembered_once_and_found_by_openssh(tmp_path: Path) -> None:
    store = keys(tmp_path)
    assert [store.remember(HOST, KEY) for _ in range(3)] == [store.store] * 3
    found = subprocess.run(["ssh-keygen", "-F", HOST.known_as, "-f", store.store, "-l"], check=True, capture_output=True, text=True)
    assert fingerprint(KEY) in found.stdout
    assert Path(store.store).read_text().count("\n") == 1


def test_a_remembered_key_starts_a_line_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("a.lan", OTHER).rstrip("\n"))
    store = HostKeys([str(file)], str(file))
    store.remember(HOST, KEY)
    assert store.trust(Host("a.lan", 22), OTHER)[0] is HostKeyTrust.TRUSTED
    assert store.trust(HOST, KEY)[0] is HostKeyTrust.TRUSTED


def test_several_that_meet_a_host_at_once_write_one_line(tmp_path: Path) -> None:
    store = keys(tmp_path)
    threads = [threading.Thread(target=store.remember, args=(HOST, KEY)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Path(store.store).read_text().count("\n") == 1


def test_a_changed_key_is_not_remembered(tmp_path: Path) -> None:
    store = keys(tmp_path, line("[forge.lan]:2222", OTHER))
    with pytest.raises(MediasyncError) as raised:
        store.remember(HOST, KEY)
    assert raised.value.reason is Reason.HOST_KEY_CHANGED
    assert f"ssh-keygen -f {tmp_path}/known_0 -R '[forge.lan]:2222'" in raised.value.remedy


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = HostKeys([], str(tmp_path / "file" / "known_hosts"))
    with pytest.raises(MediasyncError) as raised:
        store.remember(HOST, KEY)
    assert raised.value.reason is Reason.CONFIGURATION_INVALID
    assert str(tmp_path / "file") in raised.value.message
