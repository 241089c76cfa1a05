"""What a configuration amounts to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mediasync.config import Configuration, IngestSettings, Subscriber, load, locate
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
)
from mediasync.sources.secrets import Secrets, secrets_of
from tests.fixtures.configuration import Configured, Refused

OLDER_FORM = """
sync:
  source: {type: forge, host: forge.lan, port: 2222}
  destination: {path: /media}
  folders: [txt2img-images, img2img-images, WAN]
  parallel_transfers: 3
  bandwidth_limit_mbps: 100
  generate_xmp: true
  calculate_hashes: false
  cleanup: {enabled: true, age_hours: 24, verify_synced: true}
"""


def origin(configuration: Configuration, key: str) -> str:
    return next(setting.origin for setting in configuration.settings if setting.key == key)


def test_without_a_file_the_defaults_apply(tmp_path: Path) -> None:
    configuration = load(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert configuration.file is None
    assert configuration.sources == {}
    assert configuration.defaults == SyncOptions()
    assert configuration.coordinator.listen == "127.0.0.1:7171"
    assert configuration.ingest.subscribers == ()
    assert (configuration.in_force, configuration.not_yet) == ((), ())


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "sync:\nsources:\ncoordinator:\ningest:\n", "\ufeffsync: {}\n"])
def test_an_empty_file_is_the_defaults_too(configured: Configured, text: str) -> None:
    configuration = configured(text)
    assert configuration.defaults == SyncOptions()
    assert configuration.file is not None


def test_the_named_file_comes_before_the_variable_and_that_before_the_usual_place(tmp_path: Path) -> None:
    environ = {"MEDIASYNC_CONFIG": "/b", "XDG_CONFIG_HOME": "/c", "HOME": "/home/ann"}
    assert locate("/a", environ) == (Path("/a"), "--config")
    assert locate(None, environ) == (Path("/b"), "MEDIASYNC_CONFIG")
    assert locate(None, {**environ, "MEDIASYNC_CONFIG": ""}) == (Path("/c/mediasync/config.yaml"), "")
    assert locate(None, {"XDG_CONFIG_HOME": "relative", "HOME": "/home/ann"}) == (Path("/home/ann/.config/mediasync/config.yaml"), "")
    (tmp_path / "mediasync").mkdir()
    (tmp_path / "mediasync" / "config.yaml").write_text("media_base: /m")
    assert load(environ={"XDG_CONFIG_HOME": str(tmp_path)}).media_base == Path("/m")


def test_the_older_single_form_is_a_source_called_default(configured: Configured) -> None:
    configuration = configured(OLDER_FORM)
    assert list(configuration.sources) == ["default"]
    spec = configuration.sources["default"]
    assert spec.source == SourceSpec(SshConnection("forge.lan", 2222), b"", SourceType.FORGE, "default")
    assert spec.dest_path == "/media"
    assert spec.folders == (b"txt2img-images", b"img2img-images", b"WAN")
    assert spec.options.parallel_transfers == 3
    assert spec.options.bandwidth_limit_mbps == 100
    assert configuration.not_yet == (
        "sync.generate_xmp",
        "sync.calculate_hashes",
    )
    assert spec.cleanup == CleanupPolicy(after_sync=True)


def test_every_option_of_a_source_reaches_its_spec(configured: Configured) -> None:
    spec = configured(
        """
        sources:
          any:
            type: ssh
            host: "[fe80::1]"
            port: 22
            user: no
            path: ~/a b/
            destination: /media/any
            folders: [2024, ./x/y/, 'it''s']
            identity_files: [/k/one, /k/two]
            known_hosts: [/k/hosts]
            accept_new_host_key: yes
            parallel_transfers: 16
            retry_attempts: 0
            retry_delay_seconds: .5
            extract_metadata: off
            verify_transfers: on
            full_scan: True
            settle_seconds: 0
            incomplete_after_seconds: 60
            engine: rsync
            compress: true
            newest_first: true
            restore: true
            watch: true
            bandwidth_limit_mbps: 20.5
            bandwidth_timetable: ["08:00-18:00 20mbit", "22:00-06:00 off"]
            follow_symlinks: files
            min_size_bytes: 1
            max_size_bytes: 2000
            min_age_minutes: 3
            max_age_days: 4
            allowed_extensions: [png, .jpg]
            include_patterns: "2026-*/"
            excluded_patterns: ["*.txt", "!keep.txt"]
            temporary_suffixes: [.half]
            rewritten_patterns: []
            duplicates: hardlink
            durability: fast
            min_free_space_gb: 0.5
            file_mode: "0640"
            dir_mode: 750
            owner: ann
            group: 1000
        """
    ).sources["any"]
    assert spec.source == SourceSpec(
        SshConnection("fe80::1", 22, "no", ("/k/one", "/k/two"), ("/k/hosts",), True), b"~/a b", SourceType.SSH, "any", Engine.RSYNC, True
    )
    assert spec.folders == (b"2024", b"x/y", b"it's")
    assert spec.dest_path == "/media/any"
    assert spec.options == SyncOptions(
        16,
        0,
        0.5,
        False,
        True,
        True,
        0.0,
        60.0,
        newest_first=True,
        restore=True,
        watch=True,
        bandwidth_limit_mbps=20.5,
        bandwidth_timetable=("08:00-18:00 20mbit", "22:00-06:00 off"),
        follow_symlinks=FollowSymlinks.FILES,
        min_size_bytes=1,
        max_size_bytes=2000,
        min_age_minutes=3,
        max_age_days=4,
        allowed_extensions=("png", ".jpg"),
        include_patterns=("2026-*/",),
        excluded_patterns=("*.txt", "!keep.txt"),
        temporary_suffixes=(".half",),
        rewritten_patterns=(),
        duplicates=Duplicates.HARDLINK,
        durability=Durability.FAST,
        min_free_space_gb=0.5,
        file_mode="0640",
        dir_mode="750",
        owner="ann",
        group="1000",
    )


def test_options_below_sync_are_every_sources_defaults_and_its_own_come_first(configured: Configured) -> None:
    configuration = configured(
        """
        sync: {retry_attempts: 9, parallel_transfers: 5}
        sources:
          a: {type: forge, host: h, parallel_transfers: 2}
          b: {type: forge, host: h}
        """
    )
    assert configuration.defaults.retry_attempts == 9
    options = {name: (spec.options.retry_attempts, spec.options.parallel_transfers) for name, spec in configuration.sources.items()}
    assert options == {"a": (9, 2), "b": (9, 5)}
    assert origin(configuration, "sources.a.retry_attempts") == "sync.retry_attempts"
    assert origin(configuration, "sources.a.full_scan") == "default"


def test_what_a_type_brings_stays_open_so_that_the_ssh_configuration_comes_before_it(configured: Configured) -> None:
    configuration = configured("sources: {f: {type: Forge, host: h}, v: {type: vastai, host: h}}")
    sources = configuration.sources
    assert sources["f"].source == SourceSpec(SshConnection("h"), b"", SourceType.FORGE, "f")
    assert sources["v"].source == SourceSpec(SshConnection("h"), b"", SourceType.VASTAI, "v")
    assert sources["f"].folders == ()
    assert origin(configuration, "sources.f.port") == "type forge, unless ~/.ssh/config has one"
    assert origin(configuration, "sources.v.user") == "type vastai, unless ~/.ssh/config has one"


def test_the_destination_is_the_sources_own_else_media_base_else_open(configured: Configured) -> None:
    text = "sources: {a: {type: forge, host: h, destination: /d}, b: {type: forge, host: h}}"
    assert {name: spec.dest_path for name, spec in configured(text).sources.items()} == {"a": "/d", "b": ""}
    assert configured(text, {"MEDIA_BASE": "/m"}).sources["b"].dest_path == "/m"
    assert configured(text + "\nmedia_base: /n").sources["b"].dest_path == "/n"


def test_relative_paths_start_at_the_files_folder_and_a_tilde_is_home(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    configuration = configured('media_base: library\nlog_base: "~/logs"\nsources: {a: {type: forge, host: h, identity_file: keys/a}}')
    assert configuration.media_base == tmp_path / "library"
    assert configuration.log_base == Path("/home/ann/logs")
    assert configuration.sources["a"].source.connection == SshConnection("h", identity_files=(f"{tmp_path}/keys/a",))


def test_a_remote_name_that_is_no_utf_8_is_written_as_surrogate_escapes(configured: Configured) -> None:
    spec = configured('sources: {a: {host: h, path: "/caf\\udce9", folders: ["\\udcff"]}}').sources["a"]
    assert (spec.source.root, spec.folders) == (b"/caf\xe9", (b"\xff",))


def test_subscribers_have_the_sections_batch_size_unless_their_own(configured: Configured) -> None:
    configuration = configured(
        """
        ingest:
          batch_size: 20
          subscribers:
            - {name: gallery, address: '127.0.0.1:9000', events: file_synced}
            - {name: script, address: 'unix:/run/x.sock', events: [file_processed, SYNC_COMPLETE], batch_size: 5}
        """
    )
    assert configuration.ingest.subscribers == (
        Subscriber("gallery", "127.0.0.1:9000", ("file_synced",), 20),
        Subscriber("script", "unix:/run/x.sock", ("file_processed", "sync_complete"), 5),
    )
    assert "ingest.subscribers[2].batch_size" in configuration.in_force


def test_what_is_not_said_of_ingest_has_its_default(configured: Configured) -> None:
    assert configured("").ingest == IngestSettings()
    assert configured("ingest: {subscribers: [{name: a, address: pull}]}").ingest.wait_for == ("catalog", "a")


def test_every_setting_of_ingest_is_read(configured: Configured, tmp_path: Path) -> None:
    (tmp_path / "log.url").write_text("postgresql://u@h/log\n")
    configuration = configured(
        """
        ingest:
          async_mode: false
          wait_for: far
          wait_seconds: 20
          linger_ms: 0
          retention_days: 0
          retention_gb: 0.5
          connection_string: postgresql://u@h/db
          log_connection_string_file: log.url
          subscribers:
            - {name: far, address: 'nas.lan:9000', source: forge, path: ['a/**', '!a/b'], from: 17,
               tls_ca_file: ca.pem, tls_cert_file: us.pem, tls_key_file: us.key, token_file: token}
            - {name: reader, address: PULL, from: Snapshot, events: batch_synced}
        """
    )
    here = tmp_path
    assert configuration.ingest == IngestSettings(
        (
            Subscriber(
                "far",
                "nas.lan:9000",
                (),
                50,
                ("forge",),
                ("a/**", "!a/b"),
                17,
                here / "ca.pem",
                here / "us.pem",
                here / "us.key",
                here / "token",
            ),
            Subscriber("reader", "", ("batch_synced",), start="snapshot"),
        ),
        async_mode=False,
        wait_for=("far",),
        wait_seconds=20,
        implementation="postgres",
        connection_string="postgresql://u@h/db",
        log_connection_string="postgresql://u@h/log",
        retention_days=0,
        retention_gb=0.5,
        linger_ms=0,
    )
    assert configuration.not_yet == ()


@pytest.mark.parametrize(
    ("written", "listen"), [("localhost:0", "localhost:0"), ("'[::1]:7171'", "[::1]:7171"), ("127.0.0.2:80", "127.0.0.2:80")]
)
def test_the_coordinator_listens_on_any_loopback_address(configured: Configured, written: str, listen: str) -> None:
    assert configured(f"coordinator: {{listen: {written}}}").coordinator.listen == listen


def test_anchors_and_merge_keys_work_and_own_keys_come_first(configured: Configured) -> None:
    sources = configured(
        """
        sources:
          a: &a {type: forge, host: one, port: 1}
          b: {<<: *a, host: two}
          c: {<<: [{port: 3}, *a]}
        """
    ).sources
    connections = [spec.source.connection for spec in sources.values()]
    assert connections == [SshConnection("one", 1), SshConnection("two", 1), SshConnection("one", 3)]


@pytest.mark.parametrize(
    ("key", "today", "later"),
    [
        ("generate_xmp", "false", "true"),
        ("calculate_hashes", "true", "false"),
    ],
)
def test_an_option_for_later_is_in_force_only_where_it_asks_for_what_is_done_anyway(
    configured: Configured, key: str, today: str, later: str
) -> None:
    for place in ("sync", "sources.f"):
        text = "sync: {%s}" if place == "sync" else "sources: {f: {type: forge, host: h, %s}}"
        assert f"{place}.{key}" in configured(text % f"{key}: {today}").in_force
        configuration = configured(text % f"{key}: {later}")
        assert configuration.not_yet == (f"{place}.{key}",)
        (note,) = (setting.note for setting in configuration.settings if not setting.in_force)
        assert note


def test_a_secret_is_masked_wherever_the_configuration_is_shown(configured: Configured, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    configuration = configured(
        """
        sources:
          a: {type: forge, host: h, password: "${PW}"}
          b: {type: forge, host: h, password_file: secret}
        ingest: {connection_string: "postgresql://u:p4ss@h/db"}
        """,
        {"PW": "from-environment"},
    )
    shown = repr(configuration)
    assert not [word for word in ("from-file", "from-environment", "p4ss") if word in shown]
    assert shown.count("********") == 3
    assert configuration.ingest.connection_string == "postgresql://u:p4ss@h/db"


def test_a_source_can_be_written_as_a_url(configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    sources = configured(
        """
        sources:
          host: {url: ssh://ann@h:2222/x, identity_file: /k}
          rented: {type: vastai, url: ssh://h}
          box: {url: docker://box/app/outputs, engine: archive}
          forge: {type: forge, url: "docker://service:ai:forge", docker_host: ssh://nas}
          found: {url: "docker://nas@label:role=gen", path: ~/out}
          near: {url: ./out}
          home: {url: ~/out/}
          disk: {type: local, path: /mnt/out}
          file: {url: file:///mnt/a%20b}
        """
    ).sources
    assert {name: (spec.source.connection, spec.source.root, spec.source.type) for name, spec in sources.items()} == {
        "host": (SshConnection("h", 2222, "ann", ("/k",)), b"/x", SourceType.SSH),
        "rented": (SshConnection("h"), b"", SourceType.VASTAI),
        "box": (DockerConnection("box"), b"/app/outputs", SourceType.DOCKER),
        "forge": (DockerConnection("service:ai:forge", "", "ssh://nas"), b"", SourceType.FORGE),
        "found": (DockerConnection("label:role=gen", "nas"), b"~/out", SourceType.DOCKER),
        "near": (LocalConnection(), f"{tmp_path}/out".encode(), SourceType.LOCAL),
        "home": (LocalConnection(), b"/home/ann/out", SourceType.LOCAL),
        "disk": (LocalConnection(), b"/mnt/out", SourceType.LOCAL),
        "file": (LocalConnection(), b"/mnt/a b", SourceType.LOCAL),
    }
    assert sources["box"].source.engine is Engine.ARCHIVE


def test_the_engine_below_sync_is_every_sources_unless_its_own(configured: Configured) -> None:
    configuration = configured(
        "sync: {engine: sftp, compress: true}\nsources: {a: {type: forge, host: h}, b: {url: docker://c/x, engine: auto, compress: no}}"
    )
    chosen = {name: (spec.source.engine, spec.source.compress) for name, spec in configuration.sources.items()}
    assert chosen == {"a": (Engine.SFTP, True), "b": (Engine.AUTO, False)}
    assert origin(configuration, "sources.a.engine") == "sync.engine"


def test_a_secret_reaches_the_login_and_no_spec(configured: Configured, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    environ = {"PW": "from-environment"}
    text = """
        sources:
          a: {type: forge, host: h, port: 1, password: "${PW}", passphrase: both}
          b: {type: forge, host: h, password_file: secret}
        """
    configuration = configured(text, environ)
    a, b = (configuration.sources[name].source for name in "ab")
    assert "from-environment" not in repr(configuration)
    assert b.connection == SshConnection("h", password_file=f"{tmp_path}/secret")
    given = {**environ, "MEDIASYNC_CONFIG": str(tmp_path / "config.yaml"), "MEDIASYNC_SSH_PASSWORD": "of the environment"}
    assert secrets_of(a, given) == Secrets("from-environment", "both")
    assert secrets_of(b, given) == Secrets("from-file", "")
    assert "from" not in repr(secrets_of(a, given))
    assert secrets_of(SourceSpec(SshConnection("h")), given) == Secrets("of the environment", "")
    assert secrets_of(SourceSpec(LocalConnection()), given) == Secrets()


def test_a_written_password_is_only_for_the_host_that_stands_beside_it(configured: Configured, tmp_path: Path) -> None:
    configured("sources: {a: {type: forge, host: h, password: p4ss}}")
    given = {"MEDIASYNC_CONFIG": str(tmp_path / "config.yaml"), "MEDIASYNC_SSH_PASSWORD": "x"}
    for other in (SshConnection("evil"), SshConnection("h", 23), SshConnection("h", user="eve")):
        assert secrets_of(SourceSpec(other, name="a"), given) == Secrets()
    assert secrets_of(SourceSpec(SshConnection("h"), name="a"), given) == Secrets("p4ss")
    assert secrets_of(SourceSpec(SshConnection("h"), name="added"), given) == Secrets()


def test_a_file_that_holds_no_secret_is_told_when_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(MediasyncError, match="cannot be read: No such file") as caught:
        secrets_of(SourceSpec(SshConnection("h", password_file=str(tmp_path / "none"))), {})
    assert caught.value.reason is Reason.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8 text"),
        (b"x" * 70_000, "which is no secret"),
    ],
)
def test_a_secret_file_that_holds_no_secret_is_a_mistake(refused: Refused, tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
    (field,) = refused("sources: {a: {type: forge, host: h, passphrase_file: secret}}").fields
    assert field.field == "sources.a.passphrase_file"
    assert said in field.description


def test_a_secret_file_that_is_a_folder_is_a_mistake(refused: Refused, tmp_path: Path) -> None:
    assert "is not a regular file" in refused(f"ingest: {{connection_string_file: {tmp_path}}}").message


def test_a_limit_for_all_syncs_together_stands_below_sync(configured: Configured) -> None:
    found = configured("sync: {bandwidth_limit_total_mbps: 50, bandwidth_timetable_total: 08:00-18:00 20mbit}")
    assert (found.bandwidth_limit_total_mbps, found.bandwidth_timetable_total) == (50.0, ("08:00-18:00 20mbit",))
    assert found.not_yet == ()
    assert configured("media_base: /media").bandwidth_limit_total_mbps == 0.0
