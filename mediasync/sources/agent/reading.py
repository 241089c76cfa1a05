"""Reading, hashing and deleting many files: what is asked of the agent for each, and how its answers read.

A file's bytes go to its sink in the very callback that received them, without a queue in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from mediasync.sources.agent import requests, wire
from mediasync.sources.agent.calls import MAX_BATCHES, BatchCall
from mediasync.sources.agent.payloads import broken
from mediasync.sources.agent.session import Session
from mediasync.sources.base import DoomedFile, FileDeleted, FileHashed, FileRead, Pace, SinkOpener, WantedFile
from mediasync.sources.groups import grouped, untrue

MAX_DELETIONS = 16  # batches that are asked for ahead, if they come to no more than
AHEAD_BYTES = 512 << 20
FRAMES_BYTES = 64  # about what the frames of one file take on the line besides its bytes


class ReadCall(BatchCall[WantedFile, FileRead]):
    """Answers of one `Connection.read`."""

    def __init__(self, session: Session, open_sink: SinkOpener, folders: Sequence[bytes], window_bytes: int, pace: Pace | None) -> None:
        super().__init__(session)
        self._open_sink = open_sink
        self._folders = folders
        self._window_bytes = window_bytes
        self._pace = pace
        self._bytes_outstanding = 0
        self._write: Callable[[bytes], object] | None = None
        self._incomplete = False

    def requests(self, batch: Sequence[WantedFile]) -> Iterable[bytes]:
        """Asks for the files."""
        return requests.read(batch, self._folders)

    def sent(self, batch: Sequence[WantedFile]) -> None:
        """So many bytes are to come."""
        self._bytes_outstanding += sum(file.size_bytes for file in batch)

    def has_room(self, batches: int) -> bool:
        """One batch streaming and one waiting always; more while they are small against what the line holds."""
        return batches < 2 or (batches < MAX_BATCHES and self._bytes_outstanding < 2 * self._window_bytes)

    def data(self, data: bytes) -> None:
        """The next bytes of the file that is being sent."""
        assert self._write is not None
        self._write(data)
        self._took(len(data))

    def _took(self, count: int) -> None:
        if self._pace is not None and (seconds := self._pace.took(count)) > 0:
            self._session.hold(seconds)

    def frame(self, kind: int, payload: bytes) -> int:
        """A file begins, ends, or is not sent."""
        wanted = self.expected()
        if kind == wire.Answer.BEGIN and self._write is None:
            entry, self._incomplete, offset = wire.begin(payload, wanted.path)
            if entry.size_bytes != wanted.size_bytes:
                raise broken("a file of another size than was asked for")
            if offset and (wanted.partial is None or offset != wanted.partial.size_bytes or offset > entry.size_bytes):
                raise broken("the rest of a file that was not asked for")
            self._write = self._open_sink(wanted, offset).write
            return entry.size_bytes - offset
        if kind == wire.Answer.END and self._write is not None:
            self._write = None
            status, found, message = wire.end(payload, wanted.path)
            self._finished(FileRead(wanted, status, found, self._incomplete, message))
        elif kind == wire.Answer.SKIPPED and self._write is None:
            status, there, message = wire.skipped(payload, wanted.path)
            self._finished(FileRead(wanted, status, there, False, message))
        else:
            raise broken(f"a frame of kind {kind} in the wrong place")
        return 0

    def _finished(self, outcome: FileRead) -> None:
        self._bytes_outstanding -= outcome.wanted.size_bytes
        self._took(FRAMES_BYTES)
        self.answered(outcome)


class HashCall(BatchCall[WantedFile, FileHashed]):
    """Answers of one `Connection.hash_files`."""

    def __init__(self, session: Session, folders: Sequence[bytes]) -> None:
        super().__init__(session)
        self._folders = folders

    def requests(self, batch: Sequence[WantedFile]) -> Iterable[bytes]:
        """Asks for the hashes."""
        return requests.read(batch, self._folders, wire.Request.HASH)

    def frame(self, kind: int, payload: bytes) -> int:
        """A file was hashed, or not."""
        wanted = self.expected()
        if kind != wire.Answer.HASHED:
            raise broken(f"a frame of kind {kind} in place of a hash")
        status, entry, message, digest = wire.hashed(payload, wanted.path)
        if digest is not None and entry is not None and entry.size_bytes != wanted.size_bytes:
            raise broken("the hash of a file of another size than was asked for")
        self.answered(FileHashed(wanted, status, digest, entry, message))
        return 0


class DeleteCall(BatchCall[DoomedFile, FileDeleted]):
    """Answers of one `Connection.delete_unchanged`, or with `into` of one `Connection.move_aside`."""

    def __init__(self, session: Session, folders: Sequence[bytes], into: bytes = b"") -> None:
        super().__init__(session)
        self._folders = folders
        self._into = into
        self._groups: deque[Sequence[DoomedFile]] = deque()
        self._outcomes_of_group: list[FileDeleted] = []
        self._bytes_outstanding = 0

    def requests(self, batch: Sequence[DoomedFile]) -> Iterable[bytes]:
        """Asks for the deletions."""
        groups = grouped(batch)
        self._groups.extend(groups)
        self._bytes_outstanding += sum(file.size_bytes for file in batch)
        return requests.delete(groups, self._folders, self._into)

    def has_room(self, batches: int) -> bool:
        """As many as the far side can hash in a round trip of a long line; none of them is answered before it is its turn."""
        return batches < 2 or (batches < MAX_DELETIONS and self._bytes_outstanding < AHEAD_BYTES)

    def frame(self, kind: int, payload: bytes) -> int:
        """A file was deleted, or not."""
        self.expected()
        if kind != wire.Answer.DELETED:
            raise broken(f"a frame of kind {kind} in place of a deletion")
        group, outcomes = self._groups[0], self._outcomes_of_group
        doomed = group[len(outcomes)]
        outcomes.append(FileDeleted(doomed, *wire.deleted(payload)))
        if len(outcomes) == len(group):
            if (lie := untrue(outcomes)) is not None:
                raise broken(lie)
            self._groups.popleft()
            self._outcomes_of_group = []
            self._bytes_outstanding -= sum(file.size_bytes for file in group)
            for outcome in outcomes:
                self.answered(outcome)
        return 0
