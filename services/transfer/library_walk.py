"""Every file of a library's tree, in the byte order of their whole paths: the order in which the index has them.

A walk can begin behind any path, and skips what lies before it without looking at it. Links are not followed, and the library's own
folder is left out. Names of one folder are held in memory, files are looked at as they are asked for.

What it does not guarantee: a snapshot. A file that comes while the walk goes on may be seen or not; whoever misses one looks once more.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from mediasync.storage.library_marker import OWN_FOLDER

LAST = b"\xff" * 4096
"""Sorts behind every path."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something in a library. `closed` says why a folder cannot be listed, or a file not be looked at; then `path` of a folder ends with a
    slash. What is not `regular` is a link, a socket or the like."""

    path: bytes
    size_bytes: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    regular: bool = True
    closed: str = ""


class LibraryWalk:
    """One walk over `below`, a file or folder relative to `root` (empty for everything), behind the path `after`. It blocks; one thread at
    a time."""

    def __init__(self, root: bytes, below: bytes = b"", after: bytes = b"") -> None:
        self._root = root
        self._after = after
        self._found = self._walk(below)

    def next(self, count: int) -> list[Found]:
        """The next `count` of them; fewer at the end."""
        return list(itertools.islice(self._found, count))

    def _walk(self, below: bytes) -> Iterator[Found]:
        if below:
            try:
                status = os.lstat(os.path.join(self._root, below))
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as error:
                yield Found(below, closed=error.strerror or str(error))
                return
            if not stat.S_ISDIR(status.st_mode):
                if below > self._after:
                    yield _found(below, status)
                return
        # Own stack: a tree may be deeper than Python's.
        stack = [self._list(below)]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif isinstance(item, bytes):
                stack.append(self._list(item))
            else:
                yield item

    def _list(self, folder: bytes) -> Iterator[Found | bytes]:
        """What is in a folder: files as they are, folders by their paths."""
        prefix = folder + b"/" if folder else b""
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                # A slash behind the names of folders puts them where their files belong.
                names = [entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
        except FileNotFoundError:
            return
        except OSError as error:
            yield Found(prefix, closed=error.strerror or str(error))
            return
        names.sort()
        for name in names:
            path = prefix + name
            if name.endswith(b"/"):
                path = path[:-1]
                # `0` is the byte after `/`: nothing in there sorts behind it.
                if path != OWN_FOLDER and path + b"0" > self._after:
                    yield path
            elif path > self._after:
                try:
                    yield _found(path, os.lstat(os.path.join(self._root, path)))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    yield Found(path, closed=error.strerror or str(error))


def _found(path: bytes, status: os.stat_result) -> Found:
    return Found(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, stat.S_ISREG(status.st_mode))
