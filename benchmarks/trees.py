"""What there is to pull: folders full of files that no compression helps with."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MTIME = 1_790_000_000


@dataclass(frozen=True)
class Tree:
    """A kind of content. `make(folder, files)` returns its bytes; `files` is how many there are unless told otherwise."""

    name: str
    files: int
    make: Callable[[Path, int], int]


def make_pictures(folder: Path, files: int, size_bytes: int = 290_000) -> int:
    """Writes valid pictures of noise into dated folders. Returns their bytes."""
    random.seed(20261121)
    side = max(1, int((size_bytes / 3) ** 0.5))
    noise = random.randbytes(side * (3 * side) + files)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    total = 0
    for number in range(files):
        rows = b"".join(b"\0" + noise[number + row * 3 * side : number + (row + 1) * 3 * side] for row in range(side))
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        text = b"parameters\0a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: %d, Size: 512x512, Model: demo" % number
        data = chunk(b"IHDR", header) + chunk(b"tEXt", text) + chunk(b"IDAT", zlib.compress(rows, 0))
        content = b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")
        total += _write(folder / "txt2img-images" / f"2026-11-{number * 28 // files + 1:02}" / f"{number:05}-{number}.png", content, number)
    return total


def make_small(folder: Path, files: int) -> int:
    """Writes files of 200 bytes, a thousand to a folder. Returns their bytes."""
    random.seed(20261122)
    noise = random.randbytes(200 + files)
    return sum(
        _write(folder / f"{number // 1000:03}" / f"{number:06}.txt", noise[number : number + 200], number) for number in range(files)
    )


def make_large(folder: Path, files: int) -> int:
    """Writes files of 256 MB. Returns their bytes."""
    random.seed(20261123)
    total = 0
    for number in range(files):
        path = folder / f"{number}.bin"
        with path.open("wb") as file:
            for _ in range(32):
                total += file.write(random.randbytes(8_000_000))
        os.utime(path, (_MTIME + number, _MTIME + number))
    return total


def _write(path: Path, content: bytes, number: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (_MTIME + number, _MTIME + number))
    return len(content)


TREES = (Tree("pictures", 5000, make_pictures), Tree("small", 50_000, make_small), Tree("large", 6, make_large))
