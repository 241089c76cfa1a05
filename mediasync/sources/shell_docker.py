"""Commands for a Docker engine on a far side and for a container: fixed text, nothing from a user or a source is ever put in it
(invariant I7)."""

from __future__ import annotations

DIAL = "docker system dial-stdio"
"""Connects its stdin and stdout to the engine that the `docker` command there would use."""

IDENTIFY = """cat /proc/sys/kernel/random/boot_id || exit
while IFS= read -r p; do stat -L -c "%d %i" "$p" 2>/dev/null || echo -; done"""
"""For a shell in a container: says which run of which kernel it is, and then of each folder whose absolute path comes on a line of stdin
which file system and inode it is."""
