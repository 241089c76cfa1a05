"""Plain data <-> protobuf messages, one pair of functions a noun. The only place that knows both."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mediasync import model
from mediasync.errors import reason_of
from mediasync.paths import display
from mediasync.v1 import progress_pb2 as progress_pb
from mediasync.v1 import types_pb2 as pb

_SOURCE_TYPES = {
    model.SourceType.SSH: pb.SOURCE_TYPE_SSH,
    model.SourceType.FORGE: pb.SOURCE_TYPE_FORGE,
    model.SourceType.COMFYUI: pb.SOURCE_TYPE_COMFYUI,
    model.SourceType.VASTAI: pb.SOURCE_TYPE_VASTAI,
}
_JOB_STATES = {
    model.JobState.PENDING: pb.JOB_STATE_PENDING,
    model.JobState.RUNNING: pb.JOB_STATE_RUNNING,
    model.JobState.COMPLETE: pb.JOB_STATE_COMPLETE,
    model.JobState.COMPLETE_WITH_ERRORS: pb.JOB_STATE_COMPLETE_WITH_ERRORS,
    model.JobState.FAILED: pb.JOB_STATE_FAILED,
    model.JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
}
_STATUSES = {
    model.ProgressStatus.INITIALIZING: pb.PROGRESS_STATUS_INITIALIZING,
    model.ProgressStatus.SCANNING: pb.PROGRESS_STATUS_SCANNING,
    model.ProgressStatus.TRANSFERRING: pb.PROGRESS_STATUS_TRANSFERRING,
    model.ProgressStatus.PROCESSING: pb.PROGRESS_STATUS_PROCESSING,
    model.ProgressStatus.COMPLETE: pb.PROGRESS_STATUS_COMPLETE,
    model.ProgressStatus.FAILED: pb.PROGRESS_STATUS_FAILED,
    model.ProgressStatus.CANCELLED: pb.PROGRESS_STATUS_CANCELLED,
}
_TRUST = {
    model.HostKeyTrust.UNKNOWN: pb.HOST_KEY_TRUST_UNKNOWN,
    model.HostKeyTrust.TRUSTED: pb.HOST_KEY_TRUST_TRUSTED,
    model.HostKeyTrust.CHANGED: pb.HOST_KEY_TRUST_CHANGED,
}
_SOURCE_TYPES_BACK = {value: key for key, value in _SOURCE_TYPES.items()}
_JOB_STATES_BACK = {value: key for key, value in _JOB_STATES.items()}
_STATUSES_BACK = {value: key for key, value in _STATUSES.items()}
_TRUST_BACK = {value: key for key, value in _TRUST.items()}


def file_path(raw: bytes) -> pb.FilePath:
    """A path with its display form."""
    return pb.FilePath(raw=raw, display=display(raw))


def timestamp(unix_seconds: float) -> Timestamp:
    """Unix seconds -> Timestamp."""
    return timestamp_ns(round(unix_seconds * 1e9))


def timestamp_ns(unix_ns: int) -> Timestamp:
    """Unix nanoseconds -> Timestamp, exact."""
    return Timestamp(seconds=unix_ns // 1_000_000_000, nanos=unix_ns % 1_000_000_000)


def to_unix_ns(value: Timestamp) -> int:
    """Timestamp -> Unix nanoseconds, exact; 0 for an unset one."""
    return value.seconds * 1_000_000_000 + value.nanos


def to_unix(value: Timestamp) -> float:
    """Timestamp -> Unix seconds; 0 for an unset one."""
    return to_unix_ns(value) / 1e9


def now() -> Timestamp:
    """The current time."""
    return timestamp_ns(time.time_ns())


def duration(seconds: float) -> Duration:
    """Seconds -> Duration."""
    result = Duration()
    result.FromNanoseconds(round(seconds * 1e9))
    return result


def to_seconds(value: Duration) -> float:
    """Duration -> seconds."""
    return value.ToNanoseconds() / 1e9


def source_to_pb(source: model.SourceSpec) -> pb.SourceSpec:
    """A source."""
    connection = source.connection
    return pb.SourceSpec(
        name=source.name,
        type=_SOURCE_TYPES[source.type],
        root=source.root,
        ssh=pb.SshConnection(
            host=connection.host,
            port=connection.port,
            user=connection.user,
            identity_files=connection.identity_files,
            known_hosts_files=connection.known_hosts_files,
            accept_new_host_key=connection.accept_new_host_key,
        ),
    )


def source_from_pb(message: pb.SourceSpec) -> model.SourceSpec:
    """A source. An unknown type is taken as SSH, which only means that no defaults apply."""
    ssh = message.ssh
    return model.SourceSpec(
        connection=model.SshConnection(
            ssh.host, ssh.port, ssh.user, tuple(ssh.identity_files), tuple(ssh.known_hosts_files), ssh.accept_new_host_key
        ),
        root=message.root,
        type=_SOURCE_TYPES_BACK.get(message.type, model.SourceType.SSH),
        name=message.name,
    )


def options_to_pb(options: model.SyncOptions) -> pb.SyncOptions:
    """Options, every default spelled out."""
    return pb.SyncOptions(
        parallel_transfers=options.parallel_transfers,
        retry_attempts=options.retry_attempts,
        retry_delay=duration(options.retry_delay_seconds),
        extract_metadata=options.extract_metadata,
        verify_transfers=options.verify_transfers,
        full_scan=options.full_scan,
        settle_time=duration(options.settle_seconds),
        incomplete_after=duration(options.incomplete_after_seconds),
    )


def options_from_pb(message: pb.SyncOptions) -> model.SyncOptions:
    """Options; what is absent is the default."""
    default = model.SyncOptions()
    return model.SyncOptions(
        parallel_transfers=message.parallel_transfers or default.parallel_transfers,
        retry_attempts=message.retry_attempts if message.HasField("retry_attempts") else default.retry_attempts,
        retry_delay_seconds=to_seconds(message.retry_delay) if message.HasField("retry_delay") else default.retry_delay_seconds,
        extract_metadata=message.extract_metadata if message.HasField("extract_metadata") else default.extract_metadata,
        verify_transfers=message.verify_transfers,
        full_scan=message.full_scan,
        settle_seconds=to_seconds(message.settle_time) if message.HasField("settle_time") else default.settle_seconds,
        incomplete_after_seconds=(
            to_seconds(message.incomplete_after) if message.HasField("incomplete_after") else default.incomplete_after_seconds
        ),
    )


def spec_to_pb(spec: model.SyncSpec) -> pb.SyncSpec:
    """A sync, as it is asked for."""
    return pb.SyncSpec(
        source=source_to_pb(spec.source),
        dest_path=spec.dest_path,
        folders=[file_path(folder) for folder in spec.folders],
        options=options_to_pb(spec.options),
    )


def spec_from_pb(message: pb.SyncSpec) -> model.SyncSpec:
    """A sync, as it is asked for."""
    return model.SyncSpec(
        source=source_from_pb(message.source),
        dest_path=message.dest_path,
        folders=tuple(folder.raw for folder in message.folders),
        options=options_from_pb(message.options),
    )


def problem_to_pb(problem: model.Problem) -> pb.Problem:
    """A problem."""
    message = pb.Problem(reason=problem.reason.value, message=problem.message, remedy=problem.remedy)
    if problem.path is not None:
        message.path.CopyFrom(file_path(problem.path))
    return message


def problem_from_pb(message: pb.Problem) -> model.Problem:
    """A problem."""
    path = message.path.raw if message.HasField("path") else None
    return model.Problem(reason_of(message.reason), message.message, message.remedy, path)


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
        problems=[problem_to_pb(problem) for problem in summary.problems],
        problems_total=summary.problems_total,
        duration=duration(summary.duration_seconds),
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
    )


def status_to_pb(status: model.ProgressStatus) -> pb.ProgressStatus.ValueType:
    """A progress status."""
    return _STATUSES[status]


def status_from_pb(value: pb.ProgressStatus.ValueType) -> model.ProgressStatus:
    """A progress status. One that this version does not know is taken as transferring."""
    return _STATUSES_BACK.get(value, model.ProgressStatus.TRANSFERRING)


def folder_to_pb(row: model.FolderProgress) -> pb.FolderProgress:
    """A folder's row."""
    return pb.FolderProgress(
        folder=file_path(row.folder),
        files_total=row.files_total,
        files_done=row.files_done,
        bytes_total=row.bytes_total,
        bytes_done=row.bytes_done,
        files_failed=row.files_failed,
    )


