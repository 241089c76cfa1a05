"""MP4 and QuickTime: boxes. Checks that they are whole, and finds the tags that ComfyUI and VideoHelperSuite write.

Tags are in `moov/udta/meta/ilst` or `moov/meta/ilst`: either items named by a four-character code (`©cmt`), or, where the handler
is `mdta`, items numbered into a list of `keys`; ComfyUI writes its `prompt` and `workflow` so.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from services.transfer.pipeline.formats.jpeg import COMMENT
from services.transfer.pipeline.formats.limits import MAX_CHUNKS, MAX_NESTING, MAX_TEXT_BYTES, MAX_TEXTS
from services.transfer.pipeline.formats.texts import Texts, decode
from services.transfer.pipeline.formats.video import VideoHeader

_CODES = {b"\xa9cmt": COMMENT, b"\xa9des": "description", b"desc": "description", b"\xa9too": "encoder", b"\xa9nam": "title"}
_TOP_LEVEL = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"moof", b"mfra", b"sidx", b"styp", b"meta", b"pnot", b"udta"}
_CONTAINERS = {b"moov", b"udta", b"trak"}


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


def check(stream: BinaryIO) -> str:
    """What is wrong with the boxes, in words that follow the file's name; empty if they fill the file and `moov` is there."""
    end = stream.seek(0, 2)
    kinds = set()
    position = 0
    for box in _boxes(stream, 0, end):
        if box.end > end:
            return f"is cut short: its {_name(box)} box goes {box.end - end} bytes beyond its end"
        kinds.add(box.kind)
        position = box.end
    if b"moov" not in kinds:
        return "is cut short: it has no index (moov), which a writer puts there last"
    if kinds.isdisjoint({b"mdat", b"moof"}):
        return "holds no pictures or sound (mdat)"
    if not kinds & _TOP_LEVEL or position < end - 7:
        return f"is damaged: what follows byte {position} is no box"
    return ""


def read_header(stream: BinaryIO) -> VideoHeader:
    """Pixels of the largest track, and the duration."""
    end = stream.seek(0, 2)
    width = height = 0
    duration: float | None = None
    for box in _walk(stream, 0, end):
        if box.kind == b"mvhd":
            duration = _duration(_payload(stream, box, 128))
        elif box.kind == b"tkhd":
            data = _payload(stream, box, 128)
            if len(data) >= 8:  # the last two fields of either version: 16.16 fixed point
                track = int.from_bytes(data[-8:-6], "big"), int.from_bytes(data[-4:-2], "big")
                width, height = max((width, height), track, key=lambda size: size[0] * size[1])
    return VideoHeader(width, height, duration)


def read_texts(stream: BinaryIO, texts: Texts) -> None:
    """Collects the tags."""
    end = stream.seek(0, 2)
    for box in _walk(stream, 0, end):
        if box.kind == b"meta":
            _read_meta(stream, box, texts)


def _read_meta(stream: BinaryIO, meta: _Box, texts: Texts) -> None:
    # ISO has four bytes of version and flags before the children, QuickTime has not.
    stream.seek(meta.start)
    head = stream.read(8)
    start = meta.start + (0 if head[4:8] in (b"hdlr", b"keys", b"ilst") else 4)
    names: list[str] = []
    for box in _boxes(stream, start, meta.end):
        if box.kind == b"keys":
            names = _keys(_payload(stream, box, MAX_TEXT_BYTES))
        elif box.kind == b"ilst":
            for item in itertools.islice(_boxes(stream, box.start, box.end), MAX_TEXTS):
                _read_item(stream, item, names, texts)


def _read_item(stream: BinaryIO, item: _Box, names: list[str], texts: Texts) -> None:
    number = int.from_bytes(item.kind, "big")
    name = names[number - 1] if 0 < number <= len(names) else _CODES.get(item.kind, "")
    for box in itertools.islice(_boxes(stream, item.start, item.end), 8):
        if box.kind == b"name" and item.kind == b"----":
            name = decode(_payload(stream, box, 256)[4:])
        elif box.kind == b"data" and name:
            # Type and locale come first; type 1 is UTF-8, and others that are texts are rare enough.
            texts.add(name, decode(_payload(stream, box, MAX_TEXT_BYTES)[8:]))


def _keys(data: bytes) -> list[str]:
    names: list[str] = []
    position = 8  # version, flags, count
    while position + 8 <= len(data) and len(names) < MAX_TEXTS:
        size = int.from_bytes(data[position : position + 4], "big")
        if size < 8:
            break
        names.append(decode(data[position + 8 : position + size]))
        position += size
    return names


def _duration(data: bytes) -> float | None:
    if data[:1] == b"\1":
        scale, length, unknown = data[20:24], data[24:32], 2**64 - 1
    else:
        scale, length, unknown = data[12:16], data[16:20], 2**32 - 1
    units, ticks = int.from_bytes(scale, "big"), int.from_bytes(length, "big")
    return ticks / units if units and ticks != unknown else None


def _payload(stream: BinaryIO, box: _Box, limit: int) -> bytes:
    size = box.end - box.start
    if size > limit:
        return b""
    stream.seek(box.start)
    return stream.read(size)


def _walk(stream: BinaryIO, start: int, end: int, depth: int = 0, seen: list[int] | None = None) -> Iterator[_Box]:
    """All boxes, those inside the containers too."""
    seen = [0] if seen is None else seen
    for box in _boxes(stream, start, end):
        seen[0] += 1
        if seen[0] > MAX_CHUNKS:
            return
        yield box._replace(end=min(box.end, end))
        if box.kind in _CONTAINERS and depth < MAX_NESTING:
            yield from _walk(stream, box.start, min(box.end, end), depth + 1, seen)


def _boxes(stream: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    position = start
    for _ in range(MAX_CHUNKS):
        if position + 8 > end:
            return
        stream.seek(position)
        head = stream.read(16)
        size, header = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:
            size = end - position
        if size < header or position + header > end:
            return
        yield _Box(head[4:8], position + header, position + size)
        position += size


def _name(box: _Box) -> str:
    return repr(box.kind.decode("latin-1"))
