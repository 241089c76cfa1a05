"""Matroska and WebM: EBML elements. Checks that they are whole, and finds tags and the picture's size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from services.transfer.pipeline.formats.limits import MAX_CHUNKS, MAX_NESTING, MAX_TEXT_BYTES
from services.transfer.pipeline.formats.texts import Texts, decode
from services.transfer.pipeline.formats.video import VideoHeader

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_INFO, _TIMESTAMP_SCALE, _DURATION = 0x1549A966, 0x2AD7B1, 0x4489
_TRACKS, _TRACK_ENTRY, _VIDEO, _WIDTH, _HEIGHT = 0x1654AE6B, 0xAE, 0xE0, 0xB0, 0xBA
_TAGS, _TAG, _SIMPLE_TAG, _TAG_NAME, _TAG_STRING = 0x1254C367, 0x7373, 0x67C8, 0x45A3, 0x4487
_CONTAINERS = {_SEGMENT, _INFO, _TRACKS, _TRACK_ENTRY, _VIDEO, _TAGS, _TAG, _SIMPLE_TAG}


class _Element(NamedTuple):
    id: int
    start: int
    end: int
    unknown_size: bool


def check(stream: BinaryIO) -> str:
    """What is wrong with the elements, in words that follow the file's name; empty if they fit and pictures or sound are there."""
    end = stream.seek(0, 2)
    top = list(_elements(stream, 0, end, 64))
    segment = next((element for element in top if element.id == _SEGMENT), None)
    if segment is None:
        return "holds no pictures or sound (no Segment)"
    if segment.end > end:
        return f"is cut short: {segment.end - end} bytes are missing at its end"
    clusters = 0
    for element in _elements(stream, segment.start, segment.end):
        if element.end > end:
            return f"is cut short: one of its parts goes {element.end - end} bytes beyond its end"
        clusters += element.id == _CLUSTER
    return "" if clusters else "holds no pictures or sound (no Cluster)"


def read_header(stream: BinaryIO) -> VideoHeader:
    """Pixels of the first picture track, and the duration."""
    width = height = 0
    scale, ticks = 1_000_000, None
    for element in _walk(stream, 0, stream.seek(0, 2)):
        if element.id == _WIDTH and not width:
            width = _unsigned(stream, element)
        elif element.id == _HEIGHT and not height:
            height = _unsigned(stream, element)
        elif element.id == _TIMESTAMP_SCALE:
            scale = _unsigned(stream, element)
        elif element.id == _DURATION:
            ticks = _float(stream, element)
    return VideoHeader(width, height, None if ticks is None else ticks * scale / 1e9)


def read_texts(stream: BinaryIO, texts: Texts) -> None:
    """Collects the tags."""
    name = ""
    for element in _walk(stream, 0, stream.seek(0, 2)):
        if element.id == _SIMPLE_TAG:
            name = ""
        elif element.id == _TAG_NAME:
            name = decode(_payload(stream, element, 256))
        elif element.id == _TAG_STRING:
            texts.add(name, decode(_payload(stream, element, MAX_TEXT_BYTES).rstrip(b"\0")))


def _walk(stream: BinaryIO, start: int, end: int, depth: int = 0, seen: list[int] | None = None) -> Iterator[_Element]:
    seen = [0] if seen is None else seen
    for element in _elements(stream, start, end):
        seen[0] += 1
        if seen[0] > MAX_CHUNKS:
            return
        inside = element._replace(end=min(element.end, end))
        yield inside
        if element.id in _CONTAINERS and depth < MAX_NESTING:
            yield from _walk(stream, inside.start, inside.end, depth + 1, seen)


def _elements(stream: BinaryIO, start: int, end: int, limit: int = MAX_CHUNKS) -> Iterator[_Element]:
    """The elements between two places. One of unknown size (a live recording) takes the rest."""
    position = start
    for _ in range(limit):
        if position >= end:
            return
        stream.seek(position)
        head = stream.read(12)
        id_length = _vint_length(head[:1], 4)
        size_length = _vint_length(head[id_length : id_length + 1], 8)
        if not id_length or not size_length or len(head) < id_length + size_length:
            return
        size = int.from_bytes(head[id_length : id_length + size_length], "big") & ((1 << 7 * size_length) - 1)
        unknown = size == (1 << 7 * size_length) - 1
        body = position + id_length + size_length
        if body > end:
            return
        stop = end if unknown else body + size
        yield _Element(int.from_bytes(head[:id_length], "big"), body, stop, unknown)
        position = stop


def _vint_length(first: bytes, limit: int) -> int:
    """Bytes of a variable-length number by its first one; 0 if that is none."""
    length = 9 - first[0].bit_length() if first else 0
    return length if length <= limit else 0


def _payload(stream: BinaryIO, element: _Element, limit: int) -> bytes:
    size = element.end - element.start
    if size > limit:
        return b""
    stream.seek(element.start)
    return stream.read(size)


def _unsigned(stream: BinaryIO, element: _Element) -> int:
    return min(int.from_bytes(_payload(stream, element, 8), "big"), 2**31 - 1)


def _float(stream: BinaryIO, element: _Element) -> float | None:
    data = _payload(stream, element, 8)
    form = {4: ">f", 8: ">d"}.get(len(data))
    return float(struct.unpack(form, data)[0]) if form else None
