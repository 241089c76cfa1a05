"""How much of each file has come, read from what rsync prints while it transfers.

Before a file it prints a line of ours (`--out-format`), then about once a second, each after a carriage return, how many bytes it is at.
Names are escaped as in `listing`, so that neither a line break nor a carriage return in one can pass for an end. Whatever is
not understood is passed over: the file then counts once it is whole, as it does with an rsync that is too old to be asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mediasync.sources.base import WantedFile
from mediasync.sources.rsync.listing import unescaped

SHOW = ("--progress", "--no-human-readable", "--8-bit-output", "--outbuf=N", "--out-format=file %n")
TOLD_BYTES = 1 << 20
"""Files from this size on are told of under way."""
_OLDEST = (3, 1)  # knows --outbuf; one before holds back what it prints
_MAX_PIECE_BYTES = 1 << 16

_ENDS = re.compile(rb"[\r\n]")
_FILE = b"file "
_AT = re.compile(rb" *(\d+) +\d+%")
_VERSION = re.compile(rb"rsync +version v?(\d+)\.(\d+)")

OnBytes = Callable[[WantedFile, int], None]


def shows(version_text: bytes) -> bool:
    """Whether an rsync that says this of itself can be asked for `SHOW`."""
    found = _VERSION.match(version_text)
    return found is not None and (int(found[1]), int(found[2])) >= _OLDEST


class Progress:
    """What one run prints. `on_bytes` is called with a file and how many more bytes of it have come: never less than nothing,
    and in all no more than its size, also where rsync begins anew."""

    def __init__(self, files: Sequence[WantedFile], on_bytes: OnBytes) -> None:
        self._files = {wanted.path: wanted for wanted in files if wanted.size_bytes >= TOLD_BYTES}
        self._on_bytes = on_bytes
        self._told: dict[bytes, int] = {}
        self._current: WantedFile | None = None
        self._rest = b""

    @property
    def of_any(self) -> bool:
        """Whether there is a file to tell of."""
        return bool(self._files)

    def feed(self, data: bytes) -> None:
        """The next of its output."""
        *pieces, rest = _ENDS.split(self._rest + data)
        self._rest = rest[:_MAX_PIECE_BYTES]
        for piece in pieces:
            self._piece(piece)
        # What follows a carriage return has no end of its own until the next comes.
        if not self._rest.startswith(_FILE[: len(self._rest)]) and self._piece(self._rest):
            self._rest = b""

    def _piece(self, piece: bytes) -> bool:
        """Whether it was understood."""
        if piece.startswith(_FILE):
            self._current = self._files.get(unescaped(piece[len(_FILE) :]))
            return True
        found = _AT.match(piece)
        if found is None:
            return False
        if self._current is not None:
            self._at(self._current, int(found[1]))
        return True

    def _at(self, wanted: WantedFile, at: int) -> None:
        told = self._told.get(wanted.path, 0)
        count = min(at, wanted.size_bytes) - told
        if count > 0:
            self._told[wanted.path] = told + count
            self._on_bytes(wanted, count)
