"""What the journal left open is looked at again before anything else is done with a source.

An intent is open when a clean-up was killed, or its line was cut, before the outcome was written down. One that was not verified was never
sent to the source. Of one that was, the file may be gone. Nothing is deleted here: what is still there is planned again, by the policy that
counts now.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DeletionOutcome, KeptReason, SourceSpec
from mediasync.sources.base import Connection, DirectoryScanned, DirectoryUnreadable, FileEntry, ReadStatus, ScanRequest, WantedFile
from services.cleanup.answers import closable
from services.cleanup.entities import Intent, Outcome
from services.cleanup.peers import Transfer
from services.cleanup.store import Journal

FOUND_GONE = "found gone after a restart"
_STILL_THERE = "found unchanged after a restart"
_BATCH = 100
_logger = logging.getLogger(__name__)


async def recover(source: SourceSpec, connection: Connection, journal: Journal, transfer: Transfer) -> int:
    """Settles every open intent of a source; returns how many there were. Raises MediasyncError when the source cannot be asked: they stay
    open then."""
    intents = await journal.open_intents(source.key)
    for some in _batches(intents):
        outcomes = await _looked_at(connection, some)
        # By library: those that a run of another one left open are told there.
        gone = [intent for intent, outcome in zip(some, outcomes, strict=True) if outcome.outcome is DeletionOutcome.DELETED]
        for root, files in itertools.groupby(sorted(gone, key=lambda intent: intent.library_root), key=lambda intent: intent.library_root):
            if root:
                await transfer.note_cleaned(source, root, [intent.file for intent in files])
        await journal.record_outcomes(outcomes)
    if intents:
        _logger.info("looked at %d files again of which it was not known what became of them", len(intents))
    return len(intents)


async def _looked_at(connection: Connection, intents: Sequence[Intent]) -> list[Outcome]:
    try:
        statuses = await _hashed(connection, intents)
    except MediasyncError as error:
        if error.reason is not Reason.ENGINE_CANNOT:
            raise
        statuses = await _listed(connection, intents)
    return [_outcome(intent, status) for intent, status in zip(intents, statuses, strict=True)]


def _outcome(intent: Intent, status: ReadStatus) -> Outcome:
    if status is ReadStatus.VANISHED:
        if not intent.verified:
            return Outcome(intent.number, DeletionOutcome.VANISHED)
        gone = DeletionOutcome.TRASHED if intent.trash_path else DeletionOutcome.DELETED
        return Outcome(intent.number, gone, message=FOUND_GONE)
    if status is ReadStatus.OK:
        return Outcome(intent.number, DeletionOutcome.KEPT, KeptReason.STOPPED, _STILL_THERE)
    if status is ReadStatus.UNREADABLE:
        return Outcome(intent.number, DeletionOutcome.KEPT, KeptReason.UNREADABLE, "found unreadable after a restart")
    return Outcome(intent.number, DeletionOutcome.KEPT, KeptReason.CHANGED_MEANWHILE, "found changed after a restart")


async def _hashed(connection: Connection, intents: Sequence[Intent]) -> list[ReadStatus]:
    """What is there, by the far side's look at each file alone. One of the same size and time with other bytes has changed."""
    wanted = [WantedFile(intent.path, intent.size_bytes, intent.mtime_ns, intent.inode) for intent in intents]

    async def batches() -> AsyncGenerator[Sequence[WantedFile]]:
        yield wanted

    statuses: list[ReadStatus] = []
    async with aclosing(closable(connection.hash_files(batches()))) as outcomes:
        async for hashed in outcomes:
            intent = intents[len(statuses)]
            same = hashed.status is not ReadStatus.OK or not intent.sha256 or hashed.sha256 == intent.sha256
            statuses.append(hashed.status if same else ReadStatus.CHANGED)
    return statuses


async def _listed(connection: Connection, intents: Sequence[Intent]) -> list[ReadStatus]:
    """The same by listing the folders, for a far side that cannot hash."""
    found: dict[bytes, FileEntry] = {}
    looked_for = {intent.path for intent in intents}
    for folder in _outermost({intent.path.rpartition(b"/")[0] for intent in intents}):
        async with aclosing(closable(connection.scan(ScanRequest(folder)))) as records:
            async for record in records:
                if isinstance(record, DirectoryScanned):
                    found |= {entry.path: entry for entry in record.files if entry.path in looked_for}
                elif isinstance(record, DirectoryUnreadable):
                    # Whether the file is there is not known.
                    raise MediasyncError(Reason.SOURCE_UNREADABLE, f"what became of {len(intents)} files is not known: {record.message}")
    return [_compared(intent, found.get(intent.path)) for intent in intents]


def _compared(intent: Intent, entry: FileEntry | None) -> ReadStatus:
    if entry is None:
        return ReadStatus.VANISHED
    same = (entry.size_bytes, entry.mtime_ns, entry.inode) == (intent.size_bytes, intent.mtime_ns, intent.inode)
    return ReadStatus.OK if same else ReadStatus.CHANGED


def _outermost(folders: Iterable[bytes]) -> list[bytes]:
    """Without those that lie in another one of them."""
    outermost: list[bytes] = []
    for folder in sorted(folders):
        if not any(not above or folder.startswith(above + b"/") for above in outermost):
            outermost.append(folder)
    return outermost


def _batches(intents: Sequence[Intent]) -> Iterator[Sequence[Intent]]:
    for start in range(0, len(intents), _BATCH):
        yield intents[start : start + _BATCH]
