"""What a clean-up that was cut off left open."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import DeletionOutcome, KeptReason
from mediasync.model.synced import SourceFile
from mediasync.sources.base import Connection
from mediasync.sources.refusals import Refused
from services.cleanup.history_store import History, Wanted
from services.cleanup.recovery import FOUND_GONE, recover
from tests.fixtures.cleanup import CleanupPlace, away


class WithoutHashes:
    """A far side that can only list."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def hash_files(self, batches: object) -> Refused[object]:
        return Refused(MediasyncError(Reason.ENGINE_CANNOT, "no means to"))

    def scan(self, request: object) -> object:
        return self._connection.scan(request)


async def _left_open(place: CleanupPlace, files: Sequence[SourceFile], verified: Sequence[bool]) -> None:
    await place.begin("sync_old")
    numbers = await place.journal.add_intents("sync_old", [place.row(file) for file in files])
    await place.journal.verified([(number, file.path) for number, file, good in zip(numbers, files, verified, strict=True) if good])


async def _recovered(place: CleanupPlace, *, hashes: bool = True) -> dict[str, tuple[DeletionOutcome, KeptReason | None, str]]:
    async with place.connection() as connection:
        await recover(place.spec().source, connection if hashes else WithoutHashes(connection), place.journal, place.transfer)
    page = await History(place.database).page(Wanted(), None, 100)
    return {os.fsdecode(entry.path): (entry.outcome, entry.kept, entry.message) for entry in page.deletions}


@pytest.mark.parametrize("hashes", [True, False])
async def test_each_open_intent_ends_as_what_is_found(place: CleanupPlace, hashes: bool) -> None:
    files = [place.synced(f"{name}.png") for name in ("a/sent", "never", "there", "early", "changed")]
    await _left_open(place, files, [True, False, True, False, True])
    for name in ("a/sent.png", "never.png"):
        (place.source / name).unlink()
    (place.source / "changed.png").write_bytes(b"another")
    found = await _recovered(place, hashes=hashes)
    assert found["a/sent.png"] == (DeletionOutcome.DELETED, None, FOUND_GONE)
    assert found["never.png"][:2] == (DeletionOutcome.VANISHED, None)
    assert found["there.png"][:2] == found["early.png"][:2] == (DeletionOutcome.KEPT, KeptReason.STOPPED)
    assert found["changed.png"][:2] == (DeletionOutcome.KEPT, KeptReason.CHANGED_MEANWHILE)
    assert place.left() == ["changed.png", "early.png", "there.png"]
    assert place.transfer.cleaned == [b"a/sent.png"]
    assert len(await place.journal.unsent_events(10)) == 1
    assert not await place.journal.open_intents("name:box")


async def test_other_bytes_of_the_same_size_and_time_are_a_change(place: CleanupPlace) -> None:
    file = place.synced("a.png", b"first")
    await _left_open(place, [file], [True])
    (place.source / "a.png").write_bytes(b"other")
    os.utime(place.source / "a.png", ns=(file.mtime_ns, file.mtime_ns))
    found = await _recovered(place)
    assert found["a.png"][:2] == (DeletionOutcome.KEPT, KeptReason.CHANGED_MEANWHILE)


async def test_what_cannot_be_told_stays_open(place: CleanupPlace) -> None:
    await _left_open(place, [place.synced("a.png")], [True])
    (place.source / "a.png").unlink()
    place.transfer.wrong = away()
    with pytest.raises(MediasyncError, match="Cannot reach"):
        await _recovered(place)
    assert len(await place.journal.open_intents("name:box")) == 1
    place.transfer.wrong = None
    assert (await _recovered(place))["a.png"][0] is DeletionOutcome.DELETED
