from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mediasync.errors import MediasyncError
from mediasync.paths import check_relative

PARTS = st.sampled_from([b"", b".", b"..", b"...", b".a", b"a.", b"..a", b"a\n", b"\n", b"\0", b"\xff", b"n" * 255, b"n" * 256])


def is_safe(path: bytes) -> bool:
    parts = path.split(b"/")
    return len(path) <= 4095 and b"\0" not in path and all(part not in (b"", b".", b"..") and len(part) <= 255 for part in parts)


@given(st.lists(PARTS, max_size=20).map(b"/".join))
@example(b"a/../b")
@example(b"..\n")
@example(b"a/")
@example(b"/".join([b"n" * 255] * 16))
@example(b"/".join([b"n" * 255] * 15 + [b"n" * 254]))
def test_a_path_is_taken_when_each_of_its_parts_is_a_name(path: bytes) -> None:
    if is_safe(path):
        assert check_relative(path) == path
    else:
        with pytest.raises(MediasyncError):
            check_relative(path)
