"""Every mistake in a configuration is told with its line, its key, and a cure."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mediasync.config import load
from mediasync.errors import MediasyncError, Reason
from tests.fixtures.configuration import Refused

# text, key, what is said about it
MISTAKES = [
    ("media_bas: /x", "media_bas", "line 1: unknown key; did you mean `media_base`?"),
    ("parallel_transfers: 3", "parallel_transfers", "line 1: unknown key; it belongs below `sync`"),
    ("host: x", "host", "line 1: unknown key; it belongs below `sources.NAME`"),
    ("zzzzzz: 3", "zzzzzz", "line 1: unknown key"),
    ("sync:\n  parallel_transfers: eight", "sync.parallel_transfers", 'line 2: expected a whole number from 1 to 16, found "eight"'),
    ("sync: {parallel_transfers: 17}", "sync.parallel_transfers", 'line 1: expected a whole number from 1 to 16, found "17"'),
    ("sync: {parallel_transfers: 1.5}", "sync.parallel_transfers", 'line 1: expected a whole number from 1 to 16, found "1.5"'),
    ("sync: {retry_attempts: [3]}", "sync.retry_attempts", "line 1: expected a whole number from 0 to 100, found a list"),
    ("sync: {retry_attempts: {a: 3}}", "sync.retry_attempts", "line 1: expected a whole number from 0 to 100, found a mapping"),
    (
        "sync: {retry_delay_seconds: soon}",
        "sync.retry_delay_seconds",
        'line 1: expected a number of seconds from 0 to 2,592,000, found "soon"',
    ),
    ("sync: {settle_seconds: .inf}", "sync.settle_seconds", 'line 1: expected a number of seconds from 0 to 2,592,000, found ".inf"'),
    ("sync: {full_scan: maybe}", "sync.full_scan", 'line 1: expected true or false, found "maybe"'),
    (
        "sync: {bandwidth_limit_mbps: -1}",
        "sync.bandwidth_limit_mbps",
        'line 1: expected a number of megabits a second from 0 to 1,000,000, found "-1"',
    ),
    (
        "sync: {durability: ful}",
        "sync.durability",
        'line 1: expected one of full, fast, found "ful"; did you mean `full`?',
    ),
    ("sync: {file_mode: rwx}", "sync.file_mode", 'line 1: expected an octal mode such as 0640, found "rwx"'),
    ("sync: {destination: /x}", "sync.destination", "line 1: belongs to a source; put `source:` beside it, or set `media_base`"),
    ("sync: {folders: x}", "sync.folders", "line 1: belongs to a source; put `source:` beside it, or set it on a source"),
    (
        "sync: {enable_cleanup: true, cleanup: {enabled: true}}",
        "sync.enable_cleanup",
        "line 1: says the same as `cleanup.enabled` in the same place; keep one of them",
    ),
    ("sync: 3", "sync", 'line 1: expected a mapping of keys to values, found "3"'),
    ("sources: [a]", "sources", "line 1: expected a mapping of names to sources, found a list"),
    ("sources:\n  a:\n    path: /x", "sources.a.host", "line 2: missing; it is needed here"),
    (
        "sources:\n  a:\n    host:\n    path: /x",
        "sources.a.host",
        "line 3: missing; it is needed here, or a `url`",
    ),
    (
        "sources:\n  a: {host: -oProxyCommand=x, path: /x}",
        "sources.a.host",
        'line 2: expected a host name, an address or an alias of ~/.ssh/config, found "-oProxyCommand=x"',
    ),
    ("sources:\n  a: {host: x}", "sources.a", "line 2: `path` is missing; a source of type ssh has no folder of its own"),
    (
        "sources:\n  a: {host: x, type: forg}",
        "sources.a.type",
        'line 2: expected one of ssh, docker, local, forge, comfyui, vastai, found "forg"; did you mean `forge`?',
    ),
    ("sources:\n  a: {host: x, path: /x, prot: 22}", "sources.a.prot", "line 2: unknown key; did you mean `port`?"),
    ("sources:\n  a: {host: x, path: /x, hostname: y}", "sources.a.hostname", "line 2: unknown key; did you mean `host`?"),
    ("sources:\n  a: {host: x, path: /x, ssh_key: y}", "sources.a.ssh_key", "line 2: unknown key; did you mean `identity_file`?"),
    ("sources:\n  a: {host: x, path: /x, port: 0}", "sources.a.port", 'line 2: expected a whole number from 1 to 65535, found "0"'),
    ("sources:\n  a: {host: x, path: /x, user: a b}", "sources.a.user", 'line 2: expected a login name, found "a b"'),
    ("sources:\n  a: {host: x, path: out}", "sources.a.path", 'line 2: expected an absolute path, or one that starts with ~/, found "out"'),
    ('sources:\n  a: {host: x, path: "/a\\0b"}', "sources.a.path", "line 2: expected an absolute path, or one that starts with ~/"),
    (
        "sources:\n  a:\n    host: x\n    path: /x\n    folders:\n      - ok\n      - ../etc",
        "sources.a.folders[2]",
        'line 7: expected a folder below the source\'s path, such as txt2img-images, found "../etc"',
    ),
    ("sources:\n  a: {host: x, path: /x, folders: {b: c}}", "sources.a.folders", "line 2: expected a list, found a mapping"),
    (
        "sources:\n  a: {host: x, path: /x, identity_file: k, identity_files: [k]}",
        "sources.a.identity_files",
        "line 2: says the same as `identity_file` in the same place; keep one of them",
    ),
    (
        "sources:\n  a: {host: x, path: /x, password: k, password_file: /etc/passwd}",
        "sources.a.password_file",
        "line 2: says the same as `password` in the same place; keep one of them",
    ),
    ("sources:\n  a: {host: x, url: ssh://y/z}", "sources.a.host", "line 2: belongs into `url`, which stands in the same place"),
    ("sources:\n  a: {path: /x, url: ssh://y/z}", "sources.a.path", "line 2: `url` has a path already; keep one of them"),
    ("sources:\n  a: {url: ssh://y}", "sources.a.url", "line 2: has no path; write the folder that holds the pictures behind the host"),
    (
        "sources:\n  a: {type: docker, path: /x}",
        "sources.a",
        "line 2: `url` is missing; a container is written `url: docker://container/path`",
    ),
    ("sources:\n  a: {type: local}", "sources.a", "line 2: `path` is missing; a source of type local has no folder of its own"),
    ("sources:\n  a: {type: local, path: /x, host: h}", "sources.a.host", "line 2: is for sources that are reached over SSH"),
    ("sources:\n  a: {type: ssh, url: docker://c/x}", "sources.a.url", "line 2: is no source of type ssh, but of type docker"),
    ("sources:\n  a: {url: docker://c/x, known_hosts: k}", "sources.a.known_hosts", "line 2: is for sources that are reached over SSH"),
    (
        "sources:\n  a: {host: h, path: /x, docker_host: tcp://d}",
        "sources.a.docker_host",
        "line 2: is for containers, as in `url: docker://",
    ),
    (
        "sources:\n  a: {url: docker://n@c/x, docker_host: ssh://d}",
        "sources.a.docker_host",
        "line 2: the context n of `url` says which engine",
    ),
    (
        "sources:\n  a: {url: docker://c/x, docker_host: nas}",
        "sources.a.docker_host",
        "line 2: expected the address of a Docker engine: unix://",
    ),
    ("sources:\n  a: {url: docker://c c/x}", "sources.a.url", "'c c' cannot be a container's name"),
    (
        "sources:\n  a: {url: docker://c/x, engine: rsync}",
        "sources.a.engine",
        "line 2: `rsync` is no engine for this source; expected one of auto, agent, posix, archive",
    ),
    (
        "sync: {engine: rsync}\nsources:\n  a: {url: docker://c/x}",
        "sync.engine",
        "line 1: `rsync` is no engine for the source of sources.a; expected one of auto, agent, posix, archive",
    ),
    ("sync: {excluded_patterns: ['[']}", "sync.excluded_patterns[1]", "line 1: '[' is no pattern: a `[` has no `]`"),
    ("sync: {bandwidth_timetable: 8-18}", "sync.bandwidth_timetable[1]", "expected a line such as `08:00-18:00 20mbit`"),
    ("sync: {allowed_extensions: [a/b]}", "sync.allowed_extensions[1]", "expected an extension such as png"),
    (
        'sources:\n  "a b": {host: x, path: /x}',
        "sources.a b",
        "line 2: expected a name of 1 to 64 letters, digits, dots, dashes or underscores, beginning with a letter or digit",
    ),
    (
        "sync:\n  source: {host: x, path: /x}\nsources:\n  default: {host: x, path: /x}",
        "sync.source",
        "line 2: is the source called `default`, which stands below `sources:` too; rename that one",
    ),
    (
        "coordinator: {listen: '0.0.0.0:7171'}",
        "coordinator.listen",
        "line 1: expected a loopback address with a port, such as 127.0.0.1:7171 (others need mutual TLS, which is not in force yet)",
    ),
    ("coordinator: {listen: '127.0.0.1:99999'}", "coordinator.listen", "line 1: expected a loopback address with a port"),
    (
        "ingest: {subscribers: [{name: a, address: b}]}",
        "ingest.subscribers[1].address",
        'line 1: expected host:port, unix:/path or pull, found "b"',
    ),
    ("ingest: {subscribers: [{name: a}]}", "ingest.subscribers[1].address", "line 1: missing; it is needed here"),
    (
        "ingest: {subscribers: [{name: catalog, address: 'localhost:1'}]}",
        "ingest.subscribers[1].name",
        "line 1: `catalog` is the built-in subscriber; choose another name",
    ),
    (
        "ingest:\n  subscribers:\n  - {name: a, address: 'localhost:1'}\n  - {name: a, address: 'localhost:2'}",
        "ingest.subscribers[2].name",
        "line 4: the subscriber of line 3 has this name already; choose another",
    ),
    (
        "ingest: {subscribers: [{name: a, address: 'localhost:1', events: [file_sync]}]}",
        "ingest.subscribers[1].events[1]",
        'found "file_sync"; did you mean `file_synced`?',
    ),
    (
        "ingest: {subscribers: [{name: a, address: 'nas.lan:9000', token_file: t}]}",
        "ingest.subscribers[1].address",
        "line 1: is not on this machine; set `tls_ca_file`, so that no name or prompt crosses the network in the clear",
    ),
    (
        "ingest: {subscribers: [{name: a, address: pull, token_file: t}]}",
        "ingest.subscribers[1].token_file",
        "line 1: is for a subscriber that is called; the reader of this one comes to us",
    ),
    (
        "ingest: {subscribers: [{name: a, address: 'nas.lan:9000', tls_ca_file: c, tls_cert_file: d}]}",
        "ingest.subscribers[1].tls_cert_file",
        "line 1: is of no use without `tls_key_file`",
    ),
    (
        "ingest: {subscribers: [{name: a, address: 'localhost:9000', tls_cert_file: c, tls_key_file: d}]}",
        "ingest.subscribers[1]",
        "line 1: `tls_ca_file` is missing; it says whose certificates count",
    ),
    (
        "ingest: {subscribers: [{name: a, address: pull, from: yesterday}]}",
        "ingest.subscribers[1].from",
        'line 1: expected beginning, now, snapshot or the number of an event, found "yesterday"',
    ),
    (
        "ingest: {subscribers: [{name: a, address: pull, form: now}]}",
        "ingest.subscribers[1].form",
        "line 1: unknown key; did you mean `from`?",
    ),
    ("ingest: {wait_for: [catalog, galery]}", "ingest.wait_for[2]", "line 1: there is no subscriber `galery` here; there are: catalog"),
    ("ingest: {wait_seconds: 0}", "ingest.wait_seconds", 'line 1: expected a number of seconds from 1 to 86,400, found "0"'),
    ("ingest: {linger_ms: 51}", "ingest.linger_ms", 'line 1: expected a whole number from 0 to 50, found "51"'),
    (
        "ingest: {connection_string: 'mysql://u:p4ss@h/db'}",
        "ingest.connection_string",
        "line 1: expected postgresql://user:password@host/database or sqlite:///path, found something else",
    ),
    ("ingest: {implementation: postgres}", "ingest.implementation", "line 1: needs `connection_string`, such as"),
    (
        "ingest: {implementation: catalog, connection_string: 'postgresql://h/db'}",
        "ingest.implementation",
        "line 1: `catalog` keeps the catalog in SQLite, and `connection_string` names a PostgreSQL database; write `postgres`",
    ),
    ("ingest: {implementation: custom}", "ingest.implementation", "line 1: `custom` needs a subscriber of your own"),
    ("media_base: ''", "media_base", 'line 1: expected a path on this machine, in UTF-8, found ""'),
    ("media_base: ~", "media_base", 'line 1: a lone ~ means nothing in YAML; write "~" in quotes for the home folder, or null'),
    ("media_base: /a\nlog_base: /b\nmedia_base: /c", "media_base", "line 3: written twice in one place; the first is on line 1"),
    ("media_base: !!python/object:os.system /x", "media_base", "line 1: tags (words that start with `!`) are not read here"),
    ("? [a, b]\n: c", "", "line 1: expected the name of a key in front of the colon"),
    ("- a", "", "line 1: expected keys with values, such as `media_base: /media`"),
    ("just words", "", "line 1: expected keys with values"),
    ("a: b\n---\nc: d", "", "line 2: only one document is read; take out the line `---`"),
    ("sync: {<<: 3}", "sync.<<", "line 1: expected a mapping to merge"),
    ("sync: &a {source: *a}", "", "line 1: *a stands inside of what it refers to"),
    ("sync: *a", "", "line 1: *a refers to nothing; &a must come first"),
    ("sync: [1, 2", "", "this is not YAML: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence) (column"),
    ("media_base: /a\n\tb: c", "", "line 2: this is not YAML: "),
    ("media_base: a: b", "", "line 1: this is not YAML: mapping values are not allowed here (column 14)"),
    ('media_base: "\\UFFFFFFFF"', "", "this is not YAML: an escape that stands for no character, here or just below"),
    ("sync: {retry_attempts: ${N}}", "", "put a value with braces in quotes"),
    ("media_base: /a\nlog_base: \x07", "", "line 2: this is not YAML: a character that it does not allow (column 11)"),
    ("media_base: ${NO_SUCH}/x", "media_base", "line 1: the environment variable NO_SUCH is not set; set it, or write ${NO_SUCH:-default}"),
    ("media_base: ${HOM}/x", "media_base", "did you mean `HOME`?"),
    ("media_base: ${a b}/x", "media_base", "line 1: expected ${NAME} or ${NAME:-default} (write $${ for a plain ${)"),
    ("media_base: ${HOME", "media_base", "line 1: expected ${NAME} or ${NAME:-default} (write $${ for a plain ${)"),
]


@pytest.mark.parametrize(("text", "key", "said"), MISTAKES, ids=[f"{said[:40]}-{key}" for _, key, said in MISTAKES])
def test_a_mistake_is_told_with_its_key_its_line_and_a_cure(refused: Refused, text: str, key: str, said: str) -> None:
    error = refused(text)
    assert any(field.field == key and said in field.description for field in error.fields), error.fields
    assert re.sub(r"^line \d+: ", "", said) in error.message


@pytest.mark.parametrize("text", [text for text, _, _ in MISTAKES], ids=range(len(MISTAKES)))
def test_one_mistake_is_told_once(refused: Refused, text: str) -> None:
    assert len(refused(text).fields) == 1, refused(text).message


def test_all_mistakes_are_told_at_once_and_in_the_order_of_the_file(refused: Refused, tmp_path: Path) -> None:
    error = refused(
        "sync:\n  retry_atempts: 3\n  full_scan: perhaps\n"
        "sources:\n  forge:\n    type: forge\n    prot: 1\n    prot: 2\nlog_base: ${NOPE}\n",
        {"MEDIASYNC_SYNC__SETTLE_SECONDS": "long"},
    )
    assert [(field.field, field.description.split(":")[0]) for field in error.fields] == [
        ("sync.retry_atempts", "line 2"),
        ("sync.full_scan", "line 3"),
        ("sources.forge.host", "line 5"),
        ("sources.forge.prot", "line 7"),
        ("sources.forge.prot", "line 8"),
        ("log_base", "line 9"),
        ("sync.settle_seconds", "MEDIASYNC_SYNC__SETTLE_SECONDS"),
    ]
    first, *lines = error.message.splitlines()
    assert first == f"7 mistakes in {tmp_path}/config.yaml and the environment:"
    assert lines[0] == "  line 2: sync.retry_atempts: unknown key; did you mean `retry_attempts`?"
    assert error.metadata == {"file": f"{tmp_path}/config.yaml"}
    assert "mediasync config example" in error.remedy


def test_very_many_mistakes_are_counted_and_not_all_printed(refused: Refused) -> None:
    error = refused("\n".join(f"unknown_{number}: 1" for number in range(250)))
    assert len(error.fields) == 250
    assert error.message.splitlines()[-1] == "  … and 150 more"


def test_a_value_that_would_move_the_cursor_is_shown_escaped_and_shortened(refused: Refused) -> None:
    error = refused('sync: {full_scan: "\\e[2J' + "x" * 500 + '"}')
    assert "\\x1b[2Jxxx" in error.message
    assert "\x1b" not in error.message
    assert len(error.message) < 300


@pytest.mark.parametrize(
    "text",
    ["sources: {a: {host: h, path: /p, password: [s3cret]}}", "sources: {a: {host: h, path: /p, password: s3cret: x}}", "password: s3cret"],
)
def test_a_secret_shows_in_no_mistake(refused: Refused, text: str) -> None:
    error = refused(text)
    assert "s3cret" not in error.message + repr(error.fields)


def test_a_file_that_was_named_and_is_missing_is_a_mistake_that_says_who_named_it(tmp_path: Path) -> None:
    for path, environ in ((str(tmp_path / "no.yaml"), {}), (None, {"MEDIASYNC_CONFIG": str(tmp_path / "no.yaml")})):
        with pytest.raises(
            MediasyncError, match=r"there is no configuration file .*no\.yaml, which (--config|MEDIASYNC_CONFIG) names"
        ) as caught:
            load(path, environ)
        assert caught.value.reason is Reason.CONFIGURATION_INVALID


def test_a_folder_in_place_of_the_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(MediasyncError, match="cannot be read: Is a directory"):
        load(tmp_path, {})


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(MediasyncError, match="larger than 256 KiB"):
        load(file, {})


def test_bytes_that_are_no_utf_8_are_told_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"media_base: /a\nlog_base: /\xe9\n")
    with pytest.raises(MediasyncError, match="line 2: not UTF-8 text"):
        load(file, {})
