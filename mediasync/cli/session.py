"""What every command that talks to the services has around it: environment, telemetry with a root span, a client."""

from __future__ import annotations

import contextlib
import os
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


def start_recording() -> Home:
    """Logs and spans of this command go to the data folder from now on."""
    from mediasync.runtime import telemetry
    from mediasync.runtime.home import Home

    home = Home.from_environment()
    home.prepare()
    telemetry.setup("cli", home)
    return home


@contextlib.asynccontextmanager
async def connected(command: str, coordinator: str) -> AsyncIterator[tuple[Client, Span]]:
    """A client, and the root span that everything the command causes belongs to."""
    from opentelemetry import trace

    from mediasync.client import Client

    start_recording()
    with trace.get_tracer(__name__).start_as_current_span(f"mediasync {command}") as root:
        async with Client(coordinator or None) as client:
            yield client, root
