"""The supervisor's control socket, both ends: JSON objects, one a line.

- `{"op": "status"}` -> `{"supervisor": {…}, "children": [{…}], "holds": {"client": 1, "jobs": 0}}`.
- `{"op": "ready"}` -> `{"ready": true}` once every child is, or `{"error": {…}}`.
- `{"op": "need", "service": "cleanup"}` -> `{"ready": true}` once that child is, started for it where it was not; or `{"error": {…}}`.
- `{"hold": "client"}` -> `{"held": true}`. Keeps a supervisor that lives for the length of a command alive until `release`, or until the
  connection ends. `{"held": false}` when it is ending already; the connection closes when it has ended.
- `{"op": "release"}` -> `{"ending": true}` once the supervisor begins to end because nobody holds it, or `{"ending": false}` if it stays.
- `{"op": "stop"}` -> `{"stopping": true}`. The connection closes when everything has ended.

The coordinator holds it with `{"hold": "jobs"}` while any job is active. An error has `reason`, `message`, `remedy`, `exit_code`.
The socket lies in a folder that only its user may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from mediasync.errors import MediasyncError, Reason, reason_of

HOLDS = ("client", "jobs")
SOCKET_NAME = "supervisor.sock"
_MAX_LINE = 65536


def error_to_json(error: MediasyncError) -> dict[str, object]:
    """An error, for the socket and for `--json`."""
    return {
        "reason": error.reason.value,
        "message": error.message,
        "remedy": error.remedy,
        "exit_code": int(error.metadata.get("exit_code") or error.exit_code),
    }


def error_from_json(fields: Mapping[str, object]) -> MediasyncError:
    """The error that `error_to_json` wrote down."""
    metadata = {"exit_code": str(fields.get("exit_code", ""))} if fields.get("exit_code") else {}
    return MediasyncError(
        reason_of(str(fields.get("reason", ""))), str(fields.get("message", "")), str(fields.get("remedy", "")), metadata=metadata
    )


class Controlled(Protocol):
    """What the socket controls."""

    def status(self) -> dict[str, object]:
        """Everything but the holds."""

    async def ready(self) -> None:
        """Returns once every child is ready; raises MediasyncError when that will not be."""

    async def need(self, service: str) -> None:
        """Returns once that child is ready, which it starts where it does not run; raises MediasyncError when that will not be."""

    @property
    def stopping(self) -> bool:
        """Whether it is ending."""

    def stop(self) -> None:
        """Begins to end."""

    def holds_changed(self, *, lost: bool = False) -> None:
        """Somebody began or ceased to hold it; `lost` says that a connection just ended."""

    async def staying(self) -> bool:
        """Waits until it is decided whether it goes on: at once when somebody holds it."""


class ControlServer:
    """Serves the control socket of `controlled`."""

    def __init__(self, path: str, controlled: Controlled) -> None:
        self.holds: Counter[str] = Counter()
        self._path = path
        self._controlled = controlled
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> bool:
        """Whether anybody holds it."""
        return self.holds.total() > 0

    async def start(self) -> None:
        """Listens. The caller has the lock, so that a socket file that is there is a dead one's."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._server = await asyncio.start_unix_server(self._accept, self._path, limit=_MAX_LINE)

    def close_door(self) -> None:
        """Takes no more connections; who is connected stays."""
        if self._server:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    async def close(self) -> None:
        """Ends every connection, which tells its client that all has ended."""
        self.close_door()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        held: list[str] = []
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line, held)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # a client that is gone, a line without end, or the supervisor's own end
        finally:
            self._let_go(held, lost=True)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, line: bytes, held: list[str]) -> dict[str, object]:
        request = json.loads(line)
        hold = request.get("hold")
        if hold in HOLDS and self._controlled.stopping:
            return {"held": False}
        if hold in HOLDS:
            held.append(hold)
            self.holds[hold] += 1
            self._controlled.holds_changed()
            return {"held": True}
        match request.get("op"):
            case "status":
                return {**self._controlled.status(), "holds": {name: self.holds[name] for name in HOLDS}}
            case "ready" | "need" as op:
                try:
                    await (self._controlled.ready() if op == "ready" else self._controlled.need(str(request.get("service"))))
                except MediasyncError as error:
                    return {"error": error_to_json(error)}
                return {"ready": True}
            case "release":
                self._let_go(held)
                return {"ending": not await self._controlled.staying()}
            case "stop":
                self._controlled.stop()
                return {"stopping": True}
            case _:
                return {"error": error_to_json(MediasyncError(Reason.INVALID_ARGUMENT, "the supervisor does not know what it was asked"))}

    def _let_go(self, held: list[str], *, lost: bool = False) -> None:
        if held:
            self.holds.subtract(held)
            held.clear()
            self._controlled.holds_changed(lost=lost)


class ControlClient:
    """A connection to a running supervisor. Raises OSError from `connect` when there is none, and from `ask` when it is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, path: str) -> ControlClient:
        """Connects to the socket at `path`."""
        return cls(*await asyncio.open_unix_connection(path, limit=_MAX_LINE))

    async def ask(self, request: Mapping[str, object]) -> dict[str, object]:
        """Sends one request and returns its answer. Raises MediasyncError when the answer is one."""
        self._writer.write(json.dumps(request).encode() + b"\n")
        await self._writer.drain()
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the supervisor has ended")
        answer: dict[str, object] = json.loads(line)
        error = answer.get("error")
        if isinstance(error, dict):
            raise error_from_json(error)
        return answer

    async def wait_closed(self) -> None:
        """Waits until the supervisor has ended everything."""
        while await self._reader.read(_MAX_LINE):
            pass

    async def close(self) -> None:
        """Ends the connection, and with it the hold."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
