"""What the readers of videos have in common."""

from __future__ import annotations

from typing import NamedTuple


class VideoHeader(NamedTuple):
    """What the headers say: pixels, 0 where there is no picture track; seconds, None where unsaid."""

    width: int
    height: int
    duration_seconds: float | None
