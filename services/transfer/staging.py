"""Where files are until they are whole: folders on the library's own file system, out of sight.

Each use has its own folder below `.mediasync/staging`, locked while it lives; a folder whose lock is free belongs to a process that
died, and is removed. Large files are received below `.mediasync/partial` instead, under a name that is made of what they are: one that
was cut off goes on where it stopped, in this process or a later one. Each folder of a source has a folder of its own there, so that what a
cancelled sync began can be removed (`remove_beginnings`).
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import secrets
import shutil
import time
from dataclasses import dataclass, replace

from mediasync.sources.base import Partial, WantedFile
from mediasync.storage.library_marker import OWN_FOLDER

_STAGING = OWN_FOLDER + b"/staging"
_PARTIAL = OWN_FOLDER + b"/partial"
_READ_SIZE = 1 << 20
_KEEP_PARTIAL_SECONDS = 7 * 86_400

RESUMABLE_BYTES = 8 << 20
"""Files from this size on are gone on with where they were cut off. Reading back a smaller one costs more than it saves."""


class StagingFile:
    """One file being received. Hashes as it writes; its name says nothing of what the source calls it."""

    def __init__(self, path: bytes, *, keep: bool = False) -> None:
        """A new file, or with `keep` one that may be there already and is kept when the transfer is cut off."""
        self.path = path
        self.size_bytes = 0
        self._keep = keep
        self._hash = hashlib.sha256()
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | (0 if keep else os.O_EXCL)
        self._descriptor = os.open(path, flags, 0o644)

    def go_on_from(self, size_bytes: int) -> None:
        """Keeps the first `size_bytes` of what is there, which are hashed again, and drops the rest. Raises OSError."""
        os.ftruncate(self._descriptor, size_bytes)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while self.size_bytes < size_bytes:
            data = os.read(self._descriptor, min(_READ_SIZE, size_bytes - self.size_bytes))
            if not data:
                raise OSError(0, "a partial file lost bytes while it was read")
            self._hash.update(data)
            self.size_bytes += len(data)

    def fileno(self) -> int:
        """The open file, for a source that can copy into it without the bytes passing here; call `copied` then."""
        return self._descriptor

    def copied(self, count: int) -> None:
        """So many bytes were put behind the last ones by somebody else; they are read back and hashed. Raises OSError."""
        end = self.size_bytes + count
        while self.size_bytes < end:
            data = os.pread(self._descriptor, min(_READ_SIZE, end - self.size_bytes), self.size_bytes)
            if not data:
                raise OSError(0, "bytes that were copied into staging are not there")
            self._hash.update(data)
            self.size_bytes += len(data)
        os.lseek(self._descriptor, end, os.SEEK_SET)

    def adopt(self, path: bytes) -> None:
        """Takes the place of a file that another program wrote on the same file system: it is renamed to here, and hashed. Raises
        OSError."""
        os.rename(path, self.path)
        os.close(self._descriptor)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._hash, self.size_bytes = hashlib.sha256(), 0
        self.copied(os.fstat(self._descriptor).st_size)

    def write(self, data: bytes) -> None:
        """Takes the next bytes. Raises OSError when the disk is full or fails."""
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.size_bytes += len(data)

    def finish(self, mtime_ns: int) -> bytes:
        """Closes the file with its modification time set; returns its sha256."""
        try:
            os.utime(self._descriptor, ns=(mtime_ns, mtime_ns))
        except OSError:
            pass  # some network mounts refuse, which `Staging` has found out; the manifest has the time
        os.close(self._descriptor)
        self._descriptor = -1
        return self._hash.digest()

    def cut_off(self) -> None:
        """The transfer ended before the file did: what can be gone on with is kept, anything else thrown away."""
        if self._keep and self.size_bytes >= RESUMABLE_BYTES // 2:
            os.close(self._descriptor)
            self._descriptor = -1
        else:
            self.discard()

    def discard(self) -> None:
        """Throws away what was received."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # landed, or discarded before


