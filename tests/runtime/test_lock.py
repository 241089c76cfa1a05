from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mediasync.errors import MediasyncError, Reason
from mediasync.runtime.lock import FileLock


def test_a_held_lock_refuses_another_and_names_its_holder(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "x.lock"), FileLock(tmp_path / "x.lock")
    first.acquire("The service x")
    with pytest.raises(MediasyncError, match=rf"The service x already runs .*\(process {os.getpid()}\)") as caught:
        second.acquire("The service x", wait_seconds=0.05)
    assert (caught.value.reason, caught.value.metadata) == (Reason.DATA_FOLDER_IN_USE, {"pid": str(os.getpid())})
    assert first.held and not second.held
    first.release()
    first.release()
    with second:
        second.acquire("The service x")
        assert second.held
    assert not second.held


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    program = (
        "import sys; from mediasync.runtime.lock import *; FileLock(Path(sys.argv[1])).acquire('x'); print(1, flush=True); sys.stdin.read()"
    )
    # The lock object is dropped at once; what counts is the descriptor, which nothing closes before the process ends.
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        with pytest.raises(MediasyncError):
            FileLock(path).acquire("x")
        process.kill()
        process.wait()
        with FileLock(path) as lock:
            lock.acquire("x", wait_seconds=5)
