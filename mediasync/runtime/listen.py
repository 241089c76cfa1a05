"""Addresses that a service listens on: sockets in the data folder, and TCP on the loopback interface."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mediasync.errors import MediasyncError, Reason

if TYPE_CHECKING:
    import grpc.aio


def loopback(address: str) -> str:
    """`address` (`HOST:PORT`, port 0 for any free one) as gRPC takes it.

    Raises CONFIGURATION_INVALID when it is none, and ADDRESS_NOT_LOOPBACK when others could reach it: there is no TLS on it.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise MediasyncError(
            Reason.CONFIGURATION_INVALID,
            f"The listen address {address!r} is not HOST:PORT",
            "Write it like 127.0.0.1:7171, or 127.0.0.1:0 for any free port.",
        )
    if host == "localhost":
        host = "127.0.0.1"
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if ip is None or not ip.is_loopback:
        raise MediasyncError(
            Reason.ADDRESS_NOT_LOOPBACK,
            f"Refusing to listen on {address}: others than this machine could reach it, and nothing asks who they are",
        )
    return f"[{ip}]:{int(port)}" if ip.version == 6 else f"{ip}:{int(port)}"


def bind(server: grpc.aio.Server, address: str) -> str:
    """Let `server` listen on `address` (`unix:…` or what `loopback` returned); the address with the port that was really taken.

    Raises ADDRESS_IN_USE, or CONFIGURATION_INVALID with what the system says.
    """
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise _refused(address) from error
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def _refused(address: str) -> MediasyncError:
    """Why `address` cannot be listened on. gRPC does not say, so the system is asked once more."""
    if address.startswith("unix:"):
        return MediasyncError(Reason.DATA_FOLDER_UNUSABLE, f"Cannot listen on the socket {unquote(address.removeprefix('unix:'))}")
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    why = "it cannot be bound"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return MediasyncError(
                    Reason.ADDRESS_IN_USE,
                    f"The address {address} is already in use by another program",
                    f"Stop that program, or listen elsewhere: --listen {host}:0 (or MEDIASYNC_LISTEN) takes any free port.",
                )
            why = os.strerror(error.errno or 0)
    return MediasyncError(
        Reason.CONFIGURATION_INVALID, f"Cannot listen on {address}: {why}", "Listen elsewhere: --listen, or MEDIASYNC_LISTEN."
    )