def folder_from_pb(message: pb.FolderProgress) -> model.FolderProgress:
    """A folder's row."""
    return model.FolderProgress(
        message.folder.raw, message.files_total, message.files_done, message.bytes_total, message.bytes_done, message.files_failed
    )


def progress_to_pb(progress: model.JobProgress) -> pb.JobProgress:
    """A snapshot."""
    message = pb.JobProgress(
        sync_id=progress.sync_id,
        job_id=progress.job_id,
        status=_STATUSES[progress.status],
        percent=progress.percent,
        current_stage=progress.current_stage,
        current_folder=file_path(progress.current_folder),
        current_file=file_path(progress.current_file),
        folders_total=progress.folders_total,
        folders_done=progress.folders_done,
        files_total=progress.files_total,
        files_done=progress.files_done,
        bytes_total=progress.bytes_total,
        bytes_done=progress.bytes_done,
        bytes_per_second=progress.bytes_per_second,
        errors=progress.errors,
        warnings=progress.warnings,
        folders=[folder_to_pb(row) for row in progress.folders],
        files_processed=progress.files_processed,
    )
    if progress.remaining_seconds is not None:
        message.remaining.CopyFrom(duration(progress.remaining_seconds))
    for name in ("start_time", "update_time", "end_time"):
        if value := getattr(progress, name):
            getattr(message, name).CopyFrom(timestamp(value))
    return message


