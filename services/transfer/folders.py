"""Folders of the library: made as files need them, with the modes asked for, durable in their parents."""

from __future__ import annotations

import os
from collections.abc import Iterable

from services.transfer.library import sync_folder
from services.transfer.modes import Modes


class LibraryFolders:
    """The folders of one library that one unit has to do with."""

    def __init__(self, root: bytes, modes: Modes, *, durable: bool) -> None:
        self._root = root
        self._modes = modes
        self._durable = durable
        self._known: set[bytes] = {root}

    def make(self, folder: bytes, staging: bytes) -> None:
        """Makes a folder and those above it. Raises OSError."""
        if folder in self._known:
            return
        parent = os.path.dirname(folder)
        self.make(parent, staging)
        # A file of that name raises NotADirectoryError when something is put into it.
        if not os.path.lexists(folder):
            try:
                self._make(folder, staging)
            except FileExistsError:
                pass  # somebody was faster
            else:
                if self._durable:
                    sync_folder(parent)
        self._known.add(folder)

    def _make(self, folder: bytes, staging: bytes) -> None:
        if not self._modes.for_folders:
            os.mkdir(folder)
            return
        hidden = os.path.join(staging, b"folder")
        os.mkdir(hidden)
        self._modes.apply_to_folder(hidden)
        try:
            # Of folders only an empty one would be replaced, by an empty one.
            os.rename(hidden, folder)
        except OSError:
            os.rmdir(hidden)
            raise

    def sync(self, paths: Iterable[bytes]) -> None:
        """Makes the names in folders, relative to the root, durable. Raises OSError."""
        for path in paths:
            sync_folder(os.path.join(self._root, path))
