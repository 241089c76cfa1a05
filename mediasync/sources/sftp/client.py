"""An SFTP session: requests, and how what goes wrong with them is told.

What concerns one path stays an `asyncssh.SFTPError`; what ends the session becomes a MediasyncError, once, for every request under way.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.sources import ssh_errors
from mediasync.sources.base import FileEntry
from mediasync.sources.ssh_line import SshLine

START_SECONDS = 30.0
STALL_SECONDS = 120.0  # the longest wait for an answer: a disk may take its time
SECOND_NS = 10**9
SMALLEST_READ = 32 * 1024  # what every server answers
_LARGEST_READ = 256 * 1024
_LARGEST = 1 << 63

_ENDED = (
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.DisconnectError,
    ConnectionError,
)
_KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a path told. `kind` is `f`, `d`, `l` or `?`. Times are whole seconds here."""

    kind: str
    size_bytes: int
    mtime_ns: int
    accessed_ns: int | None = field(default=None, compare=False)

    def entry(self, path: bytes, *, ages: bool = False) -> FileEntry:
        """As a file of a scan. There are no inodes here, no ctimes and no births."""
        return FileEntry(path, self.size_bytes, self.mtime_ns, self.mtime_ns, 0, None, self.accessed_ns if ages else None)

    def is_still(self, size_bytes: int, mtime_ns: int) -> bool:
        """Whether it is a regular file of that size and time."""
        return (self.kind, self.size_bytes, self.mtime_ns // SECOND_NS) == ("f", size_bytes, mtime_ns // SECOND_NS)


def broken(what: str) -> MediasyncError:
    """The error for a server that does not keep to the protocol."""
    return MediasyncError(Reason.SOURCE_PROTOCOL, f"the SFTP server at the far side sent {what}")


def look_of(attributes: asyncssh.SFTPAttrs) -> Look:
    """What a server says of a path."""
    size, mtime, mode = attributes.size or 0, attributes.mtime, attributes.permissions
    if mode is None:
        raise broken("a path without its kind")
    kind = _KINDS.get(stat.S_IFMT(mode), "?")
    if kind == "f" and (attributes.size is None or mtime is None):
        raise broken("a file without size or time")
    if not 0 <= size < _LARGEST:
        raise broken(f"a size of {size} bytes")
    accessed = int(attributes.atime) * SECOND_NS if attributes.atime else None
    return Look(kind, size, int(mtime or 0) * SECOND_NS, accessed)


def says(error: asyncssh.SFTPError) -> str:
    """What a server says of a path that it refuses."""
    return "Permission denied" if isinstance(error, asyncssh.SFTPPermissionDenied) else ssh_errors.printable(error.reason or "it failed")


def is_gone(error: asyncssh.SFTPError) -> bool:
    """Whether an error means that there is nothing at a path."""
    return isinstance(error, asyncssh.SFTPNoSuchFile | asyncssh.SFTPNoSuchPath | asyncssh.SFTPNotADirectory)


class Sftp:
    """One session on a line of its own."""

    def __init__(self, client: asyncssh.SFTPClient, line: SshLine) -> None:
        self._client = client
        self._line = line
        self._closing: asyncio.Task[None] | None = None
        self.failure: MediasyncError | None = None

    @classmethod
    async def open(cls, line: SshLine) -> Sftp:
        """Asks the server for its file service. Raises MediasyncError; the line is let go then."""
        connection = await line.log_in()
        try:
            async with asyncio.timeout(START_SECONDS):
                return cls(await connection.start_sftp_client(), line)
        except (asyncssh.Error, OSError) as error:
            await line.let_go()
            reason = getattr(error, "reason", "") or str(error) or "it did not answer"
            raise MediasyncError(
                Reason.SOURCE_PROTOCOL,
                f"{line.place} lets us log in, but offers no file service (SFTP): {ssh_errors.printable(reason)}",
                "Enable `Subsystem sftp internal-sftp` in the server's sshd_config, or log in as a user with a shell.",
            ) from error
        except BaseException:
            await line.let_go()
            raise

    @property
    def place(self) -> str:
        """The far side, for messages."""
        return self._line.place

    @property
    def read_bytes(self) -> int:
        """How much one request may ask for."""
        return min(self._client.limits.max_read_len or SMALLEST_READ, _LARGEST_READ)

    @property
    def version(self) -> int:
        """Of the protocol."""
        return self._client.version

    async def ask(self, request: Awaitable[Answer]) -> Answer:
        """The answer to a request. Raises what ended the session, or an `asyncssh.SFTPError` that concerns what was asked for."""
        try:
            async with asyncio.timeout(STALL_SECONDS):
                return await request
        except _ENDED as error:
            raise self._fail(ssh_errors.line_lost(error, self.place)) from error
        except asyncssh.SFTPBadMessage as error:
            raise self._fail(broken(f"what is no answer: {ssh_errors.printable(error.reason)}")) from error
        except TimeoutError as error:
            silent = MediasyncError(Reason.CONNECTION_LOST, f"{self.place} has sent nothing for {STALL_SECONDS:.0f} s")
            raise self._fail(silent) from error

    async def real(self, path: bytes) -> bytes:
        """The path without links in it."""
        real = await self.ask(self._client.realpath(path))
        if not isinstance(real, bytes) or not real.startswith(b"/") or b"\0" in real:
            raise broken(f"a path that is none: {real[:200]!r}")
        return real

    async def lstat(self, path: bytes) -> Look:
        """What is at a path, a link if it is one."""
        return look_of(await self.ask(self._client.lstat(path)))

    async def stat(self, path: bytes) -> Look:
        """What a path leads to."""
        return look_of(await self.ask(self._client.stat(path)))

    async def list(self, path: bytes) -> AsyncIterator[tuple[bytes, Look]]:
        """The names in a directory, less `.` and `..`."""
        names = self._client.scandir(path)
        seen = set()
        while True:
            try:
                found = await self.ask(anext(names))
            except StopAsyncIteration:
                return
            name = found.filename
            if name in (b".", b".."):
                continue
            if not isinstance(name, bytes) or not name or b"/" in name or b"\0" in name or name in seen:
                raise broken(f"a name that is none: {name[:200]!r}")
            seen.add(name)
            yield name, look_of(found.attrs)

    async def open_file(self, path: bytes) -> OpenFile:
        """Opens a file for reading."""
        return OpenFile(self, await self.ask(self._client.open(path, asyncssh.FXF_READ, encoding=None, block_size=None)))

    async def remove(self, path: bytes) -> None:
        """Removes a file."""
        await self.ask(self._client.remove(path))

    async def remove_folder(self, path: bytes) -> None:
        """Removes an empty folder."""
        await self.ask(self._client.rmdir(path))

    async def space(self, path: bytes) -> tuple[int, int]:
        """Bytes that are free, and that there are. Raises `asyncssh.SFTPError` where the server does not tell."""
        told = await self.ask(self._client.statvfs(path))
        return told.bavail * told.frsize, told.blocks * told.frsize

    async def close(self) -> None:
        """Ends the session and its line."""
        self._fail(MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self.place} was closed"))
        assert self._closing is not None
        await asyncio.shield(self._closing)

    def _fail(self, error: MediasyncError | None) -> MediasyncError:
        """Ends the session, for `error` if nothing ended it before."""
        if self.failure is None:
            self.failure = error or MediasyncError(Reason.CONNECTION_LOST, f"the connection to {self.place} ended")
            self._closing = asyncio.ensure_future(self._end())
        return self.failure

    async def _end(self) -> None:
        self._client.exit()
        await self._line.let_go()


class OpenFile:
    """A file that is open at the server."""

    def __init__(self, sftp: Sftp, file: asyncssh.SFTPClientFile) -> None:
        self._sftp = sftp
        self._file = file

    async def look(self) -> Look:
        """What is known of it now, whatever its name leads to."""
        return look_of(await self._sftp.ask(self._file.stat()))

    async def read(self, offset: int, count: int) -> bytes:
        """The bytes there, as many as there are; `count` is at most `read_bytes` of the session."""
        data = b""
        while len(data) < count:
            more = cast(bytes, await self._sftp.ask(self._file.read(count - len(data), offset + len(data))))
            if not more:
                break
            if len(more) > count - len(data):
                raise broken("more of a file than was asked for")
            data = data + more if data else more
        return data

    async def close(self) -> None:
        """Closes it."""
        try:
            await self._sftp.ask(self._file.close())
        except asyncssh.SFTPError:
            # It was only read: what the server says of its closing changes nothing.
            return
