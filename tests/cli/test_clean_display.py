"""What a clean-up would do, and did, as people and machines are told."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
from rich.console import Console

from mediasync.cleanup_client import CleanupPreview
from mediasync.cli import clean_display, clean_history, display, report
from mediasync.errors import ExitCode, Reason
from mediasync.model import (
    CleanupPlan,
    CleanupPolicy,
    CleanupSummary,
    Deletion,
    DeletionOutcome,
    FileExplanation,
    Job,
    JobKind,
    JobProgress,
    JobState,
    Kept,
    KeptReason,
    LocalConnection,
    PlannedFile,
    PlannedFolder,
    Problem,
    ProgressStatus,
    SourceSpec,
    SyncSpec,
    SyncSummary,
)

SUMMARY = CleanupSummary(
    files_scanned=1_250,
    files_deleted=200,
    space_freed_bytes=60_000_000,
    kept={KeptReason.TOO_YOUNG: Kept(1_000, 10**9), KeptReason.NOT_SYNCED: Kept(48, 10**6), KeptReason.COPY_CORRUPT: Kept(2, 10**6)},
    errors=2,
    problems=(Problem(Reason.LIBRARY_IO, "x.png: its copy has other bytes than on record", "Repair it.", b"x.png"),),
    problems_total=1,
    notes=("the source's clock is 7 min ahead of ours",),
    free_bytes_before=5 * 10**9,
)
POLICY = CleanupPolicy(age_hours=36)


def told(show: object, *arguments: object, **options: object) -> str:
    with redirect_stdout(io.StringIO()) as out:
        show(*arguments, **options)  # type: ignore[operator]
    return out.getvalue()


def job(kind: JobKind = JobKind.CLEANUP, state: JobState = JobState.COMPLETE_WITH_ERRORS, summary: CleanupSummary | None = SUMMARY) -> Job:
    spec = SyncSpec(SourceSpec(LocalConnection(), b"/far", name="forge"), "/media/library", cleanup=POLICY)
    return Job("job_1", "sync_1", state, spec, 0.0, summary=SyncSummary(cleanup=summary, duration_seconds=1.5), kind=kind)


def test_a_plan_says_how_many_how_much_how_old_where_and_what_stays_for_which_reason() -> None:
    plan = CleanupPlan(
        replace(SUMMARY, dry_run=True),
        1_790_000_000,
        1_790_086_400,
        (PlannedFolder(b"txt2img/2026-11-19", 200, 60_000_000, 3),),
        "/media/library",
        "forge",
    )
    lines = told(clean_display.print_plan, plan, POLICY).splitlines()
    assert lines[0] == "200 files of forge would go, 60.0 MB"
    text = "\n".join(lines)
    for part in (
        "library     /media/library",
        "oldest      2026-09-",
        "newest      2026-09-",
        "looked at   1,250 files",
        "kept        1,050 files",
        "free there  5.0 GB",
        "the source's clock is 7 min ahead of ours",
    ):
        assert part in text
    kept = next(number for number, line in enumerate(lines) if "1,050 files" in line)
    # What somebody should look at comes first, then what is most.
    assert [line.strip() for line in lines[kept + 1 : kept + 4]] == [
        "2 whose copy in the library is corrupt",
        "1,000 younger than 36 h",
        "48 not synced yet",
    ]
    assert lines[-1].split() == ["txt2img/2026-11-19", "200", "60.0", "MB", "3"]


def test_a_plan_that_deletes_nothing_says_so_and_has_no_table() -> None:
    plan = CleanupPlan(CleanupSummary(files_scanned=3, kept={KeptReason.RECENT: Kept(3, 9)}, dry_run=True), source="forge")
    text = told(clean_display.print_plan, plan, POLICY)
    assert text.startswith("Nothing of forge would go\n")
    assert "3 modified within the last 5 min" in text and "would go  " not in text


def test_a_plan_into_the_trash_does_not_say_deleted() -> None:
    plan = CleanupPlan(CleanupSummary(3, 2, 10, dry_run=True, trashed=True), source="media")
    assert told(clean_display.print_plan, plan, POLICY).startswith("2 files of media would be moved to a trash folder, 10 B\n")


def test_more_folders_than_a_person_reads_are_counted() -> None:
    folders = tuple(PlannedFolder(b"folder-%d" % number, 1, 1) for number in range(23))
    assert "… and 3 more folders" in told(clean_display.print_plan, CleanupPlan(SUMMARY, folders=folders), POLICY)


def test_every_reason_has_words_for_many_and_for_one() -> None:
    for reason in KeptReason:
        assert clean_display.why(reason, POLICY) and "{" not in clean_display.why(reason, POLICY)
        assert clean_display.why_one(reason, POLICY)


@pytest.mark.parametrize(
    ("hours", "said"), [(24, "24 h"), (36, "36 h"), (48, "2 days"), (168, "7 days"), (1.5, "90 min"), (0.5, "30 min"), (0.01, "36 s")]
)
def test_an_age_is_said_as_a_person_would(hours: float, said: str) -> None:
    assert clean_display.why(KeptReason.TOO_YOUNG, CleanupPolicy(age_hours=hours)) == f"younger than {said}"


def test_a_files_line_says_what_becomes_of_it_and_why() -> None:
    going = PlannedFile(b"a.png", 1_000, 1_790_000_000)
    lines = [
        clean_display.planned_line(file, POLICY)
        for file in (
            going,
            replace(going, path=b"a.txt", joined=True),
            replace(going, kept=KeptReason.PRESERVED, message="it matches favourites/"),
        )
    ]
    assert lines[0].startswith("-   1.0 kB  2026-09-") and lines[0].endswith("  a.png")
    assert lines[1].endswith("  a.txt  (goes with the one above)")
    assert lines[2].startswith("=") and lines[2].endswith("(preserved: it matches favourites/)")


async def test_a_plan_for_machines_is_one_object_with_its_files() -> None:
    files = [PlannedFile(b"a\xff.png", 5, 1.0), PlannedFile(b"b.png", 5, 2.0, KeptReason.CAP)]
    preview = CleanupPreview("plan_1", CleanupPlan(replace(SUMMARY, dry_run=True), 1.0, 2.0, (), "/lib", "forge"), files, "", None)
    with redirect_stdout(io.StringIO()) as out:
        await clean_display.print_plan_json(preview)
    found = json.loads(out.getvalue())
    assert {
        name: found[name] for name in ("plan_id", "files_scanned", "files_deleted", "files_kept", "space_freed_bytes", "errors", "dry_run")
    } == {
        "plan_id": "plan_1",
        "files_scanned": 1_250,
        "files_deleted": 200,
        "files_kept": 1_050,
        "space_freed_bytes": 60_000_000,
        "errors": 2,
        "dry_run": True,
    }
    assert found["kept_by_reason"] == {"copy_corrupt": 2, "too_young": 1_000, "not_synced": 48}
    assert [(file["path_base64"], file["kept"]) for file in found["files"]] == [("Yf8ucG5n", None), ("Yi5wbmc=", "cap")]


def test_a_job_that_cleans_up_is_told_as_one_to_people_and_machines() -> None:
    text = told(report.print_result, job(), False)
    assert text.startswith("! Clean-up complete, but not all went well in 1.5 s\n")
    assert "deleted     200 files, 60.0 MB" in text and "transferred" not in text
    assert "✗ x.png: its copy has other bytes than on record" in text and "→ Repair it." in text
    found = json.loads(told(report.print_result, job(), True))
    assert (found["state"], found["files_deleted"], found["errors"], found["problems_total"]) == ("complete_with_errors", 200, 2, 1)
    assert report.exit_code(job()) is ExitCode.SOME_FILES_FAILED
    assert report.amount(job()) == ("200", "60.0 MB")


def test_a_sync_that_ended_with_a_clean_up_tells_both_in_one_summary() -> None:
    ended = job(JobKind.SYNC, JobState.COMPLETE)
    text = told(report.print_result, ended, False)
    assert text.startswith("✓ Sync complete in 1.5 s\n")
    assert text.index("transferred") < text.index("Clean-up at the source") < text.index("deleted")
    assert json.loads(told(report.print_result, ended, True))["cleanup"]["files_deleted"] == 200
    assert report.exit_code(ended) is ExitCode.SOME_FILES_FAILED, "a copy that is not good is an error, whatever the sync brought"
    without = job(JobKind.SYNC, JobState.COMPLETE, None)
    assert json.loads(told(report.print_result, without, True))["cleanup"] is None
    assert "Clean-up" not in told(report.print_result, without, False)


def test_a_clean_up_that_was_refused_says_why_in_both_forms() -> None:
    problem = Problem(Reason.CLEANUP_NOTHING_SYNCED, "nothing of forge was synced into /media/library", "Sync it first.")
    refused = replace(job(state=JobState.FAILED, summary=None), problem=problem)
    found = json.loads(told(report.print_result, refused, True))
    assert found["problems"] == [{"path": None, "reason": "CLEANUP_NOTHING_SYNCED", "message": problem.message}]
    assert told(report.print_result, refused, False).startswith("✗ Clean-up failed")
    assert report.exit_code(refused) is ExitCode.USAGE


DELETED = Deletion(
    7,
    "sync_1",
    "forge",
    b"a.png",
    1_000,
    1_790_000_000,
    b"\xab" * 32,
    "/lib",
    b"a.png",
    DeletionOutcome.DELETED,
    cause="older than 24 h",
    outcome_time=1_790_100_000,
)
CORRUPT = replace(DELETED, outcome=DeletionOutcome.KEPT, kept=KeptReason.COPY_CORRUPT)


@pytest.mark.parametrize(
    ("explanation", "said"),
    [
        (FileExplanation(False, deletions=(DELETED,)), "is gone from forge: a clean-up deleted it"),
        (FileExplanation(False, deletions=(replace(DELETED, outcome=DeletionOutcome.VANISHED),)), "somebody else removed it before"),
        (FileExplanation(False, deletions=(replace(DELETED, outcome=DeletionOutcome.TRASHED),)), "a clean-up moved it to the trash"),
        (FileExplanation(False, deletions=(replace(DELETED, outcome=DeletionOutcome.OPEN),)), "was cut off"),
        (FileExplanation(False, deletions=(replace(DELETED, outcome=DeletionOutcome.KEPT),)), "a clean-up had kept it, and somebody else"),
        (FileExplanation(False), "is not at forge, and no clean-up of ours took it"),
        (FileExplanation(None), "may be at forge or not: it cannot be asked"),
        (FileExplanation(True), "is still at forge"),
        (FileExplanation(True, planned=PlannedFile(b"a.png", 1, 1.0)), "is still at forge; the next clean-up takes it"),
        (
            FileExplanation(True, planned=PlannedFile(b"a.png", 1, 1.0), deletions=(CORRUPT,)),
            "the last clean-up kept it, because its copy in the library is corrupt; the next one tries again",
        ),
        (
            FileExplanation(True, planned=PlannedFile(b"a.png", 1, 1.0, KeptReason.COUNTER)),
            "is still at forge, and stays: it has the highest number of its folder",
        ),
        (FileExplanation(True, planned=PlannedFile(b"a.png", 1, 1.0, KeptReason.TOO_YOUNG)), "stays: it is younger than 36 h"),
    ],
)
def test_why_a_file_is_gone_or_there_is_a_sentence(explanation: FileExplanation, said: str) -> None:
    assert said in clean_history.verdict(explanation, POLICY, "forge")


def test_what_is_on_record_of_a_file_follows_the_sentence() -> None:
    problem = Problem(Reason.HOST_UNREACHABLE, "forge.lan does not answer", "Start it.")
    text = told(
        clean_history.print_explanation, b"a.png", FileExplanation(None, problem, None, (DELETED,), b"a.png", "/lib"), POLICY, "forge"
    )
    for part in (
        "sha256",
        "ab" * 32,
        "copy",
        "/lib/a.png",
        "deleted: older than 24 h  (sync_1)",
        "! forge.lan does not answer",
        "→ Start it.",
    ):
        assert part in text
    found = clean_history.explanation_json(b"a.png", FileExplanation(False, deletions=(DELETED,)))
    assert found["present"] is False
    assert (found["deletions"][0]["sha256"], found["deletions"][0]["outcome"]) == ("ab" * 32, "deleted")


def test_a_live_clean_up_counts_towards_what_it_deletes() -> None:
    progress = JobProgress(
        "sync",
        status=ProgressStatus.CLEANING,
        current_stage="deleting",
        percent=99.0,
        files_total=10,
        files_done=10,
        files_to_clean=200,
        files_cleaned=50,
        bytes_to_clean=60_000_000,
        bytes_cleaned=15_000_000,
    )
    assert display.summary_line(progress) == " 25 %  deleting, 50 of 200 files, 15.0 MB of 60.0 MB"
    bars = display._Bars()
    bars.update(progress)
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(bars.render())
    lines = capture.get().splitlines()
    assert lines[0].endswith("25 %  deleting") and lines[1].split() == ["50/200", "files", "15.0", "MB/60.0", "MB"]
    assert (
        display.summary_line(replace(progress, files_to_clean=0, files_cleaned=0, current_stage="looking at the source"))
        == "looking at the source"
    )
