"""How many connections a pull takes, and how much each may have on its way.

Too little on the way leaves a long line idle; too much is dear for the SSH server, which pays for a large window with processor time, at
any distance (OpenSSH 9.2: 1.46 GB at 0 ms cost it 1.2 s with 2 MiB and 3.1 s with 16 MiB). Measured best: windows that add up to
2 to 2.5 times bandwidth x round trip, none under 2 MiB, on two connections where the way is short.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MIN_WINDOW_BYTES = 2 << 20
MAX_WINDOW_BYTES = 16 << 20
_USUAL_WINDOW_BYTES = 10 << 20
_ON_THE_WAY = 2.4
_SHORT_WAY_LANES = 2
_ROOM_TO_GROW = 1.5
_LOGIN_ROUND_TRIPS = 6
_TELLING_BYTES = 64 << 20
_TELLING_SECONDS = 2.0

NEAR_SECONDS = 0.005
"""Round trips below this leave nothing to gain by a window: a client with a fixed one of 2 MiB fills 400 MB/s."""

ASSUMED_BYTES_PER_SECOND = 125e6
"""A line of 1 Gbit/s: what is reckoned with until a pull has measured the line."""


@dataclass(frozen=True)
class LanePlan:
    """So many connections, each with a window of so many bytes."""

    lanes: int
    window_bytes: int


@dataclass(frozen=True)
class Line:
    """What is known of a line before anybody is logged in: how many connections the user allows, and what it was seen to carry."""

    most_lanes: int
    bytes_per_second: float

    def window_after_login(self, login_seconds: float) -> int:
        """The window of a connection whose login took so long: its round trips and some computing, so that it is rather too large."""
        return plan(login_seconds / _LOGIN_ROUND_TRIPS, self.most_lanes, self.bytes_per_second).window_bytes


class LineRate:
    """What the line to a source was seen to carry. A pull that was too short to tell, or held to a limit, is left out."""

    def __init__(self) -> None:
        self.bytes_per_second = ASSUMED_BYTES_PER_SECOND

    def pulled(self, size_bytes: int, seconds: float) -> None:
        """A pull is over. What it reached may have been held back by its windows, so the next one reckons with half as much again; one that
        reached little is believed by half, since it may have been the disk's fault."""
        if size_bytes < _TELLING_BYTES or seconds < _TELLING_SECONDS:
            return
        reached = _ROOM_TO_GROW * size_bytes / seconds
        self.bytes_per_second = reached if reached > self.bytes_per_second else (self.bytes_per_second + reached) / 2


def plan(round_trip_seconds: float, most_lanes: int, bytes_per_second: float = ASSUMED_BYTES_PER_SECOND) -> LanePlan:
    """The plan for a line; `most_lanes` is what the user allows, at least 1."""
    wanted = _ON_THE_WAY * bytes_per_second * round_trip_seconds
    lanes = max(1, min(most_lanes, max(_SHORT_WAY_LANES, math.ceil(wanted / _USUAL_WINDOW_BYTES))))
    return LanePlan(lanes, int(min(max(wanted / lanes, MIN_WINDOW_BYTES), MAX_WINDOW_BYTES)))


def window_for_limit(round_trip_seconds: float, bytes_per_second: float) -> int:
    """The window of one connection that is held to a rate. A full one would come in a burst when the limit begins, so it is hardly more
    than the rate needs."""
    return int(min(max(1.5 * bytes_per_second * (round_trip_seconds + 0.05), 64 << 10), MAX_WINDOW_BYTES))