@dataclass(frozen=True)
class StagingArea:
    """Where one lane of a pull puts its files: paths below `folder` that begin with `prefix`, and partial files below `partials`, all in
    the library at `root`. Plain data, so that it can be handed to another process."""

    root: bytes
    folder: bytes
    partials: bytes
    prefix: bytes = b""

    def path(self, number: int) -> bytes:
        """The file of a number."""
        return self.folder + b"/" + self.prefix + b"%d" % number

    def partial_path(self, wanted: WantedFile) -> bytes:
        """The partial file of exactly this version of a wanted one."""
        identity = b"%d %d %d %s" % (wanted.size_bytes, wanted.mtime_ns, wanted.inode, wanted.path)
        return self.partials + b"/" + hashlib.sha256(identity).hexdigest()[:32].encode()

    def prepared(self, wanted: WantedFile) -> WantedFile:
        """`wanted` with what is here of it already. Reads that back; raises OSError when the disk fails."""
        if wanted.size_bytes < RESUMABLE_BYTES:
            return wanted
        digest, size = hashlib.sha256(), 0
        try:
            with open(self.partial_path(wanted), "rb", buffering=0) as file:
                while data := file.read(_READ_SIZE):
                    digest.update(data)
                    size += len(data)
        except FileNotFoundError:
            return wanted
        return replace(wanted, partial=Partial(size, digest.digest())) if 0 < size <= wanted.size_bytes else wanted

    def open(self, wanted: WantedFile, offset: int, number: int) -> StagingFile:
        """The file to receive into, from `offset` on. Raises OSError."""
        if wanted.size_bytes < RESUMABLE_BYTES:
            return StagingFile(self.path(number))
        os.makedirs(self.partials, exist_ok=True)
        file = StagingFile(self.partial_path(wanted), keep=True)
        try:
            file.go_on_from(offset)
        except BaseException:
            file.discard()
            raise
        return file


class Staging:
    """The staging folder of one use of a library."""

    def __init__(self, root: bytes) -> None:
        """Makes the folders and removes those of dead processes. Raises OSError."""
        self._root = root
        parent = os.path.join(root, _STAGING)
        self._partials = os.path.join(root, _PARTIAL)
        os.makedirs(parent, exist_ok=True)
        os.makedirs(self._partials, exist_ok=True)
        _remove_abandoned(parent)
        _remove_old(self._partials)
        self.folder = os.path.join(parent, secrets.token_hex(8).encode())
        os.mkdir(self.folder, 0o700)
        self._lock = os.open(os.path.join(self.folder, b"lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.times_refused = _times_refused(self._lock)
        """Why files here cannot be given their times; empty where they can. Receivers find the same, and say nothing of it."""
        self._lanes = itertools.count(1)

    def area(self, origin: str) -> StagingArea:
        """A part of it for one lane. `origin` tells the partial files of one folder of a source from another's."""
        return StagingArea(self._root, self.folder, _beginnings(self._root, origin), b"%d-" % next(self._lanes))

    def close(self) -> None:
        """Removes the folder and what is left in it. Partial files stay."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def _beginnings(root: bytes, origin: str) -> bytes:
    return os.path.join(root, _PARTIAL, hashlib.sha256(origin.encode()).hexdigest()[:16].encode())


def remove_beginnings(root: bytes, origin: str) -> None:
    """Removes the partial files of an origin. Nobody may be receiving any meanwhile. Raises OSError."""
    try:
        shutil.rmtree(_beginnings(root, origin))
    except FileNotFoundError:
        pass  # it had none


def _times_refused(descriptor: int) -> str:
    try:
        os.utime(descriptor, (1e9, 1e9))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _remove_abandoned(parent: bytes) -> None:
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        try:
            descriptor = os.open(os.path.join(folder, b"lock"), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            # Either just being made by another process, or half removed; only the latter is safe to take away.
            if _age(folder) > 3600:
                shutil.rmtree(folder, ignore_errors=True)
            continue
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its process lives
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remove_old(partials: bytes) -> None:
    for folder, names, files in os.walk(partials, topdown=False):
        for name, remove in (*((name, os.unlink) for name in files), *((name, os.rmdir) for name in names)):
            path = os.path.join(folder, name)
            if _age(path) > _KEEP_PARTIAL_SECONDS:
                try:
                    remove(path)
                except OSError:
                    continue  # another worker was faster, or there is more in it, or it is no file of ours


def _age(path: bytes) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return 0.0
