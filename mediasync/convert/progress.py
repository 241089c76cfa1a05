"""How far it is."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import duration, file_path, timestamp, to_seconds, to_unix
from mediasync.v1 import progress_pb2 as progress_pb
from mediasync.v1 import types_pb2 as pb

_STATUSES = {
    model.ProgressStatus.INITIALIZING: pb.PROGRESS_STATUS_INITIALIZING,
    model.ProgressStatus.SCANNING: pb.PROGRESS_STATUS_SCANNING,
    model.ProgressStatus.TRANSFERRING: pb.PROGRESS_STATUS_TRANSFERRING,
    model.ProgressStatus.PROCESSING: pb.PROGRESS_STATUS_PROCESSING,
    model.ProgressStatus.CLEANING: pb.PROGRESS_STATUS_CLEANING,
    model.ProgressStatus.COMPLETE: pb.PROGRESS_STATUS_COMPLETE,
    model.ProgressStatus.FAILED: pb.PROGRESS_STATUS_FAILED,
    model.ProgressStatus.CANCELLED: pb.PROGRESS_STATUS_CANCELLED,
    model.ProgressStatus.PAUSED: pb.PROGRESS_STATUS_PAUSED,
}
_STATUSES_BACK = {value: key for key, value in _STATUSES.items()}


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
        files_to_clean=progress.files_to_clean,
        files_cleaned=progress.files_cleaned,
        bytes_to_clean=progress.bytes_to_clean,
        bytes_cleaned=progress.bytes_cleaned,
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
        files_to_clean=message.files_to_clean,
        files_cleaned=message.files_cleaned,
        bytes_to_clean=message.bytes_to_clean,
        bytes_cleaned=message.bytes_cleaned,
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
        pause_changes=report.pause_changes,
        files_to_clean=report.files_to_clean,
        files_cleaned=report.files_cleaned,
        bytes_to_clean=report.bytes_to_clean,
        bytes_cleaned=report.bytes_cleaned,
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
            pause_changes=job.pause_changes,
            files_to_clean=job.files_to_clean,
            files_cleaned=job.files_cleaned,
            bytes_to_clean=job.bytes_to_clean,
            bytes_cleaned=job.bytes_cleaned,
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
