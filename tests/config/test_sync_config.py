"""The public SyncConfig."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import mediasync
from mediasync import SyncConfig
from mediasync.config import NotInForceWarning
from mediasync.errors import MediasyncError, Reason
from mediasync.model import (
    CleanupPolicy,
    DockerConnection,
    Duplicates,
    Durability,
    Engine,
    FollowSymlinks,
    LocalConnection,
    SourceSpec,
    SourceType,
    SshConnection,
    SyncOptions,
    SyncSpec,
)


def test_the_names_people_know_are_there_with_their_defaults() -> None:
    config = SyncConfig(source_type="forge", source_host="h", dest_path="/d")
    assert config.model_dump() == {
        "source_type": SourceType.FORGE,
        "source_host": "h",
        "source_url": "",
        "docker_host": "",
        "engine": Engine.AUTO,
        "compress": False,
        "source_port": None,
        "source_user": None,
        "source_path": "",
        "dest_path": "/d",
        "folders": (),
        "parallel_transfers": 3,
        "bandwidth_limit_mbps": None,
        "bandwidth_timetable": (),
        "newest_first": False,
        "restore": False,
        "watch": False,
        "full_scan": False,
        "settle_seconds": 2,
        "incomplete_after_seconds": 3600,
        "follow_symlinks": FollowSymlinks.NONE,
        "min_size_bytes": 0,
        "max_size_bytes": 0,
        "min_age_minutes": 0,
        "max_age_days": 0,
        "allowed_extensions": (),
        "include_patterns": (),
        "excluded_patterns": (),
        "temporary_suffixes": (),
        "rewritten_patterns": ("log.html", "log.csv"),
        "duplicates": Duplicates.KEEP,
        "durability": Durability.FULL,
        "min_free_space_gb": 1,
        "file_mode": "",
        "dir_mode": "",
        "owner": "",
        "group": "",
        "enable_cleanup": False,
        "cleanup_age_hours": 24,
        "cleanup_dry_run": False,
        "cleanup": None,
        "generate_xmp": False,
        "calculate_hashes": True,
        "extract_metadata": True,
        "retry_attempts": 3,
        "retry_delay_seconds": 5,
        "verify_transfers": False,
        "identity_file": (),
        "password_file": "",
        "passphrase_file": "",
        "known_hosts": (),
        "accept_new_host_key": False,
    }
    assert config.not_yet == ()
    assert mediasync.SyncConfig is SyncConfig


def test_it_becomes_a_spec_with_every_value_in_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.chdir(tmp_path)
    config = SyncConfig(
        source_type="ssh",
        source_host="[::1]",
        source_port=2222,
        source_user="ann",
        source_path="~/out/",
        dest_path="library",
        folders=["a", b"caf\xe9", Path("x/y")],
        parallel_transfers=4,
        extract_metadata=False,
        retry_attempts=0,
        retry_delay_seconds=0.5,
        verify_transfers=True,
        identity_file="~/.ssh/id",
        known_hosts=["hosts", "/etc/hosts"],
        accept_new_host_key=True,
    )
    assert config.to_spec() == SyncSpec(
        SourceSpec(
            SshConnection("::1", 2222, "ann", ("/home/ann/.ssh/id",), (f"{tmp_path}/hosts", "/etc/hosts"), True), b"~/out", SourceType.SSH
        ),
        f"{tmp_path}/library",
        (b"a", b"caf\xe9", b"x/y"),
        SyncOptions(4, 0, 0.5, False, True),
    )


def test_every_option_of_a_sync_has_its_field() -> None:
    options = SyncOptions(
        watch=True,
        bandwidth_limit_mbps=20,
        bandwidth_timetable=("08:00-18:00 20mbit",),
        follow_symlinks=FollowSymlinks.ALL,
        excluded_patterns=("*.txt",),
        allowed_extensions=("png",),
        duplicates=Duplicates.SKIP,
        durability=Durability.FAST,
        file_mode="0640",
    )
    given = {option.name: getattr(options, option.name) for option in fields(SyncOptions)}
    assert SyncConfig(source_type="forge", source_host="h", dest_path="/d", **given).to_spec().options == options


def test_a_source_can_be_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    box = SyncConfig(source_url="docker://comfy", source_type="comfyui", docker_host="tcp://nas:2376", engine="archive", dest_path="/d")
    assert box.to_spec().source == SourceSpec(
        DockerConnection("comfy", "", "tcp://nas:2376"), b"", SourceType.COMFYUI, engine=Engine.ARCHIVE
    )
    near = SyncConfig(source_url="./out", dest_path="/d")
    assert near.to_spec().source == SourceSpec(LocalConnection(), f"{tmp_path}/out".encode(), SourceType.LOCAL)
    host = SyncConfig(source_url="ssh://ann@h:22/x", dest_path="/d", password_file="secret")
    assert host.to_spec().source == SourceSpec(SshConnection("h", 22, "ann", password_file=f"{tmp_path}/secret"), b"/x")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "source_host is missing, or source_url"),
        ({"source_url": "ssh://h/x", "source_host": "h"}, "source_host: source_url says that already"),
        ({"source_url": "ssh://h/x", "source_path": "/y"}, "source_path: source_url has a path already"),
        ({"source_url": "docker://c"}, "docker://c has no path"),
        ({"source_url": "docker://c/x", "source_type": "ssh"}, "docker://c/x is no source of type ssh"),
        ({"source_url": "docker://c/x", "engine": "sftp"}, "engine: sftp is none of auto, agent, posix, archive"),
        ({"source_url": "ssh://h/x", "docker_host": "tcp://d"}, "docker_host: is for containers"),
        ({"source_url": "ssh://u:pw@h/x"}, "a password does not belong in a URL"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SyncConfig(**options)


def test_what_a_type_brings_stays_open_so_that_the_ssh_configuration_comes_before_it() -> None:
    spec = SyncConfig(source_type="vastai", source_host="h", dest_path="/d").to_spec()
    assert spec == SyncSpec(SourceSpec(SshConnection("h"), b"", SourceType.VASTAI), "/d", (), SyncOptions())


def test_without_a_destination_media_base_is_it_and_without_that_it_is_an_error() -> None:
    config = SyncConfig(source_type="forge", source_host="h")
    assert config.to_spec({"MEDIA_BASE": "/m"}).dest_path == "/m"
    with pytest.raises(MediasyncError, match="dest_path is missing, and MEDIA_BASE is not set either") as caught:
        config.to_spec({})
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.fields[0].field == "dest_path"


@pytest.mark.parametrize("options", [{"generate_xmp": True}, {"calculate_hashes": False}])
def test_an_option_that_is_not_in_force_is_kept_and_announced(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.warns(NotInForceWarning, match=name) as caught:
        config = SyncConfig(source_type="forge", source_host="h", **options)
    assert config.not_yet == (name,)
    assert caught[0].filename == __file__


def test_an_option_that_asks_for_what_is_done_anyway_is_not_announced() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SyncConfig(source_type="forge", source_host="h", bandwidth_limit_mbps=0, enable_cleanup=False, cleanup_dry_run=True)


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, None),
        ({"cleanup_age_hours": 3}, None),
        ({"enable_cleanup": True}, CleanupPolicy(after_sync=True)),
        (
            {"enable_cleanup": True, "cleanup_age_hours": 3, "cleanup_dry_run": True},
            CleanupPolicy(after_sync=True, age_hours=3, dry_run=True),
        ),
        ({"cleanup": CleanupPolicy(keep_last=2, age_hours=1)}, CleanupPolicy(keep_last=2, age_hours=1)),
        ({"cleanup": CleanupPolicy(age_hours=1), "enable_cleanup": True}, CleanupPolicy(after_sync=True, age_hours=1)),
        ({"cleanup": CleanupPolicy(after_sync=True), "enable_cleanup": False}, CleanupPolicy()),
    ],
)
def test_a_sync_cleans_up_only_when_it_is_told_so(options: dict[str, Any], policy: CleanupPolicy | None) -> None:
    assert SyncConfig(source_type="forge", source_host="h", dest_path="/m", **options).to_spec({}).cleanup == policy


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cleanup", CleanupPolicy(max_delete_share=2), "max_delete_share must be 0 to 1, is 2"),
        ("source_type", "forg", "Input should be 'ssh', 'docker', 'local', 'forge', 'comfyui' or 'vastai'"),
        ("source_host", "-x", "expected a host name"),
        ("source_port", 0, "greater than or equal to 1"),
        ("source_user", "a b", "expected a login name"),
        ("source_path", "out", "expected an absolute path, or one that starts with ~/"),
        ("source_path", 3, "expected a path as str, bytes or os.PathLike"),
        ("dest_path", "a\0b", "expected a path on this machine"),
        ("folders", ["../x"], "expected a folder below the source's path"),
        ("parallel_transfers", 17, "less than or equal to 16"),
        ("bandwidth_limit_mbps", -1, "greater than or equal to 0"),
        ("retry_delay_seconds", float("nan"), "finite number"),
        ("excluded_patterns", "[", "has no `]`"),
        ("bandwidth_timetable", ["8-18"], "expected a line such as"),
        ("file_mode", "rwx", "String should match pattern"),
        ("source_prot", 3, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        SyncConfig(**{"source_type": "forge", "source_host": "h", name: value})
    assert caught.value.errors()[0]["loc"][0] == name


def test_a_plain_host_needs_a_path() -> None:
    with pytest.raises(ValidationError, match="source_path is missing; a source of type ssh has no folder of its own"):
        SyncConfig(source_host="h")
