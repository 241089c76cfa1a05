"""Sources as people write them on a command line, and behind `url:` in a configuration.

| form | what it is |
|---|---|
| `ssh://[user@]host[:port]/path` | a folder of a host with an SSH server |
| `docker://[context@]container/path` | a folder of a container |
| `docker://label:KEY=VALUE/path` | the same, of the one container with that label |
| `docker://service:[PROJECT:]NAME/path` | the same, of a compose project's service |
| `/path`, `./path`, `~/path`, `file:///path` | a folder of this machine |

- The path is absolute; `/~/pictures` means `pictures` in the login user's home folder.
- `%XX` stands for a byte, in everything behind `://`: `%25` for a percent sign, `%7E` for a tilde that is just a name, `%2F` for a
  slash in a label. Nothing else is special: `?`, `#` and spaces are ordinary characters of a path. A path of this machine that is not
  a URL is taken as it stands.
- Bytes that are no UTF-8 are kept, whether they come as `%XX` or as Python's surrogate escapes out of `sys.argv`.
- An IPv6 address stands in brackets: `ssh://[fe80::1]:2222/outputs`.
- `ssh://host` and `docker://container` without a path leave the root to the source's type.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.model import DockerConnection, LocalConnection, SourceConnection, SourceSpec, SourceType, SshConnection
from mediasync.paths import display
from mediasync.profiles import PROFILES
from mediasync.sources.docker.names import CONTEXT, is_container
from mediasync.suggest import did_you_mean

_FORMS = {
    "ssh": "ssh://[user@]host[:port]/path",
    "docker": "docker://[context@]container/path",
    "file": "file:///path",
}
_FORM = _FORMS["ssh"]
_SCP = re.compile(r"(?P<host>[^/:\s]+):(?P<path>[^:]*)")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)
_PASSWORD = re.compile(r"(://[^/@:]*:)[^/@]*@")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")
"""A host name, an alias of `~/.ssh/config`, or an address. Never starts with a dash, so that it cannot be taken for an option."""
USER = re.compile(r"[^\s\x00-\x1f\x7f:-][^\s\x00-\x1f\x7f:]{0,255}")
"""A login name."""

_TYPES: dict[type, SourceType] = {SshConnection: SourceType.SSH, DockerConnection: SourceType.DOCKER, LocalConnection: SourceType.LOCAL}
PLAIN_TYPES = frozenset(_TYPES.values())
"""Types that say how a source is reached and nothing of what runs there."""


@dataclass(frozen=True)
class Place:
    """What a URL says: how to get there, and the folder; empty where it names none."""

    text: str
    connection: SourceConnection
    root: bytes


def is_url(text: str) -> bool:
    """Whether `text` is meant as a URL or a path, and not as the name of a configured source."""
    return "/" in text or ":" in text or "@" in text or text.startswith((".", "~"))


def parse_source_url(url: str, source_type: SourceType | None = None, folder: str | None = None) -> SourceSpec:
    """The source that `url` describes. What the URL leaves open is empty: `~/.ssh/config` and the type fill it in. A type that has
    no folder of its own needs a path; without a type it is the one of the URL's kind.

    A relative path of this machine starts at `folder`, or at the working folder. Raises MediasyncError with INVALID_ARGUMENT, whose message
    says how it should be written.
    """
    place = parse_place(url, folder)
    kind, wrong = type_of(place, source_type)
    if wrong:
        raise _wrong(url, f"{_shown(url)} {wrong}")
    return SourceSpec(place.connection, place.root, kind)


def type_of(place: Place, source_type: SourceType | None) -> tuple[SourceType, str]:
    """The type of a source at `place`, where `source_type` is what somebody said of it; and what is wrong with that, if something is."""
    own = _TYPES[type(place.connection)]
    kind = source_type or own
    if kind in PLAIN_TYPES and kind is not own:
        return own, f"is no source of type {kind}, but of type {own}"
    if not place.root and not PROFILES[kind].roots:
        where = "host" if own is SourceType.SSH else "container"
        scheme = "ssh" if own is SourceType.SSH else "docker"
        return kind, f"has no path; write the folder that holds the pictures behind the {where}, as in {_FORMS[scheme]}"
    return kind, ""


def parse_place(url: str, folder: str | None = None) -> Place:
    """How to get to what `url` names, whatever its type. Raises as `parse_source_url`."""
    match = _SCHEME.fullmatch(url)
    if not match:
        if url.startswith(("/", "./", "../", "~")) or url in (".", ".."):
            return Place(url, LocalConnection(), _local(url, folder))
        raise _wrong(
            url, f"{_shown(url)} is not a source; expected {_FORM}, {_FORMS['docker']}, or a folder such as /path or ./path{_hint(url)}"
        )
    scheme, rest = match["scheme"].lower(), match["rest"]
    authority, slash, path = rest.partition("/")
    if scheme == "ssh":
        user, host, port = _authority(url, authority)
        return Place(url, SshConnection(host, port, user), _root(url, slash + path))
    if scheme == "docker":
        context, container = _container(url, authority)
        return Place(url, DockerConnection(container, context), _root(url, slash + path))
    if scheme == "file":
        if authority not in ("", "localhost"):
            said = f"file://{authority}/{path}"
            raise _wrong(url, f"{_shown(said)}: a folder of this machine is written file:///path, with three slashes, or just /path")
        return Place(url, LocalConnection(), _root(url, slash + path, home=False) or b"/")
    _no_password(authority.rpartition("@")[0])
    why = f"unknown kind of source `{scheme}://`"
    raise _wrong(url, f"{_shown(url)}: {why}; expected {_FORM}{did_you_mean(scheme, list(_FORMS))}")


def _no_password(login: str) -> None:
    if ":" in login:
        # The message must not repeat the URL: it holds a password.
        raise _wrong(
            "",
            "a password does not belong in a URL, where every process can read it; use an SSH key (--identity-file), "
            "or a file that holds it (--password-file)",
        )


def _authority(url: str, authority: str) -> tuple[str, str, int]:
    login, _, address = authority.rpartition("@")
    _no_password(login)
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


def _container(url: str, authority: str) -> tuple[str, str]:
    """The context and the container of a `docker://` URL."""
    first, at, rest = authority.partition("@")
    context, container = (first, rest) if at and not first.startswith(("label:", "service:")) else ("", authority)
    _no_password(context)
    if _BAD_ESCAPE.search(container):
        raise _wrong(url, f"{_shown(url)}: a percent sign in a label is written %25")
    container = unquote_to_bytes(_raw(url, container)).decode("utf-8", "replace")
    if context and not CONTEXT.fullmatch(context):
        raise _wrong(url, f"{_shown(url)}: {context!r} cannot be a Docker context; `docker context ls` shows those there are")
    if not container:
        raise _wrong(url, f"{_shown(url)} names no container; expected {_FORMS['docker']}")
    if is_container(container):
        return context, container
    if container.startswith("label:"):
        raise _wrong(url, f"{_shown(url)}: a container is found by its label as label:KEY=VALUE, as in docker://label:role=forge/outputs")
    if container.startswith("service:"):
        raise _wrong(url, f"{_shown(url)}: a compose service is written service:NAME or service:PROJECT:NAME")
    near = did_you_mean(container.partition(":")[0], ["label", "service"]) if ":" in container else ""
    raise _wrong(url, f"{_shown(url)}: {container!r} cannot be a container's name{near}")


def _root(url: str, path: str, *, home: bool = True) -> bytes:
    if _BAD_ESCAPE.search(path):
        raise _wrong(url, f"{_shown(url)}: a percent sign in the path is written %25")
    # Looked at before decoding, so that %7E can spell a folder that is really called `~`.
    home = home and path.startswith("/~")
    root = re.sub(rb"/{2,}", b"/", unquote_to_bytes(_raw(url, path[1:] if home else path))).rstrip(b"/")
    if b"\0" in root:
        raise _wrong(url, f"{_shown(url)}: a path cannot hold %00")
    if home and not root.startswith(b"~/") and root != b"~":
        raise _wrong(url, f"{_shown(url)}: only the login user's own home can be meant by ~; write the other one's path in full")
    return root


def _local(path: str, folder: str | None) -> bytes:
    """A folder of this machine, absolute."""
    raw = _raw(path, path)
    if b"\0" in raw:
        raise _wrong(path, f"{_shown(path)}: a path cannot hold a NUL character")
    expanded = os.fsencode(os.path.expanduser(os.fsdecode(raw)))
    if expanded.startswith(b"~"):
        raise _wrong(path, f"{_shown(path)}: there is no such user's home folder here (write ./{_shown(path)} for a folder of that name)")
    return os.path.normpath(b"/" + os.path.join(os.fsencode(folder or os.getcwd()), expanded).lstrip(b"/"))


def _raw(url: str, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise _wrong(url, f"{_shown(url)} holds a character that no file name can have") from error


def _hint(text: str) -> str:
    """What a text that is no URL was most likely meant to be."""
    match = _SCP.fullmatch(text)
    if not match:
        return ""
    host, path = match["host"], match["path"]
    if host.lower() in _FORMS:
        scheme, meant = host.lower(), path.lstrip("/")
        meant = f"/{meant}" if scheme == "file" else meant
        return f"; did you mean `{scheme}://{_shown(meant)}`?"
    if host in ("label", "service"):
        return f"; did you mean `docker://{_shown(text)}`?"
    if re.match(r"[0-9]{1,5}(/|$)", path):
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
