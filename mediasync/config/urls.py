"""Sources as people write them on a command line: `ssh://[user@]host[:port]/path`.

- The path is absolute; `/~/pictures` means `pictures` in the login user's home folder.
- `%XX` stands for a byte, in the path and in the user name: `%25` for a percent sign, `%7E` for a tilde that is just a name.
  Nothing else is special: `?`, `#` and spaces are ordinary characters of a path.
- Bytes that are no UTF-8 are kept, whether they come as `%XX` or as Python's surrogate escapes out of `sys.argv`.
- An IPv6 address stands in brackets: `ssh://[fe80::1]:2222/outputs`.
- `ssh://host` without a path leaves the root to the source's type.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import SourceSpec, SourceType, SshConnection
from mediasync.paths import display
from mediasync.profiles import PROFILES
from mediasync.suggest import did_you_mean

_FORM = "ssh://[user@]host[:port]/path"
_SCP = re.compile(r"(?P<host>[^/:\s]+):(?P<path>[^:]*)")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_PASSWORD = re.compile(r"(://[^/@:]*:)[^/@]*@")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LATER_SCHEMES = {
    "docker": "containers are reached over SSH in this version",
    "file": "local folders are not read in this version; mount them at the source's side and use SSH",
}
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")
"""A host name, an alias of `~/.ssh/config`, or an address. Never starts with a dash, so that it cannot be taken for an option."""
USER = re.compile(r"[^\s\x00-\x1f\x7f:-][^\s\x00-\x1f\x7f:]{0,255}")
"""A login name."""


def is_url(text: str) -> bool:
    """Whether `text` is meant as a URL or a path, and not as the name of a configured source."""
    return "/" in text or ":" in text or "@" in text


def parse_source_url(url: str, source_type: SourceType = SourceType.SSH) -> SourceSpec:
    """The source that `url` describes. What the URL leaves open is empty: `~/.ssh/config` and the type fill it in. A type that has
    no folder of its own needs a path.

    Raises MediasyncError with INVALID_ARGUMENT, whose message says how it should be written.
    """
    match = _SCHEME.fullmatch(url)
    if not match:
        raise _wrong(url, f"{_shown(url)} is not a source; expected {_FORM}{_hint(url)}")
    scheme, rest = match["scheme"].lower(), match["rest"]
    if scheme != "ssh":
        why = _LATER_SCHEMES.get(scheme, f"unknown kind of source `{scheme}://`")
        raise _wrong(url, f"{_shown(url)}: {why}; expected {_FORM}{did_you_mean(scheme, ['ssh'])}")
    authority, slash, path = rest.partition("/")
    user, host, port = _authority(url, authority)
    root = _root(url, slash + path)
    if not root and not PROFILES[source_type].roots:
        raise _wrong(url, f"{_shown(url)} has no path; write the folder that holds the pictures behind the host, as in {_FORM}")
    return SourceSpec(SshConnection(host, port, user), root, source_type)


def _authority(url: str, authority: str) -> tuple[str, str, int]:
    login, _, address = authority.rpartition("@")
    if ":" in login:
        # The message must not repeat the URL: it holds a password.
        raise _wrong("", "a password does not belong in a URL, where every process can read it; use an SSH key (--identity-file)")
    if _BAD_ESCAPE.search(login):
        raise _wrong(url, f"{_shown(url)}: a percent sign in the user name is written %25")
    user = unquote_to_bytes(_raw(url, login)).decode("utf-8", "replace")
    if user and not USER.fullmatch(user):
        raise _wrong(url, f"{_shown(url)}: {user!r} cannot be a user name")
    if address.startswith("["):
        host, bracket, tail = address[1:].partition("]")
        if not bracket or ":" not in host or (tail and not tail.startswith(":")):
            raise _wrong(url, f"{_shown(url)}: an IPv6 address is written [2001:db8::1] or [2001:db8::1]:2222")
        host, port_text, has_port = host.replace("%25", "%"), tail[1:], bool(tail)
    else:
        if address.count(":") > 1:
            raise _wrong(url, f"{_shown(url)}: an IPv6 address stands in brackets, as in ssh://[2001:db8::1]:2222/path")
        host, colon, port_text = address.partition(":")
        has_port = bool(colon)
    if not host:
        raise _wrong(url, f"{_shown(url)} names no host; expected {_FORM}")
    if not HOST.fullmatch(host):
        raise _wrong(url, f"{_shown(url)}: {host!r} cannot be a host name")
    if not has_port:
        return user, host, 0
    if not re.fullmatch(r"[0-9]{1,5}", port_text) or not 1 <= int(port_text) <= 65535:
        raise _wrong(url, f"{_shown(url)}: {port_text!r} is no port; expected a whole number from 1 to 65535")
    return user, host, int(port_text)


def _root(url: str, path: str) -> bytes:
    if _BAD_ESCAPE.search(path):
        raise _wrong(url, f"{_shown(url)}: a percent sign in the path is written %25")
    # Looked at before decoding, so that %7E can spell a folder that is really called `~`.
    home = path.startswith("/~")
    root = re.sub(rb"/{2,}", b"/", unquote_to_bytes(_raw(url, path[1:] if home else path))).rstrip(b"/")
    if b"\0" in root:
        raise _wrong(url, f"{_shown(url)}: a path cannot hold %00")
    if home and not root.startswith(b"~/") and root != b"~":
        raise _wrong(url, f"{_shown(url)}: only the login user's own home can be meant by ~; write the other one's path in full")
    return root


def _raw(url: str, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise _wrong(url, f"{_shown(url)} holds a character that no file name can have") from error


def _hint(text: str) -> str:
    """What a text that is no URL was most likely meant to be."""
    if text.startswith(("/", "./", "../", "~")):
        return "; local folders are not read in this version"
    match = _SCP.fullmatch(text)
    if not match:
        return ""
    host, path = match["host"], match["path"]
    if host.lower() == "ssh":
        meant = path.lstrip("/")
    elif re.match(r"[0-9]{1,5}(/|$)", path):
        meant = f"{host}:{path}"
    else:
        meant = host + (path if path.startswith("/") else "/~/" + path.removeprefix("~/"))
    return f"; did you mean `ssh://{_shown(meant)}`?"


def _shown(text: str) -> str:
    text = _PASSWORD.sub(r"\1…@", text[:300])
    try:
        return display(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return display(text.encode("utf-8", "backslashreplace"))


def _wrong(url: str, message: str) -> MediasyncError:
    return MediasyncError(Reason.INVALID_ARGUMENT, message, fields=[FieldViolation("source", message)], metadata={"url": _shown(url)})
