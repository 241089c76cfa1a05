"""What is refused, and that every wrong field is named at once."""

from __future__ import annotations

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection, Engine, LocalConnection, SourceSpec, SourceType, SyncOptions, SyncSpec
from services.coordinator import validation
from tests.fixtures.coordinator import connection


def wrong(**fields: object) -> list[str]:
    """Names of the wrong fields of a sync that is as it should be, but for `fields`."""
    spec = SyncSpec(**{"source": SourceSpec(connection()), "dest_path": "/media", **fields})  # type: ignore[arg-type]
    return [violation.field for violation in validation.check_spec(spec, "spec")]


def test_a_sync_as_it_should_be_is_accepted() -> None:
    full = SourceSpec(connection(port=2222, user="ann", identity_files=("/home/ann/.ssh/id",)), b"~/out\xff", name="my-forge.1")
    assert wrong(source=full, folders=(b"a", b"b/c", b"b/d\n")) == []


def test_a_destination_may_be_left_open_where_a_sync_is_only_named() -> None:
    assert validation.check_spec(SyncSpec(SourceSpec(connection()), ""), "spec", needs_dest=False) == []
    assert validation.check_spec(SyncSpec(SourceSpec(connection()), "media"), "spec", needs_dest=False) != []


@pytest.mark.parametrize("dest_path", ["", "media", "./media", "~/media", "/media\0"])
def test_a_destination_has_to_be_an_absolute_path(dest_path: str) -> None:
    assert wrong(dest_path=dest_path) == ["spec.dest_path"]


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b", "a\nb", "x" * 256])
def test_a_host_has_to_be_a_name(host: str) -> None:
    assert wrong(source=SourceSpec(connection(host=host))) == ["spec.source.ssh.host"]


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_has_to_be_one(port: int) -> None:
    assert wrong(source=SourceSpec(connection(port=port))) == ["spec.source.ssh.port"]


def test_key_files_have_to_be_absolute_paths() -> None:
    source = SourceSpec(connection(identity_files=("/ok", "id_rsa"), known_hosts_files=("known",), user="-l"))
    assert wrong(source=source) == ["spec.source.ssh.user", "spec.source.ssh.identity_files[1]", "spec.source.ssh.known_hosts_files[0]"]


@pytest.mark.parametrize("name", ["-x", ".x", "a b", "a/b", "ä", "x" * 65])
def test_a_name_follows_the_rule(name: str) -> None:
    assert wrong(source=SourceSpec(connection(), name=name)) == ["spec.source.name"]


@pytest.mark.parametrize("root", [b"/a\0b", b"/" + b"x" * 4096])
def test_a_root_has_to_be_a_possible_path(root: bytes) -> None:
    assert wrong(source=SourceSpec(connection(), root)) == ["spec.source.root"]


@pytest.mark.parametrize("folder", [b"", b"/abs", b"a/../b", b".", b"a//b", b"a\0", b"x" * 256])
def test_i7_a_folder_has_to_stay_below_the_root(folder: bytes) -> None:
    assert wrong(folders=(b"fine", folder)) == ["spec.folders[1]"]


def test_no_folder_is_listed_twice_or_inside_another() -> None:
    assert wrong(folders=(b"a", b"b", b"a", b"b/c/d", b"bc")) == ["spec.folders[2]", "spec.folders[3]"]


