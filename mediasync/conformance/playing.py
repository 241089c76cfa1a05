"""How plays are performed: calls as the services make them, answers held against the contract.

A play is told as failed with the first thing that went wrong in it; what it would have found after that is not looked for. A call that is
not implemented cannot be wrong. Without VerifyFileExists nobody can say what is on record, so that a subscriber that accepts everything and
keeps nothing is not found out; the plays say so.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from mediasync.conformance.events import DELETED, PROCESSED, SYNCED, Events
from mediasync.convert import file_path
from mediasync.ids import event_id
from mediasync.paths import display
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1 import types_pb2

LIBRARY = "/mediasync-check"
CALL_SECONDS = 30.0  # what the services give a call, too
_BACK_SECONDS = 60.0
_PAUSE_SECONDS = 0.02
ONE_BY_ONE: dict[int, tuple[str, Any]] = {
    SYNCED: ("OnFileSynced", pb.OnFileSyncedRequest),
    PROCESSED: ("OnFileProcessed", pb.OnFileProcessedRequest),
    DELETED: ("OnFileDeleted", pb.OnFileDeletedRequest),
    pb.EVENT_TYPE_SYNC_COMPLETE: ("OnSyncComplete", pb.OnSyncCompleteRequest),
}
_ADVICE = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: "; allow messages of 32 MiB: `grpc.max_receive_message_length` of the server",
    grpc.StatusCode.UNAVAILABLE: "; was it ended, or did it crash?",
    grpc.StatusCode.UNKNOWN: "; that is what an exception in its code looks like",
    grpc.StatusCode.DEADLINE_EXCEEDED: f"; the services wait {CALL_SECONDS:.0f} s",
}


class ConformanceError(Exception):
    """The subscriber does not do what the contract says; the text says what."""


class NotPlayedError(Exception):
    """There is nothing to hold against the contract; the text says why."""


@dataclass(frozen=True)
class Played:
    """How a play went. `ok` is None where it could not be played. `problem` is why, or what went wrong; where all is well it is advice."""

    name: str
    ok: bool | None
    problem: str = ""


Play = Callable[["Part"], Awaitable[str | None]]


class Part:
    """The subscriber's part in one play: what it is told, and what it is asked. Every play has a folder of its own."""

    def __init__(self, stub: Any, folder: bytes, restart: Callable[[], Awaitable[None]] | None = None) -> None:
        self.make = Events(folder, library_root=LIBRARY, sync_id=f"sync_20260921_120000_{event_id(folder)[:8]}")
        self.told: dict[bytes, pb.Event] = {}
        self.blind = False  # it does not say what it has on record
        self.gone = False  # it was not there when it was called last
        self._stub = stub
        self._restart = restart

    async def call(self, name: str, request: Any) -> Any:
        """The answer; None where the call is not implemented. Raises ConformanceError where it fails."""
        try:
            return await getattr(self._stub, name)(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            self.gone = error.code() is grpc.StatusCode.UNAVAILABLE
            said = display((error.details() or "no details")[:300].encode("utf-8", "replace"))
            raise ConformanceError(f"{name} failed with {error.code().name}: {said}{_ADVICE.get(error.code(), '')}") from None

    async def tell(self, *events: pb.Event) -> None:
        """Offers events, which have to be accepted: in one call, or one by one where it takes no batches."""
        for event in events:
            if event.HasField("file"):
                self.told[event.file.library_path.raw] = event
        response = await self.call("OnBatchSynced", pb.OnBatchSyncedRequest(events=events))
        if response is not None:
            check_answer("OnBatchSynced", events, response.results)
            return
        for event in events:
            await self.tell_alone(event)

    async def tell_alone(self, event: pb.Event) -> bool:
        """Offers an event by the call that is made for its type; False where that is not implemented, or there is none."""
        if event.type not in ONE_BY_ONE:
            return False
        name, request = ONE_BY_ONE[event.type]
        response = await self.call(name, request(event=event))
        if response is None:
            return False
        check_answer(name, [event], [response.result] if response.HasField("result") else [])
        return True

    async def knows(self, name: bytes, content: pb.Event | None = None, library_root: str = "") -> bool | None:
        """Whether the file is on record, with the content that an event told of; None where it is not to be asked."""
        response = await self.call("VerifyFileExists", self.question(name, content, library_root))
        self.blind = self.blind or response is None
        return None if response is None else bool(response.exists)

    async def must_know(self, name: bytes, content: pb.Event | None = None, when: str = "") -> None:
        """Raises ConformanceError where the file is not on record."""
        if await self.knows(name, content) is False:
            what = f"{display(name)[:80]!r} is not on record{' with its hash' if content else ''}"
            raise ConformanceError(f"VerifyFileExists: {what}{when and f' {when}'}, although its events were accepted")

    async def must_not_know(self, name: bytes, content: pb.Event | None = None, why: str = "") -> None:
        """Raises ConformanceError where the file is on record."""
        if await self.knows(name, content):
            raise ConformanceError(f"VerifyFileExists: {display(name)[:80]!r} is said to be on record{why and f' {why}'}")

    def question(self, name: bytes, content: pb.Event | None = None, library_root: str = "") -> pb.VerifyFileExistsRequest:
        """Asks for a file of this play."""
        digest = None if content is None else content.file.digest
        return pb.VerifyFileExistsRequest(library_path=file_path(self.make.path(name)), digest=digest, library_root=library_root)

    async def restarted(self) -> None:
        """Waits until it was ended and is there again. Raises NotPlayedError where nobody can do that."""
        if self._restart is None:
            raise NotPlayedError("nobody could restart it")
        await self._restart()
        if not await self.is_back():
            raise ConformanceError(f"it was not back {_BACK_SECONDS:.0f} s after it was restarted")

    async def is_back(self) -> bool:
        """Waits until it is there."""
        deadline = time.monotonic() + _BACK_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                await self._stub.VerifyFileExists(self.question(b""), timeout=left, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    # The connection to the one that has ended just now.
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                return error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
            return True
        return False

    async def clear(self) -> None:
        """Says that everything that this play told of was deleted at its source. How that is answered was looked at in a play."""
        if not self.told:
            return
        ended = [pb.Event.FromString(event.SerializeToString()) for event in self.told.values()]
        for event in ended:
            event.type, event.event_id = DELETED, f"end-{event.event_id[:32]}"
            event.file.ClearField("metadata")
            event.file.ClearField("moved_from")
        try:
            await self.tell(*ended)
        except ConformanceError:
            return


def check_answer(call: str, events: Sequence[pb.Event], results: Sequence[pb.EventResult]) -> None:
    """Raises ConformanceError unless every event was accepted, by one result each."""
    wanted = Counter(event.event_id for event in events)
    # With one event there is no doubt which one is meant.
    answered = Counter(result.event_id or (events[0].event_id if len(events) == 1 else "") for result in results)
    if unknown := [one for one in answered if one not in wanted]:
        raise ConformanceError(
            f"{call} answered for {display(unknown[0][:64].encode()) or 'an empty id'}, an event that it was not asked about"
        )
    if missing := [one for one in wanted if one not in answered]:
        of = f"{len(missing)} of {len(wanted)} events" if len(wanted) > 1 else "the event"
        raise ConformanceError(f"{call} gave no result for {of}, such as {missing[0]}; without one an event comes again")
    if repeated := [one for one, count in answered.items() if count > wanted[one]]:
        raise ConformanceError(f"{call} answered more than once for {repeated[0]}")
    for result in results:
        if result.verdict != pb.EVENT_VERDICT_ACCEPTED:
            said = pb.EventVerdict.Name(result.verdict) if result.verdict in pb.EventVerdict.values() else str(int(result.verdict))
            why = display(result.reason[:200].encode("utf-8", "replace")) or "no reason given"
            event = next((event for event in events if event.event_id == result.event_id), events[0])
            about = f" about {display(event.file.library_path.raw)[:80]!r}" if event.HasField("file") else ""
            raise ConformanceError(f"{call}: {said.removeprefix('EVENT_VERDICT_')} for a valid event{about}: {why}")


def digest(value: bytes) -> types_pb2.Digest:
    """A SHA-256 hash."""
    return types_pb2.Digest(algorithm=types_pb2.DIGEST_ALGORITHM_SHA256, value=value)


async def perform(
    stub: Any, plays: Sequence[tuple[str, Play]], folder: bytes, restart: Callable[[], Awaitable[None]] | None = None
) -> AsyncGenerator[Played, None]:
    """Performs plays one after the other with the `MediaIngest` behind `stub`, in folders below `folder`. What it left there is told as
    deleted in the end. Of one that goes away and does not come back the rest is not played."""
    part: Part | None = None
    for number, (name, play) in enumerate(plays, 1):
        if part is not None and part.gone and not await part.is_back():
            yield Played(name, None, "it is not there any more")
            continue
        part = Part(stub, folder + b"%02d/" % number, restart)
        try:
            advice = await play(part) or ("only its answers were looked at, as VerifyFileExists is not implemented" if part.blind else "")
            yield Played(name, True, advice)
        except ConformanceError as wrong:
            yield Played(name, False, str(wrong))
        except NotPlayedError as why:
            yield Played(name, None, str(why))
        await part.clear()
