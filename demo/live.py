"""The part of the demo in which somebody watches: `mediasync sync … --watch`, and pictures that are written meanwhile.

Each is written as a generator or its owner might: at once, slowly, under another name first, under a name that another picture had. The
clock starts when its last byte is there, and stops when the catalog has it with its prompt.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from demo.pictures import FLUX_FOLDER, Later, Picture
from mediasync.client import Client
from mediasync.model import CatalogFile

_PIECES, _PIECE_SECONDS = 6, 0.25
_ASK_SECONDS = 0.02
_BOUND_SECONDS = 60.0
_ECHO_SECONDS = 2.0  # for the watch's own line, which is only waited for so that the lines come in order
_WATCHING = "watching"


@dataclass(frozen=True)
class Act:
    """Something that happens in the container. `happen` returns when the picture's last byte was there, by the monotonic clock."""

    text: str
    short: str
    picture: Picture
    happen: Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Outcome:
    """What became of it: the catalog's entry, and how long after the last byte it was complete."""

    act: Act
    file: CatalogFile
    seconds: float


def acts(root: Path, later: Later) -> list[Act]:
    """What happens, in order."""

    async def finish() -> float:
        path = root / later.finished.path
        return await _append(path, later.finished.content[path.stat().st_size :])

    async def write() -> float:
        return await _append(root / later.forge.path, later.forge.content)

    async def write_slowly() -> float:
        content = later.comfy.content
        step = -(-len(content) // _PIECES)
        for start in range(0, len(content) - step, step):
            await _append(root / later.comfy.path, content[start : start + step])
            await asyncio.sleep(_PIECE_SECONDS)
        return await _append(root / later.comfy.path, content[(_PIECES - 1) * step :])

    async def rename() -> float:
        path = root / later.renamed.path
        unfinished = path.with_name(path.name + ".tmp")
        await _append(unfinished, later.renamed.content)
        await asyncio.sleep(_PIECE_SECONDS)
        unfinished.rename(path)
        return time.monotonic()

    async def come_back() -> float:
        for path in (root / FLUX_FOLDER).glob("Flux_*.png"):
            path.unlink()
        return await _append(root / later.again.path, later.again.content)

    return [
        Act("Forge saves a picture", "written at once", later.forge, write),
        Act("ComfyUI writes one slowly, straight to its final name", "written slowly", later.comfy, write_slowly),
        Act("a tool writes 00004.png.tmp and renames it to 00004.png", "renamed into place", later.renamed, rename),
        Act("somebody empties ComfyUI/flux; the counter starts again at Flux_00001_.png", "a name that came back", later.again, come_back),
        Act("the half-written ComfyUI_00041_.png gets the rest of its bytes", "finished at last", later.finished, finish),
    ]


async def watch(command: list[str], environ: dict[str, str], home: Path, todo: list[Act], say: Callable[[str], None]) -> list[Outcome]:
    """Runs the watch, lets everything happen while it does, and ends it as Ctrl-C would. Ends the demo if anything does not come."""
    outcomes = []
    async with Client(home=home) as client, _watching(command, environ, say) as lines:
        for act in todo:
            say(f"[bold]in the container:[/bold] {escape(act.text)}")
            seen = lines.count
            ended = await act.happen()
            file = await _catalogued(client, act.picture)
            outcomes.append(Outcome(act, file, time.monotonic() - ended))
            with suppress(TimeoutError):
                await lines.wait_beyond(seen)
    return outcomes


class _Lines:
    """What the watch writes, passed on line by line."""

    def __init__(self, stream: asyncio.StreamReader, say: Callable[[str], None]) -> None:
        self.count = 0
        self.last = ""
        self._stream = stream
        self._say = say
        self._changed = asyncio.Condition()

    async def read(self) -> None:
        """To the end of the stream."""
        async for line in self._stream:
            self.last = line.decode(errors="replace").rstrip()
            self._say(escape(self.last))
            async with self._changed:
                self.count += 1
                self._changed.notify_all()

    async def wait_beyond(self, count: int) -> None:
        """Until there are more lines than that. Raises TimeoutError."""
        async with asyncio.timeout(_ECHO_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.count > count)

    async def wait_until_watching(self) -> None:
        """Until it says that it waits for what comes. Raises TimeoutError."""
        async with asyncio.timeout(_BOUND_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.last == _WATCHING)


@asynccontextmanager
async def _watching(command: list[str], environ: dict[str, str], say: Callable[[str], None]) -> AsyncIterator[_Lines]:
    """The command, while inside; it has begun to watch. Ctrl-C is for the demo alone, which then ends the watch."""
    process = await asyncio.create_subprocess_exec(*command, env=environ, stderr=asyncio.subprocess.PIPE, start_new_session=True)
    assert process.stderr is not None
    lines = _Lines(process.stderr, say)
    reading = asyncio.create_task(lines.read())
    try:
        watching = asyncio.create_task(lines.wait_until_watching())
        await asyncio.wait([watching, reading], return_when=asyncio.FIRST_COMPLETED)
        if not watching.done() or watching.exception() is not None:
            watching.cancel()
            raise SystemExit("the demo stopped: the source is not watched; the lines above say why")
        yield lines
        say("[cyan]^C[/cyan]")
        process.send_signal(signal.SIGINT)
        await reading
        if code := await process.wait():
            raise SystemExit(f"the demo stopped: the watch ended with exit code {code}")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_ECHO_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.wait([reading])


async def _append(path: Path, data: bytes) -> float:
    """Adds to a file, and says when that was done."""
    with path.open("ab") as file:
        file.write(data)
    return time.monotonic()


async def _catalogued(client: Client, picture: Picture) -> CatalogFile:
    """The catalog's entry of exactly these bytes, once it has their prompt; whatever name they have in the library."""
    sha256 = hashlib.sha256(picture.content).hexdigest()
    prefix = os.fsencode(picture.path.with_suffix(""))
    try:
        async with asyncio.timeout(_BOUND_SECONDS):
            while True:
                async for file in client.list_files(path_prefix=prefix):
                    if file.sha256 == sha256 and file.metadata is not None:
                        return file
                await asyncio.sleep(_ASK_SECONDS)
    except TimeoutError:
        raise SystemExit(f"the demo stopped: {picture.path} was not in the catalog within {_BOUND_SECONDS:.0f} s") from None
