"""What outlives the process."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediasync.model import FolderProgress, JobProgress, ProgressStatus, UnitProgress
from mediasync.storage.database import Database
from services.progress.store import MIGRATIONS, ProgressStore
from tests.fixtures.progress import job

ODD = b"\xff\xfe new\nline '\"\\ \xed\xa0\x80 \xc3\xa4"
ROW = FolderProgress(ODD, 5, 4, 3, 2, 1)
PICTURE = JobProgress(
    "sync_1", "job_1", ProgressStatus.TRANSFERRING, 12.5, "stage ä", ODD, ODD, 9, 8, 7, 6, 5, 4, 3, 2.5, 1.5, 2.5, 0.0, 1, 2, (ROW,), 3
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path / 'progress.db'}", MIGRATIONS)
    yield opened
    await opened.close()


@pytest.fixture
def store(database: Database) -> ProgressStore:
    return ProgressStore(database)


async def test_a_run_comes_back_as_it_was_saved_whatever_bytes_its_names_hold(store: ProgressStore) -> None:
    unit = UnitProgress(ProgressStatus.SCANNING, (ROW, FolderProgress(b"")), ODD, "reconnecting", 3, done=True)
    coordinator = job(ProgressStatus.SCANNING, current_stage="ö", start_time=1.25, units_total=2, warnings=1)
    await store.save(7, PICTURE, coordinator, {"unit ä": unit})
    stored = await store.load("sync_1")
    assert stored is not None
    assert (stored.version, stored.job, stored.units) == (7, coordinator, {"unit ä": unit})
    # Rows of a run under way come from its units.
    assert stored.progress == dataclasses.replace(PICTURE, folders=())


async def test_saving_again_replaces_what_changed_and_keeps_the_other_units(store: ProgressStore) -> None:
    first, second = UnitProgress(ProgressStatus.SCANNING), UnitProgress(ProgressStatus.TRANSFERRING)
    await store.save(1, PICTURE, job(ProgressStatus.SCANNING), {"a": first, "b": first})
    await store.save(2, dataclasses.replace(PICTURE, percent=50.0), job(ProgressStatus.PROCESSING), {"b": second})
    stored = await store.load("sync_1")
    assert stored is not None
    assert (stored.version, stored.progress.percent, stored.job.status) == (2, 50.0, ProgressStatus.PROCESSING)
    assert stored.units == {"a": first, "b": second}


async def test_a_terminal_picture_is_kept_whole_and_replaces_the_units(store: ProgressStore) -> None:
    await store.save(1, PICTURE, job(ProgressStatus.SCANNING), {"a": UnitProgress(ProgressStatus.SCANNING)})
    final = dataclasses.replace(PICTURE, status=ProgressStatus.COMPLETE, percent=100.0, remaining_seconds=None)
    await store.save(2, final, job(ProgressStatus.COMPLETE), {"a": UnitProgress(ProgressStatus.SCANNING)})
    stored = await store.load("sync_1")
    assert stored is not None
    assert stored.progress == final
    assert not stored.units


async def test_a_run_that_was_never_saved_is_none(store: ProgressStore) -> None:
    assert await store.load("sync_1") is None


async def test_the_runs_that_changed_last_are_kept_and_those_that_are_live(store: ProgressStore) -> None:
    for number in range(6):
        picture = dataclasses.replace(PICTURE, sync_id=f"sync_{number}")
        await store.save(100 - number, picture, job(ProgressStatus.SCANNING), {"a": UnitProgress(ProgressStatus.SCANNING)})
    await store.prune(live={"sync_5"}, kept=3)
    assert [number for number in range(6) if await store.load(f"sync_{number}")] == [0, 1, 2, 5]


async def test_units_of_a_dropped_run_are_dropped_with_it(store: ProgressStore, database: Database) -> None:
    await store.save(1, PICTURE, job(ProgressStatus.SCANNING), {"a": UnitProgress(ProgressStatus.SCANNING)})
    await store.prune(live=(), kept=0)
    assert await database.read(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM unit").scalar_one()) == 0
