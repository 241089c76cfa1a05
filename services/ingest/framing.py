"""Events as bytes: taken out of a request and put into the next without being parsed and written anew.

An event keeps the bytes that it was published with. Its sequence number is field 2 behind them, where the last one counts, so that a
message of events is a join of what the log has. What is cut up here was parsed before by those who use it: nothing is checked again.
Bytes are not comparable across writers: another program may write the same message in another way.
"""

from __future__ import annotations

from collections.abc import Sequence

from mediasync.convert.event_bytes import EVENTS, varint
from services.ingest.events import LoggedEvent

_SEQUENCE = b"\x10"
"""Field 2 of `Event`, a varint."""
_ACCEPTED = b"\x10\x01"
"""Field 2 of `EventResult`, the verdict ACCEPTED."""


class UnknownFieldsError(ValueError):
    """The message holds what this version does not know, and has to be taken apart by protobuf itself."""


def with_sequence(payload: bytes, sequence: int) -> bytes:
    """An event's bytes with its place in the log. They must not hold another one that counts: see `publishing`."""
    return payload + _SEQUENCE + varint(sequence)


def split_events(request: bytes) -> list[bytes]:
    """The events of an EventsPublishRequest, each as it was written. Raises UnknownFieldsError for a message with anything else in it."""
    events: list[bytes] = []
    at, end = 0, len(request)
    while at < end:
        if request[at] != 0x0A:
            raise UnknownFieldsError(f"field {request[at] >> 3} at byte {at}")
        size, at = _varint_at(request, at + 1)
        events.append(request[at : at + size])
        at += size
    return events


def sequence_of(payload: bytes) -> int:
    """The sequence number in an event's bytes; 0 where there is none."""
    sequence, at, end = 0, 0, len(payload)
    while at < end:
        tag, at = _varint_at(payload, at)
        match tag & 7:
            case 0:
                value, at = _varint_at(payload, at)
                sequence = value if tag == _SEQUENCE[0] else sequence
            case 1:
                at += 8
            case 2:
                size, at = _varint_at(payload, at)
                at += size
            case 5:
                at += 4
            case _:
                raise UnknownFieldsError(f"wire type {tag & 7} at byte {at}")
    return sequence


def accepted(events: Sequence[LoggedEvent]) -> bytes:
    """What a subscriber that takes all of them in order answers to OnBatchSynced, as protobuf's own libraries write it. Another form of the
    same answer has to be parsed."""
    parts: list[bytes] = []
    for event in events:
        name = event.event_id.encode()
        size = len(name)
        # An id has at most 64 characters, which may be 256 bytes.
        result = b"\x0a" + varint(size) + name + _ACCEPTED
        parts += (EVENTS, varint(len(result)), result)
    return b"".join(parts)


def _varint_at(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
