"""What goes wrong between here and a shell at the far side, as reasons with a cure."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import asyncssh

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display

if TYPE_CHECKING:
    from mediasync.sources.ssh_client import Client
    from mediasync.sources.ssh_identities import Identities


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


def not_let_in(host: str, port: int, user: str, client: Client, identities: Identities, *, cut: bool = False) -> MediasyncError:
    """The error for a login that was refused. With `cut` the server hung up before everything was tried."""
    tried = [*identities.offered, *(["the password"] if client.password_sent else [])]
    parts = [f"{host} port {port} does not let {user} in"]
    parts.append("tried " + ", ".join(map(printable, tried)) if tried else "there was no key to try")
    if identities.useless:
        parts.append("of no use: " + ", ".join(map(printable, identities.useless)))
    remedy = ""
    if cut:
        parts.append("it hung up after that many tries")
        remedy = "Name the one right key with --identity-file, and set IdentitiesOnly yes for the host in ~/.ssh/config."
    elif client.questions:
        parts.append("it asks what we cannot answer: " + ", ".join(printable(question.strip()) for question in client.questions))
        remedy = "Log in with a key, as a user who is let in with that alone."
    elif "a password" in client.offered and not client.password_sent:
        parts.append("it would take a password" + ("" if "a key" in client.offered else " and takes no key"))
        remedy = (
            "Give the right key with --identity-file, or write the password into a file and name it with --password-file "
            "(`password_file` in the configuration)."
        )
    elif client.password_sent and "a key" not in client.offered:
        parts.append("it takes no key")
        remedy = "Check the user's name and the password."
    return MediasyncError(Reason.AUTHENTICATION_FAILED, "; ".join(parts), remedy)


def too_many_tries(error: BaseException) -> bool:
    """Whether a server hung up because it was shown too many keys."""
    return isinstance(error, asyncssh.DisconnectError) and "authentication failures" in error.reason.lower()


def host_not_verified(host: str, error: asyncssh.HostKeyNotVerifiable) -> MediasyncError:
    """The error for a host whose certificate an authority on record signed, but which is no good."""
    return MediasyncError(
        Reason.HOST_KEY_UNKNOWN,
        f"{host} cannot be told to be the right host: {printable(error.reason)}",
        "Ask whoever runs the host for a valid certificate.",
        metadata={"host": host},
    )


def config_unusable(error: BaseException) -> MediasyncError:
    """The error for an ssh_config with a line that cannot be used."""
    return MediasyncError(Reason.CONFIGURATION_INVALID, f"~/.ssh/config cannot be used: {printable(error)}", "Correct the line.")


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
