"""How long to wait before trying again."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.1
CAP_SECONDS = 30.0


def delay(failures: int) -> float:
    """Seconds before the attempt after the `failures`-th failure in a row: doubling from 0.1 s to 30 s, less up to half at random,
    so that subscribers that failed together do not come back together."""
    full = min(CAP_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 16))
    return full * random.uniform(0.5, 1.0)  # noqa: S311 spreads load, guards nothing
