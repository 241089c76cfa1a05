from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.model import CleanupPlan, CleanupSummary, KeptReason
from mediasync.storage.database import Database
from services.cleanup import plan_store
from services.cleanup.due_store import DueFile, DueFiles, DueStore
from services.cleanup.entities import PlanRow
from services.cleanup.plan_store import STAYS_FROM, NewPlan, PlanStore
from services.cleanup.schema import MIGRATIONS

PLAN = CleanupPlan(CleanupSummary(files_scanned=3, dry_run=True), 1.0, 2.0, (), "/library", "box")
NEW = NewPlan("plan_1", "name:box", "box", "/library", b"asked")


@pytest.fixture
async def plans(tmp_path: Path) -> AsyncIterator[PlanStore]:
    database = Database.open(f"sqlite:///{tmp_path / 'cleanup.db'}", MIGRATIONS, durable=True)
    yield PlanStore(database)
    await database.close()


def row(number: int, *, joined: bool = False, kept: KeptReason | None = None) -> PlanRow:
    return PlanRow(number, b"\xff/%d" % number, 1, 2, 3, 4, b"h" * 32, (b"a\n", b"b"), kept, joined, "why", "older")


async def test_a_plan_is_read_as_it_was_written_in_its_order(plans: PlanStore) -> None:
    rows = [row(1), row(2, joined=True), row(STAYS_FROM + 1, kept=KeptReason.CAP)]
    key = await plans.begin(NEW)
    await plans.add(key, rows[2:])
    await plans.add(key, rows[:2])
    await plans.end(key, PLAN, [b"2026-11-01", b"b"])
    assert await plans.get("plan_1", b"asked") == PLAN
    assert await plans.page("plan_1", 0, 10) == rows
    assert await plans.page("plan_1", 1, 1) == rows[1:2]
    assert [batch async for batch in plans.batches("plan_1", 10)] == [rows[:2]]
    assert await plans.empty_folders("plan_1") == [b"2026-11-01", b"b"]


async def test_a_plan_that_is_not_whole_or_was_dropped_is_none(plans: PlanStore) -> None:
    key = await plans.begin(NEW)
    await plans.add(key, [row(1)])
    for _ in range(2):
        with pytest.raises(MediasyncError) as caught:
            await plans.page("plan_1", 0, 10)
        assert caught.value.reason is Reason.CLEANUP_PLAN_EXPIRED
        await plans.drop(key)


async def test_a_plan_that_was_made_of_something_else_is_refused(plans: PlanStore) -> None:
    await plans.end(await plans.begin(NEW), PLAN)
    with pytest.raises(MediasyncError) as caught:
        await plans.get("plan_1", b"something else")
    assert caught.value.reason is Reason.INVALID_ARGUMENT


async def test_a_plan_is_over_after_an_hour_unless_a_run_holds_it(plans: PlanStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await plans.end(await plans.begin(NEW), PLAN)
    monkeypatch.setattr(plan_store, "KEEP_SECONDS", -1.0)
    async with plans.held("plan_1"):
        await plans.forget_old()
        assert await plans.get("plan_1") == PLAN
    with pytest.raises(MediasyncError) as caught:
        await plans.get("plan_1")
    assert caught.value.reason is Reason.CLEANUP_PLAN_EXPIRED
    await plans.forget_old()
    monkeypatch.undo()
    with pytest.raises(MediasyncError):
        await plans.get("plan_1")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_batches_are_of_whole_groups(plans: PlanStore, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(plan_store, "_PAGE_ROWS", 4)
    rows = [row(number, joined=number % 7 in (1, 2, 3) and number > 1) for number in range(1, 30)]
    key = await plans.begin(NEW)
    await plans.add(key, [*rows, row(STAYS_FROM + 1, kept=KeptReason.CAP)])
    await plans.end(key, PLAN)
    batches = [batch async for batch in plans.batches("plan_1", size)]
    assert [file for batch in batches for file in batch] == rows
    assert not any(batch[0].joined for batch in batches)
    for batch in batches:
        # Only one that is a single group may be larger.
        assert len(batch) <= size or not any(not file.joined for file in batch[1:])


def test_what_is_put_aside_comes_back_oldest_first_and_leaves_nothing_behind(tmp_path: Path) -> None:
    def due(path: bytes, age_ns: int, kept: KeptReason | None = None) -> DueFiles:
        return DueFiles((DueFile(path, 1, 2, 3, age_ns, kept, "why"), DueFile(path + b".txt", 1, 2, 3, 9)), age_ns, extra=age_ns > 5)

    groups = [due(b"c", 7), due(b"b", -3), due(b"\xffa", 7, KeptReason.CAP), due(b"a", 7)]
    with DueStore(tmp_path) as store:
        store.add(groups[:2])
        store.add(groups[2:])
        assert list(tmp_path.iterdir()) == []
        assert list(store.oldest_first()) == [groups[1], groups[3], groups[0], groups[2]]


def test_where_nothing_can_be_put_aside_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediasyncError, match="nowhere") as caught:
        DueStore(tmp_path / "nowhere")
    assert caught.value.reason is Reason.DATA_FOLDER_UNUSABLE
