"""Events that are serialised already, put into a message without being parsed and written anew."""

from __future__ import annotations

from collections.abc import Iterable

EVENTS = b"\x0a"
"""Field 1, of a length: `events` of EventsPublishRequest, OnBatchSyncedRequest and EventsSubscribeResponse, `event` of the others."""


def varint(value: int) -> bytes:
    """A number of protobuf, not negative."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def batch(payloads: Iterable[bytes]) -> bytes:
    """A message with these events in field 1."""
    parts: list[bytes] = []
    for payload in payloads:
        parts += (EVENTS, varint(len(payload)), payload)
    return b"".join(parts)
