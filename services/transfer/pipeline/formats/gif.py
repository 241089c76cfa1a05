"""GIF: its comments."""

from __future__ import annotations

from typing import BinaryIO

from services.transfer.pipeline.formats.jpeg import COMMENT
from services.transfer.pipeline.formats.limits import MAX_TEXT_BYTES
from services.transfer.pipeline.formats.texts import Texts, decode

_EXTENSION, _COMMENT_LABEL = 0x21, 0xFE
_MAX_EXTENSIONS = 4096


def read_texts(stream: BinaryIO, texts: Texts) -> None:
    """Collects the comments before the first picture, where writers put them."""
    stream.seek(0)
    header = stream.read(13)
    if len(header) < 13:
        return
    if header[10] & 0x80:
        stream.seek(3 << ((header[10] & 7) + 1), 1)
    for _ in range(_MAX_EXTENSIONS):
        introducer = stream.read(2)
        if len(introducer) < 2 or introducer[0] != _EXTENSION:
            return
        data = _sub_blocks(stream)
        if data is None:
            return
        if introducer[1] == _COMMENT_LABEL:
            texts.add(COMMENT, decode(data.rstrip(b"\0")))


def _sub_blocks(stream: BinaryIO) -> bytes | None:
    """The data of a chain of sub-blocks; None if it is cut or too large to be a text."""
    data = bytearray()
    while len(data) <= MAX_TEXT_BYTES:
        size = stream.read(1)
        if not size:
            return None
        if size == b"\0":
            return bytes(data)
        data += stream.read(size[0])
    return None
