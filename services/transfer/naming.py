"""Which name a newcomer gets in the library when its own is taken by other content.

Generators restart their counters after a clean-up, so `ComfyUI_00001_.png` comes back as another picture. The old one stays
where it is, the newcomer becomes `ComfyUI_00001_~20261121T101112.png`, after its own modification time in UTC.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from mediasync.paths import MAX_NAME_BYTES


def candidate_paths(path: bytes, mtime_ns: int) -> Iterator[bytes]:
    """`path` itself, then its second names: with the time, then with the time and a number from 2 on. Never ends."""
    yield path
    directory, _, name = path.rpartition(b"/")
    stem, extension = os.path.splitext(name)
    stamp = time.strftime("~%Y%m%dT%H%M%S", time.gmtime(mtime_ns // 1_000_000_000)).encode()
    number = 1
    while True:
        suffix = stamp + (b"-%d" % number if number > 1 else b"")
        # A name of 255 bytes leaves no room: the stem gives way, the extension tells what the file is. An extension that
        # alone would fill the name is not one.
        kept_extension = extension if len(extension) <= 32 else b""
        room = MAX_NAME_BYTES - len(suffix) - len(kept_extension)
        kept_stem = (stem if kept_extension == extension else name)[:room]
        second = kept_stem + suffix + kept_extension
        yield directory + b"/" + second if directory else second
        number += 1
