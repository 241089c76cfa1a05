"""docs/configuration.md is about the configuration there is."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from mediasync.config import schema
from mediasync.config.environment import PROCESS_VARIABLES, variable_of
from tests.fixtures.configuration import Configured

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_every_yaml_block_is_a_valid_configuration(configured: Configured, block: str) -> None:
    configuration = configured(block, {"VAST_HOST": "1.2.3.4"})
    assert configuration.sources
    assert configuration.not_yet == ()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_every_python_block_runs(block: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(block, "docs/configuration.md", "exec"), {})


def test_every_key_is_named() -> None:
    keys = {path[-1] for path in schema.paths()}
    assert {key for key in keys if f"`{key}`" not in PAGE and f".{key}`" not in PAGE and f"{key}: …" not in PAGE} == set()


def test_every_variable_in_the_table_sets_the_key_beside_it() -> None:
    rows = re.findall(r"^\| `([a-z._-]+)` \| `((?:MEDIASYNC_)[A-Z_]+)=", PAGE, re.MULTILINE)
    assert len(rows) == 4
    assert [variable_of(key.split(".")) for key, _ in rows] == [variable for _, variable in rows]


def test_every_process_variable_is_named() -> None:
    assert [name for name in PROCESS_VARIABLES if f"`{name}`" not in PAGE] == []
