"""WebP, which is a RIFF file: its EXIF."""

from __future__ import annotations

from typing import BinaryIO

from services.transfer.pipeline.formats import tiff
from services.transfer.pipeline.formats.limits import MAX_CHUNKS, MAX_TEXT_BYTES
from services.transfer.pipeline.formats.texts import Texts


def read_texts(stream: BinaryIO, texts: Texts) -> None:
    """Collects the texts of the EXIF chunk; the pixels before it are skipped."""
    position = 12
    for _ in range(MAX_CHUNKS):
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"EXIF":
            if length <= MAX_TEXT_BYTES:
                tiff.read_texts(stream.read(length), texts)
            return
        position += 8 + length + (length & 1)
