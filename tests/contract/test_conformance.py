"""Every fault that a subscriber may have is found by the play that was made for it, and a good one is not blamed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from mediasync.conformance import Played, perform, plays
from mediasync.runtime.channels import open_channel
from mediasync.v1 import media_ingest_pb2 as pb
from mediasync.v1.media_ingest_pb2_grpc import MediaIngestServicer, MediaIngestStub, add_MediaIngestServicer_to_server

ACCEPTED = pb.EVENT_VERDICT_ACCEPTED


class Good(MediaIngestServicer):
    """Keeps what the contract says, in memory that stands for a disk. Subclasses have one fault each."""

    message_limit_bytes = 32 << 20

    def __init__(self) -> None:
        self.files: dict[tuple[str, bytes], bytes] = {}
        self.ids: set[str] = set()

    def restarted(self) -> None:
        """What is left after a restart."""

    def take(self, event: pb.Event) -> int:
        self.ids.add(event.event_id)
        if event.HasField("file") and event.type in (1, 2, 3):
            self.put(event)
        return ACCEPTED

    def put(self, event: pb.Event) -> None:
        if event.file.HasField("moved_from"):
            self.files.pop((event.file.library_root, self.name(event.file.moved_from.raw)), None)
        self.files[event.file.library_root, self.name(event.file.library_path.raw)] = event.file.digest.value

    def name(self, path: bytes) -> bytes:
        return path

    def answer(self, events: Iterable[pb.Event]) -> list[pb.EventResult]:
        return [pb.EventResult(event_id=event.event_id, verdict=self.take(event)) for event in events]  # type: ignore[arg-type]

    def exists(self, request: pb.VerifyFileExistsRequest) -> bool:
        name, wanted = self.name(request.library_path.raw), request.digest.value
        found = [sha for (root, path), sha in self.files.items() if path == name and request.library_root in ("", root)]
        return any(wanted in (b"", sha) for sha in found)

    async def OnBatchSynced(self, request: Any, context: Any) -> pb.OnBatchSyncedResponse:
        return pb.OnBatchSyncedResponse(results=self.answer(request.events))

    async def OnSyncComplete(self, request: Any, context: Any) -> pb.OnSyncCompleteResponse:
        return pb.OnSyncCompleteResponse(result=self.answer([request.event])[0])

    async def VerifyFileExists(self, request: Any, context: Any) -> pb.VerifyFileExistsResponse:
        return pb.VerifyFileExistsResponse(exists=self.exists(request))

    async def VerifyFilesExist(self, request: Any, context: Any) -> pb.VerifyFilesExistResponse:
        return pb.VerifyFilesExistResponse(exists=[self.exists(file) for file in request.files])


class OneByOne(Good):
    """Takes no batches."""

    OnBatchSynced = MediaIngestServicer.OnBatchSynced  # type: ignore[assignment]

    async def OnFileSynced(self, request: Any, context: Any) -> pb.OnFileSyncedResponse:
        return pb.OnFileSyncedResponse(result=self.answer([request.event])[0])

    async def OnFileProcessed(self, request: Any, context: Any) -> pb.OnFileProcessedResponse:
        return pb.OnFileProcessedResponse(result=self.answer([request.event])[0])


class Blind(Good):
    """Says nothing of what it has."""

    VerifyFileExists = MediaIngestServicer.VerifyFileExists  # type: ignore[assignment]
    VerifyFilesExist = MediaIngestServicer.VerifyFilesExist  # type: ignore[assignment]


class ForgetsDuplicates(Good):
    def answer(self, events: Iterable[pb.Event]) -> list[pb.EventResult]:
        return super().answer([event for event in events if event.event_id not in self.ids])


class RejectsDuplicates(Good):
    def take(self, event: pb.Event) -> int:
        return pb.EVENT_VERDICT_REJECTED if event.event_id in self.ids else super().take(event)


class IsNotIdempotent(Good):
    def take(self, event: pb.Event) -> int:
        if event.event_id in self.ids:
            raise KeyError(f"UNIQUE constraint failed: {event.event_id}")
        return super().take(event)


class DropsOddNames(Good):
    def put(self, event: pb.Event) -> None:
        if event.file.library_path.raw.isascii():
            super().put(event)


class DecodesNames(Good):
    def name(self, path: bytes) -> bytes:
        return path.decode("utf-8", "replace").encode()


class AnswersTooFew(Good):
    def answer(self, events: Iterable[pb.Event]) -> list[pb.EventResult]:
        answers = super().answer(events)
        return answers[:-1] if len(answers) > 1 else answers


class AnswersForUnknownIds(Good):
    def answer(self, events: Iterable[pb.Event]) -> list[pb.EventResult]:
        return [*super().answer(events), pb.EventResult(event_id="never-heard-of", verdict=ACCEPTED)]


class ChokesOnLargeMessages(Good):
    message_limit_bytes = 4 << 20  # gRPC's own


class BreaksOrder(Good):
    def answer(self, events: Iterable[pb.Event]) -> list[pb.EventResult]:
        return super().answer(reversed(list(events)))


class KeepsTheFirstContent(Good):
    def put(self, event: pb.Event) -> None:
        if (event.file.library_root, event.file.library_path.raw) not in self.files:
            super().put(event)


class SkipsLowerSequenceNumbers(Good):
    highest = 0

    def put(self, event: pb.Event) -> None:
        if event.sequence >= self.highest:
            self.highest = event.sequence
            super().put(event)


class ForgetsWhatWasDeletedAtItsSource(Good):
    def put(self, event: pb.Event) -> None:
        super().put(event)
        if event.type == pb.EVENT_TYPE_FILE_DELETED:
            self.files.clear()


class NeedsTheBeginning(Good):
    def put(self, event: pb.Event) -> None:
        if event.type != 1 and (event.file.library_root, event.file.library_path.raw) not in self.files:
            raise KeyError(event.file.library_path.raw)
        super().put(event)


class RejectsWhatItDoesNotKnow(Good):
    def take(self, event: pb.Event) -> int:
        return super().take(event) if event.type in (1, 2, 3, 4, 5) else pb.EVENT_VERDICT_REJECTED


class NeedsAFile(Good):
    def take(self, event: pb.Event) -> int:
        return super().take(event) if event.HasField("file") else pb.EVENT_VERDICT_RETRY


class SaysYesToEverything(Good):
    def exists(self, request: pb.VerifyFileExistsRequest) -> bool:
        return True


class CountsWrong(Good):
    async def VerifyFilesExist(self, request: Any, context: Any) -> pb.VerifyFilesExistResponse:
        return pb.VerifyFilesExistResponse(exists=[True])


class LosesOnRestart(Good):
    def restarted(self) -> None:
        self.files.clear()


class Slow(Good):
    async def VerifyFileExists(self, request: Any, context: Any) -> pb.VerifyFileExistsResponse:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the database is locked")


class TakesNothing(MediaIngestServicer):
    message_limit_bytes = 32 << 20

    def restarted(self) -> None:
        pass


class Stage:
    """Serves one subscriber after the other on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        self._address = f"unix:{folder}/subscriber.sock"

    async def play(self, subscriber: Any, *names: str) -> list[Played]:
        """All plays, or those whose functions are named."""
        chosen = [(name, play) for name, play in plays.PLAYS if not names or play.__name__ in names]

        async def restart() -> None:
            subscriber.restarted()

        server = grpc.aio.server(options=[("grpc.max_receive_message_length", subscriber.message_limit_bytes)])
        add_MediaIngestServicer_to_server(subscriber, server)
        server.add_insecure_port(self._address)
        await server.start()
        try:
            async with open_channel(self._address) as channel:
                return [one async for one in perform(MediaIngestStub(channel), chosen, b"mediasync-check/", restart)]
        finally:
            await server.stop(None)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    yield Stage(tmp_path)


