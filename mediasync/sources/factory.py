"""From a description of a source to something that can be connected to."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from mediasync.model import SourceSpec
from mediasync.sources.base import Source
from mediasync.sources.ssh import SshSource

DEFAULT_WINDOW_BYTES = 8 * 1024 * 1024
"""What one connection may have on its way. Larger is dear for the SSH server: several connections, whose windows add
up to twice bandwidth x round trip, are the way to a long fast line."""


def open_source(spec: SourceSpec, *, home: pathlib.Path, window_bytes: int = DEFAULT_WINDOW_BYTES, folders: Sequence[bytes] = ()) -> Source:
    """The source that `spec` describes; nothing is connected yet.

    `home` is the data folder, where accepted host keys are kept. `folders` are those that the user named, which may be links;
    folders that any connection of this source scans, or is asked about by `missing_folders`, count as named too.
    """
    return SshSource(spec, home, window_bytes, folders)
