"""How long a service that comes and goes is called again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mediasync.errors import MediasyncError, Reason
from services.coordinator.patience import Patience


@pytest.mark.parametrize(("well_seconds", "lasts"), [(-1.0, True), (600.0, False)])
async def test_one_that_was_well_between_its_losses_may_be_lost_without_end(
    well_seconds: float, lasts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_FIRST_PAUSE_SECONDS", "_LAST_PAUSE_SECONDS"):
        monkeypatch.setattr(f"services.coordinator.patience.{name}", 0.0)
    monkeypatch.setattr("services.coordinator.patience._WELL_SECONDS", well_seconds)
    calls = 0

    async def attempt(alive: Callable[[], None]) -> int:
        nonlocal calls
        calls += 1
        alive()
        if calls <= 200:
            raise MediasyncError(Reason.SERVICES_UNREACHABLE, "it is away")
        return calls

    patience = Patience({Reason.SERVICES_UNREACHABLE: 60.0})
    if lasts:
        assert await patience.call("calling it", attempt) == 201
        return
    with pytest.raises(MediasyncError):
        await patience.call("calling it", attempt)
    assert calls == 51
