"""The Cleanup service over gRPC: plans in pages, a run as a stream, the journal, and why a file is gone or still there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mediasync import convert
from mediasync.convert import deletions
from mediasync.convert.cleaning import cleanup_summary_from_pb
from mediasync.errors import MediasyncError, Reason
from mediasync.model import DeletionOutcome, KeptReason, SyncSpec
from mediasync.runtime.channels import open_channel, rpc_errors
from mediasync.runtime.home import Home
from mediasync.runtime.service import Service
from mediasync.sources.base import Source
from mediasync.sources.factory import open_source
from mediasync.v1 import cleanup_pb2 as pb
from mediasync.v1 import cleanup_pb2_grpc
from services.cleanup.attempt import Tools
from services.cleanup.explaining import Explainer
from services.cleanup.history_store import History
from services.cleanup.plan_store import PlanStore
from services.cleanup.previews import Previews
from services.cleanup.runs import Runs
from services.cleanup.servicer import CleanupServicer
from services.cleanup.verification import READERS, CopyCheck
from tests.fixtures.cleanup import CleanupPlace, away


@dataclass
class Served:
    """The service, and a client's stub. While `hold` is not set, connecting takes for ever; `connecting` says that it began."""

    stub: Any
    runs: Runs
    hold: asyncio.Event
    connecting: asyncio.Event


@pytest.fixture
async def served(place: CleanupPlace) -> AsyncIterator[Served]:
    hold, connecting = asyncio.Event(), asyncio.Event()
    hold.set()

    class Held:
        def __init__(self, source: Source) -> None:
            self._source = source

        async def connect(self) -> Any:
            connecting.set()
            await hold.wait()
            return await self._source.connect()

    def source_of(spec: SyncSpec) -> Any:
        return Held(open_source(spec.source, home=place.folder / "home"))

    async def nothing() -> None:
        pass

    with ThreadPoolExecutor(READERS) as readers:
        plans, history = PlanStore(place.database), History(place.database)
        tools = Tools(place.journal, plans, place.transfer, lambda library, _: CopyCheck(library.root, library.uuid, readers), nothing)
        runs = Runs(tools, source_of, nothing)
        service = Service("cleanup", Home(place.folder / "home"))
        service.home.prepare()
        servicer = CleanupServicer(
            runs, Previews(plans, place.transfer, source_of), Explainer(history, place.transfer, source_of), place.journal, history
        )
        service.add(cleanup_pb2_grpc.add_CleanupServicer_to_server, servicer, "mediasync.v1.Cleanup")
        await service.start()
        channel = open_channel(service.home.socket_address("cleanup"))
        try:
            yield Served(cleanup_pb2_grpc.CleanupStub(channel), runs, hold, connecting)
        finally:
            hold.set()
            await channel.close()
            await service.stop(0)
            await runs.close()


async def _called(call: Any) -> Any:
    with rpc_errors("the cleanup service"):
        return await call


async def _ran(served: Served, spec: SyncSpec, sync_id: str = "sync_1") -> list[pb.RunCleanupResponse]:
    request = pb.RunCleanupRequest(sync_id=sync_id, job_id="job_1", spec=convert.spec_to_pb(spec))
    with rpc_errors("the cleanup service"):
        return [event async for event in served.stub.RunCleanup(request)]


async def test_a_plan_comes_in_pages_and_is_what_a_run_does(place: CleanupPlace, served: Served) -> None:
    for number in range(7):
        place.synced(f"{number}.png", days=20 - number)
    place.write("new.png")
    asked = pb.PlanCleanupRequest(spec=convert.spec_to_pb(place.spec()), page_size=3)
    pages = [await _called(served.stub.PlanCleanup(asked))]
    while pages[-1].next_page_token:
        pages.append(await _called(served.stub.PlanCleanup(pb.PlanCleanupRequest(page_size=3, page_token=pages[-1].next_page_token))))
    assert len(pages) == 3 and [page.HasField("plan") for page in pages] == [True, False, False]
    plan = deletions.plan_from_pb(pages[0].plan)
    assert (plan.summary.files_deleted, plan.summary.files_kept, plan.summary.dry_run) == (7, 1, True)
    files = [deletions.planned_file_from_pb(file) for page in pages for file in page.files]
    assert [file.path for file in files] == [*(f"{number}.png".encode() for number in range(7)), b"new.png"]
    assert [file.kept for file in files] == [None] * 7 + [KeptReason.NOT_SYNCED]
    assert len(place.left()) == 8
    events = await _ran(served, place.spec(plan_id=pages[0].plan_id))
    assert cleanup_summary_from_pb(events[-1].done).files_deleted == 7
    assert place.left() == ["new.png"]


