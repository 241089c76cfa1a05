"""What an engine and a container on this machine tell of themselves: when a run is over, and which folders they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

from mediasync.errors import MediasyncError, Reason
from mediasync.sources import shell_docker
from mediasync.sources.docker.containers import Container
from mediasync.sources.docker.engine import Engine, EngineError
from mediasync.sources.docker.exec import ExecLauncher

_BEGIN_SECONDS = 2.0
_IDENTIFY_SECONDS = 15.0
_MAX_ANSWER_BYTES = 64 * 1024


class Run:
    """The present run of a container. Its end is heard of at once: the engine is asked to answer then."""

    def __init__(self, engine: Engine, container: Container) -> None:
        self._engine = engine
        self._container = container
        self._heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self.ended: MediasyncError | None = None
        self.on_end: Callable[[MediasyncError], None] = lambda error: None

    @classmethod
    async def begin(cls, engine: Engine, container: Container) -> Self | None:
        """Returns once the engine listens; None if it does not say so, as older ones and some of other makers."""
        run = cls(engine, container)
        run._task = asyncio.create_task(run._wait(), name="end of a container's run")
        try:
            async with asyncio.timeout(_BEGIN_SECONDS):
                await asyncio.shield(run._heard)
        except TimeoutError:
            await run.close()
            return None
        except BaseException:
            await run.close()
            raise
        return run

    async def _wait(self) -> None:
        place = f"the container {self._container.name}"
        try:
            path = f"containers/{self._container.id}/wait?condition=not-running"
            async with self._engine.stream(path, "POST", answer_seconds=None) as body:
                self._heard.set_result(None)
                await body.readany()
            message = f"{place} stopped"
        except EngineError as error:
            message = f"{self._engine.place} does not say when {place} stops: {error.message}"
        except MediasyncError as error:
            message = error.message
        self.ended = MediasyncError(Reason.CONNECTION_LOST, message)
        if not self._heard.done():
            self._heard.set_result(None)
        self.on_end(self.ended)

    async def close(self) -> None:
        """Listens no more. The engine stays open."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class _Answer:
    """What a program prints, up to a number of lines. A `Receiver`."""

    def __init__(self, lines: int) -> None:
        self.data = b""
        self.done = asyncio.Event()
        self._lines = lines

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data.count(b"\n") >= self._lines or len(self.data) > _MAX_ANSWER_BYTES:
            self.done.set()

    def noise_received(self, data: bytes) -> None:
        """Of no interest: what is not said is not known."""

    def channel_closed(self, exit_status: int | None, error: MediasyncError | None) -> None:
        self.done.set()


async def identify(engine: Engine, container: Container, paths: Sequence[bytes]) -> tuple[bytes, list[tuple[int, int] | None]]:
    """What a container says of itself: its kernel's boot id, and of each folder which file system and inode it is, None where it does not
    say so. Closes `engine`. Raises MediasyncError."""
    answer = _Answer(1 + len(paths))
    launched = await ExecLauncher(engine, container, shell_docker.IDENTIFY).launch(answer)
    try:
        launched.channel.write(b"".join(path + b"\n" for path in paths))
        async with asyncio.timeout(_IDENTIFY_SECONDS):
            await answer.done.wait()
    except TimeoutError:
        pass  # what it has not said is not known
    finally:
        await launched.channel.close()
    boot, *said = answer.data.split(b"\n")
    found: list[tuple[int, int] | None] = []
    for line in [*said, *[b""] * len(paths)][: len(paths)]:
        device, _, inode = line.partition(b" ")
        found.append((int(device), int(inode)) if device.isdigit() and inode.isdigit() else None)
    return boot.strip(), found
