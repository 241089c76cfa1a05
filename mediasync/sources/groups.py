"""Files that are deleted together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.sources.base import MOST_JOINED, DeleteStatus, DoomedFile, FileDeleted


@dataclass(frozen=True)
class Group:
    """Files that go together or not at all, as one thing to work on."""

    files: Sequence[DoomedFile]

    @property
    def path(self) -> bytes:
        """The first one's."""
        return self.files[0].path

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(file.size_bytes for file in self.files)


def grouped(batch: Sequence[DoomedFile]) -> list[list[DoomedFile]]:
    """A batch as its groups. Raises INVALID_ARGUMENT for one that is too large, has a file twice, or files of two folders."""
    groups: list[list[DoomedFile]] = []
    for file in batch:
        if file.joined and groups:
            groups[-1].append(file)
        else:
            groups.append([file])
    for group in groups:
        if len(group) > MOST_JOINED:
            message = f"{len(group)} files are to be deleted together or not at all, of which at most {MOST_JOINED} can be"
            raise MediasyncError(Reason.INVALID_ARGUMENT, message, "Delete them in smaller groups.")
        if len({file.path for file in group}) < len(group) or len({file.path.rpartition(b"/")[0] for file in group}) > 1:
            message = f"{display(group[0].path)} is to be deleted together with itself, or with a file of another folder"
            raise MediasyncError(Reason.INVALID_ARGUMENT, message, "Group different files of one folder.")
    return groups


def untrue(outcomes: Sequence[FileDeleted]) -> str | None:
    """What is wrong with the outcomes of a group, if something is: only the first ones can be gone, and none is kept but for another."""
    statuses = [outcome.status for outcome in outcomes]
    gone = next((at for at, status in enumerate(statuses) if status is not DeleteStatus.DELETED), len(statuses))
    if DeleteStatus.DELETED in statuses[gone:]:
        return "a deletion after one of its group that was none"
    if DeleteStatus.KEPT in statuses and not set(statuses) - {DeleteStatus.DELETED, DeleteStatus.KEPT}:
        return "a file that was kept for the sake of no other"
    if gone and DeleteStatus.KEPT in statuses[gone : gone + 1]:
        return "a file that was kept before the one that it was kept for"
    return None
