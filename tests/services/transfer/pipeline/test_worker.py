"""The front of the pipeline, with real worker processes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mediasync.convert.media import metadata_from_pb
from mediasync.errors import MediasyncError, Reason
from mediasync.model import GenerationMetadata
from mediasync.v1 import media_ingest_pb2 as pb
from services.transfer.pipeline.frames import frame, parse_request, parse_response, request, response
from services.transfer.pipeline.messages import facts_to_pb
from services.transfer.pipeline.stage import MediaFacts, MediaFile, StageFailure, StageRun, problem_with, run_stages
from services.transfer.pipeline.stages import STAGES, select
from services.transfer.pipeline.worker import PipelineWorker
from tests.fixtures.media import FORGE_TEXT, comfy_png, picture, png, text_chunk, text_to_image

BOTH = ("validate", "metadata")


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[PipelineWorker]:
    worker = PipelineWorker(**options)
    try:
        async with asyncio.timeout(60):
            yield worker
    finally:
        await worker.close()


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """A worker process that does as it should, except for a file whose name says otherwise."""

    def build(fault: str) -> tuple[str, ...]:
        program = tmp_path / "faulty_worker.py"
        program.write_text(
            "import os, pathlib, signal, sys, time\n"
            "OUT = os.dup(1)\n"
            "from services.transfer.pipeline import worker_process\n"
            f"LOG = pathlib.Path({str(tmp_path / 'attempts')!r})\n"
            "original = worker_process.run_stages\n"
            "def run(file, stages):\n"
            "    with LOG.open('a') as log: log.write(file.name.decode() + '\\n')\n"
            "    first = LOG.read_text().split().count(file.name.decode()) == 1\n"
            "    if file.name.startswith(b'bad'):\n"
            f"        {fault}\n"
            "    return original(file, stages)\n"
            "worker_process.run_stages = run\n"
            "worker_process.main()\n"
        )
        return (sys.executable, str(program))

    return build


async def gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.02)


async def test_a_file_goes_through_the_stages_in_another_process(make_media: Any) -> None:
    async with running() as worker:
        facts = await worker.process(make_media("ComfyUI_00001_.png", comfy_png(text_to_image())), BOTH)
        assert (facts.media_type, facts.width, facts.height, facts.invalid) == ("image/png", 48, 32, None)
        assert facts.metadata is not None
        assert facts.metadata.seed == 156680208700286
        assert worker.pids
        assert os.getpid() not in worker.pids


async def test_only_the_stages_asked_for_run_and_unknown_ones_are_left_out(make_media: Any) -> None:
    async with running() as worker:
        facts = await worker.process(make_media("a.png", png(text_chunk("parameters", FORGE_TEXT))), ("validate", "of-tomorrow"))
        assert (facts.width, facts.metadata) == (48, None)


async def test_names_of_any_bytes_are_looked_into(tmp_path: Path) -> None:
    raw = bytes(tmp_path) + b"/\xff new\nline.png"
    with open(raw, "wb") as stream:
        stream.write(picture())
    async with running() as worker:
        assert await worker.process(MediaFile(raw, b"\xff new\nline.png", 1), BOTH) == MediaFacts("image/png", 48, 32)


async def test_a_process_is_kept_for_the_next_file_and_ended_when_idle(make_media: Any) -> None:
    async with running(idle_seconds=0.2) as worker:
        await worker.process(make_media("a.png", picture()), BOTH)
        pids = worker.pids
        await worker.process(make_media("b.png", picture()), BOTH)
        assert worker.pids == pids
        await gone(pids[0])
        assert worker.pids == ()
        facts = await worker.process(make_media("c.png", picture()), BOTH)
        assert facts.width == 48


async def test_as_many_files_are_under_way_as_there_are_processes(make_media: Any) -> None:
    files = [make_media(f"{number}.png", picture()) for number in range(12)]
    async with running(processes=2) as worker:
        facts = await asyncio.gather(*(worker.process(file, BOTH) for file in files))
        assert [item.width for item in facts] == [48] * 12
        assert len(worker.pids) == 2


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os._exit(3)", "exit code 3"),
    ],
)
async def test_a_file_that_kills_its_process_twice_is_given_up_and_the_others_go_on(
    make_media: Any, faulty: Callable[[str], tuple[str, ...]], tmp_path: Path, fault: str, how: str
) -> None:
    files = [make_media(name, picture()) for name in ("a.png", "bad.png", "c.png")]
    async with running(command=faulty(fault)) as worker:
        facts = await asyncio.gather(*(worker.process(file, BOTH) for file in files))
    assert [item.width for item in facts] == [48, 0, 48]
    problem = facts[1].invalid
    assert problem is not None
    assert (problem.reason, problem.path) == (Reason.FILE_INVALID, b"bad.png")
    assert how in problem.message
    assert (tmp_path / "attempts").read_text().split().count("bad.png") == 2


async def test_a_file_whose_process_was_killed_once_is_tried_again(make_media: Any, faulty: Callable[[str], tuple[str, ...]]) -> None:
    async with running(command=faulty("first and os.kill(os.getpid(), signal.SIGKILL)")) as worker:
        assert await worker.process(make_media("bad.png", picture()), BOTH) == MediaFacts("image/png", 48, 32)


async def test_an_idle_process_that_is_killed_is_replaced(make_media: Any) -> None:
    async with running() as worker:
        await worker.process(make_media("a.png", picture()), BOTH)
        (pid,) = worker.pids
        os.kill(pid, signal.SIGKILL)
        facts = await worker.process(make_media("b.png", picture()), BOTH)
        assert (facts.width, facts.invalid) == (48, None)


async def test_a_file_that_takes_too_long_is_given_up_and_its_process_ended(
    make_media: Any, faulty: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    async with running(command=faulty("time.sleep(60)"), file_seconds=2.0) as worker:
        facts = await worker.process(make_media("bad.png", picture()), BOTH)
        assert facts.invalid is not None
        assert "more than 2 seconds" in facts.invalid.message
        assert worker.pids == ()
    assert (tmp_path / "attempts").read_text().split().count("bad.png") == 1


async def test_a_process_that_answers_nonsense_is_not_believed(make_media: Any, faulty: Callable[[str], tuple[str, ...]]) -> None:
    for nonsense in ("b'\\0\\0\\0\\2[]'", "b'\\xff\\xff\\xff\\xff'"):
        async with running(command=faulty(f"os.write(OUT, {nonsense})")) as worker:
            facts = await worker.process(make_media("bad.png", picture()), BOTH)
            assert facts.invalid is not None
            assert "answer" in facts.invalid.message


async def test_a_cancelled_file_ends_its_process_so_that_no_answer_goes_astray(
    make_media: Any, faulty: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    async with running(command=faulty("time.sleep(60)")) as worker:
        task = asyncio.create_task(worker.process(make_media("bad.png", picture()), BOTH))
        while not (tmp_path / "attempts").exists():
            await asyncio.sleep(0.02)
        (pid,) = worker.pids
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone(pid)
        assert (await worker.process(make_media("good.png", picture()), BOTH)).width == 48


async def test_closing_ends_files_under_way_and_refuses_new_ones(
    make_media: Any, faulty: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    worker = PipelineWorker(command=faulty("time.sleep(60)"))
    files = [make_media(name, picture()) for name in ("bad1.png", "bad2.png")]
    tasks = [asyncio.create_task(worker.process(file, BOTH)) for file in files]
    while not (tmp_path / "attempts").exists():
        await asyncio.sleep(0.02)
    (pid,) = worker.pids
    async with asyncio.timeout(20):
        await worker.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await gone(pid)
    assert [result.reason for result in results if isinstance(result, MediasyncError)] == [Reason.CANCELLED] * 2
    with pytest.raises(MediasyncError, match="shut down"):
        await worker.process(files[0], BOTH)
    await worker.close()


async def test_the_process_ends_when_the_service_that_started_it_is_gone() -> None:
    process = await asyncio.create_subprocess_exec(
        *PipelineWorker()._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(20):
        assert await process.wait() == 0


async def test_a_process_whose_service_is_gone_ends_itself_when_a_file_takes_too_long(
    make_media: Any, faulty: Callable[[str], tuple[str, ...]]
) -> None:
    command = faulty("time.sleep(60)")
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(frame(request(make_media("bad.png", picture()), BOTH, -4)))
    process.stdin.close()  # with its five seconds of grace it has one
    async with asyncio.timeout(20):
        assert await process.wait() == -signal.SIGALRM


async def test_a_process_that_cannot_be_started_is_an_error_of_ours(make_media: Any) -> None:
    async with running(command=("/nonexistent/python",)) as worker:
        with pytest.raises(MediasyncError) as caught:
            await worker.process(make_media("a.png", picture()), BOTH)
        assert caught.value.reason is Reason.INTERNAL


async def test_a_stage_that_fails_is_logged_once_with_its_traceback(
    tmp_path: Path, make_media: Any, caplog: pytest.LogCaptureFixture
) -> None:
    file = make_media("a.png", picture())
    (tmp_path / "a.png").unlink()
    async with running() as worker:
        with caplog.at_level(logging.ERROR):
            facts = await worker.process(file, ("validate",))
    assert facts.invalid is not None
    assert facts.invalid.reason is Reason.LIBRARY_IO
    (record,) = caplog.records
    assert "FileNotFoundError" in record.__dict__["details"]


def test_the_worker_process_imports_no_grpc_and_no_database() -> None:
    heavy = ("grpc", "google.protobuf", "sqlalchemy", "asyncssh", "asyncio", "pydantic")
    code = f"import sys, services.transfer.pipeline.worker_process; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_requests_and_answers_survive_the_way(make_media: Any) -> None:
    file = MediaFile(b"/lib/\xff.png", b"\xff.png", 12, 34, True)
    assert parse_request(request(file, ("a",), 1.5)) == (file, ["a"], 1.5)
    metadata = GenerationMetadata("X", seed=2**64 - 1, loras=("a",), fields=(("b", "c"),), prompt_json=b"\xff{}")
    run = StageRun(
        MediaFacts("image/png", 1, 2, 0.5, metadata, problem_with(file, "is odd")), [StageFailure("s", file.library_path, "why")]
    )
    assert frame(response(run))[:4] == len(frame(response(run))[4:]).to_bytes(4, "big")
    assert parse_response(response(run), file) == run


@pytest.mark.parametrize("change", [{"width": "1"}, {"media_type": None}, {"metadata": {"seed": "1"}}, {"metadata": {"loras": [1]}}])
def test_an_answer_of_other_types_is_refused(change: dict[str, Any]) -> None:
    answer = response(StageRun(MediaFacts(metadata=GenerationMetadata())))
    metadata = change.get("metadata")
    answer |= {"metadata": {**answer["metadata"], **metadata}} if metadata else change  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        parse_response(answer, MediaFile(b"/a", b"a", 1))


def test_facts_become_a_record_and_metadata_comes_back_the_same(make_media: Any) -> None:
    run = run_stages(make_media("a.png", png(text_chunk("parameters", FORGE_TEXT.replace("3141592653", str(2**64 - 1))))), STAGES)
    record = pb.FileRecord()
    facts_to_pb(run.facts, record)
    assert (record.media_type, record.width, record.height) == ("image/png", 48, 32)
    assert record.metadata.seed == 2**64 - 1
    assert metadata_from_pb(record.metadata) == run.facts.metadata
    assert not record.HasField("invalid")
    assert metadata_from_pb(pb.GenerationMetadata()) == GenerationMetadata()


def test_an_invalid_file_becomes_a_record_with_its_problem(make_media: Any) -> None:
    record = pb.FileRecord(media_type="image/png")
    facts_to_pb(run_stages(make_media("a.png", b""), select(("validate",))).facts, record)
    assert (record.invalid.reason, record.invalid.path.raw) == ("FILE_INVALID", b"a.png")
    assert not record.HasField("metadata")
