"""Where the configuration file is, and whether it may say anything of a thing at all.

Apart from what reads it, which takes 10 MB and a fifth of a second to load in each process that wants a single key.
"""

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


def mentions(word: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the file, or a variable that lies over it, has `word` (lower case) in it. If not, no key with it is set, and nobody need
    read the whole."""
    if any(name.startswith("MEDIASYNC_") and word.upper() in name for name in environ):
        return True
    try:
        return word.encode() in locate(environ=environ)[0].read_bytes()
    except FileNotFoundError:
        return bool(environ.get("MEDIASYNC_CONFIG"))  # named and not there: whoever reads it says so
    except OSError:
        return True


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
