"""What the supervisor says: a line for people on stderr, and the same as a JSON line in the data folder's logs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from mediasync.runtime.appender import LineFile


class Journal:
    """Writes `<logs>/supervisor.log.jsonl`, in the format of every service's log. Nothing it does raises: a full disk must not
    take the supervisor down."""

    def __init__(self, logs: Path, stream: TextIO | None = None) -> None:
        self._file = LineFile(logs / "supervisor.log.jsonl")
        self._stream = sys.stderr if stream is None else stream

    def info(self, message: str, **fields: object) -> None:
        """Only in the log."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: object) -> None:
        """In the log and on stderr."""
        self._write("warning", message, fields)
        self.say(message)

    def error(self, message: str, **fields: object) -> None:
        """In the log and on stderr."""
        self._write("error", message, fields)
        self.say(message)

    def say(self, message: str) -> None:
        """Only on stderr."""
        with contextlib.suppress(OSError, ValueError):
            print(f"mediasync: {message}", file=self._stream, flush=True)

    def relay(self, name: str, line: str) -> None:
        """A line that a child wrote on its stderr."""
        with contextlib.suppress(OSError, ValueError):
            print(f"[{name}] {line}", file=self._stream, flush=True)

    def _write(self, level: str, message: str, fields: dict[str, object]) -> None:
        record = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "level": level,
            "service": "supervisor",
            "logger": "mediasync.local.supervisor",
            "message": message,
            "sync_id": "",
            "pid": os.getpid(),
            **fields,
        }
        self._file.append(json.dumps(record).encode("ascii") + b"\n")
