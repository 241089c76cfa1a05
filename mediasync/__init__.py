"""Forge Media Sync: brings every picture and video out of generators' containers into your library, and never loses one."""

__version__ = "0.1.0"
