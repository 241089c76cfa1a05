"""The files of a directory as the agent tells them: five columns of text, and objects only for who looks at one.

A full scan of a million files that did not move is a comparison of columns: SQLite makes the same text of what is on record. What is sent
is untrusted, and checked as whole columns when it comes, at the speed of a search in bytes: nothing that is read from it later can fail.

What it does not guarantee: that equal files have equal columns (a far side may write `007`). Equal columns are equal files, no more.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import NamedTuple, overload

from mediasync.sources.base import FileEntry

# A file system may hold times that 64 bits do not; the agent keeps them within these, and so does this side.
FURTHEST_NS = 1 << 62
_LARGEST = (1 << 63) - 1  # sizes and inodes are kept as signed 64-bit numbers
_UNSIGNED = re.compile(rb"(?:[0-9]{1,18}+,)*+")
_LONG = re.compile(rb"(?:[0-9]{1,19}+,)*+")
_SIGNED = re.compile(rb"(?:-?[0-9]{1,19}+,)*+")
_DOTS = (b".", b"..")


class Columns(NamedTuple):
    """Names, divided by `/`, which none of them holds; and of each file, as decimal numbers divided by commas, its size, its mtime, how
    much later its ctime is, and its inode. The lag in place of the ctime, because that is mostly one digit."""

    names: bytes
    sizes: bytes
    mtimes: bytes
    lags: bytes
    inodes: bytes


class PackedFiles(Sequence[FileEntry]):
    """Files of the directory whose path and slash are `prefix`.

    Raises ValueError, with what is wrong, unless the columns are those of `count` files (at least one), sorted by name, whose names are
    names of at most `room` bytes and whose sizes and inodes fit in 63 bits.
    """

    __slots__ = ("_count", "_entries", "_prefix", "columns")

    def __init__(self, prefix: bytes, count: int, columns: Columns, room: int) -> None:
        _check_names(columns.names, count, room)
        _check_numbers(columns.sizes, count, _UNSIGNED)
        _check_numbers(columns.inodes, count, _UNSIGNED)
        _check_numbers(columns.mtimes, count, _SIGNED)
        _check_numbers(columns.lags, count, _SIGNED)
        self.columns = columns
        self._prefix = prefix
        self._count = count
        self._entries: list[FileEntry] | None = None

    @property
    def last_name(self) -> bytes:
        """The name of the last file."""
        return self.columns.names.rpartition(b"/")[2]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> FileEntry: ...
    @overload
    def __getitem__(self, index: slice) -> list[FileEntry]: ...
    def __getitem__(self, index: int | slice) -> FileEntry | list[FileEntry]:
        if self._entries is None:
            self._entries = self._unpacked()
        return self._entries[index]

    def _unpacked(self) -> list[FileEntry]:
        names, *numbers = self.columns
        sizes, mtimes, lags, inodes = ([*map(int, column.split(b","))] for column in numbers)
        ctimes = [*map(operator.add, mtimes, lags)]
        paths = [self._prefix + name for name in names.split(b"/")]
        return [*map(FileEntry, paths, sizes, _within(mtimes), _within(ctimes), inodes)]


def _within(times: list[int]) -> list[int]:
    if min(times) >= -FURTHEST_NS and max(times) <= FURTHEST_NS:
        return times
    return [max(-FURTHEST_NS, min(FURTHEST_NS, time_ns)) for time_ns in times]


def _check_names(column: bytes, count: int, room: int) -> None:
    names = column.split(b"/")
    if len(names) != count:
        raise ValueError(f"{len(names)} names for {count} files")
    # Sorted, so that neither an empty one nor one that came before passes.
    if not names[0] or not all(map(operator.lt, names, names[1:])):
        raise ValueError("an empty name, or names out of order")
    if b"\0" in column or any(dots in names for dots in _DOTS) or max(map(len, names)) > room:
        raise ValueError("a name that is none")


def _check_numbers(column: bytes, count: int, form: re.Pattern[bytes]) -> None:
    if column.count(b",") != count - 1:
        raise ValueError(f"numbers that are not those of {count} files")
    if form.fullmatch(column + b","):
        return
    # A number of so many digits is rare, and its value is worth a look.
    if form is _SIGNED or not _LONG.fullmatch(column + b",") or max(map(int, column.split(b","))) > _LARGEST:
        raise ValueError("a number that is none, or beyond all disks")
