from __future__ import annotations

import pytest

from services.cleanup.numbering import numbered


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"ComfyUI_00012_.png", (b"ComfyUI_", 12)),
        (b"WanVideo2_2_I2V_Lightning_00003_.mp4", (b"WanVideo2_2_I2V_Lightning_", 3)),
        (b"flux_1024_00012_.png", (b"flux_1024_", 12)),
        (b"2026-11-21_00012_.png", (b"2026-11-21_", 12)),
        (b"AnimateDiff_00001.mp4", (b"AnimateDiff_", 1)),
        (b"AnimateDiff_00001-audio.mp4", (b"AnimateDiff_", 1)),
        (b"ComfyUI_100000_.png", (b"ComfyUI_", 100000)),
        (b"00012-1234567890.png", (b"", 12)),
        (b"00012-1234567890-before-highres-fix.png", (b"", 12)),
        (b"grid-0001.png", (b"grid-", 1)),
        (b"2026-11-21-00012.png", (b"2026-11-21-", 12)),
        (b"ComfyUI_00012_.png.json", (b"ComfyUI_", 12)),
        (b"\xff_00012_.png", (b"\xff_", 12)),
        (b"00012", (b"", 12)),
        (b"2026-11-21.png", None),
        (b"20261121.png", None),
        (b"picture.png", None),
        (b"x123.png", None),
        (b"x12345.png", None),
        (b"2026-11-21_13-45-12_1234.png", None),
        (b"20261121_134512_00001_.png", None),
        (b"123456789012_00001_.png", None),
        (b"", None),
    ],
)
def test_a_number_counts_within_its_prefix_and_a_date_is_none(name: bytes, expected: tuple[bytes, int] | None) -> None:
    assert numbered(name) == expected
