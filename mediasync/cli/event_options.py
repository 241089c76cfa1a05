"""What commands about events and subscribers take, as the nouns of the client. Wrong values are told with what was expected."""

from __future__ import annotations

import ipaddress
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from mediasync.cli import output
from mediasync.cli.library_places import moment_ns
from mediasync.cli.sync_options import wrong
from mediasync.config.fields import split_address
from mediasync.errors import MediasyncError, Reason
from mediasync.model.events import EventFilter, EventStart, EventType, StartKind
from mediasync.suggest import did_you_mean

PULL = "pull"
_STARTS = {"beginning": StartKind.BEGINNING, "now": StartKind.NEXT, "snapshot": StartKind.SNAPSHOT}


def wanted(types: Sequence[str], sources: Sequence[str], paths: Sequence[str], option: str) -> EventFilter:
    """Which events; `option` is what takes the types, which may be separated by commas."""
    from mediasync.sources.selection import rules

    names = [kind.value for kind in EventType if kind is not EventType.UNKNOWN]
    kinds = []
    for text in (part.strip() for item in types for part in item.split(",")):
        kind = text.lower().replace("-", "_")
        if kind not in names:
            raise wrong(option, f"{option} {text!r}: expected some of {', '.join(names)}{did_you_mean(kind, names)}")
        kinds.append(EventType(kind))
    for pattern in paths:
        try:
            rules([pattern])
        except ValueError as error:
            raise wrong("--path", f"--path {pattern!r} cannot be used: {error}") from None
    return EventFilter(tuple(dict.fromkeys(kinds)), tuple(sources), tuple(paths))


def start(text: str, since: str = "", *, names: Sequence[str] = tuple(_STARTS)) -> EventStart | None:
    """Where to start, by one of `names`, a sequence number or a moment; None where nothing is said."""
    if text and since:
        raise wrong("--since", "--from and --since both say where to start; choose one")
    if since:
        moment = moment_ns("--since", since) / 1e9
        if moment > time.time():
            raise wrong("--since", f"--since {since!r} has not come yet")
        return EventStart(StartKind.SINCE, since=moment)
    if not text:
        return None
    if text.isdecimal() and 0 < int(text) < 2**63:
        return EventStart(StartKind.SEQUENCE, sequence=int(text))
    if text not in names:
        expected = ", ".join(names)
        raise wrong("--from", f"--from {text!r}: expected {expected} or a sequence number from 1 on{did_you_mean(text, names)}")
    return EventStart(_STARTS[text])


def address(text: str, *, may_pull: bool = False) -> str:
    """Where somebody answers, empty for `pull`."""
    if may_pull and text == PULL:
        return ""
    if not text.startswith("unix:/") and not split_address(text)[1]:
        also = f", unix:/path, or {PULL} for a reader who comes to us" if may_pull else " or unix:/path"
        raise wrong("address", f"{text!r} is not the address of a subscriber; expected HOST:PORT such as 127.0.0.1:50061{also}")
    return text


def on_this_machine(address: str) -> bool:
    """Whether nobody else can listen to what is said to that address."""
    if address.startswith("unix:"):
        return True
    host = split_address(address)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def absolute(path: Path | None) -> str:
    """A file for whoever works in another folder."""
    return "" if path is None else os.path.abspath(path.expanduser())


def confirm(question: str, refusal: str, *, yes: bool, as_json: bool) -> None:
    """Returns when it was said that it is meant: by `--yes`, or by a person at a terminal. Raises INVALID_ARGUMENT where there is nobody to
    ask, and CANCELLED."""
    if yes:
        return
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise MediasyncError(Reason.INVALID_ARGUMENT, f"{question}; there is nobody to ask whether that is meant", "Say so with --yes.")
    output.note(f"{question}.")
    if not typer.confirm("Go on?", err=True):
        raise MediasyncError(Reason.CANCELLED, refusal)
