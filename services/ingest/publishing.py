"""What is published, checked on its way into the log.

Parsed once for the checks; what is kept are the bytes that came (see `framing`). Order within a file needs a key of the file: a hash of
its library and its path, and for one that was moved of both places.
"""

from __future__ import annotations

import functools
import hashlib

from google.protobuf.message import DecodeError

from mediasync.errors import FieldViolation, MediasyncError, Reason
from mediasync.paths import check_relative
from mediasync.v1 import events_pb2, media_ingest_pb2
from services.ingest import framing
from services.ingest.events import FILE_KEY_BYTES, EventKind, NewEvent

MAX_EVENTS = 1000
MAX_EVENT_BYTES = 16 * 1024 * 1024


def events_from_request(request: bytes, traceparent: str) -> list[NewEvent]:
    """The events of a serialised EventsPublishRequest. Raises INVALID_ARGUMENT that names every field that is wrong."""
    try:
        messages = events_pb2.EventsPublishRequest.FromString(request).events
    except DecodeError:
        raise MediasyncError(Reason.INVALID_ARGUMENT, "the request is no EventsPublishRequest") from None
    if len(messages) > MAX_EVENTS:
        raise _invalid([FieldViolation("events", f"at most {MAX_EVENTS}, not {len(messages)}")])
    try:
        payloads = framing.split_events(request)
    except framing.UnknownFieldsError:
        payloads = [message.SerializeToString() for message in messages]
    wrong: list[FieldViolation] = []
    events = [
        _event(message, payload, index, traceparent, wrong) for index, (message, payload) in enumerate(zip(messages, payloads, strict=True))
    ]
    if wrong:
        raise _invalid(wrong)
    return [event for event in events if event is not None]


def _event(message: media_ingest_pb2.Event, payload: bytes, index: int, traceparent: str, wrong: list[FieldViolation]) -> NewEvent | None:
    before = len(wrong)
    event_id = message.event_id
    if not 1 <= len(event_id) <= 64:
        wrong.append(FieldViolation(f"events[{index}].event_id", "1 to 64 characters"))
    kind, field = _KINDS.get(message.type, (None, ""))
    if kind is None:
        wrong.append(FieldViolation(f"events[{index}].type", "a type of event that this version knows"))
        return None
    key = b""
    if message.WhichOneof("payload") != field:
        wrong.append(FieldViolation(f"events[{index}].{field}", f"set, for {kind.name}"))
    elif field == "file":
        key = _file_key(message.file, index, wrong)
    if message.sequence:
        # The log gives out sequence numbers; one from outside must not come back.
        message.ClearField("sequence")
        payload = message.SerializeToString()
    if len(payload) > MAX_EVENT_BYTES:
        wrong.append(FieldViolation(f"events[{index}]", f"at most {MAX_EVENT_BYTES} bytes, not {len(payload)}"))
    if len(wrong) > before:
        return None
    return NewEvent(event_id, kind, key, message.sync_id, payload, traceparent)


_FIELDS = {EventKind.SYNC_COMPLETE: "sync", EventKind.BATCH_SYNCED: "batch"}
_KINDS: dict[int, tuple[EventKind | None, str]] = {int(kind): (kind, _FIELDS.get(kind, "file")) for kind in EventKind}


def _file_key(record: media_ingest_pb2.FileRecord, index: int, wrong: list[FieldViolation]) -> bytes:
    """The same for every event of a file. Refuses paths that lead out of the library: subscribers open them."""
    path, root = record.library_path.raw, record.library_root
    _check(path, "library_path", index, wrong)
    if record.HasField("xmp_path"):
        _check(record.xmp_path.raw, "xmp_path", index, wrong)
    if record.HasField("thumbnail_path"):
        _check(record.thumbnail_path.raw, "thumbnail_path", index, wrong)
    if not record.HasField("moved_from"):
        return file_key(root, path)
    _check(record.moved_from.raw, "moved_from", index, wrong)
    return file_key(root, path) + file_key(root, record.moved_from.raw)


def _check(path: bytes, field: str, index: int, wrong: list[FieldViolation]) -> None:
    try:
        check_relative(path)
    except MediasyncError:
        wrong.append(FieldViolation(f"events[{index}].file.{field}.raw", "a path below the library's root"))


def file_key(library_root: str, path: bytes) -> bytes:
    """The key of a file of a library."""
    root = _root_hash(library_root).copy()
    root.update(path)
    return root.digest()[:FILE_KEY_BYTES]


@functools.lru_cache(maxsize=64)
def _root_hash(library_root: str) -> hashlib._Hash:
    root = library_root.encode()
    return hashlib.sha256(len(root).to_bytes(4, "big") + root)


def _invalid(wrong: list[FieldViolation]) -> MediasyncError:
    said = "; ".join(f"{violation.field} must be {violation.description}" for violation in wrong[:3])
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    return MediasyncError(Reason.INVALID_ARGUMENT, said + more, fields=wrong[:20])
