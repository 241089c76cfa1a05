"""What `mediasync up` begins at its times."""

from __future__ import annotations

from dataclasses import dataclass

from mediasync.model.jobs import JobKind


@dataclass(frozen=True)
class Schedule:
    """Something that is begun at its times, which are as they are written, in local time. Moments are Unix seconds, 0 for none."""

    name: str
    kind: JobKind
    source: str
    times: str
    next_time: float = 0.0
    paused: bool = False
    last_job_id: str = ""
    last_time: float = 0.0
