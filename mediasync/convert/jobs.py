"""What is asked for, and what became of it."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import duration, file_path, timestamp, to_seconds, to_unix
from mediasync.convert.cleaning import cleanup_summary_from_pb, cleanup_summary_to_pb, policy_from_pb, policy_to_pb
from mediasync.convert.options import options_from_pb, options_to_pb
from mediasync.convert.problems import problem_from_pb, problem_to_pb
from mediasync.convert.sources import source_from_pb, source_to_pb
from mediasync.v1 import types_pb2 as pb

_JOB_STATES = {
    model.JobState.PENDING: pb.JOB_STATE_PENDING,
    model.JobState.RUNNING: pb.JOB_STATE_RUNNING,
    model.JobState.COMPLETE: pb.JOB_STATE_COMPLETE,
    model.JobState.COMPLETE_WITH_ERRORS: pb.JOB_STATE_COMPLETE_WITH_ERRORS,
    model.JobState.FAILED: pb.JOB_STATE_FAILED,
    model.JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
    model.JobState.PAUSED: pb.JOB_STATE_PAUSED,
}
_KINDS = {model.JobKind.SYNC: pb.JOB_KIND_SYNC, model.JobKind.CLEANUP: pb.JOB_KIND_CLEANUP}
_KINDS_BACK = {value: key for key, value in _KINDS.items()}
_JOB_STATES_BACK = {value: key for key, value in _JOB_STATES.items()}

_FILTER_REASONS = {
    model.FilterReason.HIDDEN: pb.FILTER_REASON_HIDDEN,
    model.FilterReason.TEMPORARY: pb.FILTER_REASON_TEMPORARY,
    model.FilterReason.FOREIGN: pb.FILTER_REASON_FOREIGN,
    model.FilterReason.LINK: pb.FILTER_REASON_LINK,
    model.FilterReason.SPECIAL: pb.FILTER_REASON_SPECIAL,
    model.FilterReason.EXTENSION: pb.FILTER_REASON_EXTENSION,
    model.FilterReason.TOO_SMALL: pb.FILTER_REASON_TOO_SMALL,
    model.FilterReason.TOO_LARGE: pb.FILTER_REASON_TOO_LARGE,
    model.FilterReason.EXCLUDED: pb.FILTER_REASON_EXCLUDED,
    model.FilterReason.NOT_INCLUDED: pb.FILTER_REASON_NOT_INCLUDED,
    model.FilterReason.TOO_YOUNG: pb.FILTER_REASON_TOO_YOUNG,
    model.FilterReason.TOO_OLD: pb.FILTER_REASON_TOO_OLD,
    model.FilterReason.OUTSIDE: pb.FILTER_REASON_OUTSIDE,
}
_FILTER_REASONS_BACK = {value: key for key, value in _FILTER_REASONS.items()}


def spec_to_pb(spec: model.SyncSpec) -> pb.SyncSpec:
    """A sync, as it is asked for."""
    return pb.SyncSpec(
        source=source_to_pb(spec.source),
        dest_path=spec.dest_path,
        folders=[file_path(folder) for folder in spec.folders],
        options=options_to_pb(spec.options),
        cleanup=policy_to_pb(spec.cleanup) if spec.cleanup else None,
    )


def spec_from_pb(message: pb.SyncSpec) -> model.SyncSpec:
    """A sync, as it is asked for."""
    return model.SyncSpec(
        source=source_from_pb(message.source),
        dest_path=message.dest_path,
        folders=tuple(folder.raw for folder in message.folders),
        options=options_from_pb(message.options),
        cleanup=policy_from_pb(message.cleanup) if message.HasField("cleanup") else None,
    )


def summary_to_pb(summary: model.SyncSummary) -> pb.SyncSummary:
    """A summary."""
    return pb.SyncSummary(
        files_transferred=summary.files_transferred,
        bytes_transferred=summary.bytes_transferred,
        files_unchanged=summary.files_unchanged,
        files_filtered=summary.files_filtered,
        files_unsettled=summary.files_unsettled,
        files_failed=summary.files_failed,
        files_vanished=summary.files_vanished,
        files_invalid=summary.files_invalid,
        files_duplicate=summary.files_duplicate,
        files_culled=summary.files_culled,
        filtered=[pb.FilteredFiles(reason=_FILTER_REASONS[reason], files=files) for reason, files in summary.filtered.items()],
        problems=[problem_to_pb(problem) for problem in summary.problems],
        problems_total=summary.problems_total,
        duration=duration(summary.duration_seconds),
        cleanup=cleanup_summary_to_pb(summary.cleanup) if summary.cleanup else None,
    )


def summary_from_pb(message: pb.SyncSummary) -> model.SyncSummary:
    """A summary."""
    return model.SyncSummary(
        message.files_transferred,
        message.bytes_transferred,
        message.files_unchanged,
        message.files_filtered,
        message.files_unsettled,
        message.files_failed,
        message.files_vanished,
        message.files_invalid,
        tuple(problem_from_pb(problem) for problem in message.problems),
        message.problems_total,
        to_seconds(message.duration),
        message.files_duplicate,
        message.files_culled,
        # A reason that this version does not know stays in the sum alone.
        {_FILTER_REASONS_BACK[item.reason]: item.files for item in message.filtered if item.reason in _FILTER_REASONS_BACK},
        cleanup_summary_from_pb(message.cleanup) if message.HasField("cleanup") else None,
    )


def job_state_to_pb(state: model.JobState) -> pb.JobState.ValueType:
    """A job's state."""
    return _JOB_STATES[state]


