"""The first stage: what a file is, and whether it is whole."""

from __future__ import annotations

import errno
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mediasync.errors import Reason
from services.transfer.pipeline import validate
from services.transfer.pipeline.formats import sniff
from services.transfer.pipeline.stage import MediaFacts, MediaFile, run_stages
from services.transfer.pipeline.validate import ValidateStage
from tests.fixtures.media import box, element, mp4, picture, png, png_chunk, webm


def look(file: MediaFile) -> MediaFacts:
    return ValidateStage().process(file, MediaFacts())


@pytest.mark.parametrize(
    ("name", "kind", "media_type"),
    [
        ("a.png", "PNG", "image/png"),
        ("a.jpg", "JPEG", "image/jpeg"),
        ("a.webp", "WEBP", "image/webp"),
        ("a.gif", "GIF", "image/gif"),
        ("a.avif", "AVIF", "image/avif"),
        ("a.bmp", "BMP", "image/bmp"),
        ("a.tif", "TIFF", "image/tiff"),
    ],
)
def test_a_whole_picture_is_valid_and_has_its_size(make_media: Any, name: str, kind: str, media_type: str) -> None:
    facts = look(make_media(name, picture(kind)))
    assert facts == MediaFacts(media_type, 48, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP"])
def test_a_picture_that_is_cut_short_is_invalid_and_says_so_in_words(make_media: Any, kind: str) -> None:
    whole = picture(kind, size=(200, 200))
    facts = look(make_media(f"half.{kind.lower()}", whole[: len(whole) * 6 // 10]))
    assert facts.invalid is not None
    assert facts.invalid.reason is Reason.FILE_INVALID
    assert facts.invalid.message.startswith(f"half.{kind.lower()} ")
    assert facts.media_type == f"image/{kind.lower()}"


def test_a_png_without_its_last_chunk_is_invalid_although_its_pixels_are_there(make_media: Any) -> None:
    facts = look(make_media("a.png", picture()[:-12]))
    assert facts.invalid is not None
    assert "IEND" in facts.invalid.message


def test_one_flipped_bit_in_the_pixels_of_a_png_is_seen(make_media: Any) -> None:
    data = bytearray(picture())
    data[data.index(b"IDAT") + 40] ^= 1
    facts = look(make_media("a.png", bytes(data)))
    assert facts.invalid is not None
    assert "checksum" in facts.invalid.message


def test_what_comes_after_the_end_of_a_png_does_not_matter(make_media: Any) -> None:
    assert look(make_media("a.png", picture() + b"appended")).invalid is None


def test_the_content_rules_where_the_extension_disagrees(make_media: Any) -> None:
    facts = look(make_media("a.png", picture("JPEG")))
    assert facts.media_type == "image/jpeg"
    assert facts.invalid is None


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "is empty"), (bytes(5000), "zeros"), (b"<html>502 Bad Gateway</html>", "anything else that is known")]
)
def test_a_name_that_promises_a_picture_must_hold_something_known(make_media: Any, data: bytes, words: str) -> None:
    facts = look(make_media("a.png", data))
    assert facts.media_type == "image/png"
    assert facts.invalid is not None
    assert words in facts.invalid.message


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.txt", "text/plain"),
        ("log.HTML", "text/html"),
        ("a.json", "application/json"),
        (".png", "application/octet-stream"),
        ("x", "application/octet-stream"),
    ],
)
def test_what_is_no_picture_is_taken_as_its_name_says(make_media: Any, name: str, media_type: str) -> None:
    assert look(make_media(name, b"anything")) == MediaFacts(media_type)


def test_an_unfinished_file_that_was_taken_says_that_it_was_unfinished(make_media: Any) -> None:
    facts = look(make_media("a.png", picture()[:-40], incomplete=True))
    assert facts.invalid is not None
    assert "had not finished" in facts.invalid.message


def test_a_picture_of_too_many_pixels_is_not_decoded_and_not_called_invalid(make_media: Any) -> None:
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    assert look(make_media("bomb.png", bomb)) == MediaFacts("image/png", 30_000, 30_000)


def test_a_file_that_is_too_large_is_not_decoded(make_media: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "MAX_PICTURE_BYTES", 100)
    assert look(make_media("a.jpg", picture("JPEG"))) == MediaFacts("image/jpeg")


def test_an_animation_is_decoded_to_its_end_and_has_a_duration(make_media: Any) -> None:
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], duration=200)
    facts = look(make_media("a.webp", buffer.getvalue()))
    assert facts.invalid is None
    assert facts.duration_seconds == pytest.approx(0.6, abs=0.21)


