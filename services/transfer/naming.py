"""Which name a newcomer gets in the library when its own is taken by other content.

Generators restart their counters after a clean-up, so `ComfyUI_00001_.png` comes back as another picture. The old one stays
where it is, the newcomer becomes `ComfyUI_00001_~20261121T101112.png`, after its own modification time in UTC. What was put in is its
*mark*, here `~20261121T101112`; its sidecars get the same one (`sidecars`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence

from mediasync.paths import MAX_NAME_BYTES

PLAIN = b""
"""The mark of a file that has its own name."""

MEDIA_EXTENSIONS = frozenset(
    b".png .jpg .jpeg .webp .gif .avif .heic .heif .jxl .bmp .tif .tiff .mp4 .mov .webm .mkv .avi .m4v .mp3 .wav .flac .ogg .opus".split()
)
_LONGEST_EXTENSION = 32
_MARK = re.compile(rb"~\d{8}T\d{6}(?:-\d+)?\Z")


def split_name(name: bytes) -> tuple[bytes, bytes]:
    """A name as the part that a mark is put behind, and the rest, which tells what the file is: `a` and `.png`; for a sidecar that is
    named after the whole of another file `a` and `.png.xmp`."""
    # Not os.path.splitext, which takes as long as everything else here together: every file that comes passes several times.
    dot = name.rfind(b".")
    # A leading dot begins no extension, and one that alone would fill the name is not one.
    if dot <= 0 or len(name) - dot > _LONGEST_EXTENSION or not name[:dot].strip(b"."):
        return name, b""
    if name[dot:].lower() not in MEDIA_EXTENSIONS:
        inner = name.rfind(b".", 0, dot)
        if inner > 0 and name[inner:dot].lower() in MEDIA_EXTENSIONS:
            return name[:inner], name[inner:]
    return name[:dot], name[dot:]


def marked(path: bytes, mark: bytes, limit: int = MAX_NAME_BYTES) -> bytes:
    """`path` with `mark` in its name. A name that would be longer than `limit` gives way at its stem."""
    if not mark:
        return path
    directory, slash, name = path.rpartition(b"/")
    stem, rest = split_name(name)
    return directory + slash + cut(stem, limit - len(mark) - len(rest)) + mark + rest


def mark_of(library_path: bytes, source_path: bytes) -> bytes:
    """The mark that a file got when it landed; PLAIN if none."""
    if library_path == source_path:
        return PLAIN
    stem, _ = split_name(library_path.rpartition(b"/")[2])
    found = _MARK.search(stem)
    if found is None:
        return PLAIN
    # The source's own name may end like that: it came from another library.
    original, _ = split_name(source_path.rpartition(b"/")[2])
    mark = found.group()
    if original.endswith(mark) and not stem.endswith(mark + mark):
        return PLAIN
    # It may be that of a duplicate under quite another name. Names that were changed or cut are taken for its own.
    base = stem.removesuffix(mark)
    return mark if original.startswith(base) or b"%" in base or b"~" in base else PLAIN


def candidate_paths(path: bytes, mtime_ns: int, marks: Sequence[bytes] = (PLAIN,), limit: int = MAX_NAME_BYTES) -> Iterator[bytes]:
    """`path` with each of `marks`, then with the file's own time, then with the time and a number from 2 on. Never ends."""
    for mark in marks:
        yield marked(path, mark, limit)
    stamp = time.strftime("~%Y%m%dT%H%M%S", time.gmtime(mtime_ns // 1_000_000_000)).encode()
    if stamp not in marks:
        yield marked(path, stamp, limit)
    number = 2
    while True:
        yield marked(path, stamp + b"-%d" % number, limit)
        number += 1


def cut(text: bytes, length: int) -> bytes:
    """At most the first `length` bytes, and no part of a UTF-8 character."""
    if len(text) <= length:
        return text
    end = max(length, 0)
    while end and text[end] & 0xC0 == 0x80:
        end -= 1
    # Not UTF-8 at all: then any place is as good.
    return text[:end] if end > length - 4 else text[:length]
