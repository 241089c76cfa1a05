"""What a sync would do."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import file_path
from mediasync.v1 import types_pb2 as pb

_DECISIONS = {
    model.PreviewDecision.TAKE: pb.PREVIEW_DECISION_TAKE,
    model.PreviewDecision.UNCHANGED: pb.PREVIEW_DECISION_UNCHANGED,
    model.PreviewDecision.FILTERED: pb.PREVIEW_DECISION_FILTERED,
    model.PreviewDecision.UNSETTLED: pb.PREVIEW_DECISION_UNSETTLED,
    model.PreviewDecision.CULLED: pb.PREVIEW_DECISION_CULLED,
    model.PreviewDecision.UNREADABLE: pb.PREVIEW_DECISION_UNREADABLE,
}
_DECISIONS_BACK = {value: key for key, value in _DECISIONS.items()}


def previewed_to_pb(file: model.PreviewedFile) -> pb.PreviewedFile:
    """A file and what a sync would do with it."""
    return pb.PreviewedFile(path=file_path(file.path), size_bytes=file.size_bytes, decision=_DECISIONS[file.decision], reason=file.reason)


def previewed_from_pb(message: pb.PreviewedFile) -> model.PreviewedFile:
    """A file and what a sync would do with it. A decision that this version does not know is one to leave it."""
    decision = _DECISIONS_BACK.get(message.decision, model.PreviewDecision.FILTERED)
    return model.PreviewedFile(message.path.raw, message.size_bytes, decision, message.reason)


def preview_summary_to_pb(summary: model.PreviewSummary) -> pb.PreviewSummary:
    """What a sync would do."""
    return pb.PreviewSummary(
        files_to_take=summary.files_to_take,
        bytes_to_take=summary.bytes_to_take,
        files_unchanged=summary.files_unchanged,
        files_filtered=summary.files_filtered,
        files_unsettled=summary.files_unsettled,
        files_culled=summary.files_culled,
        files_unreadable=summary.files_unreadable,
        files_vanished=summary.files_vanished,
    )


def preview_summary_from_pb(message: pb.PreviewSummary) -> model.PreviewSummary:
    """What a sync would do."""
    return model.PreviewSummary(
        message.files_to_take,
        message.bytes_to_take,
        message.files_unchanged,
        message.files_filtered,
        message.files_unsettled,
        message.files_culled,
        message.files_unreadable,
        message.files_vanished,
    )
