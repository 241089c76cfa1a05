"""JPEG: the texts in the segments before its pixels."""

from __future__ import annotations

from typing import BinaryIO

from services.transfer.pipeline.formats import tiff
from services.transfer.pipeline.formats.texts import Texts, decode

COMMENT = "comment"
_MAX_SEGMENTS = 2000
_MAX_FILL_BYTES = 64
_START_OF_SCAN, _END, _APP1, _COMMENT = 0xDA, 0xD9, 0xE1, 0xFE
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def read_texts(stream: BinaryIO, texts: Texts) -> None:
    """Collects EXIF and comments, up to the first scan."""
    stream.seek(2)
    for _ in range(_MAX_SEGMENTS):
        marker = stream.read(2)
        for _ in range(_MAX_FILL_BYTES):  # fill bytes are allowed before a marker
            if marker != b"\xff\xff":
                break
            marker = b"\xff" + stream.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xFF, _START_OF_SCAN, _END):
            return
        if marker[1] in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(stream.read(2), "big") - 2
        if length < 0:
            return
        if marker[1] not in (_APP1, _COMMENT):
            stream.seek(length, 1)
            continue
        data = stream.read(length)
        if marker[1] == _COMMENT:
            texts.add(COMMENT, decode(data.rstrip(b"\0")))
        elif data.startswith(b"Exif\0\0"):
            tiff.read_texts(data, texts)
