"""A library: the folder that files come to, recognised by its marker (invariant I4).

The marker, `.mediasync/library.json`, is written when a folder is first used. A folder that was a library and has no marker now is most
likely the empty mount point of a share that is not there: nothing may be written to it, and nothing believed of it.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import uuid
from pathlib import Path

from mediasync.errors import MediasyncError, Reason
from mediasync.paths import display
from mediasync.storage.library_marker import MARKER, OWN_FOLDER, Marker, library_error, read_marker

# The file system cannot hold this one name; others may go well.
_NAME_NOT_POSSIBLE = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}


def file_error(error: OSError, path: bytes) -> MediasyncError | None:
    """The error of one file that an OSError in the library means; None if it concerns the library as a whole."""
    if error.errno in _NAME_NOT_POSSIBLE:
        text = f"{display(path)} cannot have that name in the library: {error.strerror}"
        return MediasyncError(Reason.FILE_NAME_NOT_POSSIBLE, text)
    return None


def write_marker(root: bytes) -> Marker:
    """Makes `root` a library with a new id."""
    folder = os.path.join(root, OWN_FOLDER)
    content = json.dumps({"library": str(uuid.uuid4()), "about": "Forge Media Sync recognises this library by this file. Keep it."})
    temporary = os.path.join(folder, b"library.json.new")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(content + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, os.path.join(root, MARKER))
        sync_folder(folder)
        sync_folder(root)
    except OSError as error:
        raise library_error(error, root) from error
    marker = read_marker(root)
    if marker is None:
        raise MediasyncError(Reason.LIBRARY_IO, f"the library {display(root)} lost its marker at once")
    return marker


def check_folder(root: bytes, data_folder: Path, fstab: Path = Path("/etc/fstab"), mounts: Path = Path("/proc/self/mounts")) -> None:
    """Raises MediasyncError unless `root` is an existing folder, outside the data folder, and not below a mount point that is not
    mounted."""
    text = display(root)
    real, data = os.path.realpath(root), os.path.realpath(os.fsencode(data_folder))
    if real == data or real.startswith(data + b"/"):
        where = "is" if real == data else "is inside"
        raise MediasyncError(Reason.LIBRARY_IN_DATA_FOLDER, f"the destination {text} {where} the data folder {data_folder}")
    mount_point = unmounted_point(real, fstab, mounts)
    if mount_point is not None:
        raise MediasyncError(
            Reason.LIBRARY_NOT_MOUNTED,
            f"the destination {text} is below {mount_point}, which /etc/fstab lists and which is not mounted",
            f"Mount it first: mount {shlex.quote(mount_point)}",
        )
    if os.path.isdir(root):
        return
    if os.path.lexists(root):
        raise MediasyncError(Reason.LIBRARY_MISSING, f"the destination {text} is not a folder", "Name the folder that holds the library.")
    remedy = f"Mount the disk it is on, or create it if that is the place: mkdir -p {shlex.quote(text)}"
    raise MediasyncError(Reason.LIBRARY_MISSING, f"the destination {text} does not exist", remedy)


def unmounted_point(path: bytes, fstab: Path, mounts: Path) -> str | None:
    """The mount point at or above `path` that fstab lists and that is not mounted; None if there is none."""
    listed, mounted = _mount_points(fstab), _mount_points(mounts)
    for point in sorted(listed - mounted, key=len, reverse=True):
        if point != b"/" and (path == point or path.startswith(point + b"/")):
            return display(point)
    return None


def _mount_points(table: Path) -> set[bytes]:
    try:
        lines = table.read_bytes().splitlines()
    except OSError:
        return set()  # a system without the table has no mount points to miss
    fields = [line.split() for line in lines if not line.lstrip().startswith(b"#")]
    # Blanks and backslashes in a mount point are written as octal escapes, see fstab(5).
    return {
        point.replace(b"\\040", b" ").replace(b"\\011", b"\t").replace(b"\\134", b"\\").rstrip(b"/") or b"/"
        for point in (row[1] for row in fields if len(row) >= 2)
        if point.startswith(b"/")
    }


def sync_folder(path: bytes) -> None:
    """Makes the names in a folder durable. Network file systems that cannot sync a folder do so on their own."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def free_bytes(root: bytes) -> int:
    """Bytes that may still be written to the library's file system."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize
