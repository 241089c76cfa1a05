"""A source in a container.

With the engine `auto` its files are read as files of this machine where they are (`direct`). Else the agent is tried first, the tools of
its shell where there is no Python, and the Docker engine's archives where there are none either, or where the container does not run. What
was found is remembered for the source's next connections.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection, Engine, HostKey, SourceSpec
from mediasync.profiles import PROFILES
from mediasync.sources import shell, shell_posix
from mediasync.sources.agent.connection import AgentConnection, NamedFolders
from mediasync.sources.base import Connection
from mediasync.sources.docker import direct
from mediasync.sources.docker.archive import ArchiveConnection
from mediasync.sources.docker.containers import Container, find
from mediasync.sources.docker.engine import Engine as DockerEngine
from mediasync.sources.docker.exec import ExecLauncher
from mediasync.sources.posix.connection import PosixConnection
from mediasync.sources.sftp.sightings import Sightings

_NEXT: Mapping[tuple[Engine, Reason], Engine] = {
    (Engine.AGENT, Reason.SOURCE_WITHOUT_PYTHON): Engine.POSIX,
    (Engine.POSIX, Reason.ENGINE_CANNOT): Engine.ARCHIVE,
    (Engine.POSIX, Reason.SOURCE_PROTOCOL): Engine.ARCHIVE,
    (Engine.POSIX, Reason.SOURCE_WITHOUT_PYTHON): Engine.ARCHIVE,
}
"""What `auto` tries after an engine that failed for a reason: tools where there is no Python, archives where there is no shell either."""


_logger = logging.getLogger(__name__)


class DockerSource:
    """Files in a container. Implements `mediasync.sources.base.Source`. The container is looked up anew for each connection: it may have
    been made anew under the same name."""

    def __init__(self, spec: SourceSpec, home: Path, folders: Sequence[bytes] = ()) -> None:
        assert isinstance(spec.connection, DockerConnection)
        self._spec = spec
        self._connection = spec.connection
        self._home = home
        self._folders = NamedFolders(folders)
        self._sightings = Sightings()
        self._engine: Engine | None = None
        self._ran = False
        self._direct = spec.engine is Engine.AUTO

    async def connect(self) -> Connection:
        """Finds the container and starts an engine. Raises MediasyncError; nothing is left open then."""
        roots = self._roots()
        opened, container = await self._found()
        if self._direct:
            try:
                connection = await direct.connect(opened, container, roots, self._folders, self._opened, self._in_container)
            except direct.NotDirectError as error:
                _logger.debug("%s is not read directly: %s", self._spec.label, error)
                self._direct = not error.for_good
            except BaseException:
                await opened.close()
                raise
            else:
                self._ran = True
                return connection
        return await self._by_engine(opened, container, roots)

    def _roots(self) -> Sequence[bytes]:
        roots = (self._spec.root,) if self._spec.root else PROFILES[self._spec.type].roots
        if not roots:
            raise MediasyncError(
                Reason.INVALID_ARGUMENT,
                f"{self._spec.label} says no folder to sync from",
                "Add the path to the source, such as docker://container/path/to/outputs.",
            )
        return roots

    async def _in_container(self) -> Connection:
        return await self._by_engine(*await self._found(), self._roots())

    async def _by_engine(self, opened: DockerEngine, container: Container, roots: Sequence[bytes]) -> Connection:
        """Starts an engine in the container, or reads archives of it. `opened` is closed with the connection, or when there is none."""
        wish = self._spec.engine if self._spec.engine is not Engine.AUTO else self._engine
        while True:
            # One that ran when it was connected to before is most likely about to run again.
            if not container.running and wish in (None, Engine.ARCHIVE) and not self._ran:
                return await ArchiveConnection.open(opened, container, roots, self._folders, self._sightings)
            if not container.running:
                await opened.close()
                raise container.stopped()
            engine = wish or Engine.AGENT
            try:
                connection = await self._open(engine, opened, container, roots)
            except MediasyncError as error:
                following = _NEXT.get((engine, error.reason))
                if self._spec.engine is not Engine.AUTO or following is None:
                    raise
                wish = following
                opened, container = await self._found()
                continue
            if self._spec.engine is Engine.AUTO:
                self._engine = engine
            return connection

    async def _opened(self) -> DockerEngine:
        return await DockerEngine.open(self._connection, self._home)

    async def _found(self) -> tuple[DockerEngine, Container]:
        opened = await self._opened()
        try:
            return opened, await find(opened, self._connection.container)
        except BaseException:
            await opened.close()
            raise

    async def _open(self, engine: Engine, opened: DockerEngine, container: Container, roots: Sequence[bytes]) -> Connection:
        if engine is Engine.AGENT:
            return await AgentConnection.open(ExecLauncher(opened, container, shell.agent_command()), roots, "docker", self._folders)
        if engine is Engine.POSIX:
            return await PosixConnection.open(ExecLauncher(opened, container, shell_posix.posix_command()), roots, "docker", self._folders)
        return await ArchiveConnection.open(opened, container, roots, self._folders, self._sightings)

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