def test_a_list_of_folders_is_bounded() -> None:
    assert wrong(folders=tuple(b"%d" % number for number in range(1001))) == ["spec.folders"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (SyncOptions(parallel_transfers=17), "parallel_transfers"),
        (SyncOptions(parallel_transfers=-1), "parallel_transfers"),
        (SyncOptions(retry_attempts=-1), "retry_attempts"),
        (SyncOptions(retry_delay_seconds=-0.5), "retry_delay"),
        (SyncOptions(settle_seconds=1e9), "settle_time"),
        (SyncOptions(incomplete_after_seconds=-1), "incomplete_after"),
        (SyncOptions(bandwidth_limit_mbps=-1), "bandwidth_limit_mbps"),
        (SyncOptions(bandwidth_timetable=("08:00-18:00 20mbit", "8-18")), "bandwidth_timetable[1]"),
        (SyncOptions(min_size_bytes=-1), "min_size_bytes"),
        (SyncOptions(min_size_bytes=10, max_size_bytes=9), "max_size_bytes"),
        (SyncOptions(min_age_minutes=float("nan")), "min_age_minutes"),
        (SyncOptions(min_age_minutes=1441, max_age_days=1), "max_age_days"),
        (SyncOptions(allowed_extensions=("png", "a/b")), "allowed_extensions[1]"),
        (SyncOptions(include_patterns=("[",)), "include_patterns[0]"),
        (SyncOptions(excluded_patterns=("ok", "../x")), "excluded_patterns[1]"),
        (SyncOptions(rewritten_patterns=("",)), "rewritten_patterns[0]"),
        (SyncOptions(temporary_suffixes=(".",)), "temporary_suffixes[0]"),
        (SyncOptions(excluded_patterns=("x",) * 1001), "excluded_patterns"),
        (SyncOptions(min_free_space_gb=-1), "min_free_space_gb"),
        (SyncOptions(file_mode="rwx"), "file_mode"),
        (SyncOptions(dir_mode="888"), "dir_mode"),
        (SyncOptions(owner="-x"), "owner"),
        (SyncOptions(group="a b"), "group"),
    ],
)
def test_options_have_to_be_in_their_ranges(options: SyncOptions, field: str) -> None:
    assert wrong(options=options) == [f"spec.options.{field}"]


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (SourceSpec(DockerConnection(""), b"/x"), "docker.container"),
        (SourceSpec(DockerConnection("-x"), b"/x"), "docker.container"),
        (SourceSpec(DockerConnection("c", "a b"), b"/x"), "docker.context"),
        (SourceSpec(DockerConnection("c", "", "nas"), b"/x"), "docker.engine_url"),
        (SourceSpec(DockerConnection("c", "", "ssh://u:pw@h"), b"/x"), "docker.engine_url"),
        (SourceSpec(DockerConnection("c", "nas", "tcp://nas:2376"), b"/x"), "docker.engine_url"),
        (SourceSpec(LocalConnection(), b"out"), "root"),
        (SourceSpec(LocalConnection(), b"/x", engine=Engine.RSYNC), "engine"),
        (SourceSpec(DockerConnection("c"), b"/x", engine=Engine.SFTP), "engine"),
        (SourceSpec(connection(), b"/x", engine=Engine.ARCHIVE), "engine"),
        (SourceSpec(connection(password_file="secret"), b"/x"), "ssh.password_file"),
    ],
)
def test_a_place_has_to_be_one_that_can_be_reached(source: SourceSpec, field: str) -> None:
    assert wrong(source=source) == [f"spec.source.{field}"]


@pytest.mark.parametrize(
    ("root", "folders", "dest_path", "apart"),
    [
        (b"/data/out", (), "/data/library", True),
        (b"/data/out", (), "/data/output", True),
        (b"/data/out", (), "/data/out/library", False),
        (b"/data/out", (), "/data/out", False),
        (b"/data/out", (), "/data", False),
        (b"/", (), "/data", False),
        (b"/data", (b"out",), "/data/library", True),
        (b"/data", (b"out", b"library/in"), "/data/library", False),
    ],
)
def test_a_folder_of_this_machine_and_its_library_lie_apart(root: bytes, folders: tuple[bytes, ...], dest_path: str, apart: bool) -> None:
    found = wrong(source=SourceSpec(LocalConnection(), root, SourceType.LOCAL), folders=folders, dest_path=dest_path)
    assert found == ([] if apart else ["spec.dest_path"])


def test_containers_and_folders_of_this_machine_are_accepted() -> None:
    assert wrong(source=SourceSpec(DockerConnection("label:role=gen", "nas"), b"~/x", engine=Engine.ARCHIVE)) == []
    assert wrong(source=SourceSpec(DockerConnection("service:ai:comfy", "", "tcp://nas:2376"))) == []
    assert wrong(source=SourceSpec(LocalConnection(), b"/x")) == []


def test_every_wrong_field_is_named_in_one_error() -> None:
    spec = SyncSpec(SourceSpec(connection(host="", port=-1)), "relative", (b"..",), SyncOptions(retry_attempts=-1))
    with pytest.raises(MediasyncError) as refused:
        validation.require(validation.check_request_id("") + validation.check_spec(spec, "spec"))
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert [violation.field for violation in refused.value.fields] == [
        "request_id",
        "spec.source.ssh.host",
        "spec.source.ssh.port",
        "spec.dest_path",
        "spec.folders[0]",
        "spec.options.retry_attempts",
    ]
    assert all(violation.field in refused.value.message for violation in refused.value.fields)


@pytest.mark.parametrize(("request_id", "count"), [("", 1), ("x" * 129, 1), ("x" * 128, 0)])
def test_a_request_id_has_1_to_128_characters(request_id: str, count: int) -> None:
    assert len(validation.check_request_id(request_id)) == count
