"""Which file counts as complete, for engines that have its bytes on this side. The rules are the agent's own (its `Ending`), on bytes that
are here instead of an open file."""

from __future__ import annotations

from mediasync.sources.agent.program.endings import Ending

HEAD_BYTES = 4096
TAIL_BYTES = 64 * 1024
SPAN_BYTES = 1024 * 1024


class SpanMissingError(Exception):
    """A part of the file is asked for that is not here."""

    def __init__(self, offset: int, count: int) -> None:
        super().__init__(offset, count)
        self.offset = offset
        self.count = count


class _Ending(Ending):
    def __init__(self, spans: Spans, name: bytes) -> None:
        super().__init__(-1, spans.size, name)  # type: ignore[no-untyped-call]
        self._spans = spans

    def at(self, offset: int, count: int) -> bytes:
        return self._spans.at(offset, count)


class Spans:
    """Parts of a file of `size` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._parts: list[tuple[int, bytes]] = []

    def add(self, offset: int, data: bytes) -> None:
        """A part that came."""
        self._parts.append((offset, data))

    def at(self, offset: int, count: int) -> bytes:
        """The bytes there, as far as the file goes. Raises SpanMissingError."""
        if not 0 <= offset < self.size:
            return b""
        count = min(count, self.size - offset)
        for start, data in self._parts:
            if start <= offset and offset + count <= start + len(data):
                return data[offset - start : offset - start + count]
        raise SpanMissingError(offset, count)


def first_spans(size: int) -> list[tuple[int, int]]:
    """What to look at first in a file of `size` bytes: offsets and lengths. It decides nearly always."""
    if size <= HEAD_BYTES + TAIL_BYTES:
        return [(0, size)]
    return [(0, HEAD_BYTES), (size - TAIL_BYTES, TAIL_BYTES)]


def next_span(missing: SpanMissingError, size: int) -> tuple[int, int]:
    """What to ask for when a part is missing: some more than that, as the next look will be near it."""
    return missing.offset, min(max(missing.count, SPAN_BYTES), size - missing.offset)


def ended(spans: Spans, name: bytes) -> bool | None:
    """Whether a file's own end is there; None where its format has none to look at. Raises SpanMissingError."""
    reached = _Ending(spans, name).reached()  # type: ignore[no-untyped-call]
    return None if reached is None else bool(reached)


def verdict(reached: bool | None, age_seconds: float, settle_seconds: float, incomplete_after_seconds: float) -> tuple[bool, bool]:
    """(take it, it is incomplete). A format with an end that is there is taken at once; one whose end is missing only once it was left
    alone for `incomplete_after_seconds`; one without an end to look at once it was left alone for `settle_seconds`."""
    if reached:
        return True, False
    if reached is None:
        return age_seconds >= settle_seconds, False
    return age_seconds >= incomplete_after_seconds, True
