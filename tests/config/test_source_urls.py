"""Sources as URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.config import is_url, parse_source_url
from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection, LocalConnection, SourceSpec, SourceType, SshConnection


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "root"),
    [
        ("ssh://forge.lan/app/outputs", "forge.lan", 0, "", b"/app/outputs"),
        ("ssh://root@forge.lan:2222/app/outputs/", "forge.lan", 2222, "root", b"/app/outputs"),
        ("SSH://Forge.LAN//app//outputs", "Forge.LAN", 0, "", b"/app/outputs"),
        ("ssh://my_alias/~/pictures", "my_alias", 0, "", b"~/pictures"),
        ("ssh://h/~", "h", 0, "", b"~"),
        ("ssh://h/~/", "h", 0, "", b"~"),
        ("ssh://h/%7E/x", "h", 0, "", b"/~/x"),
        ("ssh://h/a%20b/100%25/%2e", "h", 0, "", b"/a b/100%/."),
        ("ssh://h/what?/#1/a@b:c", "h", 0, "", b"/what?/#1/a@b:c"),
        ("ssh://h/caf\u00e9", "h", 0, "", "/caf\u00e9".encode()),
        ("ssh://h/caf\udce9", "h", 0, "", b"/caf\xe9"),
        ("ssh://h/caf%E9", "h", 0, "", b"/caf\xe9"),
        ("ssh://h/a\nb", "h", 0, "", b"/a\nb"),
        ("ssh://[2001:db8::1]/x", "2001:db8::1", 0, "", b"/x"),
        ("ssh://u@[fe80::1%25eth0]:22/x", "fe80::1%eth0", 22, "u", b"/x"),
        ("ssh://10.0.0.1:65535/x", "10.0.0.1", 65535, "", b"/x"),
        ("ssh://me%40corp@h/x", "h", 0, "me@corp", b"/x"),
        ("ssh://me@corp@h/x", "h", 0, "me@corp", b"/x"),
    ],
)
def test_a_url_is_read(url: str, host: str, port: int, user: str, root: bytes) -> None:
    assert parse_source_url(url) == SourceSpec(SshConnection(host, port, user), root)


def test_a_type_with_folders_of_its_own_needs_no_path_and_what_it_brings_stays_open() -> None:
    for url in ("ssh://h", "ssh://h/"):
        assert parse_source_url(url, SourceType.FORGE) == SourceSpec(SshConnection("h"), b"", SourceType.FORGE)
    assert parse_source_url("ssh://ann@h:22/x", SourceType.VASTAI) == SourceSpec(SshConnection("h", 22, "ann"), b"/x", SourceType.VASTAI)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ssh://h", "ssh://h has no path; write the folder that holds the pictures behind the host"),
        ("ssh://h/", "has no path"),
        ("ssh:///x", "names no host"),
        ("ssh://u@/x", "names no host"),
        ("ssh://h:/x", "'' is no port; expected a whole number from 1 to 65535"),
        ("ssh://h:0/x", "'0' is no port"),
        ("ssh://h:65536/x", "'65536' is no port"),
        ("ssh://h:ssh/x", "'ssh' is no port"),
        ("ssh://h:\u0662/x", "is no port"),
        ("ssh://-oProxyCommand=x/x", "'-oProxyCommand=x' cannot be a host name"),
        ("ssh://a b/x", "'a b' cannot be a host name"),
        ("ssh://-u@h/x", "'-u' cannot be a user name"),
        ("ssh://a%20b@h/x", "'a b' cannot be a user name"),
        ("ssh://a%zz@h/x", "a percent sign in the user name is written %25"),
        ("ssh://2001:db8::1/x", "an IPv6 address stands in brackets"),
        ("ssh://[::1/x", "an IPv6 address is written [2001:db8::1]"),
        ("ssh://[::1]22/x", "an IPv6 address is written"),
        ("ssh://[host]/x", "an IPv6 address is written"),
        ("ssh://h/100%", "a percent sign in the path is written %25"),
        ("ssh://h/a%00b", "a path cannot hold %00"),
        ("ssh://h/~bob/x", "write the other one's path in full"),
        ("ssh://h/\ud800", "holds a character that no file name can have"),
        ("shh://h/x", "unknown kind of source `shh://`; expected ssh://[user@]host[:port]/path; did you mean `ssh`?"),
        (
            "docker://c",
            "has no path; write the folder that holds the pictures behind the container, as in docker://[context@]container/path",
        ),
        ("docker:///x", "names no container"),
        ("docker://-c/x", "'-c' cannot be a container's name"),
        ("docker://a b/x", "'a b' cannot be a container's name"),
        ("docker://labl:a=b/x", "cannot be a container's name; did you mean `label`?"),
        ("docker://label:/x", "a container is found by its label as label:KEY=VALUE"),
        ("docker://service:a:b:c/x", "a compose service is written service:NAME or service:PROJECT:NAME"),
        ("docker://a b@c/x", "'a b' cannot be a Docker context; `docker context ls` shows those there are"),
        ("docker://label:a=%/x", "a percent sign in a label is written %25"),
        ("docker://c/~bob/x", "write the other one's path in full"),
        ("docker:c/x", "did you mean `docker://c/x`?"),
        ("label:a=b/x", "did you mean `docker://label:a=b/x`?"),
        ("file://nas/x", "file://nas/x: a folder of this machine is written file:///path, with three slashes, or just /path"),
        ("file:///a%00b", "a path cannot hold %00"),
        ("file:/x", "did you mean `file:///x`?"),
        ("~no-such-user-here/x", "there is no such user's home folder here"),
        ("./a\0b", "a path cannot hold a NUL character"),
        ("me@h:pics", "did you mean `ssh://me@h/~/pics`?"),
        ("h:/srv/x", "did you mean `ssh://h/srv/x`?"),
        ("h:2222/x", "did you mean `ssh://h:2222/x`?"),
        ("ssh:/h/x", "did you mean `ssh://h/x`?"),
        ("ssh:h/x", "did you mean `ssh://h/x`?"),
        ("me@h", "me@h is not a source; expected ssh://[user@]host[:port]/path"),
        ("", " is not a source"),
    ],
)
def test_a_url_that_cannot_be_read_says_how_to_write_it(url: str, said: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        parse_source_url(url)
    assert said in caught.value.message
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.fields[0].field == "source"


@pytest.mark.parametrize(
    ("url", "container", "context", "root"),
    [
        ("docker://forge/app/outputs", "forge", "", b"/app/outputs"),
        ("Docker://nas@forge/~/out/", "forge", "nas", b"~/out"),
        ("docker://4f3c2a/caf%E9", "4f3c2a", "", b"/caf\xe9"),
        ("docker://label:com.example.role=gen/x", "label:com.example.role=gen", "", b"/x"),
        ("docker://nas@label:role=a%2Fb@c%25/x", "label:role=a/b@c%", "nas", b"/x"),
        ("docker://label:role=a@b/x", "label:role=a@b", "", b"/x"),
        ("docker://label:role/x", "label:role", "", b"/x"),
        ("docker://service:comfyui/x", "service:comfyui", "", b"/x"),
        ("docker://service:ai:comfyui/x", "service:ai:comfyui", "", b"/x"),
    ],
)
def test_a_url_of_a_container_is_read(url: str, container: str, context: str, root: bytes) -> None:
    assert parse_source_url(url) == SourceSpec(DockerConnection(container, context), root, SourceType.DOCKER)


def test_a_container_whose_type_has_folders_of_its_own_needs_no_path() -> None:
    assert parse_source_url("docker://forge", SourceType.FORGE) == SourceSpec(DockerConnection("forge"), b"", SourceType.FORGE)


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("/mnt/out/", b"/mnt/out"),
        ("//mnt//out", b"/mnt/out"),
        ("/", b"/"),
        ("/100%/a b", b"/100%/a b"),
        ("/caf\udce9", b"/caf\xe9"),
        ("./out", b"/work/place/out"),
        ("../out", b"/work/out"),
        (".", b"/work/place"),
        ("~/out", b"/home/ann/out"),
        ("~", b"/home/ann"),
        ("file:///mnt/a%20b", b"/mnt/a b"),
        ("file://localhost/mnt", b"/mnt"),
        ("file:///~/x", b"/~/x"),
        ("FILE:///", b"/"),
    ],
)
def test_a_folder_of_this_machine_is_read(url: str, root: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert parse_source_url(url, folder="/work/place") == SourceSpec(LocalConnection(), root, SourceType.LOCAL)


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("docker://c/x", SourceType.SSH, "docker://c/x is no source of type ssh, but of type docker"),
        ("ssh://h/x", SourceType.LOCAL, "ssh://h/x is no source of type local, but of type ssh"),
        ("/x", SourceType.DOCKER, "/x is no source of type docker, but of type local"),
    ],
)
def test_a_type_that_is_another_way_there_is_refused(url: str, kind: SourceType, said: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        parse_source_url(url, kind)
    assert caught.value.message == said


@pytest.mark.parametrize(
    "url", ["docker://u:s3cret@h/x", "ssh://u:s3cret@h/x", "ssh://u:s3cret@[::1/x", "sftp://u:s3cret@h/x", "ssh://u:s3cret@@h/x"]
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        parse_source_url(url)
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ssh://h/x", True),
        ("h:x", True),
        ("/x", True),
        ("./x", True),
        (".", True),
        ("~", True),
        ("me@h", True),
        ("forge", False),
        ("my.forge-1", False),
    ],
)
def test_a_url_is_told_from_a_name(text: str, url: bool) -> None:
    assert is_url(text) is url


@given(st.text())
def test_any_text_is_a_source_or_one_error(text: str) -> None:
    for url in (text, "ssh://" + text, "ssh://h/" + text, "docker://" + text, "file://" + text, "./" + text):
        try:
            parse_source_url(url)
        except MediasyncError as error:
            assert error.message.isprintable()


@given(st.binary(min_size=1).filter(lambda raw: b"\0" not in raw and not raw.startswith(b"~") and raw.strip(b"/") and b"//" not in raw))
def test_any_path_comes_through_as_the_bytes_it_is(raw: bytes) -> None:
    path = "".join(f"%{byte:02X}" for byte in raw)
    assert parse_source_url(f"ssh://h/{path}").root == (b"/" + raw).replace(b"//", b"/").rstrip(b"/")
    argument = raw.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    assert parse_source_url(f"ssh://h/{argument}").root == (b"/" + raw).replace(b"//", b"/").rstrip(b"/")
