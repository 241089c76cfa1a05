"""The examples in the help are commands that the command line understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer.main

from mediasync.cli.main import _build


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that lead to it."""
    commands = getattr(command, "commands", None)
    if commands is None:
        yield path, command
        return
    if itself := getattr(command, "itself", None):
        yield path, itself
    for name, inner in commands.items():
        yield from leaves(inner, (*path, name))


def examples(text: str) -> list[list[str]]:
    """The words behind `mediasync` of each."""
    return [shlex.split(found.partition(" > ")[0]) for found in re.findall(r"^\s*Example: mediasync (.*)$", text, re.MULTILINE)]


def test_every_example_in_the_help_is_of_its_command_and_understood() -> None:
    known = dict(leaves(typer.main.get_command(_build())))
    assert len(known) > 20
    for path, command in known.items():
        shown = examples(command.help or "")
        assert shown, path
        for words in shown:
            assert tuple(words[: len(path)]) == path
            # Raises what a user would be told.
            command.make_context(" ".join(path), words[len(path) :])
