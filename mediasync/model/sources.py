"""Where files come from, and what a place turned out to be."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mediasync.paths import display


class SourceType(enum.StrEnum):
    """What kind of place a source is; see `mediasync.profiles` for what a type brings."""

    SSH = "ssh"
    DOCKER = "docker"
    LOCAL = "local"
    FORGE = "forge"
    COMFYUI = "comfyui"
    VASTAI = "vastai"


class Engine(enum.StrEnum):
    """What lists, reads and deletes at a source."""

    AUTO = "auto"
    """The best that is there."""
    AGENT = "agent"
    """A program of ours that is sent there; needs Python."""
    POSIX = "posix"
    """`find`, `tar` and `sha256sum` of a shell."""
    SFTP = "sftp"
    """The file service of an SSH server; needs no shell."""
    RSYNC = "rsync"
    """The rsync program on both sides."""
    ARCHIVE = "archive"
    """A Docker engine's archives; works on stopped containers."""


@dataclass(frozen=True)
class SshConnection:
    """How to reach a host. Empty fields come from `~/.ssh/config`; `port` 0 likewise. Secrets are never in here, only the files
    that hold them."""

    host: str
    port: int = 0
    user: str = ""
    identity_files: tuple[str, ...] = ()
    known_hosts_files: tuple[str, ...] = ()
    accept_new_host_key: bool = False
    password_file: str = ""
    passphrase_file: str = ""

    @property
    def address(self) -> str:
        """`user@host:port` as far as it is known, for messages and keys."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class DockerConnection:
    """A container of a Docker engine. `container` is its name or id, `label:KEY=VALUE`, or `service:[PROJECT:]NAME` of a compose project.

    The engine is that of the Docker `context`, or at `engine_url` (`unix:///…`, `tcp://…`, `ssh://…`); with neither the one that the
    `docker` command would use.
    """

    container: str
    context: str = ""
    engine_url: str = ""

    @property
    def address(self) -> str:
        """`[context@]container`, for messages and keys."""
        return (f"{self.context}@" if self.context else "") + self.container


@dataclass(frozen=True)
class LocalConnection:
    """A folder on the services' own machine."""

    @property
    def address(self) -> str:
        """Nothing: the path says it all."""
        return ""


SourceConnection = SshConnection | DockerConnection | LocalConnection
_SCHEMES: dict[type, str] = {SshConnection: "ssh", DockerConnection: "docker", LocalConnection: "file"}


@dataclass(frozen=True)
class SourceSpec:
    """Where files come from. `root` is bytes as the far side spells it; empty for the type's default."""

    connection: SourceConnection
    root: bytes = b""
    type: SourceType = SourceType.SSH
    name: str = ""
    engine: Engine = Engine.AUTO
    compress: bool = False

    @property
    def scheme(self) -> str:
        """The kind of URL that it has."""
        return _SCHEMES[type(self.connection)]

    @property
    def url(self) -> str:
        """The source as a URL, for people; not parsed again."""
        root = display(self.root)
        return f"{self.scheme}://{self.connection.address}{root if root.startswith('/') else '/' + root}"

    @property
    def label(self) -> str:
        """The configured name, or the URL."""
        return self.name or self.url

    @property
    def key(self) -> str:
        """Identifies what was already taken from it: a named source keeps its memory when its host or port changes, as rented
        machines' do; a bare URL is its own identity."""
        return f"name:{self.name}" if self.name else self.url


@dataclass(frozen=True)
class SourceReport:
    """What a source turned out to be. Free space is None where it is not known; `bytes_per_second` is what reading some of its files
    gave, 0 where there was nothing to read."""

    engine: str
    platform: str
    root: bytes
    folders: tuple[bytes, ...] = ()
    round_trip_seconds: float = 0.0
    clock_offset_seconds: float = 0.0
    files: int = 0
    size_bytes: int = 0
    sample: tuple[bytes, ...] = ()
    tools: tuple[str, ...] = ()
    source_free_bytes: int | None = None
    library_free_bytes: int | None = None
    bytes_per_second: int = 0


class HostKeyTrust(enum.StrEnum):
    """Whether a host's key is known."""

    UNKNOWN = "unknown"
    TRUSTED = "trusted"
    CHANGED = "changed"


@dataclass(frozen=True)
class HostKey:
    """The key a host showed, and whether it is on record."""

    host: str
    algorithm: str
    fingerprint: str
    trust: HostKeyTrust
    known_hosts_file: str = ""
