"""The command that leads to a Docker engine on a far side: fixed text, nothing from a user or a source is ever put in it (invariant I7)."""

from __future__ import annotations

DIAL = "docker system dial-stdio"
"""Connects its stdin and stdout to the engine that the `docker` command there would use."""
