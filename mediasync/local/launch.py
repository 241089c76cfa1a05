"""How a command gets at the services of this machine: those that run, or its own for as long as it needs them.

Two commands that start at once both try; the data folder's lock decides which one's services run, and the other uses them too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mediasync.errors import MediasyncError, Reason
from mediasync.local.control import SOCKET_NAME, ControlClient, error_from_json
from mediasync.local.supervisor import EXIT_LOST_RACE
from mediasync.runtime.home import Home

START_SECONDS = 60.0
"""How long services may take to start, on the slowest machine that is worth waiting for."""
END_SECONDS = 8.0
"""How long a command waits for services that end with it; they end also without it."""

EPHEMERAL = (sys.executable, "-P", "-m", "mediasync.local.supervisor", "--ephemeral")


@dataclass
class LocalServices:
    """The services that a command uses. `address` is the coordinator's; `ephemeral` says that they end with their last user."""

    address: str
    ephemeral: bool
    _control: ControlClient | None = None

    async def release(self) -> None:
        """Lets go of them. Waits, bounded, for their end when nobody else uses them."""
        control, self._control = self._control, None
        if control is None:
            return
        try:
            if self.ephemeral:
                async with asyncio.timeout(END_SECONDS):
                    if (await control.ask({"op": "release"}))["ending"]:
                        await control.wait_closed()
        except (OSError, TimeoutError):
            pass  # it is ending, or goes on to end by itself
        finally:
            await control.close()


@contextlib.asynccontextmanager
async def local_services(
    home: Home, environ: Mapping[str, str] | None = None, command: Sequence[str] = EPHEMERAL
) -> AsyncIterator[LocalServices]:
    """The services of the data folder `home`: attached to where they run, else started.

    `environ` is what started ones get. Raises MediasyncError: SERVICE_FAILED_TO_START with the service's own words, or one of the
    DATA_FOLDER_* reasons.
    """
    services = await _attach_or_start(home, dict(os.environ if environ is None else environ), command)
    try:
        yield services
    finally:
        # Shielded, because a command that is interrupted lets go of its services like any other.
        await asyncio.shield(services.release())


async def _attach_or_start(home: Home, environ: dict[str, str], command: Sequence[str]) -> LocalServices:
    home.prepare()
    deadline = time.monotonic() + START_SECONDS
    next_start = 0.0
    started: subprocess.Popen[bytes] | None = None
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # none there, or one that ended while we asked
                return await _attach(home, deadline - time.monotonic())
            if started is None and time.monotonic() >= next_start:
                if await _coordinator_alone(home):
                    return LocalServices(home.address_of("coordinator"), ephemeral=False)
                started = _start(home, environ, command)
            if started and started.poll() is not None:
                _raise_if_failed(started, home)
                started, next_start = None, time.monotonic() + 0.1
            await asyncio.sleep(0.01)
    finally:
        if started and started.stdout:
            started.stdout.close()
    raise MediasyncError(Reason.SERVICE_FAILED_TO_START, f"the services of {home.path} did not start within {START_SECONDS:g} s")


async def _attach(home: Home, seconds_left: float) -> LocalServices:
    control = await ControlClient.connect(str(home.run / SOCKET_NAME))
    try:
        return await _hold(control, home, seconds_left)
    except BaseException:
        await control.close()
        raise


async def _hold(control: ControlClient, home: Home, seconds_left: float) -> LocalServices:
    try:
        async with asyncio.timeout(seconds_left):
            if not (await control.ask({"hold": "client"}))["held"]:
                await control.wait_closed()
                raise ConnectionResetError("the supervisor has ended")
            await control.ask({"op": "ready"})
            status = await control.ask({"op": "status"})
    except TimeoutError:
        raise MediasyncError(Reason.SERVICE_FAILED_TO_START, f"the services of {home.path} are not ready") from None
    supervisor = status["supervisor"]
    assert isinstance(supervisor, dict)
    return LocalServices(_private_address(status, home), bool(supervisor["ephemeral"]), control)


def _private_address(status: Mapping[str, object], home: Home) -> str:
    """The coordinator's socket: no port, and nobody else may open it."""
    children = status["children"]
    assert isinstance(children, list)
    addresses = [address for child in children if child["name"] == "coordinator" for address in child["addresses"]]
    return next((str(address) for address in addresses if str(address).startswith("unix:")), home.address_of("coordinator"))


async def _coordinator_alone(home: Home) -> bool:
    """Whether a coordinator serves without a supervisor, as after `mediasync serve coordinator`."""
    try:
        _, writer = await asyncio.open_unix_connection(str(home.socket_path("coordinator")))
    except OSError:
        return False
    writer.close()
    return True


def _start(home: Home, environ: Mapping[str, str], command: Sequence[str]) -> subprocess.Popen[bytes]:
    # Appended to, because one that loses the race must not wipe the winner's words.
    with (home.logs / "supervisor.stderr").open("ab") as stderr:
        if stderr.tell() > 1_000_000:
            stderr.truncate(0)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=home.path,  # it may outlive the command, and must not hold on to the caller's folder
            env={**environ, "MEDIASYNC_HOME": str(home.path)},
            start_new_session=True,  # the terminal's Ctrl-C and hang-up are the command's business
        )
    # It may end long after this command let go of it; a program that uses many of them must not collect zombies.
    threading.Thread(target=process.wait, name="supervisor", daemon=True).start()
    return process


def _raise_if_failed(process: subprocess.Popen[bytes], home: Home) -> None:
    """Raises what the supervisor could not start for. Returns when it only found another one in its place, or has ended well."""
    assert process.stdout is not None
    with process.stdout:
        words = process.stdout.read()
    if process.returncode in (0, EXIT_LOST_RACE):
        return
    with contextlib.suppress(ValueError, TypeError, KeyError):
        raise error_from_json(json.loads(words)["error"])
    raise MediasyncError(
        Reason.SERVICE_FAILED_TO_START,
        f"the services cannot start: the supervisor ended with {process.returncode}: {_last_line(home.logs / 'supervisor.stderr')}",
        f"{home.logs / 'supervisor.stderr'} has the details.",
    )


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="backslashreplace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
    return "it said nothing"
