"""Passwords and passphrases, looked up where they are used: in files, in the configuration, in the environment.

No secret is ever part of a `SourceSpec`, and so none is stored, sent or logged with one: a spec holds names of files. A password that
stands in the configuration itself is found by the source's name, and handed out only for the host that stands beside it there,
so that nobody can have it sent elsewhere by asking for that name with another host.
"""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from mediasync.config_file import mentions
from mediasync.errors import MediasyncError, Reason
from mediasync.model import SourceSpec, SshConnection
from mediasync.paths import display

PASSWORD_VARIABLE = "MEDIASYNC_SSH_PASSWORD"
PASSPHRASE_VARIABLE = "MEDIASYNC_SSH_PASSPHRASE"
MAX_SECRET_BYTES = 64 * 1024

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Secrets:
    """What a login may need besides keys; empty where there is none."""

    password: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)


def secrets_of(spec: SourceSpec, environ: Mapping[str, str] = os.environ) -> Secrets:
    """The secrets of a source: from its files, else from the configuration for one that has a name, else from the environment for one
    that has none.

    Reads files, so that it belongs into a thread. Raises AUTHENTICATION_FAILED for a file that holds no secret, CONFIGURATION_INVALID
    when the configuration would have to be asked and cannot be read.
    """
    connection = spec.connection
    if not isinstance(connection, SshConnection):
        return Secrets()
    password = _of_file(connection.password_file)
    passphrase = _of_file(connection.passphrase_file)
    if not (password and passphrase):
        other = _configured(spec.name, connection, environ) if spec.name else _of_environment(environ)
        password, passphrase = password or other.password, passphrase or other.passphrase
    return Secrets(password, passphrase)


def _of_environment(environ: Mapping[str, str]) -> Secrets:
    return Secrets(environ.get(PASSWORD_VARIABLE, ""), environ.get(PASSPHRASE_VARIABLE, ""))


def _configured(name: str, connection: SshConnection, environ: Mapping[str, str]) -> Secrets:
    if not mentions("pass", environ):
        return Secrets()
    from mediasync.config import load

    configuration = load(environ=environ)
    found = configuration.secrets.get(name)
    if found is None:
        return Secrets()
    written = configuration.sources[name].source.connection
    same = isinstance(written, SshConnection) and (written.host, written.port, written.user) == (
        connection.host,
        connection.port,
        connection.user,
    )
    return found if same else Secrets()


def _of_file(path: str) -> str:
    if not path:
        return ""
    try:
        return read_secret(path)
    except ValueError as error:
        raise MediasyncError(
            Reason.AUTHENTICATION_FAILED, str(error), "Put the secret into a file of its own that the services' user may read."
        ) from None


def read_secret(path: str | os.PathLike[str]) -> str:
    """What a file holds, less one line end at its end. Raises ValueError that says why it is no secret, and never what it holds."""
    shown = display(os.fsencode(path))
    try:
        # A pipe that nobody writes to would hang the program before it says anything.
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{shown} is not a regular file")
        if status.st_uid == os.getuid() and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            _warn_of_readers(shown)
        with open(path, "rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{shown} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise ValueError(f"{shown} holds more than {MAX_SECRET_BYTES} bytes, which is no secret")
    try:
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{shown} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"{shown} is empty")
    return text


@functools.cache
def _warn_of_readers(shown: str) -> None:
    # A warning only: secrets that an orchestrator mounts are often readable for all inside their container.
    _logger.warning("%s holds a secret and can be read by others: chmod 600 it", shown)
