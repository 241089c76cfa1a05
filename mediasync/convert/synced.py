"""What is on record of files of a source, and what was seen of their copies."""

from __future__ import annotations

from mediasync.convert.basic import file_path
from mediasync.model.synced import CopyReport, SourceFile, SyncedFile, SyncedState
from mediasync.v1 import transfer_pb2 as pb
from mediasync.v1 import types_pb2

_STATES = {
    SyncedState.UNKNOWN: pb.SYNCED_STATE_UNKNOWN,
    SyncedState.SYNCED: pb.SYNCED_STATE_SYNCED,
    SyncedState.CHANGED: pb.SYNCED_STATE_CHANGED,
    SyncedState.INCOMPLETE: pb.SYNCED_STATE_INCOMPLETE,
    SyncedState.INVALID: pb.SYNCED_STATE_INVALID,
    SyncedState.CULLED: pb.SYNCED_STATE_CULLED,
    SyncedState.EDITED: pb.SYNCED_STATE_EDITED,
    SyncedState.NOT_FLUSHED: pb.SYNCED_STATE_NOT_FLUSHED,
}
_STATES_BACK = {value: key for key, value in _STATES.items()}


def source_file_to_pb(file: SourceFile) -> pb.SourceFile:
    """A file at a source."""
    return pb.SourceFile(path=file_path(file.path), size_bytes=file.size_bytes, mtime_ns=file.mtime_ns, inode=file.inode)


def source_file_from_pb(message: pb.SourceFile) -> SourceFile:
    """A file at a source."""
    return SourceFile(message.path.raw, message.size_bytes, message.mtime_ns, message.inode)


def synced_to_pb(file: SyncedFile) -> pb.SyncedFile:
    """What is on record of a file."""
    message = pb.SyncedFile(state=_STATES[file.state], copies=[file_path(copy) for copy in file.copies], sync_id=file.sync_id)
    if file.sha256:
        message.digest.algorithm = types_pb2.DIGEST_ALGORITHM_SHA256
        message.digest.value = file.sha256
    return message


def synced_from_pb(message: pb.SyncedFile) -> SyncedFile:
    """What is on record of a file. A state that this version does not know is UNKNOWN: what is not understood is not believed."""
    state = _STATES_BACK.get(message.state, SyncedState.UNKNOWN)
    if state is SyncedState.UNKNOWN:
        return SyncedFile(state)
    return SyncedFile(state, message.digest.value, tuple(copy.raw for copy in message.copies), message.sync_id)


def copy_report_to_pb(copy: CopyReport) -> pb.CopyReport:
    """What was seen of a copy."""
    return pb.CopyReport(
        library_path=file_path(copy.library_path),
        source_path=file_path(copy.source_path),
        intact=copy.intact,
        missing=copy.missing,
        message=copy.message,
    )


def copy_report_from_pb(message: pb.CopyReport) -> CopyReport:
    """What was seen of a copy."""
    return CopyReport(message.library_path.raw, message.source_path.raw, message.intact, message.missing, message.message)
