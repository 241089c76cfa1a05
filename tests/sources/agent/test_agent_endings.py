"""Whether a file's own end is there: what the agent thinks of files in every state."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from mediasync.sources.agent.program.endings import Ending
from mediasync.sources.agent.program.tree import age_of
from tests.fixtures.sources import COMPLETE, GIF, JPEG, MP4, PNG, WEBM, WEBP, box, png_chunk


def ending(tmp_path: Path, data: bytes, name: bytes = b"file.bin") -> bool | None:
    file = tmp_path / "file"
    file.write_bytes(data)
    fd = os.open(file, os.O_RDONLY)
    try:
        return Ending(fd, len(data), name).reached()
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", list(COMPLETE))
def test_a_complete_file_is_complete_whatever_its_name(tmp_path: Path, kind: str) -> None:
    assert ending(tmp_path, COMPLETE[kind]) is True


@pytest.mark.parametrize("kind", list(COMPLETE))
def test_no_part_of_a_file_passes_for_a_whole(tmp_path: Path, kind: str) -> None:
    whole = COMPLETE[kind]
    for length in range(len(whole)):
        assert ending(tmp_path, whole[:length], f"x.{kind}".encode()) is not True, length


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(PNG + b"appended", True, id="png with something appended"),
        pytest.param(PNG[:-12] + png_chunk(b"comf", b"key\0{}") + png_chunk(b"IEND", b""), True, id="apng with a private chunk"),
        pytest.param(PNG[:8] + b"\xff\xff\xff\xffIDAT", False, id="png with a chunk beyond its end"),
        pytest.param(JPEG + b"\0motion photo" * 100, True, id="jpeg with a film appended"),
        pytest.param(JPEG[:-2] + b"\xff\xff\xff\xd9 ", True, id="jpeg with fill bytes"),
        pytest.param(b"\xff\xd8\xff\xe1\x40\x00" + JPEG + b"x", False, id="jpeg cut after its preview"),
        pytest.param(JPEG[:-2] + b"\xff\xda\x00\x02" + b"x" * 300_000 + b"\xff\xd9tail", True, id="progressive jpeg with a tail"),
        pytest.param(b"\xff\xd8\xff\xe0\x00", False, id="jpeg cut in a segment's head"),
        pytest.param(b"\xff\xd8\xffgarbage", False, id="jpeg of garbage"),
        pytest.param(b"RIFF\0\0\0\0WEBP", False, id="webp whose length is not there yet"),
        pytest.param(b"RIFF\xff\xff\xff\xffWAVE" + bytes(50), False, id="wav that is being written"),
        pytest.param(WEBP + b"\0", True, id="webp with a byte more"),
        pytest.param(GIF[:-1] + GIF[13 + 6 :], True, id="gif of two frames"),
        pytest.param(GIF[:-1] + b"\0\x3b", False, id="gif with a stray block"),
        pytest.param(box(b"ftyp") + box(b"moov", b"x") + box(b"mdat", b"x"), True, id="mp4 with faststart"),
        pytest.param(box(b"ftyp") + b"\0\0\0\0mdat" + b"film" * 10, False, id="mp4 whose data runs to its end"),
        pytest.param(box(b"ftyp") + box(b"moov") + b"\0\0\0\0mdat" + b"film" * 10, True, id="mp4 whose data runs to its end, table first"),
        pytest.param(box(b"ftyp") + struct.pack(">I4sQ", 1, b"mdat", 24) + bytes(8) + box(b"moov"), True, id="mp4 with a 64-bit length"),
        pytest.param(box(b"ftyp") + box(b"mdat", b"film"), False, id="mp4 without its table"),
        pytest.param(box(b"ftyp") + box(b"meta", b"x") + box(b"mdat", b"x"), True, id="heic and avif"),
        pytest.param(box(b"ftyp") + box(b"moov", b"x"), None, id="mp4 of a table alone"),
        pytest.param(box(b"ftyp") + box(b"moov") + box(b"moof") + box(b"mdat"), None, id="mp4 in fragments"),
        pytest.param(box(b"ftyp") + box(b"moov") + box(b"moof") + box(b"mdat") + box(b"mfra"), True, id="mp4 in fragments, indexed"),
        pytest.param(MP4 + b"\0\0\0", True, id="mp4 with padding"),
        pytest.param(WEBM[:13] + b"\xff" + bytes(40), False, id="webm without its length"),
        pytest.param(WEBM[:9] + b"\xec\x81\0" + bytes(40), False, id="webm of something else"),
        pytest.param(b"\x1a\x45\xdf\xa3\0", False, id="webm cut in its head"),
        pytest.param(b"plain text", None, id="a format without an end"),
        pytest.param(b"", None, id="nothing"),
    ],
)  # fmt: skip
def test_odd_files_are_judged_by_their_structure(tmp_path: Path, data: bytes, expected: bool | None) -> None:
    assert ending(tmp_path, data) is expected


def test_a_name_promises_an_end_before_the_first_byte_is_there(tmp_path: Path) -> None:
    assert ending(tmp_path, b"", b"x.PNG") is False
    assert ending(tmp_path, b"", b"png") is None
    assert ending(tmp_path, b"<html>", b"x.mp4") is False
    assert ending(tmp_path, b"", b"x.txt") is None


class _Status:
    def __init__(self, mtime: float, ctime: float) -> None:
        self.st_mtime, self.st_ctime = mtime, ctime


@pytest.mark.parametrize(
    ("mtime", "ctime", "expected"),
    [
        pytest.param(-50, -10, 50, id="mtime in the past counts"),
        pytest.param(99_999, -10, 10, id="mtime in the future: the ctime counts"),
        pytest.param(99_999, 1800, 0, id="both in the future by less than an hour: young"),
        pytest.param(99_999, 7200, 7200, id="both in the future by more: the clock was set back, and it is old"),
    ],
)
def test_the_age_of_a_file_ends_by_itself_whatever_its_times(
    monkeypatch: pytest.MonkeyPatch, mtime: float, ctime: float, expected: float
) -> None:
    monkeypatch.setattr("mediasync.sources.agent.program.tree.time.time", lambda: 1_000_000.0)
    assert age_of(_Status(1_000_000 + mtime, 1_000_000 + ctime)) == expected
