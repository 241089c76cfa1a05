"""All failed files of a run are on record, however many, and only those of its last attempt."""

from __future__ import annotations

from mediasync.errors import Reason
from services.transfer.entities import SyncUnit
from services.transfer.failed_store import FailedStore
from tests.fixtures.transfer import LandingBench


async def test_failed_files_are_those_of_the_last_attempt_at_a_unit(landing_bench: LandingBench) -> None:
    store, origin = FailedStore(landing_bench.database), landing_bench.unit.origin
    one, other = SyncUnit("sync_1", origin, b"a", True), SyncUnit("sync_1", origin, b"a-b", True)
    await store.replace(one, [(b"a/1\xff.png", Reason.FILE_UNREADABLE), (b"a", Reason.FOLDER_UNREADABLE)])
    await store.replace(other, [(b"a-b/1.png", Reason.FILE_UNREADABLE)])
    await store.replace(SyncUnit("sync_2", origin, b"a", True), [(b"a/9.png", Reason.FILE_UNREADABLE)])
    assert await store.paths("sync_1", origin, b"a") == [b"a", b"a/1\xff.png"]
    assert await store.paths("sync_1", origin, b"a-b") == [b"a-b/1.png"]
    assert await store.paths("sync_1", origin, b"") == [b"a", b"a-b/1.png", b"a/1\xff.png"]
    await store.replace(one, [(b"a/2.png", Reason.FILE_VERIFY_FAILED)])
    assert await store.paths("sync_1", origin, b"a") == [b"a/2.png"]
    await store.replace(one, [])
    assert await store.paths("sync_1", origin, b"") == [b"a-b/1.png"]


async def test_more_failed_files_than_a_summary_holds_are_remembered(landing_bench: LandingBench) -> None:
    store, unit = FailedStore(landing_bench.database), landing_bench.unit
    paths = [b"%06d.png" % number for number in range(2500)]
    await store.replace(unit, [(path, Reason.FILE_UNREADABLE) for path in paths])
    assert await store.paths(unit.sync_id, unit.origin, b"") == paths