@pytest.mark.parametrize("good", [Good, OneByOne, Blind])
async def test_a_good_subscriber_is_not_blamed_for_what_it_leaves_out(stage: Stage, good: type[Good]) -> None:
    played = await stage.play(good())
    assert [one for one in played if one.ok is False] == []
    assert [one.ok for one in played].count(None) == (1 if good is OneByOne else 0)
    assert any("VerifyFileExists is not implemented" in one.problem for one in played) == (good is Blind)


@pytest.mark.parametrize(
    ("faulty", "play", "words"),
    [
        (ForgetsDuplicates, "repetitions", "no result for"),
        (RejectsDuplicates, "repetitions", "REJECTED for a valid event about 'mediasync-check/01/a.png'"),
        (IsNotIdempotent, "repetitions", "failed with UNKNOWN: Unexpected <class 'KeyError'>: 'UNIQUE constraint"),
        (DropsOddNames, "odd_names", "is not on record"),
        (DecodesNames, "odd_names", "a name that looks alike"),
        (AnswersTooFew, "a_batch", "no result for 1 of 50 events"),
        (AnswersForUnknownIds, "every_call", "answered for never-heard-of"),
        (ChokesOnLargeMessages, "odd_metadata_of_any_size", "grpc.max_receive_message_length"),
        (BreaksOrder, "other_content", "in one call"),
        (KeepsTheFirstContent, "other_content", "in one call"),
        (SkipsLowerSequenceNumbers, "reordered_between_files", "higher sequence numbers had come before"),
        (SkipsLowerSequenceNumbers, "events_made_again", "sequence 0"),
        (ForgetsWhatWasDeletedAtItsSource, "the_life_of_a_file", "the library keeps it"),
        (NeedsTheBeginning, "no_beginning", "an exception in its code"),
        (RejectsWhatItDoesNotKnow, "a_later_version", "REJECTED for a valid event"),
        (NeedsAFile, "a_folder_has_landed", "RETRY for a valid event"),
        (SaysYesToEverything, "told_apart", "before anybody told of it"),
        (CountsWrong, "many_questions", "1 answers to 16 questions"),
        (LosesOnRestart, "a_restart", "after a restart"),
        (Slow, "a_batch", "VerifyFileExists failed with DEADLINE_EXCEEDED: the database is locked"),
        (TakesNothing, "every_call", "implements no call"),
    ],
)
async def test_a_fault_is_found_by_the_play_that_was_made_for_it(stage: Stage, faulty: type[Any], play: str, words: str) -> None:
    (played,) = await stage.play(faulty(), play)
    assert played.ok is False
    assert words in played.problem


async def test_what_is_no_fault_is_advice(stage: Stage) -> None:
    class OneLibrary(Good):
        def put(self, event: pb.Event) -> None:
            self.files["", self.name(event.file.library_path.raw)] = event.file.digest.value

    one, two = await stage.play(OneLibrary(), "a_moved_file", "two_libraries")
    assert one.ok and "look at `file.moved_from`" in one.problem
    assert two.ok and "keep `library_root` too" in two.problem


async def test_what_is_left_behind_is_told_as_deleted_at_its_source(stage: Stage) -> None:
    told: list[pb.Event] = []

    class Listening(Good):
        def take(self, event: pb.Event) -> int:
            told.append(event)
            return super().take(event)

    await stage.play(Listening(), "odd_names", "a_restart")
    ended = {event.file.library_path.raw for event in told if event.type == pb.EVENT_TYPE_FILE_DELETED}
    assert ended == {event.file.library_path.raw for event in told}
    assert all(path.startswith((b"mediasync-check/01/", b"mediasync-check/02/")) for path in ended)
