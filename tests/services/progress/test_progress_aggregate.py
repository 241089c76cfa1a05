"""Cumulative reports -> one picture."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.model import FolderProgress, JobProgress, ProgressReport, ProgressStatus, UnitProgress
from services.progress.aggregate import MAX_FOLDER_ROWS, Change, JobAggregate
from tests.fixtures.progress import assert_never_back, job, unit

SCANNING, TRANSFERRING, PROCESSING = ProgressStatus.SCANNING, ProgressStatus.TRANSFERRING, ProgressStatus.PROCESSING


def picture_of(*reports: tuple[str, ProgressReport]) -> JobProgress:
    aggregate = JobAggregate("sync_1")
    for reporter, report in reports:
        aggregate.merge(reporter, report, 0.0)
    return aggregate.snapshot(1000.0, 0.0)


def rows(**done_of_ten: int) -> tuple[FolderProgress, ...]:
    return tuple(FolderProgress(name.encode(), 10, done, 1000, 100 * done) for name, done in done_of_ten.items())


def test_rows_of_all_units_are_summed_into_folders_and_totals() -> None:
    picture = picture_of(
        ("a", UnitProgress(TRANSFERRING, rows(x=1, y=2), warnings=1)),
        ("b", UnitProgress(TRANSFERRING, rows(y=3), warnings=2)),
    )
    assert {row.folder: row for row in picture.folders} == {
        b"x": FolderProgress(b"x", 10, 1, 1000, 100),
        b"y": FolderProgress(b"y", 20, 5, 2000, 500),
    }
    assert (picture.files_total, picture.files_done, picture.bytes_total, picture.bytes_done) == (30, 6, 3000, 600)
    assert picture.warnings == 3


def test_a_lower_number_does_not_count_and_a_total_is_never_below_what_is_done() -> None:
    aggregate = JobAggregate("sync_1")
    aggregate.merge("a", UnitProgress(TRANSFERRING, (FolderProgress(b"x", 10, 8, 1000, 800, 1),)), 0.0)
    change = aggregate.merge("a", UnitProgress(TRANSFERRING, (FolderProgress(b"x", 5, 2, 100, 10, 0),)), 0.0)
    assert change is Change.NOTHING
    aggregate.merge("b", UnitProgress(TRANSFERRING, (FolderProgress(b"y", 1, 3, 10, 30),)), 0.0)
    picture = aggregate.snapshot(1000.0, 0.0)
    assert {row.folder: row for row in picture.folders} == {
        b"x": FolderProgress(b"x", 10, 8, 1000, 800, 1),
        b"y": FolderProgress(b"y", 3, 3, 30, 30),
    }


def test_a_clean_up_has_its_own_numbers_and_its_percent_where_nothing_is_brought() -> None:
    cleaning = job(ProgressStatus.CLEANING, files_to_clean=10, files_cleaned=4, bytes_to_clean=1000, bytes_cleaned=400)
    stale = job(ProgressStatus.CLEANING, files_to_clean=10, files_cleaned=2)
    picture = picture_of(("coordinator", cleaning), ("coordinator", stale))
    assert (picture.status, picture.percent) == (ProgressStatus.CLEANING, 40.0)
    assert (picture.files_to_clean, picture.files_cleaned, picture.bytes_to_clean, picture.bytes_cleaned) == (10, 4, 1000, 400)
    # After a sync the percent is that of what was brought.
    after = picture_of(("a", UnitProgress(TRANSFERRING, rows(x=10), done=True)), ("coordinator", cleaning))
    assert (after.status, after.percent, after.files_done, after.files_cleaned) == (ProgressStatus.CLEANING, 99.9, 10, 4)
    ended = picture_of(("coordinator", cleaning), ("coordinator", job(ProgressStatus.COMPLETE)))
    assert (ended.status, ended.percent, ended.files_cleaned) == (ProgressStatus.COMPLETE, 100.0, 4)


def test_a_repeated_report_changes_nothing() -> None:
    aggregate = JobAggregate("sync_1")
    assert aggregate.merge("a", unit(3), 0.0) is Change.MILESTONE
    assert aggregate.merge("a", unit(3), 1.0) is Change.NOTHING
    assert aggregate.merge("a", unit(4), 1.0) is Change.NUMBERS
    assert aggregate.merge("a", unit(4, done=True), 1.0) is Change.MILESTONE
    assert aggregate.merge("c", job(SCANNING, units_total=1), 1.0) is Change.NUMBERS
    assert aggregate.merge("c", job(SCANNING, units_total=1), 1.0) is Change.NOTHING
    assert aggregate.merge("c", job(PROCESSING, units_total=1), 1.0) is Change.MILESTONE


def test_the_status_only_moves_on_and_only_the_coordinator_ends_a_job() -> None:
    aggregate = JobAggregate("sync_1")
    seen = []
    for reporter, report in [
        ("coordinator", job(ProgressStatus.INITIALIZING)),
        ("a", unit(0)),
        ("coordinator", job(SCANNING)),
        ("a", UnitProgress(ProgressStatus.COMPLETE, done=True)),
        ("coordinator", job(PROCESSING)),
        ("b", unit(1)),
        ("coordinator", job(ProgressStatus.FAILED)),
        ("coordinator", job(ProgressStatus.COMPLETE)),
    ]:
        aggregate.merge(reporter, report, 0.0)
        seen.append(aggregate.snapshot(1000.0, 0.0).status.value)
    assert seen == ["initializing", "transferring", "transferring", "transferring", "processing", "processing", "failed", "failed"]


def test_nothing_changes_after_the_terminal_status() -> None:
    aggregate = JobAggregate("sync_1")
    aggregate.merge("a", unit(3), 0.0)
    aggregate.merge("coordinator", job(ProgressStatus.CANCELLED, end_time=900.0), 0.0)
    assert aggregate.merge("a", unit(9), 0.0) is Change.NOTHING
    final = aggregate.snapshot(1000.0, 0.0)
    assert aggregate.merge("coordinator", job(ProgressStatus.COMPLETE), 0.0) is Change.NOTHING
    assert aggregate.snapshot(2000.0, 9.0) is final
    assert (final.status, final.files_done, final.end_time, final.percent) == (ProgressStatus.CANCELLED, 3, 900.0, 30.0)


def test_percent_is_of_bytes_and_of_files_where_there_are_none() -> None:
    by_bytes = FolderProgress(b"x", 10, 1, 1000, 500)
    assert picture_of(("a", UnitProgress(TRANSFERRING, (by_bytes,)))).percent == 50.0
    assert picture_of(("a", UnitProgress(TRANSFERRING, (FolderProgress(b"x", 4, 1),)))).percent == 25.0
    assert picture_of(("a", UnitProgress(TRANSFERRING))).percent == 0.0


def test_percent_is_100_only_when_complete() -> None:
    everything = ("a", unit(10, done=True))
    assert picture_of(everything).percent == 99.9
    assert picture_of(everything, ("c", job(PROCESSING))).percent == 99.9
    assert picture_of(everything, ("c", job(ProgressStatus.FAILED))).percent == 99.9
    assert picture_of(everything, ("c", job(ProgressStatus.COMPLETE))).percent == 100.0
    assert picture_of(("c", job(ProgressStatus.COMPLETE))).percent == 100.0


def test_percent_counts_units_that_were_not_measured_yet() -> None:
    first_of_four = picture_of(("c", job(TRANSFERRING, units_total=4)), ("a", unit(10, done=True)))
    assert first_of_four.percent == 25.0
    scanning_too = picture_of(("a", unit(10, done=True)), ("b", UnitProgress(SCANNING, rows(z=0))))
    assert scanning_too.percent == 25.0
    failed_early = picture_of(
        ("c", job(TRANSFERRING, units_total=4)), ("a", unit(10, done=True)), ("c", job(ProgressStatus.FAILED, units_total=4))
    )
    assert failed_early.percent == 25.0


def test_the_rate_is_of_the_last_seconds_and_gives_the_remaining_time() -> None:
    aggregate = JobAggregate("sync_1")
    for second in range(11):
        aggregate.merge("a", unit(second * second, 200), float(second))
    picture = aggregate.snapshot(1000.0, 10.0)
    assert picture.bytes_per_second == (10 * 10 - 5 * 5) * 100 / 5
    assert picture.remaining_seconds == pytest.approx((200 - 100) * 100 / 1500)
    stalled = aggregate.snapshot(1006.0, 16.0)
    assert (stalled.bytes_per_second, stalled.remaining_seconds) == (0, None)


def test_remaining_time_allows_for_units_that_were_not_measured_yet() -> None:
    aggregate = JobAggregate("sync_1")
    aggregate.merge("c", job(TRANSFERRING, units_total=2), 0.0)
    aggregate.merge("a", unit(0), 0.0)
    aggregate.merge("a", unit(5), 5.0)
    assert aggregate.snapshot(1000.0, 5.0).remaining_seconds == pytest.approx((2 * 1000 - 500) / 100)


def test_what_a_reporter_brings_along_did_not_move_just_now() -> None:
    first = JobAggregate("sync_1")
    first.merge("a", unit(2), 0.0)
    again = JobAggregate("sync_1", first.snapshot(1000.0, 0.0), first.job, {"a": first.unit("a")})
    again.merge("a", unit(8), 50.0)
    assert again.snapshot(1050.0, 50.0).bytes_per_second == 0
    again.merge("a", unit(9), 51.0)
    assert again.snapshot(1051.0, 51.0).bytes_per_second == 100


def test_there_is_no_rate_once_everything_has_landed() -> None:
    aggregate = JobAggregate("sync_1")
    aggregate.merge("a", unit(0), 0.0)
    aggregate.merge("a", unit(10, done=True), 1.0)
    aggregate.merge("c", job(PROCESSING, files_processed=4), 1.0)
    picture = aggregate.snapshot(1000.0, 1.0)
    assert (picture.bytes_per_second, picture.remaining_seconds, picture.files_processed) == (0, None, 4)


def test_at_most_200_rows_are_shown_those_under_way_first_then_the_largest() -> None:
    big_done = FolderProgress(b"done", 1, 1, 10**9, 10**9)
    small_active = FolderProgress(b"active", 2, 1, 20, 10)
    nothing_to_bring = FolderProgress(b"idle")
    only_failed = FolderProgress(b"failed", 0, 0, 0, 0, 2)
    waiting = tuple(FolderProgress(b"w%03d" % number, 1, 0, number + 1, 0) for number in range(300))
    picture = picture_of(("a", UnitProgress(TRANSFERRING, (big_done, small_active, nothing_to_bring, only_failed, *waiting))))
    assert len(picture.folders) == MAX_FOLDER_ROWS
    assert [row.folder for row in picture.folders[:3]] == [b"active", b"w299", b"w298"]
    few = picture_of(("a", UnitProgress(TRANSFERRING, (big_done, small_active, nothing_to_bring, only_failed, *waiting[:1]))))
    assert [row.folder for row in few.folders] == [b"active", b"w000", b"done", b"failed"]
    assert few.folders_total == 5
    assert few.errors == 2


def test_a_folder_is_done_when_each_unit_that_brings_from_it_is() -> None:
    def folders(*reports: tuple[str, ProgressReport]) -> tuple[int, int]:
        picture = picture_of(*reports)
        return picture.folders_done, picture.folders_total

    assert folders(("a", UnitProgress(SCANNING, rows(x=10)))) == (0, 1)
    assert folders(("a", UnitProgress(TRANSFERRING, rows(x=10, y=3)))) == (1, 2)
    assert folders(("a", UnitProgress(TRANSFERRING, rows(x=10))), ("b", UnitProgress(TRANSFERRING, rows(x=1)))) == (0, 1)
    assert folders(("a", UnitProgress(TRANSFERRING, rows(x=1), done=True))) == (1, 1)
    # A unit without rows, or not heard of yet, counts as one folder.
    assert folders(("c", job(TRANSFERRING, units_total=3)), ("a", UnitProgress(TRANSFERRING, done=True))) == (1, 3)
    assert folders(("c", job(ProgressStatus.COMPLETE, units_total=3))) == (3, 3)


def test_file_and_folder_are_those_of_the_last_report_that_named_one() -> None:
    picture = picture_of(
        ("a", UnitProgress(TRANSFERRING, current_file=b"WAN/2026/\xff.png")),
        ("b", UnitProgress(TRANSFERRING)),
    )
    assert (picture.current_file, picture.current_folder) == (b"WAN/2026/\xff.png", b"WAN/2026")
    assert picture_of(("a", UnitProgress(TRANSFERRING, current_file=b"x.png"))).current_folder == b""


def test_the_stage_is_a_units_own_then_the_coordinators_then_the_status_itself() -> None:
    reconnecting = ("a", dataclasses.replace(unit(1), current_stage="reconnecting (2 of 3)"))
    assert picture_of(("c", job(SCANNING, current_stage="asking the source"))).current_stage == "asking the source"
    assert picture_of(("c", job(SCANNING, current_stage="asking the source")), ("a", unit(1))).current_stage == "transferring"
    assert picture_of(reconnecting, ("b", unit(1))).current_stage == "reconnecting (2 of 3)"
    assert picture_of(reconnecting, ("a", unit(2))).current_stage == "transferring"
    assert picture_of(reconnecting, ("c", job(PROCESSING))).current_stage == "processing"
    assert picture_of(("c", job(ProgressStatus.FAILED, current_stage="gave up"))).current_stage == "gave up"


def test_errors_and_warnings_of_the_ended_job_stand_for_those_of_its_units() -> None:
    failed = UnitProgress(TRANSFERRING, (FolderProgress(b"x", 10, 1, 0, 0, 3),), warnings=2)
    assert picture_of(("a", failed)).errors == 3
    picture = picture_of(("a", failed), ("c", job(ProgressStatus.COMPLETE, errors=5, warnings=4)))
    assert (picture.errors, picture.warnings) == (5, 4)


# Histories: each reporter's reports grow, or start over lower as after a crash of its process.
counts = st.integers(0, 50)
row = st.builds(FolderProgress, st.sampled_from([b"", b"x", b"y", b"z"]), counts, counts, counts, counts, st.integers(0, 3))
unit_report = st.builds(
    UnitProgress,
    st.sampled_from([ProgressStatus.INITIALIZING, SCANNING, TRANSFERRING, PROCESSING]),
    st.lists(row, max_size=4).map(tuple),
    st.sampled_from([b"", b"x/1.png"]),
    st.sampled_from(["", "reconnecting"]),
    st.integers(0, 3),
    st.booleans(),
)
job_report = st.builds(
    lambda status, units, processed, errors: job(status, units_total=units, files_processed=processed, errors=errors),
    st.sampled_from([ProgressStatus.INITIALIZING, SCANNING, TRANSFERRING, PROCESSING]),
    st.integers(0, 5),
    counts,
    counts,
)
step = st.one_of(
    st.tuples(st.sampled_from(["a", "b", "c"]), unit_report),
    st.tuples(st.just("coordinator"), job_report),
    st.just("restart"),
)


@given(st.lists(step, max_size=40), st.sampled_from([ProgressStatus.COMPLETE, ProgressStatus.FAILED, ProgressStatus.CANCELLED]))
def test_i9_no_number_goes_back_whatever_is_reported_in_whatever_order_across_restarts(steps: list[object], end: ProgressStatus) -> None:
    aggregate = JobAggregate("sync_1")
    pictures = []
    reporters: set[str] = set()
    for now, something in enumerate([*steps, ("coordinator", job(end)), *steps, "restart", *steps]):
        if something == "restart":
            units = {} if aggregate.terminal else {reporter: aggregate.unit(reporter) for reporter in reporters}
            before = pictures[-1] if pictures else None
            aggregate = JobAggregate("sync_1", before, aggregate.job, units)
            if before is not None:
                again = aggregate.snapshot(before.update_time, float(now))
                assert (again.folders, again.files_done, again.percent) == (before.folders, before.files_done, before.percent)
            continue
        reporter, report = something  # type: ignore[misc]
        if aggregate.merge(reporter, report, float(now)) is not Change.NOTHING or not pictures:
            pictures.append(aggregate.snapshot(1000.0 + now, float(now)))
        if isinstance(report, UnitProgress) and not aggregate.terminal:
            reporters.add(reporter)
    assert_never_back(pictures)
    assert pictures[-1].status is end


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), unit_report), max_size=20), st.data())
def test_i9_order_and_repetition_of_reports_do_not_matter(reports: list[tuple[str, UnitProgress]], data: st.DataObject) -> None:
    again = data.draw(st.permutations(reports + data.draw(st.lists(st.sampled_from(reports), max_size=10) if reports else st.just([]))))
    first, second = picture_of(*reports), picture_of(*again)
    for name in ("status", "folders", "files_total", "files_done", "bytes_total", "bytes_done", "errors", "warnings", "folders_done"):
        assert getattr(first, name) == getattr(second, name), name


def test_a_pause_is_laid_over_what_the_job_is_at_and_taken_away_again() -> None:
    aggregate = JobAggregate("sync_1")
    aggregate.merge("a", unit(3), 0.0)
    aggregate.merge("a", unit(4), 1.0)
    pictures = [aggregate.snapshot(1000.0, 1.0)]
    assert pictures[0].bytes_per_second > 0
    assert aggregate.merge("c", job(SCANNING, pause_changes=1), 1.0) is Change.MILESTONE
    pictures.append(aggregate.snapshot(1001.0, 1.0))
    assert (pictures[1].status, pictures[1].current_stage, pictures[1].bytes_per_second) == (ProgressStatus.PAUSED, "paused", 0)
    # What comes late or twice does no harm.
    assert aggregate.merge("c", job(SCANNING), 1.0) is Change.NOTHING
    assert aggregate.merge("a", unit(5), 1.0) is Change.NUMBERS
    pictures.append(aggregate.snapshot(1002.0, 1.0))
    assert aggregate.merge("c", job(SCANNING, pause_changes=2), 2.0) is Change.MILESTONE
    pictures.append(aggregate.snapshot(1003.0, 2.0))
    assert [picture.status for picture in pictures[2:]] == [ProgressStatus.PAUSED, TRANSFERRING]
    assert_never_back(pictures)


def test_a_pause_outlives_a_restart_and_ends_with_the_job() -> None:
    before = JobAggregate("sync_1")
    before.merge("a", unit(3), 0.0)
    before.merge("c", job(SCANNING, pause_changes=1), 0.0)
    stored = before.snapshot(1000.0, 0.0)
    after = JobAggregate("sync_1", stored, before.job, {"a": before.unit("a")})
    assert after.snapshot(1001.0, 0.0).status is ProgressStatus.PAUSED
    after.merge("c", job(ProgressStatus.CANCELLED, pause_changes=1), 0.0)
    assert after.snapshot(1002.0, 0.0).status is ProgressStatus.CANCELLED
