"""What is said of a library as a whole."""

from __future__ import annotations

from collections.abc import Iterable

from mediasync.convert.basic import file_path, timestamp, timestamp_ns, to_unix, to_unix_ns
from mediasync.library import (
    AdoptSummary,
    Finding,
    FindingCounts,
    FindingKind,
    LibraryProgress,
    LibraryShare,
    LibraryStats,
    VerifyOptions,
    VerifySummary,
)
from mediasync.v1 import transfer_pb2 as pb

_KINDS = {
    FindingKind.MISSING: pb.LIBRARY_FINDING_KIND_MISSING,
    FindingKind.CULLED: pb.LIBRARY_FINDING_KIND_CULLED,
    FindingKind.CHANGED: pb.LIBRARY_FINDING_KIND_CHANGED,
    FindingKind.CORRUPT: pb.LIBRARY_FINDING_KIND_CORRUPT,
    FindingKind.UNKNOWN: pb.LIBRARY_FINDING_KIND_UNKNOWN,
    FindingKind.MOVED: pb.LIBRARY_FINDING_KIND_MOVED,
    FindingKind.UNREADABLE: pb.LIBRARY_FINDING_KIND_UNREADABLE,
}
_KINDS_BACK = {value: key for key, value in _KINDS.items()}


def finding_to_pb(finding: Finding) -> pb.LibraryFinding:
    """One thing that a verify found."""
    return pb.LibraryFinding(
        kind=_KINDS[finding.kind],
        path=file_path(finding.path),
        moved_from=file_path(finding.moved_from) if finding.moved_from else None,
        size_bytes=finding.size_bytes,
        source=finding.source,
        message=finding.message,
    )


def finding_from_pb(message: pb.LibraryFinding) -> Finding:
    """One thing that a verify found. A kind that this version does not know is something wrong."""
    kind = _KINDS_BACK.get(message.kind, FindingKind.UNREADABLE)
    return Finding(kind, message.path.raw, message.size_bytes, message.moved_from.raw, message.source, message.message)


def counts_to_pb(counts: FindingCounts) -> list[pb.LibraryFindingCount]:
    """How many findings there are of each kind."""
    return [pb.LibraryFindingCount(kind=_KINDS[kind], files=count) for kind, count in counts.items() if count]


def counts_from_pb(messages: Iterable[pb.LibraryFindingCount]) -> FindingCounts:
    """How many findings there are of each kind."""
    counts: dict[FindingKind, int] = {}
    for message in messages:
        kind = _KINDS_BACK.get(message.kind, FindingKind.UNREADABLE)
        counts[kind] = counts.get(kind, 0) + message.files
    return counts


def library_progress_to_pb(progress: LibraryProgress) -> pb.LibraryProgress:
    """How far a verify or an adoption is."""
    return pb.LibraryProgress(
        stage=progress.stage,
        files_done=progress.files_done,
        files_total=progress.files_total,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        resumed=progress.resumed,
    )


def library_progress_from_pb(message: pb.LibraryProgress) -> LibraryProgress:
    """How far a verify or an adoption is."""
    return LibraryProgress(message.stage, message.files_done, message.files_total, message.bytes_done, message.bytes_total, message.resumed)


def verify_request_to_pb(library_path: str, options: VerifyOptions) -> pb.VerifyLibraryRequest:
    """What a verify looks at."""
    return pb.VerifyLibraryRequest(
        library_path=library_path,
        below=file_path(options.below),
        deep=options.deep,
        since=timestamp_ns(options.since_ns) if options.since_ns else None,
        restart=options.restart,
        accept=options.accept,
        findings_only=options.findings_only,
    )


def verify_options_from_pb(message: pb.VerifyLibraryRequest) -> VerifyOptions:
    """What a verify looks at."""
    return VerifyOptions(message.below.raw, message.deep, to_unix_ns(message.since), message.restart, message.accept, message.findings_only)


def verify_summary_to_pb(summary: VerifySummary) -> pb.VerifyLibraryDone:
    """What a verify came to."""
    return pb.VerifyLibraryDone(
        files_intact=summary.files_intact,
        files_read=summary.files_read,
        files_left_out=summary.files_left_out,
        others=summary.others,
        bytes_read=summary.bytes_read,
        findings=counts_to_pb(summary.findings),
    )


def verify_summary_from_pb(message: pb.VerifyLibraryDone) -> VerifySummary:
    """What a verify came to."""
    return VerifySummary(
        message.files_intact,
        message.files_read,
        message.files_left_out,
        message.others,
        message.bytes_read,
        counts_from_pb(message.findings),
    )


def adopt_summary_to_pb(summary: AdoptSummary) -> pb.AdoptLibraryDone:
    """What an adoption came to."""
    return pb.AdoptLibraryDone(
        files_adopted=summary.files_adopted,
        bytes_adopted=summary.bytes_adopted,
        files_known=summary.files_known,
        others=summary.others,
        files_unsettled=summary.files_unsettled,
        findings=counts_to_pb(summary.findings),
    )


def adopt_summary_from_pb(message: pb.AdoptLibraryDone) -> AdoptSummary:
    """What an adoption came to."""
    return AdoptSummary(
        message.files_adopted,
        message.bytes_adopted,
        message.files_known,
        message.others,
        message.files_unsettled,
        counts_from_pb(message.findings),
    )


def stats_to_pb(stats: LibraryStats) -> pb.LibraryStatsResponse:
    """What a library holds."""
    return pb.LibraryStatsResponse(
        files=stats.files,
        size_bytes=stats.size_bytes,
        sources=[_share_to_pb(share) for share in stats.sources],
        types=[_share_to_pb(share) for share in stats.types],
        duplicate_files=stats.duplicate_files,
        duplicate_bytes=stats.duplicate_bytes,
        incomplete_files=stats.incomplete_files,
        culled_files=stats.culled_files,
        last_sync_time=timestamp(stats.last_sync_time) if stats.last_sync_time else None,
        last_verify_time=timestamp(stats.last_verify_time) if stats.last_verify_time else None,
        findings=counts_to_pb(stats.findings),
        files_read=stats.files_read,
        free_bytes=stats.free_bytes,
        capacity_bytes=stats.capacity_bytes,
    )


def stats_from_pb(message: pb.LibraryStatsResponse) -> LibraryStats:
    """What a library holds."""
    return LibraryStats(
        files=message.files,
        size_bytes=message.size_bytes,
        sources=tuple(LibraryShare(share.name, share.files, share.size_bytes) for share in message.sources),
        types=tuple(LibraryShare(share.name, share.files, share.size_bytes) for share in message.types),
        duplicate_files=message.duplicate_files,
        duplicate_bytes=message.duplicate_bytes,
        incomplete_files=message.incomplete_files,
        culled_files=message.culled_files,
        last_sync_time=to_unix(message.last_sync_time),
        last_verify_time=to_unix(message.last_verify_time),
        findings=counts_from_pb(message.findings),
        files_read=message.files_read,
        free_bytes=message.free_bytes,
        capacity_bytes=message.capacity_bytes,
    )


def _share_to_pb(share: LibraryShare) -> pb.LibraryShare:
    return pb.LibraryShare(name=share.name, files=share.files, size_bytes=share.size_bytes)
