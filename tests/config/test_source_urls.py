"""Sources as URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.config import is_url, parse_source_url
from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec, SourceType, SshConnection


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
        ("docker://c/x", "containers are reached over SSH in this version"),
        ("file:///x", "local folders are not read in this version"),
        ("me@h:pics", "did you mean `ssh://me@h/~/pics`?"),
        ("h:/srv/x", "did you mean `ssh://h/srv/x`?"),
        ("h:2222/x", "did you mean `ssh://h:2222/x`?"),
        ("ssh:/h/x", "did you mean `ssh://h/x`?"),
        ("ssh:h/x", "did you mean `ssh://h/x`?"),
        ("me@h", "me@h is not a source; expected ssh://[user@]host[:port]/path"),
        ("/srv/x", "/srv/x is not a source; expected ssh://[user@]host[:port]/path; local folders are not read in this version"),
        ("", " is not a source"),
    ],
)
def test_a_url_that_cannot_be_read_says_how_to_write_it(url: str, said: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        parse_source_url(url)
    assert said in caught.value.message
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert caught.value.fields[0].field == "source"


@pytest.mark.parametrize("url", ["ssh://u:s3cret@h/x", "ssh://u:s3cret@[::1/x", "sftp://u:s3cret@h/x", "ssh://u:s3cret@@h/x"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(MediasyncError) as caught:
        parse_source_url(url)
    assert "s3cret" not in repr(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [("ssh://h/x", True), ("h:x", True), ("/x", True), ("./x", True), ("me@h", True), ("forge", False), ("my.forge-1", False)],
)
def test_a_url_is_told_from_a_name(text: str, url: bool) -> None:
    assert is_url(text) is url


@given(st.text())
def test_any_text_is_a_source_or_one_error(text: str) -> None:
    for url in (text, "ssh://" + text, "ssh://h/" + text):
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
