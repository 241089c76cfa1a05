"""Folders of a container as this machine's own kernel has them, opened so that nothing in the container can lead elsewhere.

Two ways to one: the root of the container's first process (`/proc/PID/root`), and what is mounted into the container from a folder of this
machine. Below either a path is opened by `openat2` with RESOLVE_IN_ROOT: links are followed as they are in the container, and never out of
it. What was opened is held by its descriptor: neither a process id that another process gets, nor a folder that takes this one's place is
read by mistake.

Blocks; it belongs into a thread. Whoever may mount things in the container decides what is below, as with every other engine.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import stat
from dataclasses import dataclass

from mediasync.sources.agent.connection import NamedFolders
from mediasync.sources.docker.containers import Container

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPENAT2 = 437  # on every architecture
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10
_TRIES = 16
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_MAX_CGROUP_BYTES = 64 * 1024


class _How(ctypes.Structure):
    """`struct open_how`."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


def open_in_root(root: int, path: bytes) -> int:
    """Opens the folder `path` as a process would whose `/` is the open folder `root`. Raises OSError; ENOSYS before Linux 5.6."""
    how = _How(_OPEN_DIRECTORY, 0, _NO_MAGICLINKS | _IN_ROOT)
    for _ in range(_TRIES):
        fd = int(_libc.syscall(_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how)))
        if fd >= 0:
            return fd
        # EAGAIN: something was renamed while a `..` was followed.
        if (number := ctypes.get_errno()) != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number))


@dataclass(frozen=True)
class Held:
    """An open folder: `path` below the open folder `base`."""

    base: int
    path: bytes
    fd: int

    @classmethod
    def open(cls, base: int, path: bytes) -> Held:
        """Opens one that can be listed. `base` stays the caller's. Raises OSError."""
        fd = open_in_root(base, path)
        try:
            with os.scandir(fd) as entries:
                next(entries, None)
            return cls(os.dup(base), path, fd)
        except OSError:
            os.close(fd)
            raise

    @property
    def identity(self) -> tuple[int, int]:
        """Which file system, and which inode in it."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def still_there(self) -> bool:
        """Whether its path still leads to it."""
        try:
            fd = open_in_root(self.base, self.path)
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(fd), os.fstat(self.fd))
        finally:
            os.close(fd)

    def has_links(self) -> bool:
        """Whether anything directly in it is a link."""
        try:
            with os.scandir(self.fd) as entries:
                return any(entry.is_symlink() for entry in entries)
        except OSError:
            return False

    def is_plain(self, folder: bytes) -> bool:
        """Whether no part of the way to `folder` below it is a link."""
        above = os.dup(self.fd)
        try:
            for part in folder.split(b"/"):
                try:
                    if stat.S_ISLNK(os.stat(part, dir_fd=above, follow_symlinks=False).st_mode):
                        return False
                    below = os.open(part, _OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
                except OSError as error:
                    return error.errno != errno.ELOOP
                os.close(above)
                above = below
            return True
        finally:
            os.close(above)

    def close(self) -> None:
        """Lets go of it."""
        os.close(self.fd)
        os.close(self.base)


class Unlinked(NamedFolders):
    """Folders of which none may be a link: the system would follow it from this machine's root."""

    def all(self) -> list[bytes]:
        return []


def process_root(container: Container) -> int | None:
    """The root of a container's first process, opened; None where it may not be read, or the process is not seen to be the container's: the
    engine may count processes in another namespace, or on another machine. The kernel itself names the container: its id, of which there is
    one, is a part of the process's control group."""
    if container.pid <= 1 or not _CONTAINER_ID.fullmatch(container.id):
        return None
    try:
        # All that is asked of it is asked of this very process: its number may be another one's a moment later.
        process = os.open(f"/proc/{container.pid}", _OPEN_DIRECTORY)
    except OSError:
        return None
    try:
        group = os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
        try:
            said = os.read(group, _MAX_CGROUP_BYTES)
        finally:
            os.close(group)
        if container.id.encode() not in said:
            return None
        return os.open("root", _OPEN_DIRECTORY, dir_fd=process)
    except OSError:
        return None
    finally:
        os.close(process)


@dataclass(frozen=True)
class Place:
    """Where a folder of a container should be on this machine: `rest` below a mount's `source`."""

    source: bytes
    rest: bytes
    writable: bool


def mounted_place(container: Container, path: bytes) -> Place | None:
    """Where `path`, which is normal, comes from; None if it is no folder of this machine, or something else is mounted below it."""
    over = [mount for mount in container.mounts if _is_at_or_below(path, mount.target)]
    if not over or any(mount.target != path and _is_at_or_below(mount.target, path) for mount in container.mounts):
        return None
    mount = max(over, key=lambda mount: len(mount.target))
    if not mount.source.startswith(b"/"):
        return None
    return Place(mount.source, path[len(mount.target.rstrip(b"/")) :].lstrip(b"/") or b".", mount.writable)


def open_place(place: Place, identity: tuple[int, int]) -> Held:
    """Opens it, if it is the folder of that identity. Raises OSError where it is not or cannot be read, or where this machine has something
    mounted below it, which the container may not see."""
    source = os.open(place.source, _OPEN_DIRECTORY)
    try:
        held = Held.open(source, place.rest)
    finally:
        os.close(source)
    try:
        if held.identity != identity:
            raise OSError(errno.ESTALE, "it is not the folder that the container sees")
        path = os.readlink(b"/proc/self/fd/%d" % held.fd)
        with open("/proc/self/mountinfo", "rb") as mounts:
            points = [_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4]) for line in mounts]
        if any(point != path and _is_at_or_below(point, path) for point in points):
            raise OSError(errno.EXDEV, "something is mounted below it")
    except OSError:
        held.close()
        raise
    return held


def boot_id() -> bytes:
    """Which run of which kernel this is. Raises OSError."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip()


def _is_at_or_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")
