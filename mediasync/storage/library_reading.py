"""Reading files of a library to hash them: several threads, bounded, and ended within a moment when nobody wants to know any more.

Threads of its own, because those of landing wait for the disk on behalf of a sync. SHA-256 lets go of the interpreter, so two threads are
twice as fast as one; files are handed out in handfuls, as small ones cost less to read than to hand out. While one file is hashed the
next one of its handful is on its way from the disk.

Links below the root are not followed: what somebody put elsewhere, and a link to it here, is not in the library.

What it does not guarantee: that what is read `from_disk` was not held by a disk's own cache, or by the server of a share.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

# Stays in a processor's own cache; what is read in larger pieces has left it before it is hashed.
_READ_SIZE = 256 << 10
_HANDFUL_FILES = 32
_HANDFUL_BYTES = 64 << 20
_AHEAD_BYTES = 8 << 20
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_FILE = "it is no regular file any more"
_LINKED = "its folder is a link"


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read. `sha256` is None where it could not be, and `error` says why; empty where it is gone. `settled` is false for
    one that changed meanwhile. Size, times and inode are those of the bytes that were read."""

    path: bytes
    sha256: bytes | None
    size_bytes: int = 0
    mtime_ns: int = 0
    settled: bool = True
    error: str = ""
    inode: int = 0
    ctime_ns: int = 0


class LibraryReader:
    """Hashes files of one library."""

    def __init__(self, root: bytes | int, executor: ThreadPoolExecutor, *, from_disk: bool = False) -> None:
        """`root` is a path, or a descriptor that stays open meanwhile. With `from_disk` the kernel is asked not to answer out of memory:
        what counts is what the disk still has. What is not flushed yet is in memory only, and is read from there."""
        self._root = root
        self._executor = executor
        self._from_disk = from_disk
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.bytes_read = 0

    async def read(self, files: Sequence[tuple[bytes, int]], on_read: Callable[[], None] = lambda: None) -> list[ReadFile]:
        """Hashes files, given by path and expected size; one answer each, in order. `on_read` is called now and then. When it is
        cancelled, no thread is at work any more."""
        loop = asyncio.get_running_loop()
        tasks = [loop.run_in_executor(self._executor, self._read_all, handful) for handful in _handfuls(files)]
        try:
            for task in tasks:
                while not (await asyncio.wait({task}, timeout=0.5))[0]:
                    on_read()
                on_read()
            return [read for task in tasks for read in task.result()]
        except BaseException:
            self._stopped.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def _read_all(self, paths: Sequence[bytes]) -> list[ReadFile]:
        buffer = memoryview(bytearray(_READ_SIZE))
        found: list[ReadFile] = []
        with _Folders(self._root) as folders:
            ahead = self._open(folders, paths[0])
            for index in range(len(paths)):
                opened = ahead
                ahead = self._open(folders, paths[index + 1]) if index + 1 < len(paths) else None
                if isinstance(opened, int):
                    opened = self._read(paths[index], opened, buffer)
                if opened is not None:
                    found.append(opened)
        return found

    def _open(self, folders: _Folders, path: bytes) -> int | ReadFile | None:
        """A file's descriptor, or why there is none; None once nobody wants to know."""
        if self._stopped.is_set():
            return None
        try:
            descriptor = folders.open(path)
        except (FileNotFoundError, NotADirectoryError):
            return ReadFile(path, None)
        except OSError as error:
            return ReadFile(path, None, error=error.strerror or str(error))
        if self._from_disk:
            _fetch_anew(descriptor)
        return descriptor

    def _read(self, path: bytes, descriptor: int, buffer: memoryview) -> ReadFile:
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return ReadFile(path, None, error=_NO_FILE)
            digest = hashlib.sha256()
            while count := os.readv(descriptor, [buffer]):
                digest.update(buffer[:count])
                with self._lock:
                    self.bytes_read += count
                if self._stopped.is_set():
                    break
            after = os.fstat(descriptor)
            settled = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            times = (after.st_mtime_ns, settled, "", after.st_ino, after.st_ctime_ns)
            return ReadFile(path, digest.digest(), after.st_size, *times)
        except OSError as error:
            return ReadFile(path, None, error=error.strerror or str(error))
        finally:
            os.close(descriptor)


class _Folders:
    """Opens files below a root, a part of their path at a time. The folder of the last one stays open: the next is mostly there too."""

    def __init__(self, root: bytes | int) -> None:
        self._root = root
        self._folder = b""
        self._descriptor = -1

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def open(self, path: bytes) -> int:
        """A file's descriptor. Raises OSError, ELOOP where the path goes through a link."""
        folder, _, name = path.rpartition(b"/")
        if self._descriptor < 0 or folder != self._folder:
            self._close()
            self._descriptor = self._enter(folder)
            self._folder = folder
        try:
            return os.open(name, _FILE, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, _NO_FILE) from None
            raise

    def _enter(self, folder: bytes) -> int:
        here = os.open(b".", _FOLDER, dir_fd=self._root) if isinstance(self._root, int) else os.open(self._root, _FOLDER)
        for part in folder.split(b"/") if folder else ():
            try:
                below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            except NotADirectoryError:
                # What Linux says of a link, too.
                if stat.S_ISLNK(os.lstat(part, dir_fd=here).st_mode):
                    raise OSError(errno.ELOOP, _LINKED) from None
                raise
            finally:
                os.close(here)
            here = below
        return here

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _fetch_anew(descriptor: int) -> None:
    """Has the kernel forget what it knows of a file, and begin to read it from the disk."""
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
    except OSError:
        pass  # a file system that has no such means, or no file; it is read as it is


def _handfuls(files: Sequence[tuple[bytes, int]]) -> list[list[bytes]]:
    # Equally many files each, and an even number of handfuls: two threads end at the same time.
    pairs = -(-len(files) // (2 * _HANDFUL_FILES)) or 1
    handful_files = -(-len(files) // (2 * pairs))
    handfuls: list[list[bytes]] = []
    room_files = room_bytes = 0
    for path, size in files:
        if room_files <= 0 or room_bytes <= 0:
            handfuls.append([])
            room_files, room_bytes = handful_files, _HANDFUL_BYTES
        handfuls[-1].append(path)
        room_files -= 1
        room_bytes -= size
    return handfuls
