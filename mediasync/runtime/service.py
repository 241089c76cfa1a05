"""The life of a service process: data folder, lock, telemetry, server, readiness, drain.

`run_service` is the whole `__main__` of a service; what is particular to it is its `wire` function.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any, NoReturn

import grpc
import grpc.aio

from mediasync.errors import ExitCode
from mediasync.runtime.channels import MESSAGE_LIMIT_BYTES, METADATA_LIMIT_BYTES, open_channel
from mediasync.runtime.health import SERVICE_NAME as HEALTH_NAME
from mediasync.runtime.health import Health
from mediasync.runtime.home import Home
from mediasync.runtime.interceptors import server_interceptors
from mediasync.runtime.listen import bind, loopback
from mediasync.runtime.lock import FileLock

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
"""How long calls that are being served may go on after a drain began."""

_LOCK_SECONDS = 10.0
_CALLBACK_SECONDS = 10.0

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_metadata_size", METADATA_LIMIT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_LIMIT_BYTES),
    # Without this, a second server on the same port starts happily and takes half of the connections.
    ("grpc.so_reuseport", 0),
    # A client that vanished without closing does not hold a watch for ever.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Clients may ping as often as our own channels do, with some room.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 0),
)

AddToServer = Callable[[Any, grpc.aio.Server], None]
Registration = tuple[AddToServer, object, str]


class _Listener:
    """One gRPC server with its health and reflection, on a socket and perhaps a TCP address."""

    def __init__(self, name: str, home: Home) -> None:
        self.name = name
        self.addresses: list[str] = []
        self._socket = home.socket_path(name)
        self._socket_address = home.socket_address(name)
        self._lock = FileLock(home.run / f"{name}.lock")
        self._names: list[str] = []
        self._server = grpc.aio.server(interceptors=server_interceptors(), options=_OPTIONS)
        self._health = Health()
        self._health.add_to(self._server)

    def add(self, add_to_server: AddToServer, servicer: object, full_name: str) -> None:
        add_to_server(servicer, self._server)
        self._register(full_name)

    def add_generic(self, handler: grpc.GenericRpcHandler, full_name: str) -> None:
        self._server.add_generic_rpc_handlers((handler,))
        self._register(full_name)

    def _register(self, full_name: str) -> None:
        self._names.append(full_name)
        self._health.register(full_name)

    def lock(self) -> None:
        """Be the only one of this name, or raise DATA_FOLDER_IN_USE once a dying predecessor had its time."""
        if not self._lock.held:
            self._lock.acquire(f"The service {self.name}", wait_seconds=_LOCK_SECONDS)

    async def start(self, tcp_address: str = "") -> None:
        from grpc_reflection.v1alpha import reflection

        reflection.enable_server_reflection([*self._names, HEALTH_NAME, reflection.SERVICE_NAME], self._server)
        # Left by one that was killed; under the lock nobody else listens on it.
        self._socket.unlink(missing_ok=True)
        self.addresses.append(bind(self._server, self._socket_address))
        if tcp_address:
            self.addresses.append(bind(self._server, loopback(tcp_address)))
        await self._server.start()
        await self._health.serve()

    async def announce_drain(self) -> None:
        await self._health.drain()

    async def stop(self, grace_seconds: float) -> None:
        await self._server.stop(grace_seconds)
        if self._lock.held:
            # Otherwise it is the socket of the one that we had to give way to.
            self._socket.unlink(missing_ok=True)

    def unlock(self) -> None:
        self._lock.release()


class Service:
    """A service of this process, as `wire` sees it. Lives in the running event loop."""

    def __init__(self, name: str, home: Home) -> None:
        self.name = name
        self.home = home
        self.draining = asyncio.Event()
        """Set when the process is about to end: long streams end themselves, loops finish their round."""
        self.exit_code: int = ExitCode.DONE
        self._own = _Listener(name, home)
        self._listeners = [self._own]
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._callbacks: list[Callable[[], Awaitable[None]]] = []

    @property
    def addresses(self) -> list[str]:
        """Where it is reached; complete once started."""
        return [address for listener in self._listeners for address in listener.addresses]

    def add(self, add_to_server: AddToServer, servicer: object, full_name: str) -> None:
        """Serve `servicer`. `full_name` is the proto service's, such as `mediasync.v1.Progress`, for health and reflection."""
        self._own.add(add_to_server, servicer, full_name)

    def add_generic(self, handler: grpc.GenericRpcHandler, full_name: str) -> None:
        """Serve calls that a handler picks by name, such as a relay's."""
        self._own.add_generic(handler, full_name)

    async def listen_also(self, name: str, registrations: Sequence[Registration]) -> str:
        """Serve under the name and socket of a second service from this process; its address. It starts and drains with this one."""
        listener = _Listener(name, self.home)
        await asyncio.to_thread(listener.lock)
        for add_to_server, servicer, full_name in registrations:
            listener.add(add_to_server, servicer, full_name)
        self._listeners.append(listener)
        return self.home.socket_address(name)

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to another service of this installation; the same one every time, closed at the end."""
        if service not in self._channels:
            self._channels[service] = open_channel(self.home.address_of(service))
        return self._channels[service]

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run something in the background for as long as the process lives; it is cancelled after the server drained.

        It may return. An exception that leaves it takes the process down (exit 70): a service whose loop died silently would look
        healthy and do nothing, and the supervisor starts a new one.
        """
        # An empty context: a background loop must not inherit the sync or the span of the call that happened to start it.
        task = asyncio.get_running_loop().create_task(coroutine, name=name, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def on_stop(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call and await `callback` once the server has drained and background tasks have ended; the last one added first."""
        self._callbacks.append(callback)

    async def lock(self) -> None:
        """Be the only process of this name on this data folder, or raise DATA_FOLDER_IN_USE after 10 s. Held until `stop`.

        Taken before `wire`, so that what is opened and recovered there is this process's alone.
        """
        await asyncio.to_thread(self._own.lock)

    async def start(self, tcp_address: str = "") -> None:
        """Listen and serve; `tcp_address` is a loopback address besides the socket."""
        await self.lock()
        for listener in self._listeners:
            await listener.start(tcp_address if listener is self._own else "")

    async def stop(self, grace_seconds: float = DRAIN_SECONDS) -> None:
        """Drain and clean up: no new calls, streams are told, calls get `grace_seconds`, then tasks, callbacks and channels."""
        self.draining.set()
        for listener in self._listeners:
            await listener.announce_drain()
        async with asyncio.TaskGroup() as group:
            for listener in self._listeners:
                group.create_task(listener.stop(grace_seconds))
        await self._cancel_tasks()
        for callback in reversed(self._callbacks):
            try:
                async with asyncio.timeout(_CALLBACK_SECONDS):
                    await callback()
            except Exception:
                logger.exception("%s did not stop cleanly", self.name)
        for channel in self._channels.values():
            await channel.close()
        for listener in self._listeners:
            listener.unlock()

    async def _cancel_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_CALLBACK_SECONDS)
            for task in stuck:
                logger.error("The background task %s does not end", task.get_name())

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        logger.error("The background task %s failed", task.get_name(), exc_info=task.exception())
        if not self.draining.is_set():
            self.exit_code = ExitCode.BUG
            self.draining.set()


Wire = Callable[[Service], Awaitable[None]]


def run_service(name: str, wire: Wire) -> NoReturn:
    """Run the service `name` until it is told to end, and exit.

    Reads the environment (see `Home` and `mediasync/runtime/process.py`). SIGTERM, SIGINT, or the end of stdin under a supervisor
    drain it; a second SIGTERM ends it at once. Exit codes: 0 after a drain, the error's own when it cannot start, 70 for a bug.
    """
    from mediasync.runtime.process import run

    run(name, wire)
