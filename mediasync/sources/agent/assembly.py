"""The agent's parts as the one text that is sent to a far side."""

from __future__ import annotations

import ast
import functools
import importlib.resources
import zlib

from mediasync.sources.agent.program import PARTS


@functools.cache
def program() -> bytes:
    """The agent as the loader of `mediasync.sources.shell` reads it."""
    packed = zlib.compress(text().encode(), 9)
    return b"%08x" % len(packed) + packed


def text() -> str:
    """The parts in their order, without documentation and without their imports of each other."""
    folder = importlib.resources.files(__package__).joinpath("program")
    return "".join(_part(folder.joinpath(f"{part}.py").read_text("utf-8")) for part in PARTS)


def _part(source: str) -> str:
    lines = source.splitlines(keepends=True)
    for statement in ast.parse(source).body:
        documentation = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        own = isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(__package__)
        if documentation or own:
            assert statement.end_lineno is not None
            for number in range(statement.lineno - 1, statement.end_lineno):
                lines[number] = ""
    return "".join(lines)
