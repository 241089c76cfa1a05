"""Resume tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasync.errors import MediasyncError, Reason
from services.progress.tokens import decode_token, encode_token


@given(st.text(max_size=40), st.integers(0, 2**64 - 1))
def test_a_token_stands_for_its_version(sync_id: str, version: int) -> None:
    assert decode_token(sync_id, encode_token(sync_id, version)) == version


def test_no_token_is_before_every_version() -> None:
    assert decode_token("sync_1", "") == 0


@pytest.mark.parametrize("token", ["x", "AAAA", "not a token", "ä" * 16, "A" * 400, encode_token("sync_1", 1) + "AA"])
def test_a_malformed_token_is_refused(token: str) -> None:
    with pytest.raises(MediasyncError, match="is not a resume token") as refused:
        decode_token("sync_1", token)
    assert refused.value.reason is Reason.INVALID_ARGUMENT
    assert refused.value.fields[0].field == "resume_token"


def test_a_token_of_another_run_is_refused() -> None:
    with pytest.raises(MediasyncError, match="given out for another run than sync_2"):
        decode_token("sync_2", encode_token("sync_1", 5))
