"""What every command that talks to the services has around it: environment, telemetry with a root span, a client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from mediasync.client import Client
    from mediasync.config import Configuration
    from mediasync.runtime.home import Home


def configure(config: Path | None = None) -> Configuration:
    """Reads the configuration and puts into the environment what every process of this installation must agree on: the file itself and
    the log folder. Raises CONFIGURATION_INVALID with every mistake."""
    from mediasync.config import load

    configuration = load(config)
    if config is not None:
        os.environ["MEDIASYNC_CONFIG"] = str(configuration.file)
    if configuration.log_base and not os.environ.get("LOG_BASE"):
        os.environ["LOG_BASE"] = str(configuration.log_base)
    return configuration


def start_recording() -> None:
    """Logs and spans of this command go to the data folder from now on."""
    from mediasync.runtime import telemetry
    from mediasync.runtime.home import Home

    home = Home.from_environment()
    home.prepare()
    telemetry.setup("cli", home)


@contextlib.asynccontextmanager
async def connected(command: str, coordinator: str) -> AsyncIterator[tuple[Client, Span]]:
    """A client, and the root span that everything the command causes belongs to."""
    from mediasync.runtime.home import Home

    began_ns = time.time_ns()
    async with contextlib.AsyncExitStack() as stack:
        address, _ = await asyncio.gather(
            _given(coordinator) if coordinator else _local(stack, Home.from_environment()), asyncio.to_thread(_load_what_is_heavy)
        )
        from opentelemetry import trace

        from mediasync.client import Client

        start_recording()
        root = trace.get_tracer(__name__).start_span(f"mediasync {command}", start_time=began_ns)
        with trace.use_span(root, end_on_exit=True):
            client = await stack.enter_async_context(Client(address))
            yield client, root


async def _given(address: str) -> str:
    return address


async def _local(stack: contextlib.AsyncExitStack, home: Home) -> str:
    from mediasync.local.launch import local_services

    return (await stack.enter_async_context(local_services(home))).address


def _load_what_is_heavy() -> None:
    """gRPC and the rest take half a second to load, which services that are just starting do not have to wait for."""
    import mediasync.client
    import mediasync.runtime.telemetry  # noqa: F401 - loaded for those who come after
