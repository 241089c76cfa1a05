"""A library's marker, `.mediasync/library.json`: by it a folder is known to be the library that it was (invariant I4).

It is only read here; who makes libraries writes it.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from dataclasses import dataclass

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display

OWN_FOLDER = b".mediasync"
MARKER = OWN_FOLDER + b"/library.json"
_MARKER_LIMIT = 4096

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Marker:
    """A library's marker: its id, and which file it is, so that another mount over the same path is noticed."""

    uuid: str
    device: int
    inode: int


def library_error(error: OSError, root: bytes) -> MediasyncError:
    """The error of the whole sync that an OSError in the library means."""
    path = display(root)
    if error.errno in _NO_SPACE:
        return MediasyncError(Reason.LIBRARY_NO_SPACE, f"the library {path} has no space left")
    if error.errno in _READ_ONLY:
        return MediasyncError(Reason.LIBRARY_READ_ONLY, f"the library {path} cannot be written: {error.strerror}")
    return MediasyncError(Reason.LIBRARY_IO, f"the library {path} failed: {error.strerror or error}")


def read_marker(root: bytes, descriptor: int | None = None) -> Marker | None:
    """The marker of the library at `root`, of the folder that `descriptor` is where it is given; None if there is none. Raises
    MediasyncError for one that cannot be read."""
    path = os.path.join(root, MARKER)
    try:
        opened = os.open(path if descriptor is None else MARKER, os.O_RDONLY | os.O_CLOEXEC, dir_fd=descriptor)
        with open(opened, "rb") as file:
            status = os.fstat(file.fileno())
            content = json.loads(file.read(_MARKER_LIMIT))
        return Marker(str(uuid.UUID(content["library"])), status.st_dev, status.st_ino)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as error:
        raise library_error(error, root) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"the library's marker {display(path)} is damaged"
        raise MediasyncError(Reason.LIBRARY_MARKER_MISMATCH, text, "Restore it from a backup, or remove it to start anew.") from error
