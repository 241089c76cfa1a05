from __future__ import annotations

import asyncio

from mediasync.model import SyncOptions
from mediasync.runtime.notices import Notice
from services.transfer.pipeline.worker import PipelineWorker
from services.transfer.processing import Processor
from tests.fixtures.transfer import LandingBench


async def test_files_wait_while_a_large_pull_has_the_processors_for_itself(landing_bench: LandingBench) -> None:
    lander = landing_bench.lander(SyncOptions())
    await lander.land(lander.begin([landing_bench.stage(b"a.txt", b"content")]))
    committed, progressed = Notice(), Notice()
    looks = 0
    asked = asyncio.Event()
    held = True

    def hold() -> bool:
        nonlocal looks
        looks += 1
        asked.set()
        return held

    pipeline = PipelineWorker()
    processor = Processor(landing_bench.queues, pipeline, committed, progressed, parallel=1, hold=hold)
    running = asyncio.create_task(processor.run())
    try:
        while looks < 3:
            asked.clear()
            await committed.announce()
            await asked.wait()
        assert await landing_bench.queues.processing_tasks(10, 0)
        held = False
        before = progressed.count
        await committed.announce()
        await progressed.wait_past(before, 30)
        assert not await landing_bench.queues.processing_tasks(10, 0)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await pipeline.close()
