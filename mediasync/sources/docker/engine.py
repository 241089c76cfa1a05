"""A Docker engine that is talked to: requests by aiodocker, and raw connections for what runs in a container.

Reached by a Unix socket, TCP, TLS, or over SSH (`relay`). aiodocker and what it brings are loaded only when an engine is really asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import aiodocker
import aiohttp
import yarl

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DockerConnection, SshConnection
from mediasync.paths import display
from mediasync.sources.docker.contexts import Endpoint, endpoint_of
from mediasync.sources.docker.relay import Relay

P = TypeVar("P", bound=asyncio.BaseProtocol)

CONNECT_SECONDS = 15.0
ANSWER_SECONDS = 600.0  # a container of which somebody else takes an archive answers only after that
_TLS_PORT, _PLAIN_PORT = 2376, 2375
_BUFFER_BYTES = 512 * 1024


class EngineError(Exception):
    """The engine refused a request: the HTTP status and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = display(message.strip().encode("utf-8", "replace"))[:500]


class Engine:
    """One engine. Close it when done."""

    def __init__(self, endpoint: Endpoint, relay: Relay | None) -> None:
        self.endpoint = endpoint
        self._relay = relay
        self._unix = ""
        self._host, self._port = "", 0
        url = urlsplit(endpoint.url)
        if relay is not None or url.scheme == "unix":
            self._unix = relay.path if relay is not None else url.path
            base = "unix://localhost"
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(self._unix)
        else:
            self._host = url.hostname or "localhost"
            self._port = url.port or (_TLS_PORT if endpoint.tls else _PLAIN_PORT)
            host = f"[{self._host}]" if ":" in self._host else self._host
            base = f"{'https' if endpoint.tls else 'http'}://{host}:{self._port}"
            connector = aiohttp.TCPConnector(ssl=endpoint.tls or True)
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        self._docker = aiodocker.Docker(
            base, session=aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=_BUFFER_BYTES), timeout=timeout
        )
        self._session = self._docker.session

    @classmethod
    async def open(cls, connection: DockerConnection, home: Path) -> Self:
        """The engine of a source. `home` is where accepted host keys are kept, for one that is reached over SSH. Raises MediasyncError."""
        endpoint = await asyncio.to_thread(endpoint_of, connection)
        relay = None
        if endpoint.url.startswith("ssh://"):
            url = urlsplit(endpoint.url)
            relay = await Relay.open(SshConnection(url.hostname or "", url.port or 0, url.username or ""), home)
        return cls(endpoint, relay)

    @property
    def place(self) -> str:
        """The engine, for messages."""
        return f"the Docker engine at {self.endpoint.url}"

    async def json(self, path: str, method: str = "GET", *, params: dict[str, str] | None = None, data: Any = None) -> Any:
        """Asks for something. Raises EngineError when the engine refuses, MediasyncError when it cannot be reached."""
        with self._told():
            return await self._docker._query_json(path, method, params=params, data=data)

    async def headers(self, path: str) -> dict[str, str]:
        """The headers of an answer to HEAD, their names in lower case. `path` is taken as it is, `%XX` and all."""
        with self._told():
            url = yarl.URL(f"{self._docker.docker_host}/{await self.version()}/{path}", encoded=True)
            async with self._docker.session.head(url) as response:
                if response.status >= 400:
                    raise EngineError(response.status, "")
                return {name.lower(): value for name, value in response.headers.items()}

    @property
    def on_this_machine(self) -> bool:
        """Whether its socket is one of this machine. What listens there may still be a tunnel to another one."""
        return self._relay is None and bool(self._unix)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, method: str = "GET", *, answer_seconds: float | None = ANSWER_SECONDS) -> AsyncIterator[Body]:
        """The body of an answer as it comes, uncompressed: the engine would spend more time on that than the line needs. `path` is taken as
        it is. `answer_seconds` is the longest silence, None where any is to be expected."""
        with self._told():
            url = yarl.URL(f"{self._docker.docker_host}/{await self.version()}/{path}", encoded=True)
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=answer_seconds)
            response = await self._docker.session.request(method, url, headers={"Accept-Encoding": "identity"}, timeout=timeout)
        try:
            if response.status >= 400:
                with self._told():
                    said = await response.read()
                raise EngineError(response.status, _message(said))
            yield Body(response.content, self.place)
        finally:
            response.close()

    async def dial(self, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """A connection of its own to the engine, for one that is taken over. Raises MediasyncError."""
        loop = asyncio.get_running_loop()
        with self._told():
            async with asyncio.timeout(CONNECT_SECONDS):
                if self._unix:
                    return await loop.create_unix_connection(factory, self._unix)
                name = self._host if self.endpoint.tls else None
                return await loop.create_connection(factory, self._host, self._port, ssl=self.endpoint.tls, server_hostname=name)

    async def version(self) -> str:
        """The version of its API, such as `v1.43`."""
        if self._docker.api_version == "auto":
            await self.json("version")
        return str(self._docker.api_version)

    async def close(self) -> None:
        """Ends every connection to it."""
        await self._docker.close()
        await self._session.close()
        await asyncio.sleep(0)  # transports end one turn of the loop later
        if self._relay is not None:
            await self._relay.close()

    @contextlib.contextmanager
    def _told(self) -> Any:
        """Errors of the way there as ours."""
        try:
            yield
        except aiodocker.DockerError as error:
            if error.status != 900:  # aiodocker's own, for one that it cannot connect to
                raise EngineError(error.status, str(error.message)) from error
            raise self._unreachable(error.__context__ or error) from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> MediasyncError:
        if self._relay is not None and self._relay.problem is not None:
            return self._relay.problem
        system = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        number = system.errno if isinstance(system, OSError) else None
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
            return MediasyncError(
                Reason.DOCKER_DENIED,
                f"{self.place} (chosen by {self.endpoint.named_by}) and we do not trust each other: {_words(error)}",
                "Check ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH, or those of the context.",
            )
        if number in (errno.EACCES, errno.EPERM):
            return MediasyncError(
                Reason.DOCKER_DENIED,
                f"the services' user may not talk to {self.place} (chosen by {self.endpoint.named_by}): permission denied",
                "Add the user to the group `docker` (sudo usermod -aG docker USER), log in anew and restart the services; "
                "or name an engine that it may use.",
            )
        why = "it did not answer in time" if isinstance(error, TimeoutError) else _words(system)
        return MediasyncError(
            Reason.DOCKER_UNREACHABLE,
            f"{self.place} (chosen by {self.endpoint.named_by}) cannot be reached: {why}",
            "Check that it runs (`docker version`), or name another: docker_host in the configuration, or docker://CONTEXT@container/path.",
        )


class Body:
    """The body of an answer."""

    def __init__(self, content: aiohttp.StreamReader, place: str) -> None:
        self._content = content
        self._place = place

    async def readany(self) -> bytes:
        """What has come; empty at the end. Raises CONNECTION_LOST."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self._place} broke: {_words(error)}") from error


def _message(said: bytes) -> str:
    try:
        return str(json.loads(said)["message"])
    except (ValueError, KeyError, TypeError):
        return said.decode("utf-8", "replace")


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return display(str(error).encode("utf-8", "replace"))[:300] or type(error).__name__