async def test_a_run_is_a_stream_that_ends_with_what_it_did(place: CleanupPlace, served: Served) -> None:
    for number in range(5):
        place.synced(f"{number}.png")
    events = await _ran(served, place.spec())
    progress = [event.progress for event in events if event.HasField("progress")]
    assert progress and progress[-1].files_done == progress[-1].files_total == 5
    done = cleanup_summary_from_pb(events[-1].done)
    assert done.files_deleted == 5
    for known in ("sync_1", "job_1"):
        run = deletions.run_from_pb((await _called(served.stub.GetCleanup(pb.GetCleanupRequest(sync_id=known)))).run)
        assert run.ended and not run.active and run.summary == done
    page = await _called(served.stub.ListDeletions(pb.ListDeletionsRequest(page_size=3, source="box")))
    rest = await _called(served.stub.ListDeletions(pb.ListDeletionsRequest(page_token=page.next_page_token, source="box")))
    listed = [deletions.deletion_from_pb(item) for item in (*page.deletions, *rest.deletions)]
    assert len(page.deletions) == 3 and {item.path for item in listed} == {f"{number}.png".encode() for number in range(5)}
    assert {(item.outcome, item.sync_id, item.library_path == item.path) for item in listed} == {(DeletionOutcome.DELETED, "sync_1", True)}
    only = await _called(served.stub.ListDeletions(pb.ListDeletionsRequest(path="3.*")))
    assert [item.path.raw for item in only.deletions] == [b"3.png"]


async def test_a_run_whose_caller_is_gone_is_at_work_until_it_has_ended(place: CleanupPlace, served: Served) -> None:
    place.synced("a.png")
    served.hold.clear()
    call = served.stub.RunCleanup(pb.RunCleanupRequest(sync_id="sync_1", job_id="job_1", spec=convert.spec_to_pb(place.spec())))
    await served.connecting.wait()
    with pytest.raises(MediasyncError) as caught:
        await _ran(served, place.spec(), "sync_2")
    assert caught.value.reason is Reason.CLEANUP_BUSY
    call.cancel()
    run = await _called(served.stub.GetCleanup(pb.GetCleanupRequest(sync_id="sync_1")))
    assert run.run.active and run.run.state == pb.CLEANUP_STATE_RUNNING
    again = asyncio.create_task(_ran(served, place.spec()))
    served.hold.set()
    assert cleanup_summary_from_pb((await again)[-1].done).files_deleted == 1


async def test_why_a_file_is_there_or_gone(place: CleanupPlace, served: Served) -> None:
    place.synced("gone.png")
    await _ran(served, place.spec())
    place.synced("young.png", days=0.1)
    spec = convert.spec_to_pb(place.spec())

    async def why(path: str) -> Any:
        request = pb.CleanupExplainFileRequest(spec=spec, path=convert.file_path(path.encode()))
        return deletions.explanation_from_pb((await _called(served.stub.ExplainFile(request))).explanation)

    gone = await why("gone.png")
    assert gone.present is False and gone.planned is None and gone.problem is None
    assert [(item.outcome, item.cause) for item in gone.deletions] == [(DeletionOutcome.DELETED, "older than 24 h")]
    assert (gone.library_path, gone.library_root) == (b"gone.png", str(place.library))
    there = await why("young.png")
    assert there.present and there.planned is not None and there.planned.kept is KeptReason.TOO_YOUNG
    never = await why("never.png")
    assert never.present is False and never.deletions == ()
    place.transfer.wrong = away()
    unknown = await why("gone.png")
    assert unknown.present is None and unknown.problem is not None and unknown.problem.reason is Reason.SERVICES_UNREACHABLE
    assert len(unknown.deletions) == 1
    with pytest.raises(MediasyncError, match="path is not usable"):
        await why("../etc/passwd")


async def test_what_is_asked_wrongly_is_refused_with_its_name(place: CleanupPlace, served: Served) -> None:
    spec = convert.spec_to_pb(place.spec())
    bare = convert.spec_to_pb(replace(place.spec(), cleanup=None))
    for call, said in (
        (served.stub.PlanCleanup(pb.PlanCleanupRequest(spec=bare)), "spec.cleanup"),
        (served.stub.PlanCleanup(pb.PlanCleanupRequest(spec=spec, page_size=-1)), "page_size"),
        (served.stub.PlanCleanup(pb.PlanCleanupRequest(page_token="x")), "page_token"),
        (served.stub.ListDeletions(pb.ListDeletionsRequest(path="[")), "path"),
        (served.stub.ListDeletions(pb.ListDeletionsRequest(page_size=-1)), "page_size"),
    ):
        with pytest.raises(MediasyncError, match=said) as caught:
            await _called(call)
        assert caught.value.reason is Reason.INVALID_ARGUMENT
    with pytest.raises(MediasyncError, match="sync_id"):
        await _ran(served, place.spec(), "")
    with pytest.raises(MediasyncError) as caught:
        await _called(served.stub.GetCleanup(pb.GetCleanupRequest(sync_id="nobody")))
    assert caught.value.reason is Reason.CLEANUP_NOT_FOUND
    with pytest.raises(MediasyncError) as caught:
        await _ran(served, place.spec(verify_synced=False))
    assert caught.value.reason is Reason.CLEANUP_UNVERIFIED
