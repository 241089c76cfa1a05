"""Pace, watchers, restarts. Time is turned by hand; the database is a real one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasync.errors import MediasyncError, Reason
from mediasync.model import JobProgress, ProgressReport, ProgressStatus
from services.progress.store import KEPT_SYNCS
from tests.fixtures.progress import HubRig, ManualClock, Watcher, assert_never_back, job, unit

COMPLETE = job(ProgressStatus.COMPLETE)


async def test_a_watcher_gets_at_most_ten_pictures_a_second_and_the_last_always(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(0, 1000))
    watcher = Watcher(hub_rig.hub.watch("sync_1"))
    await watcher.until(lambda: len(watcher.pictures) == 1)
    for files in range(1, 201):
        await hub_rig.hub.report("sync_1", "a", unit(files, 1000))
        await manual_clock.advance(0.01)
    assert 18 <= len(watcher.pictures) <= 21
    await manual_clock.advance(0.1)
    await watcher.until(lambda: watcher.pictures[-1].files_done == 200)
    assert_never_back(watcher.pictures)
    watcher.task.cancel()


async def test_milestones_do_not_exceed_ten_pictures_a_second(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(0))
    watcher = Watcher(hub_rig.hub.watch("sync_1"))
    await watcher.until(lambda: len(watcher.pictures) == 1)
    for number in range(100):
        await hub_rig.hub.report("sync_1", f"u{number}", unit(10, done=True))
        await manual_clock.advance(0.01)
    assert 9 <= len(watcher.pictures) <= 11
    watcher.task.cancel()


async def test_without_a_watcher_a_picture_is_saved_at_most_once_a_second(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(0, 1000))
    await manual_clock.settle()
    made = hub_rig.encoded
    for files in range(1, 301):
        await hub_rig.hub.report("sync_1", "a", unit(files, 1000))
        await manual_clock.advance(0.01)
    assert 2 <= hub_rig.encoded - made <= 3


async def test_a_milestone_is_saved_at_once_though_nobody_watches(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(1))
    await manual_clock.settle()
    await hub_rig.hub.report("sync_1", "a", unit(2))
    await manual_clock.advance(0.2)
    stored = await hub_rig.store.load("sync_1")
    assert stored is not None
    assert stored.progress.files_done == 1
    await hub_rig.hub.report("sync_1", "coordinator", job(ProgressStatus.PROCESSING))
    await manual_clock.settle()
    stored = await hub_rig.store.load("sync_1")
    assert stored is not None
    assert (stored.progress.status, stored.progress.files_done) == (ProgressStatus.PROCESSING, 2)


async def test_an_idle_watcher_gets_a_heartbeat_every_five_seconds(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(1))
    watcher = Watcher(hub_rig.hub.watch("sync_1"))
    await watcher.until(lambda: len(watcher.pictures) == 1)
    for beats in range(1, 4):
        await manual_clock.advance(5.0)
        await watcher.until(lambda beats=beats: watcher.heartbeats == beats)
    assert len(watcher.pictures) == 1
    watcher.task.cancel()


async def test_the_rate_falls_to_zero_when_nothing_comes_in_any_more(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(0))
    watcher = Watcher(hub_rig.hub.watch("sync_1"))
    await manual_clock.advance(1.0)
    await hub_rig.hub.report("sync_1", "a", unit(5))
    await manual_clock.advance(0.2)
    await watcher.until(lambda: watcher.pictures[-1].bytes_per_second > 0)
    await manual_clock.advance(8.0)
    await watcher.until(lambda: watcher.pictures[-1].bytes_per_second == 0)
    pictures = len(watcher.pictures)
    await manual_clock.advance(5.0)
    await watcher.until(lambda: watcher.heartbeats > 0)
    assert len(watcher.pictures) == pictures
    watcher.task.cancel()


async def test_i9_the_terminal_picture_comes_exactly_once_and_ends_the_watch(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(5))
    early = Watcher(hub_rig.hub.watch("sync_1"))
    await early.until(lambda: len(early.pictures) == 1)
    await hub_rig.hub.report("sync_1", "coordinator", COMPLETE)
    await hub_rig.hub.report("sync_1", "coordinator", job(ProgressStatus.FAILED))
    await hub_rig.hub.report("sync_1", "a", unit(9))
    await manual_clock.advance(1.0)
    await early.end()
    late = Watcher(hub_rig.hub.watch("sync_1"))
    await late.end()
    for watcher in (early, late):
        assert [picture.status.terminal for picture in watcher.pictures].count(True) == 1
        assert (watcher.pictures[-1].status, watcher.pictures[-1].files_done) == (ProgressStatus.COMPLETE, 5)
    assert early.versions[-1] == late.versions[-1]
    resumed = Watcher(hub_rig.hub.watch("sync_1", after=early.versions[-1]))
    await resumed.end()
    assert not resumed.pictures


async def test_i9_a_watcher_who_resumes_after_the_end_and_a_restart_gets_the_terminal_picture(hub_rig: HubRig) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(5))
    watcher = Watcher(hub_rig.hub.watch("sync_1"))
    await watcher.until(lambda: len(watcher.pictures) == 1)
    watcher.task.cancel()
    await hub_rig.hub.report("sync_1", "coordinator", COMPLETE)
    await hub_rig.hub.save("sync_1")
    await hub_rig.restart()
    resumed = Watcher(hub_rig.hub.watch("sync_1", after=watcher.versions[-1]))
    await resumed.end()
    assert [picture.status for picture in resumed.pictures] == [ProgressStatus.COMPLETE]


async def test_i9_a_terminal_picture_reaches_even_one_who_saw_a_version_that_was_lost(hub_rig: HubRig) -> None:
    await hub_rig.hub.report("sync_1", "coordinator", COMPLETE)
    newest = await hub_rig.hub.newest("sync_1")
    watcher = Watcher(hub_rig.hub.watch("sync_1", after=2**63))
    await watcher.end()
    assert watcher.pictures == [newest]


async def test_a_token_means_strictly_after(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(1))
    first = Watcher(hub_rig.hub.watch("sync_1"))
    await first.until(lambda: len(first.pictures) == 1)
    second = Watcher(hub_rig.hub.watch("sync_1", after=first.versions[0]))
    await manual_clock.advance(5.0)
    await second.until(lambda: second.heartbeats == 1)
    assert not second.pictures
    await hub_rig.hub.report("sync_1", "a", unit(2))
    await second.until(lambda: len(second.pictures) == 1)
    assert second.pictures[0].files_done == 2
    first.task.cancel()
    second.task.cancel()


async def test_a_slow_watcher_skips_pictures_but_not_the_last(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(0))
    events = hub_rig.hub.watch("sync_1")
    assert (await anext(events))[1] is not None
    for files in range(1, 11):
        await hub_rig.hub.report("sync_1", "a", unit(files))
        await manual_clock.advance(0.2)
    await hub_rig.hub.report("sync_1", "coordinator", COMPLETE)
    await manual_clock.advance(0.2)
    rest = [progress async for _, progress in events]
    assert len(rest) == 1
    assert rest[0] is not None
    assert (rest[0].status, rest[0].files_done) == (ProgressStatus.COMPLETE, 10)


async def test_a_thousand_watchers_share_one_encoded_picture(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(0))
    watchers = [Watcher(hub_rig.hub.watch("sync_1")) for _ in range(1000)]
    for watcher in watchers:
        await watcher.until(lambda watcher=watcher: len(watcher.pictures) == 1)
    made = hub_rig.encoded
    await hub_rig.hub.report("sync_1", "coordinator", COMPLETE)
    await manual_clock.advance(0.2)
    for watcher in watchers:
        await watcher.end()
    assert hub_rig.encoded == made + 1


async def test_an_unknown_run_is_refused(hub_rig: HubRig) -> None:
    for ask in (hub_rig.hub.newest("sync_1"), anext(hub_rig.hub.watch("sync_1", after=5))):
        with pytest.raises(MediasyncError, match="'sync_1'") as refused:
            await ask
        assert refused.value.reason is Reason.SYNC_NOT_FOUND


async def test_a_run_that_nobody_cares_about_rests_in_the_store(hub_rig: HubRig, manual_clock: ManualClock) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(4))
    await manual_clock.advance(20.0)
    async with asyncio.timeout(10):
        await asyncio.wait(hub_rig.tasks)
    assert (await hub_rig.hub.newest("sync_1")).files_done == 4
    await hub_rig.hub.report("sync_1", "a", unit(5))
    assert (await hub_rig.hub.newest("sync_1")).files_done == 5


async def test_the_newest_picture_holds_what_was_reported_just_before(hub_rig: HubRig) -> None:
    for files in range(5):
        await hub_rig.hub.report("sync_1", "a", unit(files))
        assert (await hub_rig.hub.newest("sync_1")).files_done == files


async def test_a_drain_ends_watches_so_that_clients_come_back(hub_rig: HubRig) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(4))
    watcher = Watcher(hub_rig.hub.watch("sync_1"))
    await watcher.until(lambda: len(watcher.pictures) == 1)
    await hub_rig.hub.report("sync_1", "a", unit(5))
    hub_rig.hub.drain()
    with pytest.raises(MediasyncError) as ended:
        await watcher.end()
    assert ended.value.reason is Reason.SERVICES_UNREACHABLE
    await hub_rig.hub.close()
    await hub_rig.restart()
    assert (await hub_rig.hub.newest("sync_1")).files_done == 5


async def test_a_database_that_cannot_be_written_stops_no_picture_and_is_tried_again(
    hub_rig: HubRig, manual_clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await hub_rig.hub.report("sync_1", "a", unit(1))
    watcher = Watcher(hub_rig.hub.watch("sync_1"))
    await watcher.until(lambda: len(watcher.pictures) == 1)
    # A size limit is how SQLite meets a full disk.
    pages = "PRAGMA max_page_count = {}"
    await hub_rig.database.write(lambda connection: connection.exec_driver_sql(pages.format(1)))
    names = [b"%03d" % number + b"x" * 200 for number in range(100)]
    with caplog.at_level(logging.ERROR, "services.progress"):
        for name in names:
            await hub_rig.hub.report("sync_1", "big", unit(1, folder=name))
        await hub_rig.hub.report("sync_1", "coordinator", COMPLETE)
        await manual_clock.advance(0.3)
        await watcher.end()
    assert watcher.pictures[-1].status is ProgressStatus.COMPLETE
    assert [record.message.startswith("progress cannot be saved") for record in caplog.records] == [True]
    stored = await hub_rig.store.load("sync_1")
    assert stored is not None
    assert not stored.progress.status.terminal
    await hub_rig.database.write(lambda connection: connection.exec_driver_sql(pages.format(1_000_000)))
    await manual_clock.advance(2.0)
    stored = await hub_rig.store.load("sync_1")
    assert stored is not None
    assert (stored.version, stored.progress) == (watcher.versions[-1], watcher.pictures[-1])


async def test_old_runs_are_dropped_when_new_ones_come(hub_rig: HubRig) -> None:
    picture = JobProgress("old", status=ProgressStatus.COMPLETE)
    for number in range(KEPT_SYNCS + 2):
        await hub_rig.store.save(number + 1, JobProgress(f"sync_{number}", status=picture.status), COMPLETE, {})
    await hub_rig.hub.report("sync_new", "a", unit(1))
    assert [await hub_rig.store.load(f"sync_{number}") is None for number in range(4)] == [True, True, False, False]


class Story:
    """Several reporters and one watcher who comes back with the last token, over a service that is killed now and then."""

    def __init__(self, rig: HubRig, clock: ManualClock) -> None:
        self.rig, self.clock = rig, clock
        self.last: dict[str, ProgressReport] = {}
        self.pictures: list[JobProgress] = []
        self.version = 0
        self.watcher: Watcher | None = None

    async def report(self, reporter: str, report: ProgressReport) -> None:
        self.last[reporter] = report
        await self.rig.hub.report("sync_1", reporter, report)

    async def watch(self) -> None:
        if self.watcher is None and self.last:
            self.watcher = Watcher(self.rig.hub.watch("sync_1", after=self.version))
            await self.clock.settle()

    async def stop_watching(self) -> None:
        if self.watcher is not None:
            self.watcher.task.cancel()
            await asyncio.wait({self.watcher.task})
            self.pictures += self.watcher.pictures
            self.version = self.watcher.versions[-1] if self.watcher.versions else self.version
            self.watcher = None

    async def kill(self) -> None:
        await self.stop_watching()
        await self.rig.restart()
        # The watcher is back before the reporters, who notice one after the other, and repeat their last report.
        with contextlib.suppress(MediasyncError):
            await self.rig.hub.newest("sync_1")
            await self.watch()
        for reporter, report in self.last.items():
            await self.rig.hub.report("sync_1", reporter, report)
            await self.clock.advance(0.15)
        await self.watch()


moves = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 10)),
        st.sampled_from(["kill", "watch", "leave", "repeat", "wait", "wait a little"]),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moves)
def test_i9_a_watcher_who_comes_back_sees_nothing_less_and_one_end_whatever_dies(steps: list[object]) -> None:
    async def play(folder: Path) -> list[JobProgress]:
        clock = ManualClock()
        story = Story(HubRig(folder / "progress.db", clock), clock)
        await story.report("coordinator", job(ProgressStatus.SCANNING, units_total=3))
        await story.watch()
        for step in steps:
            match step:
                case (str() as reporter, int() as files):
                    await story.report(reporter, unit(files, folder=reporter.encode()))
                case "kill":
                    await story.kill()
                case "watch":
                    await story.watch()
                case "leave":
                    await story.stop_watching()
                case "repeat":
                    for reporter, report in story.last.items():
                        await story.rig.hub.report("sync_1", reporter, report)
                case "wait":
                    await clock.advance(1.0)
                case _:
                    await clock.advance(0.05)
        await story.report("coordinator", COMPLETE)
        await story.kill()
        assert story.watcher is not None or await story.watch() is None
        assert story.watcher is not None
        await clock.advance(1.0)
        await story.watcher.end()
        await story.stop_watching()
        await story.rig.kill()
        return story.pictures

    with tempfile.TemporaryDirectory() as folder:
        pictures = asyncio.run(play(Path(folder)))
    assert_never_back(pictures)
    assert [picture.status.terminal for picture in pictures].count(True) == 1
