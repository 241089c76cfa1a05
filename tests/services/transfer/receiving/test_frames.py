from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.errors import MediasyncError, Reason
from mediasync.sources.base import FileEntry, FileRead, ReadStatus, WantedFile
from services.transfer.entities import StagedFile
from services.transfer.receiving import frames
from services.transfer.receiving.reception import Received

_NUMBERS = st.integers(0, (1 << 63) - 1)
_TIMES = st.integers(-(1 << 63), (1 << 63) - 1)


@st.composite
def _received(draw: st.DrawFn) -> Received:
    wanted = WantedFile(draw(st.binary(min_size=1, max_size=300)), draw(_NUMBERS), draw(_TIMES), draw(_NUMBERS))
    entry = FileEntry(wanted.path, draw(_NUMBERS), draw(_TIMES), draw(_TIMES), draw(_NUMBERS)) if draw(st.booleans()) else None
    incomplete = draw(st.booleans())
    outcome = FileRead(
        wanted, draw(st.sampled_from(ReadStatus)), entry, incomplete, draw(st.text(max_size=100)).encode("utf-8", "ignore").decode()
    )
    staged = None
    if entry is not None and draw(st.booleans()):
        staged = StagedFile(entry, draw(st.binary(max_size=300)), draw(st.binary(min_size=32, max_size=32)), incomplete)
    return Received(outcome, staged)


@given(st.lists(_received(), max_size=10))
def test_what_became_of_files_arrives_as_it_was_sent(files: list[Received]) -> None:
    frame = frames.received(files)
    assert frames.read_received(frame[5:], [item.outcome.wanted for item in files]) == files


@given(st.binary(max_size=400))
def test_a_receiver_that_talks_nonsense_is_noticed(payload: bytes) -> None:
    asked = [WantedFile(b"a", 1, 2, 3)]
    try:
        result = frames.read_received(payload, asked)
    except (ValueError, IndexError, struct.error):
        return
    assert len(result) <= 1


def test_an_error_keeps_its_reason_its_remedy_and_what_machines_want_of_it() -> None:
    error = MediasyncError(Reason.HOST_KEY_UNKNOWN, "never seen", "trust it", metadata={"fingerprint": "SHA256:x"})
    again = frames.read_failed(frames.failed(error)[5:])
    assert (again.reason, again.message, again.remedy, again.metadata) == (error.reason, "never seen", "trust it", error.metadata)


async def test_a_frame_without_end_is_refused() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(struct.pack("<BI", frames.Answer.RECEIVED, 1 << 31))
    with pytest.raises(ValueError, match="a frame of"):
        await frames.read_frame(reader)
