"""Directories as records of a scan, for engines that look at names on this side.

Whoever lists hands over each directory whole; this decides what is a result, counts, cuts large directories into pieces, and says of an
exact scan only what moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mediasync.model import FilterReason, FollowSymlinks
from mediasync.paths import MAX_NAME_BYTES, MAX_PATH_BYTES
from mediasync.sources.base import (
    DirectoryScanned,
    DirectoryUnreadable,
    FileEntry,
    FileFiltered,
    ScanFinished,
    ScanRecord,
    ScanRequest,
)
from mediasync.sources.selection import Selection

PIECE_FILES = 1000
_CLOCK_WAS_SET_SECONDS = 3600.0


def age_seconds(mtime_ns: int, ctime_ns: int, now_ns: int) -> float:
    """How long a file was left alone. An mtime in the future says nothing: the ctime counts instead. A ctime in the future means that
    a clock was set, or that a file server's is ahead: up to an hour it counts as young, further ahead as old (as the agent has it)."""
    age = (now_ns - mtime_ns) / 1e9
    if age >= 0:
        return age
    age = (now_ns - ctime_ns) / 1e9
    if age >= 0:
        return age
    return 0.0 if age > -_CLOCK_WAS_SET_SECONDS else -age


@dataclass(slots=True)
class Listed:
    """One directory and what is in it: `files` that all is known of; `unmoved`, paths and sizes of files that nothing more is known of
    but that they did not move; `links`, paths of links that are to be followed; `others`, paths of what is no regular file."""

    path: bytes
    inode: int
    mtime_ns: int
    files: list[FileEntry] = field(default_factory=list)
    unmoved: list[tuple[bytes, int]] = field(default_factory=list)
    links: list[bytes] = field(default_factory=list)
    others: list[tuple[bytes, FilterReason]] = field(default_factory=list)


def link_reason(selection: Selection, path: bytes, kind: str, real: bytes, chain: Sequence[bytes], root: bytes) -> FilterReason | None:
    """Why a link is no result; None if it is followed.

    `kind` is what it leads to: `d`, `f` or anything else; `real` its real path there; `chain` the real paths of the folders that lead to
    the link, outermost first, beginning with what the user named; `root` that of the root.
    """
    inside = any(real == top or real.startswith(top.rstrip(b"/") + b"/") for top in (root, chain[0]))
    if kind != "d":
        return FilterReason.OUTSIDE if not inside else None if kind == "f" else FilterReason.SPECIAL
    reason = selection.folder_reason(path)
    if reason is not None:
        return reason
    if selection.follow_symlinks is not FollowSymlinks.ALL:
        return FilterReason.LINK
    return None if inside and real not in chain else FilterReason.OUTSIDE


class Tally:
    """What one scan has seen, and its records."""

    def __init__(self, request: ScanRequest, now_ns: int) -> None:
        self.request = request
        self._now_ns = now_ns
        self._seen = self._bytes = 0
        self._filtered: Counter[FilterReason] = Counter()
        self._long: dict[bytes, int] = {}

    def fits(self, folder: bytes, name: bytes) -> bool:
        """Whether a name can be carried; noted if not."""
        if len(name) <= MAX_NAME_BYTES and len(folder) + 1 + len(name) <= MAX_PATH_BYTES:
            return True
        self._long[folder] = self._long.get(folder, 0) + 1
        return False

    def left_out(self, reason: FilterReason) -> None:
        """Counts something that is no result."""
        self._filtered[reason] += 1

    def incomplete(self, found: Listed) -> bool:
        """Whether a directory has to be reported in full, and not all is known of its files."""
        if not found.unmoved:
            return False
        return self._unknown(found) or (self._moved(found) and len(found.unmoved) + len(found.files) > PIECE_FILES)

    def _unknown(self, found: Listed) -> bool:
        return self.request.changed_since_ns is None or self.request.known_directories.get(found.path) != found.inode

    def _moved(self, found: Listed) -> bool:
        since = self.request.changed_since_ns
        return since is not None and ends_with(found.mtime_ns) >= since

    def records(self, found: Listed, *, full: bool = False) -> Iterator[ScanRecord]:
        """The records of one directory. With `full` every file is reported whatever moved."""
        since = self.request.changed_since_ns
        complete = full or self._unknown(found)
        selection, explain = self.request.selection, self.request.explain
        results: list[FileEntry] = []
        names: list[bytes] = []
        young = False
        for path, reason in found.others:
            self.left_out(reason)
            if explain:
                yield FileFiltered(path, reason)
        for entry in found.files:
            age = age_seconds(entry.mtime_ns, entry.ctime_ns, self._now_ns)
            rejected = selection.file_reason(entry.path, entry.size_bytes, age)
            if rejected is not None:
                self.left_out(rejected)
                young = young or rejected is FilterReason.TOO_YOUNG
                if explain:
                    yield FileFiltered(entry.path, rejected, entry.size_bytes)
                continue
            self._seen += 1
            self._bytes += entry.size_bytes
            names.append(entry.path)
            results.append(entry)
        for path, size in found.unmoved:
            rejected = selection.file_reason(path, size, 0.0)
            if rejected is not None:
                self.left_out(rejected)
                if explain:
                    yield FileFiltered(path, rejected, size)
                continue
            self._seen += 1
            self._bytes += size
            names.append(path)
        moved = not complete and self._moved(found)
        if moved and len(names) > PIECE_FILES:
            # So many names cost little less than everything.
            complete, moved = True, False
        if not complete and since is not None:
            results = [entry for entry in results if ends_with(entry.ctime_ns) >= since]
        results.sort(key=lambda entry: entry.path)
        last = tuple(sorted(name.rpartition(b"/")[2] for name in names)) if moved else None
        for start in range(0, len(results) or 1, PIECE_FILES):
            piece = tuple(results[start : start + PIECE_FILES])
            more = start + PIECE_FILES < len(results)
            yield DirectoryScanned(found.path, found.inode, piece, complete, last, more, young)
        if found.path in self._long:
            count = self._long.pop(found.path)
            message = f"{count} names in it are too long (over {MAX_NAME_BYTES} bytes, or {MAX_PATH_BYTES} with their folders)"
            yield DirectoryUnreadable(found.path, message)

    def finished(self, started_ns: int) -> ScanFinished:
        """The last record."""
        return ScanFinished(started_ns, self._seen, self._bytes, dict(self._filtered))


def ends_with(moment_ns: int) -> int:
    """The last moment that a time stands for: some far sides tell whole seconds only."""
    return moment_ns if moment_ns % 10**9 else moment_ns + 10**9 - 1
