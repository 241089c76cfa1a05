"""What a job came to: for people, for machines, and as an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mediasync.cli import clean_display, output
from mediasync.errors import CATALOG, ExitCode
from mediasync.model import MAX_PROBLEMS, CleanupSummary, Job, JobActivity, JobKind, JobState, Problem, SyncSummary
from mediasync.paths import display

_SHOWN_PROBLEMS = 5
_VERDICTS = {
    JobState.PENDING: ("…", "", "is waiting to start"),
    JobState.RUNNING: ("…", "", "is under way"),
    JobState.PAUSED: ("‖", "yellow", "is paused"),
    JobState.COMPLETE: ("✓", "green", "complete"),
    JobState.COMPLETE_WITH_ERRORS: ("!", "yellow", "complete, but some files failed"),
    JobState.FAILED: ("✗", "red", "failed"),
    JobState.CANCELLED: ("✗", "yellow", "cancelled; what had landed stays"),
}
_CLEANED = {
    JobState.COMPLETE_WITH_ERRORS: "complete, but not all went well",
    JobState.CANCELLED: "cancelled; what is gone is in `mediasync clean history`",
}
_SKIPPED = {
    "hidden": "hidden",
    "temporary": "with temporary names",
    "foreign": "of a file manager",
    "link": "links",
    "special": "FIFOs, sockets or devices",
    "extension": "with other extensions",
    "too_small": "too small",
    "too_large": "too large",
    "excluded": "excluded by pattern",
    "not_included": "not included by any pattern",
    "too_young": "too young yet",
    "too_old": "too old",
    "outside": "links out of the root",
}


def exit_code(job: Job, *, watch_ended: bool = False) -> ExitCode:
    """What a command that waited for the job ends with. With `watch_ended` it was a watch, and to be ended is how it ends."""
    match job.state:
        case JobState.CANCELLED if watch_ended:
            return ExitCode.DONE
        case JobState.COMPLETE_WITH_ERRORS:
            return ExitCode.SOME_FILES_FAILED
        case JobState.CANCELLED:
            return ExitCode.CANCELLED
        case JobState.FAILED:
            return CATALOG[job.problem.reason].exit_code if job.problem else ExitCode.BUG
        case _:
            cleanup = job.summary.cleanup
            return ExitCode.SOME_FILES_FAILED if cleanup is not None and cleanup.errors else ExitCode.DONE


def result(job: Job) -> dict[str, Any]:
    """The one JSON object of a job, by its kind."""
    return cleanup_result(job) if job.kind is JobKind.CLEANUP else sync_result(job)


def cleanup_result(job: Job) -> dict[str, Any]:
    """The one JSON object of `mediasync clean --json`. What failed the job as a whole comes first among the problems and has no path."""
    summary = job.summary.cleanup or CleanupSummary()
    return {
        "job_id": job.job_id,
        "sync_id": job.sync_id,
        "state": job.state.value,
        **clean_display.summary_json(summary),
        "duration_seconds": round(job.summary.duration_seconds, 3),
        **_cleanup_problems(summary, job.problem),
    }


def sync_result(job: Job) -> dict[str, Any]:
    """The one JSON object of `mediasync sync --json`. What failed the job as a whole comes first among the errors and has no path."""
    summary = job.summary
    problems = ((job.problem,) if job.problem else ()) + tuple(summary.problems)
    return {
        "job_id": job.job_id,
        "sync_id": job.sync_id,
        "state": job.state.value,
        "files_transferred": summary.files_transferred,
        "bytes_transferred": summary.bytes_transferred,
        "files_unchanged": summary.files_unchanged,
        "files_filtered": summary.files_filtered,
        "files_filtered_by_reason": _by_reason(summary),
        "files_unsettled": summary.files_unsettled,
        "files_failed": summary.files_failed,
        "duration_seconds": round(summary.duration_seconds, 3),
        "errors": [_problem_json(problem) for problem in problems[:MAX_PROBLEMS]],
        "errors_total": summary.problems_total + (1 if job.problem else 0),
        "cleanup": clean_display.summary_json(summary.cleanup) | _cleanup_problems(summary.cleanup, None) if summary.cleanup else None,
    }


def amount(job: Job) -> tuple[str, str]:
    """How many files, and how much, it brought; of a clean-up, deleted."""
    summary, cleanup = job.summary, job.summary.cleanup or CleanupSummary()
    if job.kind is JobKind.CLEANUP:
        return f"{cleanup.files_deleted:,}", output.size(cleanup.space_freed_bytes)
    return f"{summary.files_transferred:,}", output.size(summary.bytes_transferred)


def print_result(job: Job, as_json: bool, *, watch_ended: bool = False) -> ExitCode:
    """Tells what a job that has ended came to, and returns what the command ends with (see `exit_code`)."""
    if as_json:
        output.print_json(result(job))
    elif job.kind is JobKind.CLEANUP:
        print_cleanup(job)
    else:
        print_summary(job, watch_ended=watch_ended)
    if job.problem:
        output.print_error(job.problem.as_error())
    return exit_code(job, watch_ended=watch_ended)


def print_summary(job: Job, *, all_problems: bool = False, watch_ended: bool = False) -> None:
    """What the job did, readable to somebody who sees it for the first time."""
    summary = job.summary
    sign, colour, words = _VERDICTS[job.state]
    if watch_ended and job.state is JobState.CANCELLED:
        sign, colour, words = "✓", "green", "no longer watches"
    took = f" in {output.span(summary.duration_seconds)}" if summary.duration_seconds else ""
    output.line(f"{output.style(sign, colour, bold=True)} {output.style('Sync ' + words, bold=True)}{took}")
    rows: list[tuple[str, object]] = [("from", job.spec.source.label), ("to", job.spec.dest_path)]
    rows += [
        (label, f"{output.count(number, 'file')}{meaning}")
        for label, number, meaning in (
            ("transferred", summary.files_transferred, f", {output.size(summary.bytes_transferred)}"),
            ("unchanged", summary.files_unchanged, ", taken earlier"),
            ("duplicates", summary.files_duplicate, ", in the library under another name"),
            ("culled", summary.files_culled, ", deleted in the library; --restore brings them back"),
            ("unsettled", summary.files_unsettled, ", still being written; a later sync takes them"),
            ("skipped", summary.files_filtered, _why_skipped(summary)),
            ("vanished", summary.files_vanished, ", gone at the source; the library keeps them"),
            ("damaged", summary.files_invalid, ", in the library, but their content is not what the name says"),
            ("failed", summary.files_failed, ""),
        )
        # That nothing came is worth a word too, unless the job did not get that far.
        if number or (label == "transferred" and job.state is not JobState.FAILED)
    ]
    output.pairs(rows)
    print_problems(summary.problems, summary.problems_total, job, MAX_PROBLEMS if all_problems else _SHOWN_PROBLEMS)
    if summary.cleanup is not None:
        _print_cleaned(summary.cleanup, job, all_problems)


def print_cleanup(job: Job, *, all_problems: bool = False) -> None:
    """What a job that only cleans up did."""
    summary = job.summary.cleanup
    sign, colour, words = _VERDICTS[job.state]
    words = _CLEANED.get(job.state, words)
    took = f" in {output.span(job.summary.duration_seconds)}" if job.summary.duration_seconds else ""
    output.line(f"{output.style(sign, colour, bold=True)} {output.style('Clean-up ' + words, bold=True)}{took}")
    _print_cleaned(summary, job, all_problems)


def _print_cleaned(summary: CleanupSummary | None, job: Job, all_problems: bool) -> None:
    rows: list[tuple[str, object]] = [("of", job.spec.source.label), ("library", job.spec.dest_path)]
    if summary is None or (job.state is JobState.FAILED and not summary.files_scanned):
        output.pairs(rows)
        return
    if job.kind is not JobKind.CLEANUP:
        verdict = "Clean-up at the source" + (", a dry run" if summary.dry_run else "")
        if not (summary.files_deleted or summary.files_vanished or summary.errors or summary.notes):
            # Most syncs end so: what is there is too young.
            output.line(f"{verdict}: nothing was due")
            return
        output.line(output.style(verdict, bold=True))
        rows = []
    output.pairs([*rows, *clean_display.summary_pairs(summary, job.spec.cleanup)])
    clean_display.print_notes(summary)
    print_problems(summary.problems, summary.problems_total, job, MAX_PROBLEMS if all_problems else _SHOWN_PROBLEMS)


def _cleanup_problems(summary: CleanupSummary, whole: Problem | None) -> dict[str, Any]:
    problems = ((whole,) if whole else ()) + tuple(summary.problems)
    return {
        "problems": [_problem_json(problem) for problem in problems[:MAX_PROBLEMS]],
        "problems_total": summary.problems_total + (1 if whole else 0),
    }


def _by_reason(summary: SyncSummary) -> dict[str, int]:
    """What is no result, by the reason; the most frequent first, what has none that is known last."""
    known = sorted(summary.filtered.items(), key=lambda item: -item[1])
    other = summary.files_filtered - sum(summary.filtered.values())
    return {**{reason.name.lower(): files for reason, files in known}, **({"other": other} if other > 0 else {})}


def _why_skipped(summary: SyncSummary) -> str:
    reasons = [f"{files:,} {_SKIPPED.get(name, 'for other reasons')}" for name, files in _by_reason(summary).items()]
    return f", not results: {', '.join(reasons)}"


def activity_line(activity: JobActivity) -> str:
    """What the watch of a folder is at; of a source that is gone, since when, and when it is tried next."""
    parts = [f"{display(activity.folder)}: {activity.text}" if activity.folder else activity.text]
    if activity.gone_since:
        parts.append(f"gone since {output.moment(activity.gone_since)}")
    if activity.next_try:
        parts.append(f"next try at {output.moment(activity.next_try)}")
    return "; ".join(parts)


def print_problems(problems: Sequence[Problem], total: int, job: Job, limit: int = _SHOWN_PROBLEMS) -> None:
    """The first problems, and what to do about each."""
    for problem in problems[:limit]:
        # Most messages name the file themselves.
        where = f"{display(problem.path)}: " if problem.path is not None and display(problem.path) not in problem.message else ""
        output.line(f"  {output.style('✗', 'red')} {where}{problem.message}")
        if problem.remedy:
            output.line(f"    {output.style('→', 'cyan')} {problem.remedy}")
    shown = len(problems[:limit])
    if total > shown:
        hint = f": mediasync jobs show {job.job_id}" if shown < len(problems) else ""
        output.line(f"  … and {output.count(total - shown, 'more problem')}{hint}")


def job_json(job: Job) -> dict[str, Any]:
    """A job as `mediasync jobs` shows it to machines."""
    return {
        "job_id": job.job_id,
        "sync_id": job.sync_id,
        "kind": job.kind.value,
        "state": job.state.value,
        "source": job.spec.source.label,
        "dest_path": job.spec.dest_path,
        "folders": [display(folder) for folder in job.spec.folders],
        "create_time": job.create_time,
        "start_time": job.start_time,
        "end_time": job.end_time,
        "retry_of": job.retry_of,
        "limit_mbps": job.limit_mbps,
        "activities": output.plain(job.activities),
        **{key: value for key, value in result(job).items() if key not in ("job_id", "sync_id", "state")},
    }


def _problem_json(problem: Problem) -> dict[str, Any]:
    path = display(problem.path) if problem.path is not None else None
    return {"path": path, "reason": problem.reason.value, "message": problem.message}