def test_decoding_an_animation_stops_at_its_bound(make_media: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "MAX_PIXELS_ALL_FRAMES", 4000)
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=200)
    assert look(make_media("a.gif", buffer.getvalue())) == MediaFacts("image/gif", 40, 40)


def test_a_whole_mp4_has_its_size_and_duration(make_media: Any) -> None:
    assert look(make_media("a.mp4", mp4())) == MediaFacts("video/mp4", 640, 360, 2.5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (mp4(moov=False), "moov"),
        (mp4()[:-30], "cut short"),
        (mp4() + b"\0\0\0\3rubbish!", "no box"),
        (box(b"ftyp", b"isom\0\0\2\0") + box(b"moov", box(b"mvhd", bytes(100))), "mdat"),
    ],
)
def test_an_mp4_that_is_not_whole_is_invalid(make_media: Any, data: bytes, words: str) -> None:
    facts = look(make_media("a.mp4", data))
    assert facts.invalid is not None
    assert words in facts.invalid.message


def test_a_quicktime_file_is_told_from_an_mp4_by_its_brand(make_media: Any) -> None:
    assert look(make_media("a.mp4", mp4().replace(b"isom\0\0\2\0", b"qt  \0\0\2\0"))).media_type == "video/quicktime"


def test_a_whole_webm_has_its_size_and_duration(make_media: Any) -> None:
    assert look(make_media("a.webm", webm())) == MediaFacts("video/webm", 320, 180, 1.5)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (webm()[:-20], "missing at its end"),
        (element(0x1A45DFA3, element(0x4282, b"webm")), "no Segment"),
        (element(0x1A45DFA3, element(0x4282, b"webm")) + element(0x18538067), "no Cluster"),
        (element(0x1A45DFA3, element(0x4282, b"webm")) + b"\x18\x53\x80\x67\xff" + b"\x1f\x43\xb6\x75\x90" + bytes(4), "beyond its end"),
    ],
)
def test_a_webm_that_is_not_whole_is_invalid(make_media: Any, data: bytes, words: str) -> None:
    facts = look(make_media("a.webm", data))
    assert facts.invalid is not None
    assert words in facts.invalid.message


def test_a_matroska_of_a_live_recording_is_whole_without_sizes(make_media: Any) -> None:
    live = element(0x1A45DFA3, element(0x4282, b"matroska")) + b"\x18\x53\x80\x67\xff" + b"\x1f\x43\xb6\x75\xff" + bytes(40)
    assert look(make_media("a.mkv", live)) == MediaFacts("video/x-matroska")


def test_a_compressed_workflow_of_several_megabytes_makes_no_picture_invalid(make_media: Any) -> None:
    data = png(png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * (3 << 20))))
    assert look(make_media("a.png", data)).invalid is None


def test_a_file_that_cannot_be_read_in_the_library_is_that_files_problem(tmp_path: Path) -> None:
    file = MediaFile(bytes(tmp_path / "gone.png"), b"gone.png", 10)
    run = run_stages(file, [ValidateStage()])
    assert run.facts.invalid is not None
    assert run.facts.invalid.reason is Reason.LIBRARY_IO
    assert run.facts.invalid.path == b"gone.png"
    assert len(run.failures) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("boom"), Reason.INTERNAL),
        (MemoryError(), Reason.FILE_INVALID),
        (OSError(errno.EIO, "Input/output error"), Reason.LIBRARY_IO),
    ],
)
def test_a_stage_that_raises_does_not_keep_the_next_from_running(make_media: Any, error: Exception, reason: Reason) -> None:
    class Raises:
        name = "raises"

        def process(self, file: MediaFile, facts: MediaFacts) -> MediaFacts:
            raise error

    run = run_stages(make_media("a.png", picture()), [Raises(), ValidateStage()])
    assert (run.facts.width, run.facts.invalid and run.facts.invalid.reason) == (48, reason)


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "image/heif"),
        (b"\0\0\0\x1cftypisom\0\0\0\0isomavif", "image/avif"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
        (b"\0\0\0\x08wide\0\0\0\0mdat", "video/quicktime"),
        (b"BMx", ""),
        (b"PK\x03\x04", "application/zip"),
    ],
)
def test_the_first_bytes_tell_the_type(head: bytes, media_type: str) -> None:
    assert sniff.from_content(head) == media_type
