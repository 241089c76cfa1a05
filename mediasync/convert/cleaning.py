"""What a clean-up may delete, and what it did."""

from __future__ import annotations

from typing import Any

from mediasync import model
from mediasync.convert.problems import problem_from_pb, problem_to_pb
from mediasync.v1 import types_pb2

_BASES = {
    model.AgeBasis.CREATED: types_pb2.AGE_BASIS_CREATED,
    model.AgeBasis.MODIFIED: types_pb2.AGE_BASIS_MODIFIED,
    model.AgeBasis.ACCESSED: types_pb2.AGE_BASIS_ACCESSED,
}
_BASES_BACK = {value: key for key, value in _BASES.items()}
_REASONS = {
    model.KeptReason.TOO_YOUNG: types_pb2.KEPT_REASON_TOO_YOUNG,
    model.KeptReason.RECENT: types_pb2.KEPT_REASON_RECENT,
    model.KeptReason.FUTURE: types_pb2.KEPT_REASON_FUTURE,
    model.KeptReason.PRESERVED: types_pb2.KEPT_REASON_PRESERVED,
    model.KeptReason.EXCLUDED: types_pb2.KEPT_REASON_EXCLUDED,
    model.KeptReason.EXTENSION: types_pb2.KEPT_REASON_EXTENSION,
    model.KeptReason.TOO_SMALL: types_pb2.KEPT_REASON_TOO_SMALL,
    model.KeptReason.KEEP_LAST: types_pb2.KEPT_REASON_KEEP_LAST,
    model.KeptReason.COUNTER: types_pb2.KEPT_REASON_COUNTER,
    model.KeptReason.COMPANION: types_pb2.KEPT_REASON_COMPANION,
    model.KeptReason.NOT_SYNCED: types_pb2.KEPT_REASON_NOT_SYNCED,
    model.KeptReason.CHANGED: types_pb2.KEPT_REASON_CHANGED,
    model.KeptReason.INCOMPLETE: types_pb2.KEPT_REASON_INCOMPLETE,
    model.KeptReason.INVALID: types_pb2.KEPT_REASON_INVALID,
    model.KeptReason.CULLED: types_pb2.KEPT_REASON_CULLED,
    model.KeptReason.EDITED: types_pb2.KEPT_REASON_EDITED,
    model.KeptReason.COPY_MISSING: types_pb2.KEPT_REASON_COPY_MISSING,
    model.KeptReason.COPY_CORRUPT: types_pb2.KEPT_REASON_COPY_CORRUPT,
    model.KeptReason.COPY_UNREADABLE: types_pb2.KEPT_REASON_COPY_UNREADABLE,
    model.KeptReason.COPY_NOT_FLUSHED: types_pb2.KEPT_REASON_COPY_NOT_FLUSHED,
    model.KeptReason.NO_RESULT: types_pb2.KEPT_REASON_NO_RESULT,
    model.KeptReason.CAP: types_pb2.KEPT_REASON_CAP,
    model.KeptReason.CHANGED_MEANWHILE: types_pb2.KEPT_REASON_CHANGED_MEANWHILE,
    model.KeptReason.REFUSED: types_pb2.KEPT_REASON_REFUSED,
    model.KeptReason.STOPPED: types_pb2.KEPT_REASON_STOPPED,
    model.KeptReason.UNREADABLE: types_pb2.KEPT_REASON_UNREADABLE,
}
_REASONS_BACK = {value: key for key, value in _REASONS.items()}
# Fields that are a message's own, and of which 0, false or empty is the default.
_PLAIN = (
    "after_sync",
    "dry_run",
    "i_mean_it",
    "min_size_bytes",
    "keep_last",
    "min_free_space_gb",
    "target_free_space_gb",
    "min_free_space_percent",
    "target_free_space_percent",
    "force_cap",
    "clean_culled",
    "plan_id",
)
_LISTS = ("preserve_patterns", "exclude_patterns", "allowed_extensions")
# Of which 0 says something else than absence.
_OPTIONAL = (
    "verify_synced",
    "age_hours",
    "preserve_recent_minutes",
    "keep_counter",
    "min_age_minutes",
    "max_delete_files",
    "max_delete_share",
    "trash_days",
)


