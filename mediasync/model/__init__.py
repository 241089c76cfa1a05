"""The nouns of a sync as plain data, shared by the client, the command line and the services.

Protobuf messages stop at the servicers and the client; `mediasync.convert` turns one into the other.
"""

from __future__ import annotations

from mediasync.model.filtering import FilterReason
from mediasync.model.jobs import (
    MAX_PROBLEMS,
    Job,
    JobActivity,
    JobState,
    PreviewDecision,
    PreviewedFile,
    PreviewSummary,
    Problem,
    SyncSummary,
)
from mediasync.model.media import CatalogFile, GenerationMetadata
from mediasync.model.options import (
    MAX_PARALLEL_TRANSFERS,
    REWRITTEN_PATTERNS,
    Duplicates,
    Durability,
    FollowSymlinks,
    NamedSource,
    SourceOrigin,
    SyncOptions,
    SyncSpec,
)
from mediasync.model.progress import (
    FolderProgress,
    JobProgress,
    JobProgressReport,
    ProgressReport,
    ProgressStatus,
    UnitProgress,
    is_final_report,
)
from mediasync.model.sources import (
    DockerConnection,
    Engine,
    HostKey,
    HostKeyTrust,
    LocalConnection,
    SourceConnection,
    SourceReport,
    SourceSpec,
    SourceType,
    SshConnection,
)

__all__ = [
    "MAX_PARALLEL_TRANSFERS",
    "MAX_PROBLEMS",
    "REWRITTEN_PATTERNS",
    "CatalogFile",
    "DockerConnection",
    "Duplicates",
    "Durability",
    "Engine",
    "FilterReason",
    "FolderProgress",
    "FollowSymlinks",
    "GenerationMetadata",
    "HostKey",
    "HostKeyTrust",
    "Job",
    "JobActivity",
    "JobProgress",
    "JobProgressReport",
    "JobState",
    "LocalConnection",
    "NamedSource",
    "PreviewDecision",
    "PreviewSummary",
    "PreviewedFile",
    "Problem",
    "ProgressReport",
    "ProgressStatus",
    "SourceConnection",
    "SourceOrigin",
    "SourceReport",
    "SourceSpec",
    "SourceType",
    "SshConnection",
    "SyncOptions",
    "SyncSpec",
    "SyncSummary",
    "UnitProgress",
    "is_final_report",
]
