"""The hash of a file in the library, read from its disk."""

from __future__ import annotations

import hashlib
import os
import stat

_READ_SIZE = 1 << 20


def sha256_of(path: bytes) -> bytes:
    """The hash of a file's bytes. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(_READ_SIZE):
            digest.update(chunk)
    return digest.digest()


def holds(path: bytes, size_bytes: int, sha256: bytes) -> bool:
    """Whether there is a regular file of that size and hash. Links are not followed."""
    try:
        status = os.lstat(path)
        return stat.S_ISREG(status.st_mode) and status.st_size == size_bytes and sha256_of(path) == sha256
    except OSError:
        return False
