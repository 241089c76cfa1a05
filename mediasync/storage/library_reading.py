"""Reading files of a library to hash them: several threads, bounded, and ended within a moment when nobody wants to know any more.

Threads of its own, because those of landing wait for the disk on behalf of a sync. SHA-256 lets go of the interpreter, so two threads are
twice as fast as one; files are handed out in handfuls, as small ones cost less to read than to hand out.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_READ_SIZE = 1 << 20
_HANDFUL_FILES = 32
_HANDFUL_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read. `sha256` is None where it could not be, and `error` says why; empty where it is gone. `settled` is false for
    one that changed meanwhile. Size and time are those of the bytes that were read."""

    path: bytes
    sha256: bytes | None
    size_bytes: int = 0
    mtime_ns: int = 0
    settled: bool = True
    error: str = ""


class LibraryReader:
    """Hashes files of one library."""

    def __init__(self, root: bytes, executor: ThreadPoolExecutor, *, from_disk: bool = False) -> None:
        """With `from_disk` the kernel is asked not to answer out of memory: what counts is what the disk still has."""
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
        return [self._read(path) for path in paths if not self._stopped.is_set()]

    def _read(self, path: bytes) -> ReadFile:
        try:
            descriptor = os.open(os.path.join(self._root, path), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return ReadFile(path, None)
        except OSError as error:
            return ReadFile(path, None, error=error.strerror or str(error))
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return ReadFile(path, None, error="it is no regular file any more")
            if self._from_disk:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            digest = hashlib.sha256()
            while data := os.read(descriptor, _READ_SIZE):
                digest.update(data)
                with self._lock:
                    self.bytes_read += len(data)
                if self._stopped.is_set():
                    break
            after = os.fstat(descriptor)
            settled = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            return ReadFile(path, digest.digest(), after.st_size, after.st_mtime_ns, settled)
        except OSError as error:
            return ReadFile(path, None, error=error.strerror or str(error))
        finally:
            os.close(descriptor)


def _handfuls(files: Sequence[tuple[bytes, int]]) -> list[list[bytes]]:
    handfuls: list[list[bytes]] = []
    room_files = room_bytes = 0
    for path, size in files:
        if room_files <= 0 or room_bytes <= 0:
            handfuls.append([])
            room_files, room_bytes = _HANDFUL_FILES, _HANDFUL_BYTES
        handfuls[-1].append(path)
        room_files -= 1
        room_bytes -= size
    return handfuls
