"""What is said of running it day by day is held to the code: commands, keys and figures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from mediasync.cli.main import _build
from mediasync.runtime import appender
from services.coordinator import standing
from services.transfer import servicer, watching
from tests.fixtures.peer import Cli

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docs" / "operations.md").read_text()


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT)
    assert len(targets) > 1
    assert [target for target in targets if not (REPOSITORY / "docs" / target).exists()] == []


def test_every_command_is_understood() -> None:
    command = typer.main.get_command(_build())
    shown = re.findall(r"(?:^|  |`)mediasync ([a-z][^`\n]*)", TEXT, re.MULTILINE)
    assert len(shown) > 15
    for text in shown:
        words, inner = shlex.split(text, comments=True), command
        while getattr(inner, "commands", None) and words:
            inner = inner.commands[words.pop(0)] if words[0] in inner.commands else inner.itself
        if words:  # a command that is only named may lack its arguments
            inner.make_context(text, words)


async def test_its_configuration_has_no_mistakes(cli: Cli) -> None:
    found = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert found
    (cli.folder / "config.yaml").write_text(found[1])
    ended = await cli("config", "check", "--config", "config.yaml", "--json")
    assert ended.code == 0, ended.stdout
    assert "not yet" not in ended.stderr


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        ("Watching", f"every {standing.LOOK_SECONDS:.0f} seconds"),
        ("Watching", f"one of {servicer._MAX_SYNCS} that"),
    ],
)
def test_its_figures_are_those_of_the_code(heading: str, said: str) -> None:
    assert said in section(heading)


def test_its_waits_and_sizes_are_those_of_the_code() -> None:
    assert (appender.KEEP + 1, appender.MAX_BYTES) == (6, 10 << 20)
    assert "at most six files of 10 MB" in section("Logs, and what they take")
    text = section("When the source is gone")
    assert (watching._FIRST_RETRY_SECONDS, watching._LONGEST_RETRY_SECONDS) == (1, 60)
    assert "tries again after a second, then after ever longer, a minute in the end" in text
    assert (standing._FIRST_PAUSE_SECONDS, standing._LONGEST_PAUSE_SECONDS) == (60, 3600)
    assert "after a minute, then two, four, up to an hour" in text