def progress_from_pb(message: pb.JobProgress) -> model.JobProgress:
    """A snapshot."""
    return model.JobProgress(
        sync_id=message.sync_id,
        job_id=message.job_id,
        status=status_from_pb(message.status),
        percent=message.percent,
        current_stage=message.current_stage,
        current_folder=message.current_folder.raw,
        current_file=message.current_file.raw,
        folders_total=message.folders_total,
        folders_done=message.folders_done,
        files_total=message.files_total,
        files_done=message.files_done,
        bytes_total=message.bytes_total,
        bytes_done=message.bytes_done,
        bytes_per_second=message.bytes_per_second,
        remaining_seconds=to_seconds(message.remaining) if message.HasField("remaining") else None,
        start_time=to_unix(message.start_time),
        update_time=to_unix(message.update_time),
        end_time=to_unix(message.end_time),
        errors=message.errors,
        warnings=message.warnings,
        folders=tuple(folder_from_pb(row) for row in message.folders),
        files_processed=message.files_processed,
    )


def progress_report_to_pb(sync_id: str, reporter: str, report: model.ProgressReport) -> progress_pb.ProgressReportRequest:
    """A report as it travels."""
    if isinstance(report, model.UnitProgress):
        unit = progress_pb.UnitReport(
            status=status_to_pb(report.status),
            current_stage=report.current_stage,
            current_file=file_path(report.current_file),
            folders=[folder_to_pb(row) for row in report.folders],
            warnings=report.warnings,
            done=report.done,
        )
        return progress_pb.ProgressReportRequest(sync_id=sync_id, reporter=reporter, unit=unit)
    job = progress_pb.JobReport(
        job_id=report.job_id,
        status=status_to_pb(report.status),
        current_stage=report.current_stage,
        units_total=report.units_total,
        files_processed=report.files_processed,
        errors=report.errors,
        warnings=report.warnings,
    )
    if report.start_time:
        job.start_time.CopyFrom(timestamp(report.start_time))
    if report.end_time:
        job.end_time.CopyFrom(timestamp(report.end_time))
    return progress_pb.ProgressReportRequest(sync_id=sync_id, reporter=reporter, job=job)


def progress_report_from_pb(message: progress_pb.ProgressReportRequest) -> model.ProgressReport | None:
    """The report a message carries; None for a kind that this version does not know."""
    kind = message.WhichOneof("report")
    if kind == "job":
        job = message.job
        return model.JobProgressReport(
            job_id=job.job_id,
            status=status_from_pb(job.status or pb.PROGRESS_STATUS_INITIALIZING),
            current_stage=job.current_stage,
            start_time=to_unix(job.start_time),
            end_time=to_unix(job.end_time),
            units_total=job.units_total,
            files_processed=job.files_processed,
            errors=job.errors,
            warnings=job.warnings,
        )
    if kind == "unit":
        unit = message.unit
        return model.UnitProgress(
            status=status_from_pb(unit.status or pb.PROGRESS_STATUS_INITIALIZING),
            folders=tuple(folder_from_pb(row) for row in unit.folders),
            current_file=unit.current_file.raw,
            current_stage=unit.current_stage,
            warnings=unit.warnings,
            done=unit.done,
        )
    return None


def report_to_pb(report: model.SourceReport) -> pb.SourceReport:
    """What is at a source."""
    return pb.SourceReport(
        engine=report.engine,
        platform=report.platform,
        root=file_path(report.root),
        folders=[file_path(folder) for folder in report.folders],
        round_trip=duration(report.round_trip_seconds),
        clock_offset=duration(report.clock_offset_seconds),
        files=report.files,
        size_bytes=report.size_bytes,
        sample=[file_path(name) for name in report.sample],
    )


def report_from_pb(message: pb.SourceReport) -> model.SourceReport:
    """What is at a source."""
    return model.SourceReport(
        message.engine,
        message.platform,
        message.root.raw,
        tuple(folder.raw for folder in message.folders),
        to_seconds(message.round_trip),
        to_seconds(message.clock_offset),
        message.files,
        message.size_bytes,
        tuple(name.raw for name in message.sample),
    )


def host_key_to_pb(key: model.HostKey) -> pb.HostKey:
    """A host's key."""
    return pb.HostKey(
        host=key.host,
        algorithm=key.algorithm,
        fingerprint=key.fingerprint,
        trust=_TRUST[key.trust],
        known_hosts_file=key.known_hosts_file,
    )


def host_key_from_pb(message: pb.HostKey) -> model.HostKey:
    """A host's key. An unknown trust is no trust."""
    trust = _TRUST_BACK.get(message.trust, model.HostKeyTrust.UNKNOWN)
    return model.HostKey(message.host, message.algorithm, message.fingerprint, trust, message.known_hosts_file)