def policy_to_pb(policy: model.CleanupPolicy) -> types_pb2.CleanupPolicy:
    """A policy, every default spelled out."""
    values = {name: getattr(policy, name) for name in (*_PLAIN, *_LISTS, *_OPTIONAL, "max_files_per_batch")}
    return types_pb2.CleanupPolicy(age_basis=_BASES[policy.age_basis], **values)


def policy_from_pb(message: types_pb2.CleanupPolicy) -> model.CleanupPolicy:
    """A policy; what is absent is the default."""
    given: dict[str, Any] = {name: getattr(message, name) for name in _PLAIN}
    given |= {name: tuple(getattr(message, name)) for name in _LISTS}
    present = {field.name for field, _ in message.ListFields()}
    given |= {name: getattr(message, name) for name in _OPTIONAL if name in present}
    default = model.CleanupPolicy()
    return model.CleanupPolicy(
        age_basis=_BASES_BACK.get(message.age_basis, default.age_basis),
        max_files_per_batch=message.max_files_per_batch or default.max_files_per_batch,
        **given,
    )


def kept_reason_to_pb(reason: model.KeptReason | None) -> types_pb2.KeptReason.ValueType:
    """Why a file was kept; nothing for one that was not."""
    return _REASONS.get(reason, types_pb2.KEPT_REASON_UNSPECIFIED) if reason else types_pb2.KEPT_REASON_UNSPECIFIED


def kept_reason_from_pb(value: types_pb2.KeptReason.ValueType) -> model.KeptReason | None:
    """Why a file was kept; a reason that this version does not know is UNKNOWN."""
    return _REASONS_BACK.get(value, model.KeptReason.UNKNOWN) if value else None


def cleanup_summary_to_pb(summary: model.CleanupSummary) -> types_pb2.CleanupSummary:
    """What a clean-up did."""
    return types_pb2.CleanupSummary(
        files_scanned=summary.files_scanned,
        files_deleted=summary.files_deleted,
        files_kept=summary.files_kept,
        space_freed_bytes=summary.space_freed_bytes,
        errors=summary.errors,
        dry_run=summary.dry_run,
        files_vanished=summary.files_vanished,
        kept=[
            types_pb2.KeptFiles(reason=kept_reason_to_pb(reason), files=kept.files, size_bytes=kept.size_bytes)
            for reason, kept in summary.kept.items()
        ],
        folders_removed=summary.folders_removed,
        problems=[problem_to_pb(problem) for problem in summary.problems],
        problems_total=summary.problems_total,
        notes=summary.notes,
        free_bytes_before=summary.free_bytes_before,
        free_bytes_after=summary.free_bytes_after,
        trashed=summary.trashed,
    )


def cleanup_summary_from_pb(message: types_pb2.CleanupSummary) -> model.CleanupSummary:
    """What a clean-up did."""
    kept: dict[model.KeptReason, model.Kept] = {}
    for item in message.kept:
        reason = kept_reason_from_pb(item.reason) or model.KeptReason.UNKNOWN
        kept[reason] = kept.get(reason, model.Kept()) + model.Kept(item.files, item.size_bytes)
    return model.CleanupSummary(
        files_scanned=message.files_scanned,
        files_deleted=message.files_deleted,
        space_freed_bytes=message.space_freed_bytes,
        errors=message.errors,
        dry_run=message.dry_run,
        files_vanished=message.files_vanished,
        kept=kept,
        folders_removed=message.folders_removed,
        problems=tuple(problem_from_pb(problem) for problem in message.problems),
        problems_total=message.problems_total,
        notes=tuple(message.notes),
        free_bytes_before=message.free_bytes_before if message.HasField("free_bytes_before") else None,
        free_bytes_after=message.free_bytes_after if message.HasField("free_bytes_after") else None,
        trashed=message.trashed,
    )
