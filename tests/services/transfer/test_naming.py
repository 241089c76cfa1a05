from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from mediasync.paths import check_relative
from services.transfer.naming import candidate_paths

_MTIME_NS = 1_795_255_872_000_000_000  # 2026-11-21 10:11:12 UTC

_names = st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))


def test_a_second_name_tells_the_newcomers_own_time_and_keeps_the_extension() -> None:
    first, second, third = islice(candidate_paths(b"output/ComfyUI_00001_.png", _MTIME_NS), 3)
    assert first == b"output/ComfyUI_00001_.png"
    assert second == b"output/ComfyUI_00001_~20261121T101112.png"
    assert third == b"output/ComfyUI_00001_~20261121T101112-2.png"


def test_a_name_that_fills_the_limit_gives_way_before_its_extension_does() -> None:
    path = b"a/" + b"x" * 251 + b".png"
    second = list(islice(candidate_paths(path, _MTIME_NS), 2))[1]
    assert len(second.rpartition(b"/")[2]) == 255
    assert second.endswith(b"~20261121T101112.png")


@given(st.lists(_names, min_size=1, max_size=4), st.integers(min_value=0, max_value=2**62))
def test_i7_every_second_name_is_safe_different_and_in_the_same_folder(parts: list[bytes], mtime_ns: int) -> None:
    path = b"/".join(parts)
    candidates = list(islice(candidate_paths(path, mtime_ns), 4))
    assert len(set(candidates)) == 4
    for candidate in candidates:
        assert check_relative(candidate).rpartition(b"/")[0] == path.rpartition(b"/")[0]
