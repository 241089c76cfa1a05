"""What an engine tells of the files in a container, running or not: how one looks, and archives of them.

Paths are bytes of the container, sent as `%XX`. The engine follows links in the middle of a path, but never out of the container. While
an archive is under way it answers nothing else about the same container: who looks at something then waits for ever.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import stat
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote_from_bytes

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.sources.docker.containers import Container
from mediasync.sources.docker.engine import Engine, EngineError
from mediasync.sources.docker.tar import TarStream

_STAT = "x-docker-container-path-stat"
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})")
_GO_DIRECTORY, _GO_LINK, _GO_TYPES = 1 << 31, 1 << 27, 0x8F280000
SECOND_NS = 10**9
_MAX_PASSWD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Look:
    """How something looks. `kind` is a file type of the `stat` module."""

    kind: int
    size_bytes: int
    mtime_ns: int


class ContainerFiles:
    """Files of one container."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self.engine = engine
        self.container = container
        self.clock_offset_seconds = 0.0

    @property
    def place(self) -> str:
        """The far side, for messages."""
        return f"the container {self.container.name}"

    def now_ns(self) -> int:
        """The engine's clock, as far as it is known."""
        return time.time_ns() + int(self.clock_offset_seconds * 1e9)

    async def look(self, path: bytes) -> Look | None:
        """How `path` looks, its last part not followed; None if it is not there. Raises MediasyncError."""
        began = time.time()
        try:
            headers = await self.engine.headers(self._url(path))
        except EngineError as error:
            if error.status != 404:
                await self._refused_look(path)
                return None
            # One that was removed as a whole has no files either.
            await self._still_there()
            return None
        self._clock(headers.get("date", ""), (began + time.time()) / 2)
        return self._look(headers.get(_STAT, ""))

    async def _refused_look(self, path: bytes) -> None:
        """The answer to a look has no words: an archive that is refused has."""
        async with self.archive(path) as stream:
            if stream is not None:
                raise MediasyncError(Reason.SOURCE_PROTOCOL, f"{self.engine.place} does not say how {display(path)} looks")

    def _clock(self, date: str, ours: float) -> None:
        # Whole seconds: only an offset that is more than that says something.
        with contextlib.suppress(ValueError, TypeError):
            offset = parsedate_to_datetime(date).timestamp() + 0.5 - ours
            self.clock_offset_seconds = offset if abs(offset) > 1.5 else 0.0

    def _look(self, header: str) -> Look:
        try:
            found = json.loads(base64.b64decode(header))
            mode, moment = int(found["mode"]), _TIME.fullmatch(str(found["mtime"]))
            if moment is None:
                raise ValueError("no time")
            zone = moment[3].replace("Z", "+00:00")
            seconds = datetime.fromisoformat(moment[1] + zone).astimezone(UTC).timestamp()
            size = int(found["size"])
        except (ValueError, KeyError, TypeError) as error:
            raise MediasyncError(Reason.SOURCE_PROTOCOL, f"{self.engine.place} describes a file in a way that cannot be read") from error
        # Go's own bits for the kinds of files.
        kind = stat.S_IFDIR if mode & _GO_DIRECTORY else stat.S_IFLNK if mode & _GO_LINK else 0 if mode & _GO_TYPES else stat.S_IFREG
        return Look(kind, size, int(seconds) * SECOND_NS + int((moment[2] or "").ljust(9, "0")))

    @contextlib.asynccontextmanager
    async def archive(self, path: bytes) -> AsyncIterator[TarStream | None]:
        """What is at `path`, as an archive; None if it is not there."""
        stream = self.engine.stream(self._url(path))
        try:
            content = await stream.__aenter__()
        except EngineError as error:
            if not _not_there(error):
                raise self.refused(error) from error
            await self._still_there()
            yield None
            return
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_exit(stream)
            yield TarStream(content)

    async def expanded(self, root: bytes) -> bytes:
        """A root, with the home of the container's user in place of `~`. Raises MediasyncError."""
        if root != b"~" and not root.startswith(b"~/"):
            return root
        home = self.container.home
        if not home:
            user = self.container.user.partition(":")[0].encode() or b"0"
            home = b"/root" if user in (b"0", b"root") else b"/"
            for line in (await self._small_file(b"/etc/passwd")).split(b"\n"):
                fields = line.split(b":")
                if len(fields) > 5 and user in (fields[0], fields[2]) and fields[5].startswith(b"/"):
                    home = fields[5]
                    break
        return home + root[1:]

    async def _small_file(self, path: bytes) -> bytes:
        data = b""
        async with self.archive(path) as stream:
            member = await stream.next() if stream is not None else None
            if stream is not None and member is not None and member.is_file and member.size_bytes < _MAX_PASSWD_BYTES:
                while piece := await stream.piece():
                    data += piece
        return data

    async def _still_there(self) -> None:
        try:
            await self.engine.json(f"containers/{self.container.id}/json")
        except EngineError as error:
            if error.status == 404:
                raise MediasyncError(Reason.CONNECTION_LOST, f"{self.place} was removed") from error
            raise self.refused(error) from error

    def refused(self, error: EngineError) -> MediasyncError:
        """The error for an engine that does not give what it was asked for."""
        return MediasyncError(Reason.SOURCE_PROTOCOL, f"{self.engine.place} does not give files of {self.place}: {error.message}")

    def _url(self, path: bytes) -> str:
        return f"containers/{self.container.id}/archive?path={quote_from_bytes(path, safe='/')}"


def _not_there(error: EngineError) -> bool:
    # 400 and 500 for a path that goes on below a file.
    return error.status == 404 or "not a directory" in error.message or "no such file" in error.message.lower()
