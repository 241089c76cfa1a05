"""Files that belong to another: the prompt, the settings or the XMP data beside a picture.

A *sidecar* has an extension of `SIDECAR_EXTENSIONS` and, in the same folder, the stem of a picture or video (`a.txt` beside `a.png`) or
its whole name (`a.png.xmp`). A picture that cannot have its own name in the library and becomes `a~20261121T101112.png` has its
sidecars with it: `a~20261121T101112.txt`. They come in any order, also in different jobs:

- a sidecar that comes with or after its picture gets the mark that the picture has;
- one that comes before it, and had to get a mark, passes that on to the picture;
- one that came before it, and got its own name, is copied beside the picture when that gets a mark. It is not moved, because nothing
  that is in the library is.

Which of two pictures that had one name a sidecar belongs to is told by the times: the one that was written closer to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.transfer.naming import MEDIA_EXTENSIONS, PLAIN, mark_of, split_name

SIDECAR_EXTENSIONS = frozenset(b".txt .json .xmp .yaml .yml .csv".split())


@dataclass(frozen=True, slots=True)
class Companion:
    """A file of the same folder and stem that is in the library."""

    path: bytes
    mtime_ns: int
    library_path: bytes

    @property
    def mark(self) -> bytes:
        """What its name was given in the library."""
        return mark_of(self.library_path, self.path)


def extension_of(path: bytes) -> bytes:
    """The last extension, lower case, with its dot."""
    name = path.rpartition(b"/")[2]
    dot = name.rfind(b".")
    return name[dot:].lower() if dot > 0 else b""


def is_sidecar(path: bytes) -> bool:
    """Whether a file's name is that of a sidecar; whether there is a picture to it is another question."""
    return extension_of(path) in SIDECAR_EXTENSIONS


def is_media(path: bytes) -> bool:
    """Whether a file may have sidecars."""
    return extension_of(path) in MEDIA_EXTENSIONS


def series_of(path: bytes) -> bytes:
    """What a picture and its sidecars have in common: the path without extensions."""
    directory, slash, name = path.rpartition(b"/")
    return directory + slash + split_name(name)[0]


def marks_for(path: bytes, mtime_ns: int, companions: Iterable[Companion], former_mtime_ns: int | None) -> tuple[bytes, ...]:
    """The marks to try for a newcomer, best first. `former_mtime_ns` is of what the source had under this name before."""
    others = list(companions)
    if is_sidecar(path):
        media = [other for other in others if is_media(other.path)]
        if not media:
            return (PLAIN,)
        return (min(media, key=lambda other: abs(other.mtime_ns - mtime_ns)).mark,)
    if not is_media(path):
        return (PLAIN,)
    waiting = [other for other in others if other.mark and is_sidecar(other.path) and belongs(other.mtime_ns, mtime_ns, former_mtime_ns)]
    if not waiting:
        return (PLAIN,)
    return (min(waiting, key=lambda other: abs(other.mtime_ns - mtime_ns)).mark, PLAIN)


def belongs(sidecar_mtime_ns: int, mtime_ns: int, former_mtime_ns: int | None) -> bool:
    """Whether a sidecar is that of the newcomer, and not of the file that had its name before."""
    return former_mtime_ns is None or abs(sidecar_mtime_ns - mtime_ns) < abs(sidecar_mtime_ns - former_mtime_ns)
