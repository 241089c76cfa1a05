"""The public SyncConfig."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import mediasync
from mediasync import SyncConfig
from mediasync.config import NotInForceWarning
from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec, SourceType, SshConnection, SyncOptions, SyncSpec


def test_the_names_people_know_are_there_with_their_defaults() -> None:
    config = SyncConfig(source_type="forge", source_host="h", dest_path="/d")
    assert config.model_dump() == {
        "source_type": SourceType.FORGE,
        "source_host": "h",
        "source_port": None,
        "source_user": None,
        "source_path": "",
        "dest_path": "/d",
        "folders": (),
        "parallel_transfers": 3,
        "bandwidth_limit_mbps": None,
        "enable_cleanup": False,
        "cleanup_age_hours": 24,
        "cleanup_dry_run": False,
        "generate_xmp": False,
        "calculate_hashes": True,
        "extract_metadata": True,
        "retry_attempts": 3,
        "retry_delay_seconds": 5,
        "verify_transfers": False,
        "identity_file": (),
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


@pytest.mark.parametrize(
    "options", [{"bandwidth_limit_mbps": 100}, {"enable_cleanup": True}, {"generate_xmp": True}, {"calculate_hashes": False}]
)
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
    ("name", "value", "said"),
    [
        ("source_type", "forg", "Input should be 'ssh', 'forge', 'comfyui' or 'vastai'"),
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
