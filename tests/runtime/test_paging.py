from __future__ import annotations

import pytest

from mediasync.errors import MediasyncError
from mediasync.runtime import paging


@pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (500, 500), (10_000, 500)])
def test_a_page_is_bounded(asked: int, given: int) -> None:
    assert paging.page_size(asked) == given


@pytest.mark.parametrize("token", ["x", "!", "ä", paging.encode([3]), paging.encode(["a", "b"])])
def test_a_page_token_that_nobody_gave_out_is_refused(token: str) -> None:
    with pytest.raises(MediasyncError) as refused:
        paging.decode(token, str)
    assert [violation.field for violation in refused.value.fields] == ["page_token"]


def test_a_negative_page_is_refused() -> None:
    with pytest.raises(MediasyncError, match="page_size"):
        paging.page_size(-1)
