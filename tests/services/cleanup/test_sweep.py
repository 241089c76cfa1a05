"""A sweep over a real folder, with a real agent and a real journal."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupSummary, DeletionOutcome, Kept, KeptReason
from mediasync.sources.base import Connection
from services.cleanup.counting import Tally
from services.cleanup.entities import CheckedFile, PlanRow
from services.cleanup.history_store import History, Wanted
from services.cleanup.sweep import Sweep, SweepParts
from services.cleanup.verification import READERS, CopyCheck
from tests.fixtures.cleanup import CleanupPlace, away


@dataclass
class Reading:
    """Reads copies, and notes how many at a time; or fails."""

    check_: CopyCheck
    batches: list[int] = field(default_factory=list)
    failure: MediasyncError | None = None

    async def check(self, rows: Sequence[PlanRow]) -> list[CheckedFile]:
        self.batches.append(len(rows))
        if self.failure is not None:
            raise self.failure
        return await self.check_.check(rows)


class Sweeping:
    """A sweep and what it works with."""

    def __init__(self, place: CleanupPlace, connection: Connection, rows: Sequence[PlanRow], batch: int = 2, trash: bytes = b"") -> None:
        self.place = place
        self.rows = rows
        self.batch = batch
        self._readers = ThreadPoolExecutor(READERS)
        self.checker = Reading(CopyCheck(place.origin.root, place.origin.uuid, self._readers, without_copies=bool(trash)))
        self.stop = asyncio.Event()
        self.written = 0
        planned = CleanupSummary(files_scanned=len(rows), files_deleted=len(rows), space_freed_bytes=sum(row.size_bytes for row in rows))
        self.tally = Tally(planned, Kept(), Kept())
        spec = place.spec()
        self.sweep = Sweep(
            SweepParts(
                spec=spec,
                library=place.origin,
                sync_id="sync_1",
                connection=connection,
                journal=place.journal,
                transfer=place.transfer,
                checker=self.checker,
                tally=self.tally,
                stop=self.stop,
                on_written=self._wrote,
                trash=trash,
            )
        )

    async def _wrote(self) -> None:
        self.written += 1

    async def batches(self) -> AsyncIterator[Sequence[PlanRow]]:
        for start in range(0, len(self.rows), self.batch):
            yield self.rows[start : start + self.batch]

    async def run(self) -> CleanupSummary:
        await self.place.begin()
        with self._readers:
            await self.sweep.run(self.batches())
        return self.tally.summary()

    async def journal(self) -> dict[bytes, tuple[DeletionOutcome, KeptReason | None]]:
        page = await History(self.place.database).page(Wanted(), None, 100)
        return {entry.path: (entry.outcome, entry.kept) for entry in page.deletions}


async def test_everything_goes_that_is_good_on_both_sides(place: CleanupPlace) -> None:
    files = [place.synced(f"a/{number}.png") for number in range(7)]
    async with place.connection() as connection:
        sweeping = Sweeping(place, connection, [place.row(file, at) for at, file in enumerate(files)])
        summary = await sweeping.run()
    assert place.left() == []
    assert (summary.files_deleted, summary.files_kept, summary.errors) == (7, 0, 0)
    assert summary.space_freed_bytes == sum(file.size_bytes for file in files)
    assert set((await sweeping.journal()).values()) == {(DeletionOutcome.DELETED, None)}
    assert sorted(place.transfer.cleaned) == sorted(file.path for file in files)
    assert sweeping.sweep.folders == {b"a"}
    assert all(report.intact for report in place.transfer.reports) and len(place.transfer.reports) == 7
    assert sweeping.checker.batches == [2, 2, 2, 1]
    assert sweeping.written


async def test_what_is_not_good_in_the_library_or_not_the_same_at_the_source_stays(place: CleanupPlace) -> None:
    names = ["good", "corrupt", "changed", "vanished", "replaced"]
    rows = [place.row(place.synced(f"{name}.png", name.encode() * 9), at) for at, name in enumerate(names)]
    (place.library / "corrupt.png").write_bytes(b"x")
    (place.source / "changed.png").write_bytes(b"changed meanwhile")
    (place.source / "vanished.png").unlink()
    same = (place.source / "replaced.png").stat()
    (place.source / "replaced.png").write_bytes(b"replacez" * 9)
    os.utime(place.source / "replaced.png", ns=(same.st_atime_ns, same.st_mtime_ns))
    async with place.connection() as connection:
        sweeping = Sweeping(place, connection, rows, batch=5)
        summary = await sweeping.run()
    assert place.left() == ["changed.png", "corrupt.png", "replaced.png"]
    assert await sweeping.journal() == {
        b"good.png": (DeletionOutcome.DELETED, None),
        b"corrupt.png": (DeletionOutcome.KEPT, KeptReason.COPY_CORRUPT),
        b"changed.png": (DeletionOutcome.KEPT, KeptReason.CHANGED_MEANWHILE),
        b"vanished.png": (DeletionOutcome.VANISHED, None),
        b"replaced.png": (DeletionOutcome.KEPT, KeptReason.CHANGED_MEANWHILE),
    }
    assert (summary.files_deleted, summary.files_vanished, summary.files_kept, summary.files_scanned) == (1, 1, 3, 5)
    # Only the copy is somebody's business.
    assert summary.errors == 1
    assert [problem.path for problem in summary.problems] == [b"corrupt.png"]
    assert summary.problems[0].reason is Reason.FILE_VERIFY_FAILED
    assert place.transfer.cleaned == [b"good.png"]


async def test_what_goes_together_goes_together_or_stays(place: CleanupPlace) -> None:
    rows = []
    for number, name in enumerate(["whole", "half", "moved"]):
        rows.append(place.row(place.synced(f"{name}.png"), 2 * number))
        rows.append(place.row(place.synced(f"{name}.txt"), 2 * number + 1, joined=True))
    (place.library / "half.txt").write_bytes(b"x")
    (place.source / "moved.txt").write_bytes(b"something else")
    async with place.connection() as connection:
        sweeping = Sweeping(place, connection, rows, batch=6)
        summary = await sweeping.run()
    assert place.left() == ["half.png", "half.txt", "moved.png", "moved.txt"]
    journal = await sweeping.journal()
    assert journal[b"half.png"] == journal[b"moved.png"] == (DeletionOutcome.KEPT, KeptReason.COMPANION)
    assert summary.kept[KeptReason.COMPANION].files == 2
    assert summary.files_kept + summary.files_deleted == summary.files_scanned


async def test_one_that_is_told_to_stop_ends_in_good_order(place: CleanupPlace) -> None:
    rows = [place.row(place.synced(f"{number}.png"), number) for number in range(12)]
    async with place.connection() as connection:
        sweeping = Sweeping(place, connection, rows)
        record = place.journal.record_outcomes

        async def stopping(outcomes):
            sweeping.stop.set()
            return await record(outcomes)

        place.journal.record_outcomes = stopping
        summary = await sweeping.run()
    journal = await sweeping.journal()
    assert DeletionOutcome.OPEN not in {outcome for outcome, _ in journal.values()}
    assert 0 < summary.files_deleted < 12
    assert summary.files_deleted == 12 - len(place.left())
    assert summary.kept[KeptReason.STOPPED].files == len(place.left())


async def test_what_is_known_is_written_down_when_the_line_breaks(place: CleanupPlace) -> None:
    rows = [place.row(place.synced(f"{number}.png"), number) for number in range(4)]
    async with place.connection() as connection:

        class Breaking:
            async def delete_unchanged(self, files):
                async for outcome in connection.delete_unchanged(files):
                    yield outcome
                    if outcome.doomed.path == b"2.png":
                        raise MediasyncError(Reason.CONNECTION_LOST, "the line broke")

        sweeping = Sweeping(place, Breaking(), rows, batch=4)
        with pytest.raises(MediasyncError, match="the line broke"):
            await sweeping.run()
    journal = await sweeping.journal()
    assert [journal[f"{number}.png".encode()][0] for number in range(3)] == [DeletionOutcome.DELETED] * 3
    assert journal[b"3.png"][0] is DeletionOutcome.OPEN
    assert len(await place.journal.open_intents("name:box")) == 1


async def test_a_library_that_cannot_be_believed_ends_it_with_nothing_sent(place: CleanupPlace) -> None:
    rows = [place.row(place.synced(f"{number}.png"), number) for number in range(4)]
    async with place.connection() as connection:
        sweeping = Sweeping(place, connection, rows)
        sweeping.checker.failure = MediasyncError(Reason.LIBRARY_MARKER_MISSING, "the marker is gone")
        with pytest.raises(MediasyncError, match="the marker is gone"):
            await sweeping.run()
    assert len(place.left()) == 4
    assert not any(intent.verified for intent in await place.journal.open_intents("name:box"))


async def test_a_transfer_worker_that_is_away_ends_it_and_nothing_is_lost(place: CleanupPlace) -> None:
    rows = [place.row(place.synced(f"{number}.png"), number) for number in range(4)]
    async with place.connection() as connection:
        sweeping = Sweeping(place, connection, rows)
        noted = place.transfer.note_cleaned

        async def fails(*arguments):
            place.transfer.wrong = away()
            return await noted(*arguments)

        place.transfer.note_cleaned = fails
        with pytest.raises(MediasyncError, match="Cannot reach"):
            await sweeping.run()
    gone = {f"{number}.png" for number in range(4)} - set(place.left())
    assert gone <= {os.fsdecode(intent.path) for intent in await place.journal.open_intents("name:box") if intent.verified}


async def test_without_a_library_files_are_moved_to_the_trash(place: CleanupPlace) -> None:
    rows = [replace(place.row(place.synced(f"a/{number}.png"), number), sha256=b"", copies=()) for number in range(3)]
    async with place.connection() as connection:
        sweeping = Sweeping(place, connection, rows, trash=b".mediasync/trash/2026-11-21/sync_1")
        summary = await sweeping.run()
    assert place.left() == [f".mediasync/trash/2026-11-21/sync_1/a/{number}.png" for number in range(3)]
    assert set((await sweeping.journal()).values()) == {(DeletionOutcome.TRASHED, None)}
    assert summary.files_deleted == 3
