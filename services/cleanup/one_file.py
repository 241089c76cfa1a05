"""What a clean-up now would do with one file, found out without a look at all the others: only its folder is listed.

What other folders decide is left out: the cap, and how far low space reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from mediasync.model import AgeBasis, KeptReason, SyncSpec
from mediasync.model.synced import SourceFile, SyncedFile, SyncedState
from mediasync.sources.base import (
    Connection,
    DirectoryScanned,
    DirectoryUnreadable,
    FileEntry,
    FileFiltered,
    ScanRequest,
)
from mediasync.sources.selection import Selection
from mediasync.sources.units import units_of
from services.cleanup.answers import closable
from services.cleanup.choosing import Chooser
from services.cleanup.entities import OriginLibrary, PlanRow
from services.cleanup.looking import Listing, selection_of
from services.cleanup.peers import Transfer
from services.cleanup.planning import policy_in, source_now_ns, space_of, terms_of
from services.cleanup.policy import DueGroup, Terms, judge, young

_NOTHING = SyncedFile(SyncedState.UNKNOWN)
# No folder has this inode number, so that a quick scan lists it in full.
_NO_INODE = 0


async def plan_file(connection: Connection, spec: SyncSpec, library: OriginLibrary, transfer: Transfer, path: bytes) -> PlanRow | None:
    """What a clean-up now would do with a file; None if it is not there. Raises MediasyncError."""
    policy, selection = policy_in(spec), selection_of(spec)
    shortage, _ = space_of(policy, await connection.surroundings())
    units = await units_of(connection, spec.source, spec.folders)
    unit = next((unit for unit in units if not unit or path.startswith(unit + b"/")), None)
    found = await _look(connection, unit or b"", path, selection, policy.age_basis)
    terms = terms_of(policy, source_now_ns(connection), space_is_low=shortage > 0)
    if found.unreadable is not None:
        return _stays(path, KeptReason.UNREADABLE, found.unreadable.message)
    if found.filtered is not None:
        return _stays(path, KeptReason.NO_RESULT, found.filtered.reason.because, found.filtered.size_bytes)
    listing = Listing(path.rpartition(b"/")[0], found.pieces, policy.age_basis, terms.now_ns) if any(found.pieces) else None
    name = path.rpartition(b"/")[2]
    if listing is None or name not in listing.files.names:
        return None
    place = listing.files.names.index(name)
    row = _row(listing, place)
    if unit is None:
        return replace(row, kept=KeptReason.NO_RESULT, message="it lies in none of the folders that are cleaned up")
    if (above := _hidden(selection, unit, path)) is not None:
        return replace(row, kept=KeptReason.NO_RESULT, message=above)
    if (group := _group_of(listing, place, terms)) is not None:
        return await _compared(spec, library, transfer, listing, group, place, terms)
    stay = next((stay for stay in judge(listing.files, terms).stays if stay.place == place), None)
    kept, message = (stay.reason, stay.message) if stay is not None else young(listing.files, place, terms) or (KeptReason.COMPANION, "")
    return replace(row, kept=kept, message=message)


@dataclass
class _Found:
    """What was listed of a file's folder, or why it was not."""

    pieces: list[Sequence[FileEntry]] = field(default_factory=list)
    filtered: FileFiltered | None = None
    unreadable: DirectoryUnreadable | None = None


async def _look(connection: Connection, unit: bytes, path: bytes, selection: Selection, basis: AgeBasis) -> _Found:
    folder, found = path.rpartition(b"/")[0], _Found()
    # A quick scan goes straight to a folder, and follows no link on the way there.
    request = ScanRequest(
        unit,
        changed_since_ns=0,
        known_directories={folder: _NO_INODE},
        quick=True,
        selection=selection,
        explain=True,
        ages=basis is not AgeBasis.MODIFIED,
    )
    async with aclosing(closable(connection.scan(request))) as records:
        async for record in records:
            if isinstance(record, FileFiltered) and record.path == path:
                found.filtered = record
            elif isinstance(record, DirectoryUnreadable) and record.path == folder:
                found.unreadable = record
            elif isinstance(record, DirectoryScanned) and record.path == folder:
                found.pieces.append(record.files)
                if not record.more:
                    break
    return found


def _hidden(selection: Selection, unit: bytes, path: bytes) -> str | None:
    """Why a folder that the file is in is not looked into; None if all are."""
    folder = path.rpartition(b"/")[0]
    while len(folder) > len(unit):
        reason = selection.folder_reason(folder)
        if reason is not None:
            return reason.because
        folder = folder.rpartition(b"/")[0]
    return None


def _group_of(listing: Listing, place: int, terms: Terms) -> DueGroup | None:
    return next((group for group in judge(listing.files, terms).groups if place in group.places), None)


async def _compared(
    spec: SyncSpec, library: OriginLibrary, transfer: Transfer, listing: Listing, group: DueGroup, place: int, terms: Terms
) -> PlanRow:
    """What becomes of a file of a group that is old enough."""
    policy, entries = policy_in(spec), listing.entries(group.places)
    files = [entries[member] for member in group.places]
    records: list[SyncedFile] | None = None
    if policy.verify_synced:
        asked = [SourceFile(file.path, file.size_bytes, file.mtime_ns, file.inode) for file in files]
        records = await transfer.synced(spec.source, library.root, asked) if library.root else [_NOTHING] * len(files)
    reasons = Chooser(replace(policy, force_cap=True), len(files)).choose([file.size_bytes for file in files], records)
    at = group.places.index(place)
    row = replace(_row(listing, place), joined=at > 0)
    if (kept := reasons[at]) is not None:
        return replace(row, kept=kept)
    if group.extra:
        return replace(row, kept=KeptReason.TOO_YOUNG, message="space is low: it goes if older files do not free enough")
    record = records[at] if records is not None else SyncedFile(SyncedState.UNKNOWN)
    return replace(row, sha256=record.sha256, copies=record.copies, cause=f"older than {policy.age_hours:g} h")


def _row(listing: Listing, place: int) -> PlanRow:
    file = listing.entries([place])[place]
    return PlanRow(1, file.path, file.size_bytes, file.mtime_ns, file.inode, listing.files.ages[place])


def _stays(path: bytes, reason: KeptReason, message: str, size_bytes: int = 0) -> PlanRow:
    return PlanRow(1, path, size_bytes, 0, 0, 0, kept=reason, message=message)
