"""Loads every module of tests/fixtures as a plugin, so that any test may use any fixture."""

from __future__ import annotations

from pathlib import Path

import pytest

# First, because fixture modules import one another.
pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = [f"tests.fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "fixtures").glob("[a-z]*.py"))]
