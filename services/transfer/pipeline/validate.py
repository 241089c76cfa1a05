"""The first stage: what a file is, and whether it is whole. Pictures are decoded to their last pixel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from services.transfer.pipeline.formats import bmff, ebml, png, sniff
from services.transfer.pipeline.formats.limits import MAX_TEXT_BYTES
from services.transfer.pipeline.formats.video import VideoHeader
from services.transfer.pipeline.stage import MediaFacts, MediaFile, problem_with

MAX_PIXELS = 200_000_000
"""Of one picture. A larger one is not decoded: it would take gigabytes of memory. It is no less valid for that."""

MAX_PIXELS_ALL_FRAMES = 1_000_000_000
"""Of an animation, over its frames; what comes after is not decoded."""

MAX_PICTURE_BYTES = 1 << 30
"""A larger picture file is not decoded."""

_DECODERS: Mapping[str, str] = {
    "image/avif": "AVIF",
    "image/bmp": "BMP",
    "image/gif": "GIF",
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/tiff": "TIFF",
    "image/webp": "WEBP",
}
_VIDEOS: Mapping[str, tuple[Callable[[BinaryIO], str], Callable[[BinaryIO], VideoHeader]]] = {
    "video/mp4": (bmff.check, bmff.read_header),
    "video/quicktime": (bmff.check, bmff.read_header),
    "video/webm": (ebml.check, ebml.read_header),
    "video/x-matroska": (ebml.check, ebml.read_header),
}

# Pillow's own limit is replaced by ours, which is looked at before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# A compressed workflow of more than Pillow's 1 MiB makes no picture invalid.
PngImagePlugin.MAX_TEXT_CHUNK = MAX_TEXT_BYTES


class ValidateStage:
    """Finds the media type, the size in pixels, and what is wrong with the content.

    The content rules: a JPEG called `.png` is a JPEG, and valid. A file whose name says picture or video, and whose content is nothing
    that is known, is invalid. Anything else (texts, JSON, archives) is taken as its name says and not examined.
    """

    name = "validate"

    def process(self, file: MediaFile, facts: MediaFacts) -> MediaFacts:
        """See `Stage`."""
        named = sniff.from_name(file.name)
        with open(file.path, "rb") as stream:
            head = stream.read(sniff.HEAD_BYTES)
            found = sniff.from_content(head)
            facts = replace(facts, media_type=found or named)
            if not found:
                if named in sniff.EXAMINED:
                    return replace(facts, invalid=problem_with(file, _unrecognised(head, named)))
                return facts
            if found in _VIDEOS:
                return _video(file, facts, stream)
            if found in _DECODERS and file.size_bytes <= MAX_PICTURE_BYTES:
                return _picture(file, facts, stream)
        return facts


def _unrecognised(head: bytes, named: str) -> str:
    if not head:
        return "is empty"
    if not any(head):
        return f"is named as {named}, but starts with zeros: its writer, or the disk it was on, lost its content"
    return f"is named as {named}, but its content is neither that nor anything else that is known"


def _video(file: MediaFile, facts: MediaFacts, stream: BinaryIO) -> MediaFacts:
    check, read_header = _VIDEOS[facts.media_type]
    header = read_header(stream)
    facts = replace(facts, width=header.width, height=header.height, duration_seconds=header.duration_seconds)
    wrong = check(stream)
    return replace(facts, invalid=problem_with(file, wrong)) if wrong else facts


def _picture(file: MediaFile, facts: MediaFacts, stream: BinaryIO) -> MediaFacts:
    wrong = png.check(stream) if facts.media_type == "image/png" else ""
    stream.seek(0)
    try:
        with warnings.catch_warnings():
            # Pillow warns of harmless oddities in EXIF and TIFF tags; what matters raises.
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=[_DECODERS[facts.media_type]]) as image:
                facts = replace(facts, width=image.width, height=image.height)
                if not wrong:
                    facts = replace(facts, duration_seconds=_decode(image))
    except UnidentifiedImageError:
        wrong = wrong or f"starts as {facts.media_type}, but its header cannot be read"
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on bytes that were made to break them
        wrong = wrong or f"cannot be decoded: {_plain(error)}"
    return replace(facts, invalid=problem_with(file, wrong)) if wrong else facts


def _decode(image: Image.Image) -> float | None:
    """Decodes every frame, within the bound. Returns the duration of an animation in seconds, None for a still picture."""
    frames = getattr(image, "n_frames", 1)
    milliseconds, room = 0.0, MAX_PIXELS_ALL_FRAMES
    for frame in range(frames):
        image.seek(frame)
        pixels = image.width * image.height  # the pages of a TIFF differ
        if pixels > min(room, MAX_PIXELS):
            return None
        room -= max(pixels, 1)
        image.load()
        with suppress(TypeError, ValueError):
            milliseconds += float(image.info.get("duration", 0))
    return milliseconds / 1000 if frames > 1 else None


def _plain(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text or type(error).__name__
