"""Loads every module of tests/fixtures as a plugin, so that any test may use any fixture."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# Whoever starts the tests in the background of a shell has them ignore it, and with them all that they start; some test it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# First, because fixture modules import one another.
pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = [f"tests.fixtures.{path.stem}" for path in sorted((Path(__file__).parent / "fixtures").glob("[a-z]*.py"))]
