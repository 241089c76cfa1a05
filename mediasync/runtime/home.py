"""The data folder: where databases, logs, sockets and locks are.

Standard library only, because the supervisor and the command line's quick paths use it too.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from mediasync.errors import MediasyncError, Reason

DATA_VERSION = 1
"""The layout of the data folder that this version writes and reads."""

_VERSION_FILE = "data-version"
# A socket's path must fit in 108 bytes with its closing zero; the longest name below `run` is `coordinator.sock`.
_LONGEST_SOCKET_PATH = 100
_LONGEST_SOCKET_NAME = len("/coordinator.sock")


@dataclass(frozen=True)
class Home:
    """One installation's data folder. `environ` overrides where logs go and where other services are."""

    path: Path
    environ: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """The folder that `MEDIASYNC_HOME` names, else `$XDG_STATE_HOME/mediasync`, else `~/.local/state/mediasync`."""
        named = environ.get("MEDIASYNC_HOME")
        if named:
            path = Path(named).expanduser()
        else:
            state = environ.get("XDG_STATE_HOME")
            # The XDG specification: a relative path is to be ignored.
            base = Path(state) if state and os.path.isabs(state) else Path.home() / ".local" / "state"
            path = base / "mediasync"
        return cls(path.absolute(), environ)

    @property
    def logs(self) -> Path:
        """The folder of log and span files."""
        named = self.environ.get("LOG_BASE")
        return Path(named).expanduser().absolute() if named else self.path / "logs"

    @property
    def run(self) -> Path:
        """The folder of sockets and locks: below the data folder, or a private one with a short name where that is too deep."""
        below = self.path / "run"
        if len(os.fsencode(below)) + _LONGEST_SOCKET_NAME <= _LONGEST_SOCKET_PATH:
            return below
        short = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        parent = self.environ.get("XDG_RUNTIME_DIR") or "/tmp"  # noqa: S108 - the folder is checked to be ours alone in prepare()
        return Path(parent) / f"mediasync-{os.getuid()}-{short}"

    def prepare(self) -> None:
        """Create what is missing, private to the user.

        Raises DATA_FOLDER_UNUSABLE where it cannot be written, and DATA_FOLDER_NEWER where a newer version has written it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_version()
            self._check_private()
        except FileExistsError as error:
            text = f"The data folder {self.path} cannot be used: {error.filename} is there and is not a folder"
            raise MediasyncError(Reason.DATA_FOLDER_UNUSABLE, text, "Choose another data folder (MEDIASYNC_HOME).") from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename and error.filename != str(self.path) else ""
            text = f"The data folder {self.path} cannot be used: {where}{error.strerror or error}"
            raise MediasyncError(Reason.DATA_FOLDER_UNUSABLE, text) from error

    def database_url(self, name: str) -> str:
        """Where the service `name` keeps its data."""
        return f"sqlite:///{self.path / name}.db"

    def socket_path(self, service: str) -> Path:
        """The socket that `service` listens on."""
        return self.run / f"{service}.sock"

    def socket_address(self, service: str) -> str:
        """The same as a gRPC address."""
        # gRPC reads addresses as URIs, so a blank or a per cent sign in a folder's name has to be escaped.
        return "unix:" + quote(os.fsencode(self.socket_path(service)))

    def address_of(self, service: str) -> str:
        """Where to reach `service`: what `MEDIASYNC_<SERVICE>_ADDRESS` says, else its socket here."""
        return self.environ.get(f"MEDIASYNC_{service.upper()}_ADDRESS") or self.socket_address(service)

    def _check_version(self) -> None:
        file = self.path / _VERSION_FILE
        try:
            text = file.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            # Several services start at once; each writes the same, and a rename is seen whole or not at all.
            temporary = self.path / f"{_VERSION_FILE}.{os.getpid()}.{threading.get_ident()}"
            temporary.write_text(f"{DATA_VERSION}\n", encoding="ascii")
            temporary.replace(file)
            return
        if not text.isdecimal():
            raise MediasyncError(
                Reason.DATA_FOLDER_UNUSABLE,
                f"{file} holds no version number, so {self.path} may not be a data folder of mediasync",
                "Choose another data folder (MEDIASYNC_HOME), or remove that file if the folder is the right one.",
            )
        if int(text) > DATA_VERSION:
            raise MediasyncError(
                Reason.DATA_FOLDER_NEWER,
                f"The data folder {self.path} was written by a newer mediasync (layout {text}; this one knows up to {DATA_VERSION})",
            )

    def _check_private(self) -> None:
        """Sockets carry commands without a password: nobody else may own or enter their folder, least of all one below /tmp."""
        status = self.run.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise MediasyncError(
                Reason.DATA_FOLDER_UNUSABLE,
                f"The folder for sockets, {self.run}, is not a folder of your own",
                "Remove it, or choose another data folder (MEDIASYNC_HOME).",
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            self.run.chmod(0o700)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(self.path))
