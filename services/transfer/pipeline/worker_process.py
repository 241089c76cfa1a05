"""The worker process: reads requests from stdin, answers on stdout, ends with its stdin. Started by `worker.PipelineWorker`.

One file at a time, so that when the process dies it is known of which file. It is nice to others, bounded in memory, and kills itself
when a file takes far too long: should the service be gone by then, nothing else would.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from typing import BinaryIO

from services.transfer.pipeline.frames import frame, parse_request, read_frame, response
from services.transfer.pipeline.stage import run_stages
from services.transfer.pipeline.stages import select

MAX_MEMORY_BYTES = 3 << 30
"""Address space: room for a picture of 200 megapixels with its copies, and an end to anything that asks for more."""

_NICENESS = 19
_GRACE_SECONDS = 5


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers every request until they end."""
    while (value := read_frame(requests)) is not None:
        file, names, limit_seconds = parse_request(value)
        signal.alarm(int(limit_seconds) + _GRACE_SECONDS)
        answer = frame(response(run_stages(file, select(names))))
        signal.alarm(0)
        answers.write(answer)
        answers.flush()


def main() -> None:
    """The process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the service decides when this ends
    with suppress(OSError, ValueError):  # a lower limit is in force already
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    with suppress(OSError):
        os.nice(_NICENESS)
    # Frames alone go to the pipe; whatever a decoder's library prints goes to stderr.
    with os.fdopen(os.dup(1), "wb") as answers, suppress(BrokenPipeError):
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
