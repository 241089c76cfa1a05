"""A transfer worker that makes one attempt at one sync, and may die of it.

Reads an attempt as a line of JSON, forks, makes the attempt in the child, and writes a line of JSON that says how it ended. The parent has
everything imported and nothing running, so that an attempt costs milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from mediasync.errors import MediasyncError
from mediasync.model import SourceSpec, SshConnection, SyncOptions, SyncSpec
from mediasync.runtime import crash
from mediasync.sources.factory import open_source
from mediasync.storage.database import Database
from services.transfer.receiving import lanes
from services.transfer.receiving.receivers import Receivers
from services.transfer.schema import MIGRATIONS
from services.transfer.worker import TransferWorker
from tests.fixtures.disks import FailingDisk

_real_write = os.write


async def attempt(wish: dict[str, Any]) -> dict[str, Any]:
    """One sync, in this process."""
    home = Path(wish["home"])
    connection = SshConnection(
        "127.0.0.1", wish["port"], wish["user"], (wish["identity_file"],), (wish["known_hosts"],), accept_new_host_key=False
    )
    spec = SyncSpec(
        SourceSpec(connection, os.fsencode(wish["root"]), name="forge"),
        wish["library"],
        options=SyncOptions(settle_seconds=0, retry_attempts=2, retry_delay_seconds=0.01, min_free_space_gb=0),
    )
    database = Database.open(f"sqlite:///{home}/transfer.db", MIGRATIONS)
    receivers = Receivers(home) if wish["receivers"] else None
    worker = TransferWorker(database, home, lambda source: open_source(source, home=home), receivers=receivers)
    try:
        summary = await worker.sync_folder(wish["sync_id"], spec, b"", lambda tally: None, lambda files, size: None)
    except MediasyncError as error:
        return {"reason": error.reason.value, "message": error.message}
    finally:
        await worker.close()
        await database.close()
    return {
        "files": summary.files_transferred,
        "failed": summary.files_failed,
        "unsettled": summary.files_unsettled,
        "problems": [problem.message for problem in summary.problems],
    }


def child(wish: dict[str, Any], out: int) -> None:
    """The forked process: it ends here."""
    os.environ["MEDIASYNC_HOME"] = wish["home"]
    os.environ["MEDIASYNC_CRASH_AT"] = wish["crash_at"]  # for receivers, which read it when they start
    crash._armed = crash.parse(wish["crash_at"])
    # Few files are enough for several processes here.
    lanes._LARGE_PULL_FILES = 2  # type: ignore[misc]
    if wish["disk"]:
        os.write = FailingDisk(os.fsencode(wish["library"]), *wish["disk"]).write  # type: ignore[assignment]
    try:
        answer = asyncio.run(attempt(wish))
    except BaseException:
        answer = {"bug": traceback.format_exc()}
    _real_write(out, json.dumps(answer).encode() + b"\n")
    os._exit(0)


def main() -> None:
    """Serves attempts until stdin ends."""
    for line in sys.stdin:
        wish = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            child(wish, write)
        os.close(write)
        with os.fdopen(read, "rb") as answers:
            answer = answers.read()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            answer = json.dumps({"killed": os.WTERMSIG(status)}).encode() + b"\n"
        sys.stdout.write(answer.decode() or json.dumps({"bug": f"ended with {status} and said nothing"}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
