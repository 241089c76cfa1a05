"""Every byte ever written at a source is there or in the library: looked at from outside, with the standard library and nothing of ours.

The ledger is told what its owner does at the source and in the library, just before or just after, and reads both by itself. Whoever owns
the bytes may destroy them. Whenever something is missing at the source that its owner has not taken away, somebody else has, and then the
library has to have it at that very moment. Checks raise AssertionError.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

OWN_FOLDER = b".mediasync"


class Ledger:
    """What one source and one library must still have."""

    def __init__(self, source: bytes, library: bytes) -> None:
        self._source = source
        self._library = library
        self._here: dict[bytes, bytes] = {}
        """By absolute path, what its owner last left there."""
        self._only_there: set[bytes] = set()
        """What is gone from the source, and was in the library by then."""
        self._precious: dict[bytes, bytes] = {}
        self.deleted = 0

    def wrote(self, path: bytes) -> None:
        """Its owner left something at that path."""
        self._here[path] = _content(path)

    def keeps(self, path: bytes) -> None:
        """A file outside of the source, which is nobody's to touch."""
        self._precious[path] = _content(path)

    def removes(self, path: bytes) -> None:
        """Its owner is about to take away what is at that path."""
        self.check()
        self._here.pop(path, None)

    def rewrites(self, path: bytes) -> None:
        """Its owner is about to change what is at that path, and so under all of its names. `changed` tells when it is done."""
        self.check()
        status = os.lstat(path)
        for other in list(self._here):
            there = os.lstat(other)
            if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
                del self._here[other]

    def changed(self, path: bytes) -> None:
        """Its owner has changed what is at that path, under all of its names."""
        status = os.lstat(path)
        for folder, _, names in os.walk(self._source):
            for name in names:
                there = os.lstat(other := os.path.join(folder, name))
                if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
                    self._here[other] = _content(other)

    def moved(self, old: bytes, new: bytes) -> None:
        """Its owner has moved a file or a folder at the source."""
        for path in list(self._here):
            if path == old or path.startswith(old + b"/"):
                self._here[new + path[len(old) :]] = self._here.pop(path)

    def check(self) -> None:
        """What is not at the source any more is in the library, and what is nobody's to touch is as it was."""
        for path, content in list(self._here.items()):
            there = _regular(path)
            if there == content:
                continue
            assert there is None, f"{path!r} was overwritten"
            assert self._in_library(content), f"{path!r} ({content[:40]!r}, {len(content)} bytes) is gone, and the library does not have it"
            del self._here[path]
            self._only_there.add(content)
            self.deleted += 1
        for path, content in self._precious.items():
            assert _regular(path) == content, f"{path!r}, which is outside of the source, was touched"

    def damages(self, path: bytes) -> bytes:
        """The library's owner is about to do something to a file there. Returns what it holds."""
        self.check()
        return _content(path)

    def damaged(self, content: bytes) -> None:
        """They have done it: if the library has it nowhere else, nobody can ask for it any more."""
        if content in self._only_there and not self._in_library(content):
            self._only_there.discard(content)

    def close(self) -> None:
        """The end: all of it."""
        self.check()
        lost = [content for content in self._only_there if not self._in_library(content)]
        assert not lost, f"the library lost {len(lost)} files that the source does not have any more: {lost[0][:40]!r}"

    def _in_library(self, content: bytes) -> bool:
        return any(os.lstat(path).st_size == len(content) and _regular(path) == content for path in self._library_files())

    def _library_files(self) -> Iterator[bytes]:
        for folder, folders, names in os.walk(self._library):
            folders[:] = [name for name in folders if name != OWN_FOLDER]
            yield from (os.path.join(folder, name) for name in names)


def _content(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _regular(path: bytes) -> bytes | None:
    """What a regular file holds; None if there is none. No link below is followed."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        return _content(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
