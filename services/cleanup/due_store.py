"""Files that are old enough, put aside while a source is looked at, and given back oldest first.

They may be as many as the source has, so they lie in a file: it has no name, and its space is free again once it is closed or its process
is gone.
"""

from __future__ import annotations

import marshal
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mediasync.errors import MediasyncError, Reason
from mediasync.model import KeptReason

_CACHE_KIB = 4096
_CREATE = "CREATE TABLE due (age_ns INTEGER NOT NULL, path BLOB NOT NULL, body BLOB NOT NULL)"
_ADD = "INSERT INTO due VALUES (?, ?, ?)"
_OLDEST_FIRST = "SELECT body FROM due ORDER BY age_ns, path"


@dataclass(frozen=True, slots=True)
class DueFile:
    """A file as the source lists it. `kept` and `message` are why it stays; None if nothing is known yet that keeps it."""

    path: bytes
    size_bytes: int
    mtime_ns: int
    inode: int
    age_ns: int
    kept: KeptReason | None = None
    message: str = ""
    ctime_ns: int = 0


@dataclass(frozen=True, slots=True)
class DueFiles:
    """Files that go together or not at all, or one that stays. `extra`: only because space is low."""

    files: tuple[DueFile, ...]
    age_ns: int
    extra: bool = False


class DueStore:
    """Puts files aside. Blocking, and used by one thread at a time. Every method raises DATA_FOLDER_UNUSABLE where there is no room."""

    def __init__(self, folder: Path) -> None:
        """Its file is in `folder`."""
        self._folder = folder
        with self._usable():
            self._database = _nameless(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, groups: Iterable[DueFiles]) -> None:
        """Puts some more aside."""
        rows = [(group.age_ns, group.files[0].path, _packed(group)) for group in groups]
        with self._usable():
            self._database.execute("BEGIN")
            self._database.executemany(_ADD, rows)
            self._database.execute("COMMIT")

    def oldest_first(self) -> Iterator[DueFiles]:
        """All of them; of the same age in the order of their paths."""
        with self._usable():
            for (body,) in self._database.execute(_OLDEST_FIRST):
                yield _unpacked(body)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            message = f"files that are due cannot be put aside in {self._folder}: {error}"
            raise MediasyncError(Reason.DATA_FOLDER_UNUSABLE, message, "See that there is space, and try again.") from error


def _nameless(folder: Path) -> sqlite3.Connection:
    number, path = tempfile.mkstemp(prefix="due-", suffix=".tmp", dir=folder)
    try:
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute(_CREATE)
    finally:
        os.close(number)
        os.unlink(path)
    return database


def _packed(group: DueFiles) -> bytes:
    files = [(f.path, f.size_bytes, f.mtime_ns, f.inode, f.age_ns, f.kept and f.kept.value, f.message, f.ctime_ns) for f in group.files]
    return marshal.dumps((files, group.age_ns, group.extra))


def _unpacked(body: bytes) -> DueFiles:
    # Nobody else has ever had the file open.
    files, age_ns, extra = marshal.loads(body)  # noqa: S302
    return DueFiles(tuple(_file(*fields) for fields in files), age_ns, extra)


def _file(path: bytes, size_bytes: int, mtime_ns: int, inode: int, age_ns: int, kept: str | None, message: str, ctime_ns: int) -> DueFile:
    return DueFile(path, size_bytes, mtime_ns, inode, age_ns, KeptReason(kept) if kept else None, message, ctime_ns)
