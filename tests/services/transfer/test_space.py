from __future__ import annotations

import os
from pathlib import Path

import pytest

from mediasync.errors import CATALOG, ExitCode, MediasyncError, Reason
from services.transfer.space import SpaceGuard


def reason_of(guard: SpaceGuard, incoming_bytes: int) -> Reason | None:
    try:
        guard.check(incoming_bytes)
    except MediasyncError as error:
        assert CATALOG[error.reason].exit_code is ExitCode.LIBRARY
        return error.reason
    return None


def test_a_reserve_is_never_used_up(tiny_disk: Path) -> None:
    guard = SpaceGuard(os.fsencode(tiny_disk), 5 << 20)
    assert reason_of(guard, 1 << 20) is None
    assert reason_of(guard, 16 << 20) is Reason.LIBRARY_RESERVE
    assert reason_of(guard, 30 << 20) is Reason.LIBRARY_NO_SPACE
    (tiny_disk / "other").write_bytes(bytes(16 << 20))
    assert reason_of(guard, 0) is Reason.LIBRARY_RESERVE
    assert reason_of(SpaceGuard(os.fsencode(tiny_disk), 0), 0) is None


def test_bytes_that_come_are_looked_at_every_64_mib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bytes] = []
    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: (looks.append(path), statvfs(path))[1])
    monkeypatch.setattr("services.transfer.space.time.monotonic", lambda: 1000.0)
    guard = SpaceGuard(os.fsencode(tmp_path), 0)
    for _ in range(200):
        guard.written(1 << 20)
    assert len(looks) == 1 + 3


def test_a_library_that_went_away_is_said_to_be(tmp_path: Path) -> None:
    assert reason_of(SpaceGuard(os.fsencode(tmp_path / "gone"), 0), 0) is Reason.LIBRARY_IO
