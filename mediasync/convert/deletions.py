"""Plans of clean-ups, and their journal."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import file_path, timestamp, to_unix
from mediasync.convert.cleaning import cleanup_summary_from_pb, cleanup_summary_to_pb, kept_reason_from_pb, kept_reason_to_pb
from mediasync.convert.problems import problem_from_pb, problem_to_pb
from mediasync.v1 import cleanup_pb2, types_pb2

_OUTCOMES = {
    model.DeletionOutcome.OPEN: cleanup_pb2.DELETION_OUTCOME_OPEN,
    model.DeletionOutcome.DELETED: cleanup_pb2.DELETION_OUTCOME_DELETED,
    model.DeletionOutcome.KEPT: cleanup_pb2.DELETION_OUTCOME_KEPT,
    model.DeletionOutcome.VANISHED: cleanup_pb2.DELETION_OUTCOME_VANISHED,
    model.DeletionOutcome.TRASHED: cleanup_pb2.DELETION_OUTCOME_TRASHED,
}
_OUTCOMES_BACK = {value: key for key, value in _OUTCOMES.items()}


def planned_file_to_pb(file: model.PlannedFile) -> cleanup_pb2.PlannedFile:
    """A file in a plan."""
    return cleanup_pb2.PlannedFile(
        path=file_path(file.path),
        size_bytes=file.size_bytes,
        age_time=timestamp(file.age_time),
        kept=kept_reason_to_pb(file.kept),
        joined=file.joined,
        message=file.message,
    )


def planned_file_from_pb(message: cleanup_pb2.PlannedFile) -> model.PlannedFile:
    """A file in a plan."""
    return model.PlannedFile(
        message.path.raw, message.size_bytes, to_unix(message.age_time), kept_reason_from_pb(message.kept), message.joined, message.message
    )


def plan_to_pb(plan: model.CleanupPlan) -> cleanup_pb2.CleanupPlan:
    """What a plan comes to."""
    message = cleanup_pb2.CleanupPlan(
        summary=cleanup_summary_to_pb(plan.summary),
        folders=[
            cleanup_pb2.PlannedFolder(
                folder=file_path(item.folder), files=item.files, size_bytes=item.size_bytes, files_kept=item.files_kept
            )
            for item in plan.folders
        ],
        library_root=plan.library_root,
        source=plan.source,
    )
    for name in ("oldest", "newest"):
        if value := getattr(plan, name):
            getattr(message, name).CopyFrom(timestamp(value))
    return message


def plan_from_pb(message: cleanup_pb2.CleanupPlan) -> model.CleanupPlan:
    """What a plan comes to."""
    folders = [model.PlannedFolder(item.folder.raw, item.files, item.size_bytes, item.files_kept) for item in message.folders]
    return model.CleanupPlan(
        cleanup_summary_from_pb(message.summary),
        to_unix(message.oldest),
        to_unix(message.newest),
        tuple(folders),
        message.library_root,
        message.source,
    )


def deletion_to_pb(deletion: model.Deletion) -> cleanup_pb2.Deletion:
    """An entry of the journal."""
    message = cleanup_pb2.Deletion(
        number=deletion.number,
        sync_id=deletion.sync_id,
        source=deletion.source,
        path=file_path(deletion.path),
        size_bytes=deletion.size_bytes,
        modify_time=timestamp(deletion.modify_time),
        library_root=deletion.library_root,
        outcome=_OUTCOMES[deletion.outcome],
        kept=kept_reason_to_pb(deletion.kept),
        message=deletion.message,
        intent_time=timestamp(deletion.intent_time),
        cause=deletion.cause,
    )
    if deletion.sha256:
        message.digest.CopyFrom(types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=deletion.sha256))
    for name in ("library_path", "trash_path"):
        if path := getattr(deletion, name):
            getattr(message, name).CopyFrom(file_path(path))
    if deletion.outcome_time:
        message.outcome_time.CopyFrom(timestamp(deletion.outcome_time))
    return message


def deletion_from_pb(message: cleanup_pb2.Deletion) -> model.Deletion:
    """An entry of the journal."""
    return model.Deletion(
        number=message.number,
        sync_id=message.sync_id,
        source=message.source,
        path=message.path.raw,
        size_bytes=message.size_bytes,
        modify_time=to_unix(message.modify_time),
        sha256=message.digest.value,
        library_root=message.library_root,
        library_path=message.library_path.raw,
        outcome=_OUTCOMES_BACK.get(message.outcome, model.DeletionOutcome.OPEN),
        kept=kept_reason_from_pb(message.kept),
        message=message.message,
        intent_time=to_unix(message.intent_time),
        outcome_time=to_unix(message.outcome_time),
        cause=message.cause,
        trash_path=message.trash_path.raw,
    )


def run_to_pb(run: model.CleanupRun) -> cleanup_pb2.CleanupRun:
    """A clean-up."""
    message = cleanup_pb2.CleanupRun(
        sync_id=run.sync_id,
        job_id=run.job_id,
        source=run.source,
        library_root=run.library_root,
        state=cleanup_pb2.CLEANUP_STATE_ENDED if run.ended else cleanup_pb2.CLEANUP_STATE_RUNNING,
        start_time=timestamp(run.start_time),
        summary=cleanup_summary_to_pb(run.summary),
        active=run.active,
    )
    if run.end_time:
        message.end_time.CopyFrom(timestamp(run.end_time))
    return message


def run_from_pb(message: cleanup_pb2.CleanupRun) -> model.CleanupRun:
    """A clean-up."""
    return model.CleanupRun(
        message.sync_id,
        message.job_id,
        message.source,
        message.library_root,
        message.state == cleanup_pb2.CLEANUP_STATE_ENDED,
        to_unix(message.start_time),
        to_unix(message.end_time),
        cleanup_summary_from_pb(message.summary),
        message.active,
    )


def explanation_to_pb(explanation: model.FileExplanation) -> cleanup_pb2.FileExplanation:
    """Why a file is gone, or still there."""
    message = cleanup_pb2.FileExplanation(
        present=explanation.present,
        deletions=[deletion_to_pb(deletion) for deletion in explanation.deletions],
        library_root=explanation.library_root,
    )
    if explanation.problem:
        message.problem.CopyFrom(problem_to_pb(explanation.problem))
    if explanation.planned:
        message.planned.CopyFrom(planned_file_to_pb(explanation.planned))
    if explanation.library_path:
        message.library_path.CopyFrom(file_path(explanation.library_path))
    return message


def explanation_from_pb(message: cleanup_pb2.FileExplanation) -> model.FileExplanation:
    """Why a file is gone, or still there."""
    return model.FileExplanation(
        message.present if message.HasField("present") else None,
        problem_from_pb(message.problem) if message.HasField("problem") else None,
        planned_file_from_pb(message.planned) if message.HasField("planned") else None,
        tuple(deletion_from_pb(deletion) for deletion in message.deletions),
        message.library_path.raw,
        message.library_root,
    )
