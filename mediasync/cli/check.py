"""`mediasync subscribers check`: tries what a program that implements `MediaIngest` can do, and tells what it gets wrong.

It speaks with the program itself; the services need not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mediasync.cli.arguments import AsJson, TlsCa, TlsCert, TlsKey, TokenFile

if TYPE_CHECKING:
    import grpc.aio

    from mediasync.conformance import Played

_REACH_SECONDS = 10.0
_RESTART_SECONDS = 60.0


def check(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where it answers; unix:/path too.")],
    restart: Annotated[
        str,
        typer.Option("--restart", metavar="COMMAND", help="Restarts it, to see that it keeps what it accepted; run once, without a shell."),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Try a subscriber of your own: every call, repetitions, events out of order, huge metadata, odd names. Tells what it got wrong.

    It is told of made-up files below mediasync-check/ in a library of that name, and in the end that they were deleted at their source;
    what it keeps of them is its own affair. Try it with a database that you can throw away.

    Example: mediasync subscribers check 127.0.0.1:50061

    Example: mediasync subscribers check 127.0.0.1:50061 --yes --restart 'systemctl restart gallery'
    """
    import asyncio

    from mediasync.cli import event_options, output
    from mediasync.errors import ExitCode

    event_options.address(address)
    question = f"{address} is told of some hundred made-up files below mediasync-check/, and that they were deleted at their source"
    event_options.confirm(question, "nothing was told", yes=yes, as_json=as_json)
    played = asyncio.run(_play(address, restart, as_json, _credentials(address, tls_ca, tls_cert, tls_key, token_file)))
    failed = sum(one.ok is False for one in played)
    if as_json:
        plays = [{"name": one.name, "ok": one.ok, "problem": one.problem} for one in played]
        output.print_json({"address": address, "passed": not failed, "plays": plays})
    else:
        ok, left_out = sum(one.ok is True for one in played), sum(one.ok is None for one in played)
        parts = [f"{ok:,} plays went well", f"{failed:,} went wrong" if failed else "", f"{left_out:,} left out" if left_out else ""]
        mark = output.style("✗", "red", bold=True) if failed else output.style("✓", "green", bold=True)
        output.line(f"{mark} {address}: {', '.join(part for part in parts if part)}")
    if failed:
        raise typer.Exit(int(ExitCode.SOME_FILES_FAILED))


def _credentials(address: str, ca: Path | None, certificate: Path | None, key: Path | None, token: Path | None) -> dict[str, object]:
    """What `open_channel` takes. Raises ADDRESS_NOT_LOOPBACK where something would cross a network in the clear."""
    from mediasync.cli import event_options
    from mediasync.cli.sync_options import wrong
    from mediasync.errors import MediasyncError, Reason
    from mediasync.runtime.channels import TlsKeys

    if (certificate is None) != (key is None):
        raise wrong("--tls-cert", "--tls-cert and --tls-key are of no use without each other")
    if ca is None:
        if certificate is not None:
            raise wrong("--tls-ca", "--tls-cert is of no use without --tls-ca, which says whose certificates count")
        if not event_options.on_this_machine(address):
            text = f"{address} is not on this machine, and nothing is sent in the clear over a network"
            raise MediasyncError(Reason.ADDRESS_NOT_LOOPBACK, text, "Give --tls-ca FILE, the certificates that it is believed by.")
    tls = None
    if ca is not None:
        ours = None if certificate is None else _read("--tls-cert", certificate)
        tls = TlsKeys(_read("--tls-ca", ca), ours, None if key is None else _read("--tls-key", key))
    text = "" if token is None else _read("--token-file", token).decode("utf-8", "replace").strip()
    return {"tls": tls, "token": (lambda: text) if text else None}


def _read(option: str, path: Path) -> bytes:
    from mediasync.cli.sync_options import wrong

    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise wrong(option, f"{option} {path} cannot be read: {error.strerror}") from None


async def _play(address: str, restart: str, as_json: bool, credentials: dict[str, object]) -> list[Played]:
    """Performs every play, and shows each as it ends."""
    from mediasync.conformance import perform
    from mediasync.conformance.plays import PLAYS
    from mediasync.ids import new_request_id
    from mediasync.runtime.channels import open_channel
    from mediasync.v1.media_ingest_pb2_grpc import MediaIngestStub

    played: list[Played] = []
    folder = f"mediasync-check/{new_request_id()[:8]}/".encode()
    async with open_channel(address, **credentials) as channel:  # type: ignore[arg-type]
        await _reach(address, channel)

        async def again() -> None:
            await _restarted(restart)

        async for one in perform(MediaIngestStub(channel), PLAYS, folder, again if restart else None):
            played.append(one)
            if not as_json:
                _show(one)
    return played


async def _reach(address: str, channel: grpc.aio.Channel) -> None:
    import asyncio

    from mediasync.errors import MediasyncError, Reason

    try:
        async with asyncio.timeout(_REACH_SECONDS):
            await channel.channel_ready()
    except TimeoutError:
        remedy = "Start it, or give its address. Where it speaks TLS, --tls-ca is needed, and its certificate has to be for that name."
        raise MediasyncError(Reason.SUBSCRIBER_UNREACHABLE, f"nobody answers at {address}", remedy) from None


async def _restarted(command: str) -> None:
    """Runs the command that restarts it. Raises INVALID_ARGUMENT where that goes wrong."""
    import asyncio
    import shlex

    from mediasync.cli.sync_options import wrong

    try:
        process = await asyncio.create_subprocess_exec(*shlex.split(command), stdin=asyncio.subprocess.DEVNULL)
    except (OSError, ValueError) as error:
        raise wrong("--restart", f"--restart {command!r} cannot be run: {error}") from None
    try:
        async with asyncio.timeout(_RESTART_SECONDS):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise wrong("--restart", f"--restart {command!r} did not end within {_RESTART_SECONDS:.0f} s; it has to leave it running") from None
    if code:
        raise wrong("--restart", f"--restart {command!r} ended with {code}")


def _show(one: Played) -> None:
    from mediasync.cli import output

    mark = {True: output.style("✓", "green"), False: output.style("✗", "red"), None: output.style("-", dim=True)}[one.ok]
    output.line(f"{mark} {one.name}")
    if one.problem:
        output.line(f"    {output.style(one.problem, dim=one.ok is not False)}")
