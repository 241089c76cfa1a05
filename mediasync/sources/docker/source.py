"""A source in a container, with the agent started there by the engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection, HostKey, SourceSpec
from mediasync.profiles import PROFILES
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import Connection
from mediasync.sources.docker import containers, engine
from mediasync.sources.docker.exec import ExecLauncher


class DockerSource:
    """Files in a container. Implements `mediasync.sources.base.Source`. The container is looked up anew for each connection: it may have
    been made anew under the same name."""

    def __init__(self, spec: SourceSpec, home: Path, folders: Sequence[bytes] = ()) -> None:
        assert isinstance(spec.connection, DockerConnection)
        self._spec = spec
        self._connection = spec.connection
        self._home = home
        self._folders = NamedFolders(folders)

    async def connect(self) -> Connection:
        """Finds the container and starts the agent in it. Raises MediasyncError; nothing is left open then."""
        roots = (self._spec.root,) if self._spec.root else PROFILES[self._spec.type].roots
        if not roots:
            raise MediasyncError(
                Reason.INVALID_ARGUMENT,
                f"{self._spec.label} says no folder to sync from",
                "Add the path to the source, such as docker://container/path/to/outputs.",
            )
        opened = await engine.Engine.open(self._connection, self._home)
        try:
            container = await containers.find(opened, self._connection.container)
            if not container.running:
                raise container.stopped()
        except BaseException:
            await opened.close()
            raise
        return await AgentConnection.open(ExecLauncher(opened, container), roots, "docker", self._folders)

    async def host_key(self) -> HostKey:
        """Containers have none."""
        raise self._no_key()

    async def trust_host_key(self, fingerprint: str) -> str:
        """Containers have none."""
        raise self._no_key()

    def _no_key(self) -> MediasyncError:
        return MediasyncError(
            Reason.INVALID_ARGUMENT,
            f"{self._spec.label} is a container, which has no SSH host key",
            "A Docker engine that is reached over SSH is trusted as a source of its own: mediasync sources trust ssh://HOST",
        )
