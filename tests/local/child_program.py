"""Stands in for a service: `child_program.py NAME`. It keeps the contract between supervisor and child, and can be told to misbehave
by files in its working folder: `NAME.refuse` (text: what to say; ends with code 2), `NAME.error` (JSON: the error to tell; ends with its
code), `NAME.crash` (dies at once), `NAME.stubborn` (does not end when asked), `NAME.silent` (never says that it is ready). It notes what
happens in `notes`."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path


def note(text: str) -> None:
    with open("notes", "a") as file:
        file.write(text + "\n")


name = sys.argv[1]
note(f"{name} started")
if Path(f"{name}.refuse").exists():
    print(f"error: {Path(f'{name}.refuse').read_text()}", file=sys.stderr)
    sys.exit(2)
if Path(f"{name}.error").exists():
    error = json.loads(Path(f"{name}.error").read_text())
    os.write(int(os.environ["MEDIASYNC_READY_FD"]), json.dumps({"service": name, "error": error}).encode() + b"\n")
    sys.exit(error["exit_code"])
if Path(f"{name}.crash").exists():
    print("Traceback: it broke", file=sys.stderr)
    sys.exit(1)
asked_read, asked_write = os.pipe()
signal.signal(signal.SIGTERM, lambda *_: None if Path(f"{name}.stubborn").exists() else os.write(asked_write, b"x"))
if not Path(f"{name}.silent").exists():
    fd = int(os.environ["MEDIASYNC_READY_FD"])
    address = os.environ.get("MEDIASYNC_LISTEN") or f"unix:{os.getcwd()}/{name}.sock"
    os.write(fd, json.dumps({"service": name, "pid": os.getpid(), "addresses": [address], "version": "9.9"}).encode() + b"\n")
    os.close(fd)
while True:
    ready, _, _ = select.select([asked_read, 0], [], [])
    if 0 in ready and not os.read(0, 1) and not Path(f"{name}.stubborn").exists():
        note(f"{name} saw the end of its stdin")
        break
    if asked_read in ready:
        break
note(f"{name} ended")
