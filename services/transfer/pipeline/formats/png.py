"""PNG: its chunks, its checksums, and the texts in them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from services.transfer.pipeline.formats import tiff
from services.transfer.pipeline.formats.limits import MAX_CHUNKS, MAX_TEXT_BYTES
from services.transfer.pipeline.formats.texts import Texts, decode, inflate

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20


class _Chunk(NamedTuple):
    kind: bytes
    start: int
    length: int


def read_texts(stream: BinaryIO, texts: Texts) -> None:
    """Collects tEXt, zTXt, iTXt, eXIf and ComfyUI's private `comf` (in an APNG). Pixels are skipped, not read."""
    for chunk in _chunks(stream):
        if chunk.kind not in _READERS or chunk.length > MAX_TEXT_BYTES:
            continue
        stream.seek(chunk.start)
        data = stream.read(chunk.length)
        if len(data) == chunk.length:
            _READERS[chunk.kind](data, texts)


def check(stream: BinaryIO) -> str:
    """What is wrong with the chunks, in words that follow the file's name; empty if every checksum is right up to IEND.

    Decoders do not look at the checksums of pixel data, so that a flipped bit may go unseen by them.
    """
    end = stream.seek(0, 2)
    kind = b""
    for chunk in _chunks(stream):
        kind = chunk.kind
        if chunk.start + chunk.length + 4 > end:
            return f"is cut short: its {kind.decode('latin-1')!r} chunk goes beyond its end"
        stream.seek(chunk.start)
        checksum, left = zlib.crc32(kind), chunk.length
        while left:
            data = stream.read(min(left, _BLOCK))
            if not data:
                return "is cut short"
            checksum, left = zlib.crc32(data, checksum), left - len(data)
        if checksum != int.from_bytes(stream.read(4), "big"):
            return f"is damaged: the checksum of its {kind.decode('latin-1')!r} chunk at byte {chunk.start - 8} is wrong"
    return "" if kind == b"IEND" else "is cut short: it has no end (IEND)"


def _chunks(stream: BinaryIO) -> Iterator[_Chunk]:
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield _Chunk(head[4:], position + 8, length)
        if head[4:] == b"IEND":
            return
        position += 12 + length


def _plain(data: bytes, texts: Texts) -> None:
    key, separator, value = data.partition(b"\0")
    if separator:
        texts.add(decode(key), decode(value))


def _compressed(data: bytes, texts: Texts) -> None:
    key, separator, rest = data.partition(b"\0")
    if separator and rest[:1] == b"\0" and (value := inflate(rest[1:])) is not None:
        texts.add(decode(key), decode(value))


def _international(data: bytes, texts: Texts) -> None:
    key, separator, rest = data.partition(b"\0")
    if not separator or len(rest) < 2:
        return
    parts = rest[2:].split(b"\0", 2)  # language tag, translated keyword, text
    if len(parts) < 3:
        return
    value = inflate(parts[2]) if rest[0] else parts[2]
    if value is not None:
        texts.add(decode(key), decode(value))


def _exif(data: bytes, texts: Texts) -> None:
    tiff.read_texts(data, texts)


_READERS = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international, b"eXIf": _exif, b"comf": _plain}
