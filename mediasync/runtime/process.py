"""The process around a service: signals, stdin, readiness, exit code.

Environment: `MEDIASYNC_LISTEN` (a TCP address besides the socket), `MEDIASYNC_READY_FD` (an inherited descriptor that gets one JSON
line once the service serves, or one with an `error` if it cannot, and is then closed), `MEDIASYNC_SUPERVISED=1` (stdin is a pipe from
the supervisor, whose end means: drain).
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import stat
import sys
import threading
from collections.abc import Coroutine
from typing import Any, NoReturn

import uvloop

from mediasync import __version__
from mediasync.errors import ExitCode, MediasyncError, Reason
from mediasync.runtime import telemetry
from mediasync.runtime.home import Home
from mediasync.runtime.service import Service, Wire

logger = logging.getLogger(__name__)

_EXIT_SECONDS = 10.0


def run(name: str, wire: Wire) -> NoReturn:
    """See `mediasync.runtime.service.run_service`."""
    supervised = os.environ.get("MEDIASYNC_SUPERVISED") == "1"
    ready_fd = _ready_fd()
    stdin_fd = _private_stdin() if supervised else None
    on_stderr: logging.Handler | None = None
    try:
        home = Home.from_environment()
        home.prepare()
        telemetry.setup(name, home)
        if not supervised:
            on_stderr = telemetry.log_to_stderr(name)
        logging.captureWarnings(True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_serve(name, home, wire, ready_fd, stdin_fd))
    except MediasyncError as error:
        code = _failed(name, error, on_stderr, ready_fd if supervised else None)
    except Exception:
        logger.exception("%s failed", name)
        code = _failed(name, MediasyncError(Reason.INTERNAL, "It failed in a way that it should not"), on_stderr)
    # Interpreter exit joins the threads of executors, and one of them may hang in a network file system for ever.
    watchdog = threading.Timer(_EXIT_SECONDS, os._exit, (code,))
    watchdog.daemon = True
    watchdog.start()
    telemetry.shutdown()
    sys.exit(code)


async def _serve(name: str, home: Home, wire: Wire, ready_fd: int | None, stdin_fd: int | None) -> int:
    service = Service(name, home)
    _drain_on_signals(service, supervised=stdin_fd is not None)
    if stdin_fd is not None:
        _drain_on_end_of(stdin_fd, service)
    try:
        started = await _finishes(_start(service, wire), service.draining)
        # What a start leaves stays, and need not be looked at again and again.
        gc.freeze()
        gc.enable()
        if started:
            logger.info("Serving on %s", ", ".join(service.addresses), extra={"version": __version__})
            if ready_fd is not None:
                _tell_ready(ready_fd, service)
            await service.draining.wait()
        logger.info("Draining")
    finally:
        await service.stop()
    logger.info("Stopped")
    return int(service.exit_code)


async def _start(service: Service, wire: Wire) -> None:
    await service.lock()
    await wire(service)
    await service.start(os.environ.get("MEDIASYNC_LISTEN", ""))


async def _finishes(coroutine: Coroutine[Any, Any, None], unless: asyncio.Event) -> bool:
    """Run `coroutine`, or cancel it when `unless` is set first: a service that is still waiting for something ends when told to."""
    work = asyncio.ensure_future(coroutine)
    told = asyncio.ensure_future(unless.wait())
    await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
    finished = work.done()
    for task in (work, told):
        task.cancel()
    await asyncio.wait({work, told})
    if finished:
        work.result()
    return finished


def _drain_on_signals(service: Service, *, supervised: bool) -> None:
    loop = asyncio.get_running_loop()
    before: list[int] = []

    def told(number: int) -> None:
        # Counted, because a drain that has another cause (stdin's end) does not make the first signal a second one.
        if before:
            telemetry.shutdown()
            os._exit(128 + number)
        before.append(number)
        service.draining.set()

    loop.add_signal_handler(signal.SIGTERM, told, signal.SIGTERM)
    if supervised:
        # Ctrl-C in a terminal reaches the whole process group; the supervisor decides what it means and in which order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGINT, told, signal.SIGINT)


def _private_stdin() -> int | None:
    """The supervisor's pipe, moved to where no child process of ours inherits it; None when stdin is no pipe."""
    try:
        kind = os.fstat(0).st_mode
    except OSError:
        return None
    if not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        return None
    moved = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return moved


def _drain_on_end_of(fd: int, service: Service) -> None:
    """No service outlives its supervisor, however that ended: the kernel closes the pipe."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(fd, 4096):
            loop.remove_reader(fd)
            service.draining.set()

    loop.add_reader(fd, readable)


def _ready_fd() -> int | None:
    # Taken out of the environment, so that no child of ours believes it is meant.
    text = os.environ.pop("MEDIASYNC_READY_FD", "")
    if not text.isdecimal():
        return None
    os.set_inheritable(int(text), False)
    return int(text)


def _tell_ready(fd: int, service: Service) -> None:
    line = {"service": service.name, "pid": os.getpid(), "addresses": service.addresses, "version": __version__}
    try:
        os.write(fd, json.dumps(line).encode() + b"\n")
    except OSError as error:
        logger.warning("Nobody waits any more to hear that %s serves: %s", service.name, error)
    os.close(fd)


def _tell_failed(fd: int, name: str, error: MediasyncError) -> bool:
    """Whether somebody waited to hear why it does not serve. Nobody does once it has served."""
    said = {"reason": error.reason.value, "message": error.message, "remedy": error.remedy, "exit_code": int(error.exit_code)}
    try:
        os.write(fd, json.dumps({"service": name, "error": said}).encode() + b"\n")
    except OSError:
        return False
    os.close(fd)
    return True


def _failed(name: str, error: MediasyncError, on_stderr: logging.Handler | None, ready_fd: int | None = None) -> ExitCode:
    """Say in one line why the process ends: to who waits at `ready_fd`, else on stderr."""
    if on_stderr is not None:
        # The line below says the same, with the remedy.
        logging.getLogger().removeHandler(on_stderr)
    logger.error("%s cannot run: %s", name, error, extra={"reason": error.reason.value})
    if ready_fd is not None and _tell_failed(ready_fd, name, error):
        return error.exit_code
    remedy = f" {error.remedy}" if error.remedy else ""
    sys.stderr.write(f"mediasync {name}: {error.message.rstrip('.')}.{remedy}\n")
    return error.exit_code
