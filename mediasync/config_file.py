"""Where the configuration file is. Apart from what reads it, which takes 10 MB and a fifth of a second to load."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def locate(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> tuple[Path, str]:
    """The configuration file, absolute, and who named it; nobody did when the second value is empty."""
    if path:
        return _absolute(os.fspath(path)), "--config"
    if named := environ.get("MEDIASYNC_CONFIG"):
        return _absolute(named), "MEDIASYNC_CONFIG"
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path there is to be ignored.
    folder = Path(base) if base.startswith("/") else Path(environ.get("HOME") or Path("~").expanduser(), ".config")
    return folder / "mediasync" / "config.yaml", ""


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
