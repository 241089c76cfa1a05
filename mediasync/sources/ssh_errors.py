"""What goes wrong between here and a shell at the far side, as reasons with a cure."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display


def printable(text: object) -> str:
    """`text`, which may stem from the far side, fit for a message."""
    return display(str(text).encode("utf-8", "surrogateescape")[:300])


def cannot_connect(error: BaseException, host: str, port: int, timeout_seconds: float) -> MediasyncError:
    """The error for a host that could not be reached, or is none that speaks SSH."""
    if isinstance(error, socket.gaierror):
        return MediasyncError(Reason.HOST_NOT_FOUND, f"the host {host} was not found: {error.strerror}")
    if isinstance(error, asyncssh.ChannelOpenError):
        return MediasyncError(Reason.HOST_UNREACHABLE, f"the jump host cannot reach {host} port {port}: {printable(error.reason)}")
    if isinstance(error, TimeoutError):
        return MediasyncError(Reason.HOST_UNREACHABLE, f"{host} port {port} did not answer within {timeout_seconds:.0f} s")
    if isinstance(error, ConnectionRefusedError):
        return MediasyncError(Reason.HOST_UNREACHABLE, f"{host} refuses connections on port {port}")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return MediasyncError(
            Reason.HOST_UNREACHABLE,
            f"{host} port {port} and this side have no algorithm in common: {printable(error.reason)}",
            "Update the SSH server at the far side.",
        )
    if isinstance(error, asyncssh.ConnectionLost | ConnectionError):
        return MediasyncError(
            Reason.HOST_UNREACHABLE,
            f"{host} port {port} closed the connection before the login",
            "Check that it is the container's SSH port, and that the server there is not out of sessions.",
        )
    if isinstance(error, asyncssh.DisconnectError):
        return MediasyncError(
            Reason.HOST_UNREACHABLE,
            f"{host} port {port} does not speak SSH as expected: {printable(error.reason)}",
            "Check that it is the container's SSH port.",
        )
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return MediasyncError(Reason.HOST_UNREACHABLE, f"{host} port {port} cannot be reached: {printable(why)}")


def not_let_in(host: str, port: int, user: str, tried: Sequence[str]) -> MediasyncError:
    """The error for a login that was refused."""
    what = "; tried " + ", ".join(tried) if tried else "; there was no key to try"
    return MediasyncError(Reason.AUTHENTICATION_FAILED, f"{host} port {port} does not let {user} in{what}")


def key_unusable(file: str, why: str) -> MediasyncError:
    """The error for an identity file that cannot be used."""
    return MediasyncError(Reason.AUTHENTICATION_FAILED, f"the key {file} cannot be used: {printable(why)}")


def line_lost(error: BaseException | None, place: str) -> MediasyncError | None:
    """The error for a connection that broke after the login; None where `error` is."""
    if error is None:
        return None
    why = error.reason if isinstance(error, asyncssh.DisconnectError) else str(error)
    # What asyncssh says of a reset line is no more than that.
    because = f": {printable(why)}" if why and why != "Connection lost" else ""
    return MediasyncError(Reason.CONNECTION_LOST, f"the connection to {place} broke{because}")
