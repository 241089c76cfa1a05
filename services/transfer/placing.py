"""Where in the library each file of a group goes, if anywhere. Looks, and changes nothing but what is in staging.

In this order: what its own record says (brought before: known, or culled); what the library's record says of the name; whether it is
one that is rewritten; whether its content is there under another name; and else the first name that is free.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import Duplicates, Problem, SyncOptions
from mediasync.paths import MAX_NAME_BYTES, check_relative, display
from mediasync.storage.library_marker import OWN_FOLDER, library_error
from services.transfer.duplicates import Copies
from services.transfer.entities import LandedFile, LandingKind, LibraryId, Memory, Remembered, StagedFile
from services.transfer.hashing import holds, sha256_of
from services.transfer.library import file_error
from services.transfer.naming import PLAIN, candidate_paths, mark_of, marked
from services.transfer.portable import ECRYPTFS_NAME_BYTES, REFUSED, portable_path
from services.transfer.repairing import is_corrupt
from services.transfer.replaced import RewrittenNames
from services.transfer.sidecars import Companion, belongs, is_media, is_sidecar, marks_for, series_of


@dataclass(frozen=True, slots=True)
class Placement:
    """A staged file and the library path at which it is to become visible."""

    staged: StagedFile
    path: bytes
    kind: LandingKind


Outcome = Placement | LandedFile | Problem


class Placer:
    """Places the files of one group, over as many rounds as it takes. `memories` are by source path.

    `corrupt` are library paths whose files have to be replaced, with the size and mtime of the corrupt copies. `placed` is what this group
    has done so far: the next ones of the same stem go with it, and no name is given twice.
    """

    def __init__(
        self,
        library: LibraryId,
        options: SyncOptions,
        rewritten: RewrittenNames,
        memories: Mapping[bytes, Memory],
        copies: Copies,
        discard: Callable[[StagedFile], None],
        corrupt: Mapping[bytes, tuple[int, int]],
    ) -> None:
        self._library = library
        self._options = options
        self._rewritten = rewritten
        self._memories = memories
        self._copies = copies
        self._discard = discard
        self._corrupt = corrupt
        self._taken: set[bytes] = set()
        self._placed: dict[bytes, list[Companion]] = {}
        self._refused: dict[bytes, set[int]] = {}

    def refuse(self, path: bytes, code: int) -> bool:
        """The file system refused a file's name. Returns whether another one is worth a try."""
        codes = self._refused.setdefault(path, set())
        if code not in REFUSED or code in codes:
            return False
        codes.add(code)
        return True

    def place(self, group: Sequence[StagedFile]) -> list[Outcome]:
        """For each file a free path, or what became of it instead, or why it cannot land. Raises MediasyncError when the library as a whole
        fails."""
        outcomes: dict[int, Outcome] = {}
        # Pictures before their sidecars, which go where they go.
        for index in sorted(range(len(group)), key=lambda index: is_sidecar(group[index].entry.path)):
            outcomes[index] = self._place(group[index])
        return [outcomes[index] for index in range(len(group))]

    def stranded(self, placement: Placement) -> list[tuple[Remembered, bytes]]:
        """Sidecars on record that belong to a picture which got a mark just now, and stand under another one; with the path at which
        they should stand."""
        entry = placement.staged.entry
        mark = mark_of(placement.path, entry.path)
        if not mark or not is_media(entry.path):
            return []
        memory = self._memories[entry.path]
        former = memory.row.entry.mtime_ns if memory.row else None
        found = []
        for other in memory.companions:
            path = other.entry.path
            if not is_sidecar(path) or any(path == placed.path for placed in self._placed.get(series_of(path), ())):
                continue
            if mark_of(other.library_path, path) == mark or not belongs(other.entry.mtime_ns, entry.mtime_ns, former):
                continue
            target = marked(path, mark)
            if target not in self._taken and not os.path.lexists(self._absolute(target)):
                self._taken.add(target)
                found.append((other, target))
        return found

    def _place(self, staged: StagedFile) -> Outcome:
        entry = staged.entry
        try:
            outcome = self._decide(staged)
        except OSError as error:
            if self.refuse(entry.path, error.errno or 0):
                return self._place(staged)
            problem = file_error(error, entry.path)
            if problem is None:
                raise library_error(error, self._library.root) from error
            self._discard(staged)
            return Problem.of(problem, entry.path)
        except MediasyncError as error:
            self._discard(staged)
            return Problem.of(error, entry.path)
        if isinstance(outcome, Placement):
            self._taken.add(outcome.path)
        else:
            self._discard(staged)
        if not (isinstance(outcome, LandedFile) and outcome.kind is LandingKind.DUPLICATE):
            path = outcome.path if isinstance(outcome, Placement) else outcome.library_path
            self._placed.setdefault(series_of(entry.path), []).append(Companion(entry.path, entry.mtime_ns, path))
        return outcome

    def _decide(self, staged: StagedFile) -> Placement | LandedFile:
        wanted = check_relative(staged.entry.path)
        if wanted == OWN_FOLDER or wanted.startswith(OWN_FOLDER + b"/"):
            raise MediasyncError(Reason.FILE_NAME_UNSAFE, f"{display(wanted)} is inside the library's own folder")
        memory = self._memories[wanted]
        row = memory.row
        there, gone = self._brought(staged, memory)
        if there is not None:
            if is_corrupt(self._absolute(there), self._corrupt.get(there), staged):
                return Placement(staged, there, LandingKind.REPAIRED)
            return _landed(staged, there, LandingKind.REMEMBERED)
        if gone and not self._options.restore:
            return _landed(staged, gone[0], LandingKind.CULLED)
        if row is not None and memory.landed.get(row.library_path) == row.sha256 and wanted in self._rewritten:
            if self._holds(row.library_path, row.sha256):
                return Placement(staged, row.library_path, LandingKind.REPLACED)
        elif self._options.duplicates is not Duplicates.KEEP and staged.entry.size_bytes and not is_sidecar(wanted):
            duplicate = self._duplicate(staged)
            if isinstance(duplicate, LandedFile):
                return duplicate
            if duplicate is not None:
                return self._free(duplicate, memory, gone, LandingKind.LINKED)
        return self._free(staged, memory, gone, LandingKind.NEW)

    def _brought(self, staged: StagedFile, memory: Memory) -> tuple[bytes | None, list[bytes]]:
        """Whether these bytes were landed before for a file of this name, from this source or another: a path where a file still is, or
        all paths where none is any more."""
        row, gone = memory.row, []
        paths = [path for path, sha256 in memory.landed.items() if sha256 == staged.sha256]
        if row is not None and row.sha256 == staged.sha256:
            if row.library_path not in memory.landed:
                paths.append(row.library_path)
            elif row.library_path not in paths:
                # Other content came to that path since, so what was there had gone.
                gone.append(row.library_path)
        for path in paths:
            if os.path.lexists(self._absolute(path)):
                return path, []
            gone.append(path)
        return None, gone

    def _duplicate(self, staged: StagedFile) -> StagedFile | LandedFile | None:
        if self._options.duplicates is Duplicates.HARDLINK:
            linked = self._copies.link(staged)
            return replace(staged, staged_path=linked) if linked is not None else None
        path = self._copies.find(staged)
        return _landed(staged, path, LandingKind.DUPLICATE) if path is not None else None

    def _free(self, staged: StagedFile, memory: Memory, first: Sequence[bytes], kind: LandingKind) -> Placement | LandedFile:
        entry = staged.entry
        base, limit = self._possible(entry.path)
        companions = [Companion(other.entry.path, other.entry.mtime_ns, other.library_path) for other in memory.companions]
        now = self._placed.get(series_of(entry.path), [])
        current = {other.path: other for other in [*companions, *now] if other.path != entry.path}
        former = memory.row.entry.mtime_ns if memory.row else None
        marks = marks_for(entry.path, entry.mtime_ns, current.values(), former) if current else (PLAIN,)
        for path in itertools.chain(first, candidate_paths(base, entry.mtime_ns, marks, limit)):
            if path in self._taken:
                continue
            try:
                os.lstat(self._absolute(path))
            except FileNotFoundError:
                return Placement(staged, path, kind)
            if holds(self._absolute(path), entry.size_bytes, staged.sha256):
                return _landed(staged, path, LandingKind.KNOWN)
        raise AssertionError("candidate_paths never ends")

    def _possible(self, path: bytes) -> tuple[bytes, int]:
        """A path that the file system may take after it refused `path`, and how long its names may be."""
        codes = self._refused.get(path)
        if not codes:
            return path, MAX_NAME_BYTES
        limit = min(os.pathconf(self._library.root, "PC_NAME_MAX"), MAX_NAME_BYTES)
        characters = codes != {errno.ENAMETOOLONG}
        if errno.ENAMETOOLONG in codes and max(map(len, portable_path(path, limit, characters=characters).split(b"/"))) <= limit:
            limit = min(limit, ECRYPTFS_NAME_BYTES)
        return portable_path(path, limit, characters=characters), limit

    def _holds(self, path: bytes, sha256: bytes) -> bool:
        try:
            return stat.S_ISREG(os.lstat(self._absolute(path)).st_mode) and sha256_of(self._absolute(path)) == sha256
        except FileNotFoundError:
            return False

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self._library.root, path)


def _landed(staged: StagedFile, path: bytes, kind: LandingKind) -> LandedFile:
    return LandedFile(staged.entry, path, staged.sha256, kind, staged.incomplete)
