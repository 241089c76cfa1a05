"""The files of a directory as the agent tells them: columns of text, and objects only for who looks at one.

A full scan of a million files that did not move is a comparison of columns: SQLite makes the same text of what is on record. What is sent
is untrusted, and checked as whole columns when it comes, at the speed of a search in bytes: nothing that is read from it later can fail.

Who goes through many files of which few matter asks for what it decides by, and then for those few alone, of whatever sequence of files a
scan gave: `modified`, `changed`, `sizes`, `born`, `accessed` and `names` are a column each, in the order of the files, and `picked` the
files at some places. Of packed files that costs a tenth of looking at each one.

What it does not guarantee: that equal files have equal columns (a far side may write `007`). Equal columns are equal files, no more.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from mediasync.sources.base import FileEntry

# A file system may hold times that 64 bits do not; the agent keeps them within these, and so does this side.
FURTHEST_NS = 1 << 62
_LARGEST = (1 << 63) - 1  # sizes and inodes are kept as signed 64-bit numbers
_UNSIGNED = re.compile(rb"(?:[0-9]{1,18}+,)*+")
_LONG = re.compile(rb"(?:[0-9]{1,19}+,)*+")
_SIGNED = re.compile(rb"(?:-?[0-9]{1,19}+,)*+")
_PERHAPS = re.compile(rb"(?:(?:-|-?[0-9]{1,19}+),)*+")
_UNKNOWN = b"-"
_DOTS = (b".", b"..")


class Columns(NamedTuple):
    """Names, divided by `/`, which none of them holds; and of each file, as decimal numbers divided by commas, its size, its mtime, how
    much later its ctime is, and its inode. The lag in place of the ctime, because that is mostly one digit. When it was born and last read,
    with `-` for what is not known, only in a scan that asks for ages; else both are empty."""

    names: bytes
    sizes: bytes
    mtimes: bytes
    lags: bytes
    inodes: bytes
    births: bytes = b""
    accesses: bytes = b""


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
        for ages in filter(None, columns[5:]):
            _check_numbers(ages, count, _PERHAPS)
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

    def __iter__(self) -> Iterator[FileEntry]:
        return iter(self[:])

    def numbers(self, column: bytes) -> list[int]:
        """One of its columns of numbers."""
        return [*map(int, column.split(b","))]

    def times(self, column: bytes) -> list[int | None]:
        """One of its columns of times that may not be known."""
        if not column:
            return [None] * self._count
        return [None if part == _UNKNOWN else _near(int(part)) for part in column.split(b",")]

    def modified(self) -> list[int]:
        """When each was last written."""
        return _within(self.numbers(self.columns.mtimes))

    def changed(self) -> list[int]:
        """When what is known of each was last changed: its ctime."""
        return _within([*map(operator.add, self.numbers(self.columns.mtimes), self.numbers(self.columns.lags))])

    def picked(self, places: Sequence[int]) -> list[FileEntry]:
        """Those at some places, without making the others."""
        if self._entries is not None or not places:
            return [self[place] for place in places]
        columns = Columns(*(_at(column, b"," if number else b"/", places) for number, column in enumerate(self.columns)))
        return PackedFiles._few(self._prefix, len(places), columns)._unpacked()

    @classmethod
    def _few(cls, prefix: bytes, count: int, columns: Columns) -> PackedFiles:
        few = cls.__new__(cls)
        few.columns, few._prefix, few._count, few._entries = columns, prefix, count, None
        return few

    def _unpacked(self) -> list[FileEntry]:
        columns = self.columns
        sizes, inodes = self.numbers(columns.sizes), self.numbers(columns.inodes)
        paths = [self._prefix + name for name in columns.names.split(b"/")]
        if columns.births or columns.accesses:
            ages = self.times(columns.births), self.times(columns.accesses)
            return [*map(FileEntry, paths, sizes, self.modified(), self.changed(), inodes, *ages)]
        return [*map(FileEntry, paths, sizes, self.modified(), self.changed(), inodes)]


def modified(files: Sequence[FileEntry]) -> Sequence[int]:
    """The mtime of each file."""
    return files.modified() if isinstance(files, PackedFiles) else [file.mtime_ns for file in files]


def changed(files: Sequence[FileEntry]) -> Sequence[int]:
    """The ctime of each file."""
    return files.changed() if isinstance(files, PackedFiles) else [file.ctime_ns for file in files]


def sizes(files: Sequence[FileEntry]) -> Sequence[int]:
    """The size of each file."""
    return files.numbers(files.columns.sizes) if isinstance(files, PackedFiles) else [file.size_bytes for file in files]


def born(files: Sequence[FileEntry]) -> Sequence[int | None]:
    """When each file was born, None where that is not known."""
    return files.times(files.columns.births) if isinstance(files, PackedFiles) else [file.birth_ns for file in files]


def accessed(files: Sequence[FileEntry]) -> Sequence[int | None]:
    """When each file was last read, None where that is not known."""
    return files.times(files.columns.accesses) if isinstance(files, PackedFiles) else [file.accessed_ns for file in files]


def names(files: Sequence[FileEntry]) -> Sequence[bytes]:
    """The last path part of each file."""
    if isinstance(files, PackedFiles):
        return files.columns.names.split(b"/")
    return [file.path.rpartition(b"/")[2] for file in files]


def picked(files: Sequence[FileEntry], places: Sequence[int]) -> list[FileEntry]:
    """The files at some places."""
    return files.picked(places) if isinstance(files, PackedFiles) else [files[place] for place in places]


def _at(column: bytes, mark: bytes, places: Sequence[int]) -> bytes:
    if not column:
        return column
    parts = column.split(mark)
    return mark.join([parts[place] for place in places])


def _near(time_ns: int) -> int:
    return max(-FURTHEST_NS, min(FURTHEST_NS, time_ns))


def _within(times: list[int]) -> list[int]:
    if min(times) >= -FURTHEST_NS and max(times) <= FURTHEST_NS:
        return times
    return [*map(_near, times)]


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
    if form in (_SIGNED, _PERHAPS) or not _LONG.fullmatch(column + b",") or max(map(int, column.split(b","))) > _LARGEST:
        raise ValueError("a number that is none, or beyond all disks")