def job_state_from_pb(value: pb.JobState.ValueType) -> model.JobState:
    """A job's state. One that this version does not know is taken as running: the client goes on watching."""
    return _JOB_STATES_BACK.get(value, model.JobState.RUNNING)


def job_to_pb(job: model.Job) -> pb.Job:
    """A job."""
    message = pb.Job(
        job_id=job.job_id,
        sync_id=job.sync_id,
        state=_JOB_STATES[job.state],
        spec=spec_to_pb(job.spec),
        create_time=timestamp(job.create_time),
        summary=summary_to_pb(job.summary),
        retry_of=job.retry_of,
        limit_mbps=job.limit_mbps,
        activities=[activity_to_pb(activity) for activity in job.activities],
        kind=_KINDS[job.kind],
    )
    if job.start_time:
        message.start_time.CopyFrom(timestamp(job.start_time))
    if job.end_time:
        message.end_time.CopyFrom(timestamp(job.end_time))
    if job.problem:
        message.problem.CopyFrom(problem_to_pb(job.problem))
    return message


def job_from_pb(message: pb.Job) -> model.Job:
    """A job."""
    return model.Job(
        job_id=message.job_id,
        sync_id=message.sync_id,
        state=job_state_from_pb(message.state),
        spec=spec_from_pb(message.spec),
        create_time=to_unix(message.create_time),
        start_time=to_unix(message.start_time),
        end_time=to_unix(message.end_time),
        summary=summary_from_pb(message.summary),
        problem=problem_from_pb(message.problem) if message.HasField("problem") else None,
        retry_of=message.retry_of,
        limit_mbps=message.limit_mbps if message.HasField("limit_mbps") else None,
        activities=tuple(activity_from_pb(activity) for activity in message.activities),
        kind=_KINDS_BACK.get(message.kind, model.JobKind.SYNC),
    )


def activity_to_pb(activity: model.JobActivity) -> pb.JobActivity:
    """What the watch of a folder is at."""
    message = pb.JobActivity(folder=file_path(activity.folder), text=activity.text)
    for name in ("gone_since", "next_try"):
        if value := getattr(activity, name):
            getattr(message, name).CopyFrom(timestamp(value))
    return message


def activity_from_pb(message: pb.JobActivity) -> model.JobActivity:
    """What the watch of a folder is at."""
    return model.JobActivity(message.folder.raw, message.text, to_unix(message.gone_since), to_unix(message.next_try))
