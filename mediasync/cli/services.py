"""`mediasync up`, `serve` and `status`: the processes behind everything."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from mediasync.cli.arguments import AsJson, Config, Coordinator

_MODULES = {
    "progress": "services.progress",
    "ingest": "services.ingest",
    "transfer": "services.transfer",
    "cleanup": "services.cleanup",
    "coordinator": "services.coordinator",
    "catalog": "services.ingest.subscribers.catalog",
}


def up(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="The clients' address; default: the configuration's, else 127.0.0.1:7171.")
    ] = "",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run all services on this machine, in the foreground, until Ctrl-C.

    A service that dies is started again. Stopping drains: what is under way goes on after the next start.

    Example: mediasync up

    Example: mediasync up --listen 127.0.0.1:0 --config /etc/mediasync.yaml
    """
    from mediasync.cli.session import configure

    configuration = configure(config)
    arguments = ["--listen", listen or configuration.coordinator.listen] + (["--json"] if as_json else [])
    # In place of this process, which has loaded more than the supervisor needs for the weeks that it runs.
    _become("mediasync.local.supervisor", *arguments)


def serve(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(_MODULES)}.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="A loopback address to listen at besides the socket in the data folder.")
    ] = "",
    config: Config = None,
) -> None:
    """Run one service by itself, in the foreground. `mediasync up` runs them all.

    Example: mediasync serve transfer
    """
    from mediasync.cli.session import configure
    from mediasync.errors import MediasyncError, Reason
    from mediasync.suggest import did_you_mean

    if service not in _MODULES:
        raise MediasyncError(
            Reason.INVALID_ARGUMENT,
            f"there is no service {service!r}; expected one of {', '.join(_MODULES)}{did_you_mean(service, _MODULES)}",
        )
    configure(config)
    if listen:
        os.environ["MEDIASYNC_LISTEN"] = listen
    _become(_MODULES[service])


def status(as_json: AsJson = False, coordinator: Coordinator = "") -> None:
    """Show each service: its address, health, version and memory. Exit code 6 when nothing runs.

    Example: mediasync status
    """
    import asyncio

    from mediasync.cli import output
    from mediasync.cli.health import Overview, overview, remote_overview
    from mediasync.errors import ExitCode
    from mediasync.runtime.home import Home

    home = Home.from_environment()
    found: Overview = asyncio.run(remote_overview(coordinator) if coordinator else overview(home))
    if as_json:
        output.print_json(found)
    elif not found.services:
        output.line("Nothing runs here. `mediasync up` starts the services; `mediasync sync` starts its own.")
    else:
        output.table(
            ["service", "state", "health", "address", "pid", "restarts", "version", "memory"],
            [
                [
                    row.name,
                    row.state,
                    row.health,
                    "\n".join(row.addresses) if sys.stdout.isatty() else ",".join(row.addresses),
                    row.pid or "",
                    row.restarts,
                    row.version,
                    output.size(row.rss_bytes) if row.rss_bytes else "",
                ]
                for row in found.services
            ],
            right=["pid", "restarts", "memory"],
        )
        if found.pss_bytes:
            output.line(f"Memory together: {output.size(found.pss_bytes)} (shared pages counted once)")
        if found.supervisor:
            kind = "for the length of a command" if found.supervisor["ephemeral"] else "by `mediasync up`"
            output.line(f"Started {kind}, pid {found.supervisor['pid']}, {output.moment(float(str(found.supervisor['started'])))}")
        output.line(f"Data folder: {found.home}" if found.home else f"At {coordinator}")
    if not found.running:
        raise typer.Exit(ExitCode.SERVICES)


def _become(module: str, *arguments: str) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 - our own interpreter, no shell
