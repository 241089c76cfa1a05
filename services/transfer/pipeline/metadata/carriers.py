"""Where each file format carries texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO

from PIL import Image

from services.transfer.pipeline.formats import bmff, ebml, gif, jpeg, png, riff, tiff
from services.transfer.pipeline.formats.texts import Texts


def _read_avif(stream: BinaryIO, texts: Texts) -> None:
    """Pillow's decoder finds the EXIF among an AVIF's items when it opens one, before any pixel."""
    try:
        with Image.open(stream, formats=["AVIF"]) as image:
            exif = image.info.get("exif", b"")
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder raises on bytes that were made to break it
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the content
        return
    tiff.read_texts(exif, texts)


_READERS: Mapping[str, Callable[[BinaryIO, Texts], None]] = {
    "image/avif": _read_avif,
    "image/gif": gif.read_texts,
    "image/jpeg": jpeg.read_texts,
    "image/png": png.read_texts,
    "image/webp": riff.read_texts,
    "audio/mp4": bmff.read_texts,
    "video/mp4": bmff.read_texts,
    "video/quicktime": bmff.read_texts,
    "video/webm": ebml.read_texts,
    "video/x-matroska": ebml.read_texts,
}


def read_texts(stream: BinaryIO, media_type: str) -> Texts:
    """The texts that a file of that type carries. A damaged one gives what can be read; never raises for its content."""
    texts = Texts()
    if reader := _READERS.get(media_type):
        reader(stream, texts)
    return texts
