"""Permissions and owners of what comes into the library: `file_mode`, `dir_mode`, `owner`, `group`.

Given to files and folders while they are out of sight, so that none is ever visible with others. A file system that refuses (many network
mounts do, and owners are root's to give) is noted once; the file lands all the same.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.model import SyncOptions

_KEEP = -1  # what chown takes for "as it is"
_LARGEST_MODE = 0o7777

_logger = logging.getLogger(__name__)


@dataclass
class Modes:
    """What is asked for; None or -1 leaves it to the process."""

    file_mode: int | None = None
    dir_mode: int | None = None
    owner: int = _KEEP
    group: int = _KEEP
    _noted: bool = False

    @classmethod
    def of(cls, options: SyncOptions) -> Modes:
        """What the options mean on this machine. Raises INVALID_ARGUMENT, naming the option."""
        return cls(
            _mode("file_mode", options.file_mode),
            _mode("dir_mode", options.dir_mode),
            _id("owner", options.owner, lambda name: pwd.getpwnam(name).pw_uid, "user"),
            _id("group", options.group, lambda name: grp.getgrnam(name).gr_gid, "group"),
        )

    @property
    def for_files(self) -> bool:
        """Whether anything is asked for of files."""
        return self.file_mode is not None or self._owned

    @property
    def for_folders(self) -> bool:
        """Whether anything is asked for of folders."""
        return self.dir_mode is not None or self._owned

    @property
    def _owned(self) -> bool:
        return self.owner != _KEEP or self.group != _KEEP

    def apply_to_file(self, path: bytes) -> None:
        """Gives a staged file what is asked for."""
        self._apply(path, self.file_mode)

    def apply_to_folder(self, path: bytes) -> None:
        """Gives a new folder what is asked for."""
        self._apply(path, self.dir_mode)

    def _apply(self, path: bytes, mode: int | None) -> None:
        try:
            # In this order: a change of owner takes set-id bits away.
            if self._owned:
                os.chown(path, self.owner, self.group)
            if mode is not None:
                os.chmod(path, mode)
        except OSError as error:
            if not self._noted:
                self._noted = True
                _logger.warning("the library's file system refuses permissions or owners: %s; files land without", error.strerror)


def _mode(option: str, text: str) -> int | None:
    if not text:
        return None
    try:
        mode = int(text.removeprefix("0o"), 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= _LARGEST_MODE:
        raise MediasyncError(Reason.INVALID_ARGUMENT, f"{option}: {text!r} is no mode", "Write it in octal digits, for instance 0640.")
    return mode


def _id(option: str, name: str, find: Callable[[str], int], what: str) -> int:
    if not name:
        return _KEEP
    if name.isascii() and name.isdigit():
        return int(name)
    try:
        return find(name)
    except KeyError:
        text = f"{option}: this machine knows no {what} {name!r}"
        raise MediasyncError(
            Reason.INVALID_ARGUMENT, text, f"Name a {what} of the machine that the services run on, or its number."
        ) from None
