"""The event log and its subscribers as processes that may die at any moment.

Reads a wish as a line of JSON, forks, and becomes what was wished for in the child: `{"ingest": HOME, "crash_at": POINT}` or
`{"subscriber": ADDRESS, "notes": FILE, "habits": {…}}`. Answers with the child's process id when it serves or has died; `{"kill": PID}`
is answered when it is gone, `{"alive": PID}` with 0 when it is. The parent has everything imported and nothing running, so that a process
costs milliseconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from mediasync.runtime import crash
from mediasync.runtime.service import run_service
from services.ingest import backoff
from services.ingest.__main__ import wire
from tests.faults import note_taker


def become(wish: dict[str, Any], ready: int) -> NoReturn:
    """The forked process: it ends here."""
    try:
        os.dup2(os.open(wish["log"], os.O_CREAT | os.O_APPEND | os.O_WRONLY), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        if "ingest" in wish:
            os.environ["MEDIASYNC_HOME"] = wish["ingest"]
            os.environ["MEDIASYNC_READY_FD"] = str(ready)
            os.environ["XDG_CONFIG_HOME"] = wish["ingest"] + "/no-configuration"
            crash._armed = crash.parse(wish["crash_at"])
            # So many attempts would take minutes.
            backoff.FIRST_SECONDS, backoff.CAP_SECONDS = 0.001, 0.005
            run_service("ingest", wire)
        server = note_taker.serve(wish["subscriber"], Path(wish["notes"]), note_taker.Habits(**wish["habits"]))
        os.write(ready, b"\n")
        server.wait_for_termination()
    except Exception:
        traceback.print_exc()
    os._exit(70)


def gone(pid: int, by: int = 0) -> int:
    """The process's id when it has ended, killed by a signal if one is given; 0 while it runs."""
    try:
        if by:
            os.kill(pid, by)
        return os.waitpid(pid, 0 if by else os.WNOHANG)[0]
    except (ProcessLookupError, ChildProcessError):
        return pid


def main() -> None:
    """Serves wishes until stdin ends."""
    for line in sys.stdin:
        wish = json.loads(line)
        if "kill" in wish:
            pid = gone(wish["kill"], signal.SIGKILL)
        elif "alive" in wish:
            pid = 0 if gone(wish["alive"]) else wish["alive"]
        else:
            read, write = os.pipe()
            if not (pid := os.fork()):
                os.close(read)
                become(wish, write)
            os.close(write)
            with os.fdopen(read, "rb") as ready:
                ready.readline()
        sys.stdout.write(json.dumps({"pid": pid}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
