"""I3 under all that others may do meanwhile: nothing goes of which the library has no copy.

`make test-faults INTERLEAVINGS=10000` runs so many of them; else it is some dozens, with other seeds each day.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.cleanup.verification import READERS
from tests.faults.cleanup.world import World

_INTERLEAVINGS = int(os.environ.get("INTERLEAVINGS", "60"))
_SEED = int(os.environ.get("INTERLEAVINGS_SEED", time.strftime("%Y%m%d0000")))
_IN_ONE_WORLD = 40
_AT_A_TIME = 8


@pytest.mark.timeout(60 + _INTERLEAVINGS)
async def test_i3_whatever_happens_meanwhile_nothing_goes_that_the_library_does_not_have(tmp_path: Path) -> None:
    worlds = -(-_INTERLEAVINGS // _IN_ONE_WORLD)
    totals: Counter[str] = Counter()
    room = asyncio.Semaphore(_AT_A_TIME)

    async def live(number: int, executor: ThreadPoolExecutor) -> None:
        async with room:
            world = World(tmp_path / str(number), _SEED + number, executor)
            try:
                await world.start()
                for _ in range(_IN_ONE_WORLD):
                    await world.interleaving()
                world.ledger.close()
            except BaseException as error:
                error.add_note(f"INTERLEAVINGS_SEED={world.seed} INTERLEAVINGS=1")
                error.add_note("\n".join(world.disturber.log))
                raise
            finally:
                await world.close()
            totals.update(world.totals)

    with ThreadPoolExecutor(READERS) as executor:
        async with asyncio.TaskGroup() as group:
            for number in range(worlds):
                group.create_task(live(number, executor))
    print(dict(sorted(totals.items())))
    # It is no proof if nothing is deleted, or nothing happens.
    assert totals["interleavings"] == worlds * _IN_ONE_WORLD
    assert totals["deleted"] > totals["interleavings"] / 2
    assert totals["disturbances"] > totals["interleavings"]
    assert totals["kept: changed_meanwhile"] > 0
