"""The agent's parts as the one text that is sent to a far side."""

from __future__ import annotations

import functools
import importlib.resources
import re
import zlib

from mediasync.sources.agent.program import PARTS

_OWN_IMPORT = re.compile(rf"^from {re.escape(__package__)}\.program\.\w+ import (?:\([^)]*\)|[^\n]*)\n", re.MULTILINE)
_COMMENT = re.compile(r"^ *#[^\n]*\n", re.MULTILINE)
_DOCUMENTATION = re.compile(r'\A""".*?"""\n', re.DOTALL)


@functools.cache
def program() -> bytes:
    """The agent as the loader of `mediasync.sources.shell` reads it."""
    packed = zlib.compress(text().encode(), 9)
    return b"%08x" % len(packed) + packed


def text() -> str:
    """The parts in their order, without their documentation, lines of comment and imports of each other."""
    folder = importlib.resources.files(__package__).joinpath("program")
    return "".join(_part(folder.joinpath(f"{part}.py").read_text("utf-8")) for part in PARTS)


def _part(source: str) -> str:
    return _COMMENT.sub("", _OWN_IMPORT.sub("", _DOCUMENTATION.sub("", source)))
