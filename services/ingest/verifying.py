"""Asks a subscriber about every file of the libraries, and sends it what it lacks.

Every file that it is told of by its filter, page by page: what the catalog knows, and for the catalog itself what the
libraries' indexes have. A file whose event is in the log and not dealt with is on its way and not lacking. What is sent is made from what
the catalog knows (`synthetic`), with ids that are new each time: one who keeps the ids of what came would pass over those that it had.

Not found: what a subscriber has and the libraries do not. Of a file that lands in these very moments the catalog may be said to lack it;
that it is then told twice does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.v1 import catalog_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from services.ingest.events import EventKind, LoggedEvent, Subscription, SubscriptionPosition
from services.ingest.filtering import wanted_of
from services.ingest.log import EventLog
from services.ingest.publishing import file_key
from services.ingest.store import EventStore
from services.ingest.subscriber import AskedFile, CallFailed, Failure, Subscriber
from services.ingest.synthetic import events_of

FILES_A_CALL = 500
CALLS_AT_ONCE = 16
_EVENTS_A_FILE = 4
_OF_FILES = frozenset({EventKind.FILE_SYNCED, EventKind.FILE_PROCESSED})


@dataclass(frozen=True)
class Progress:
    """How far a verify is."""

    files_asked: int
    files_lacking: int


@dataclass(frozen=True)
class Done:
    """What a verify came to; `files_sent` are on their way to the subscriber."""

    files_asked: int
    files_lacking: int
    files_sent: int


Found = Progress | pb.FileRecord | Done
"""What a verify says, in this order and again and again: files that are lacking, how far it is; in the end what it came to."""


class Followed(Protocol):
    """Who is asked, and how far it is."""

    subscription: Subscription
    position: SubscriptionPosition


Libraries = Callable[[str], AsyncGenerator[Sequence[catalog_pb2.CatalogFile], None]]
"""Every file of a library, or of all of them where its root is empty. Raises SERVICES_UNREACHABLE."""


class Verifier:
    """Verifies subscriptions, several at once too. `connect` opens a way of its own to each; `sent` is told that something came into the
    queue of a subscription."""

    def __init__(
        self, store: EventStore, log: EventLog, connect: Callable[[Subscription], Subscriber], sent: Callable[[str], Awaitable[None]]
    ) -> None:
        self._store = store
        self._log = log
        self._connect = connect
        self._sent = sent

    async def verify(self, asked: Followed, libraries: Libraries, library_root: str, *, repair: bool) -> AsyncGenerator[Found, None]:
        """Raises SUBSCRIPTION_WRONG_KIND for one that cannot be called, SUBSCRIBER_UNREACHABLE, SUBSCRIBER_MISBEHAVES, and
        SERVICES_UNREACHABLE when it cannot be said which files there are."""
        subscription = asked.subscription
        name = subscription.name
        if subscription.pull:
            raise MediasyncError(
                Reason.SUBSCRIPTION_WRONG_KIND,
                f"the subscription {name!r} is read by its reader, so that there is nobody to ask",
                f"Fill it again: `mediasync events replay --subscriber {name} --from snapshot`.",
            )
        occasion = ("repair", name, new_request_id())
        subscriber = self._connect(subscription)
        questions = _Questions(subscriber, name)
        counted = lacking_count = sent = 0
        try:
            async with contextlib.aclosing(libraries(library_root)) as pages:
                async for page in pages:
                    files = [file for file in page if _wanted(file, subscription)]
                    for start in range(0, len(files), FILES_A_CALL):
                        some = files[start : start + FILES_A_CALL]
                        lacking = await self._lacking(asked, questions, some)
                        if repair and lacking:
                            events = [event for file in lacking for event in events_of(file, *occasion)]
                            await self._store.put_side_events(name, wanted_of(events, subscription.filter))
                            sent += len(lacking)
                        counted += len(some)
                        lacking_count += len(lacking)
                        for file in lacking:
                            yield _light(file.file)
                        yield Progress(counted, lacking_count)
        finally:
            await subscriber.close()
            if sent:
                await self._sent(name)
        yield Done(counted, lacking_count, sent)

    async def _lacking(
        self, asked: Followed, questions: _Questions, files: Sequence[catalog_pb2.CatalogFile]
    ) -> list[catalog_pb2.CatalogFile]:
        lacking = await questions.lacking(files)
        if lacking and asked.position.cursor < self._log.tail.value:
            lacking = await self._not_on_their_way(asked, lacking)
        if lacking and asked.position.cursor >= self._log.tail.value:
            # What landed while it was asked: it may have been told of it meanwhile.
            return await questions.lacking(lacking)
        return lacking

    async def _not_on_their_way(self, asked: Followed, files: list[catalog_pb2.CatalogFile]) -> list[catalog_pb2.CatalogFile]:
        keys = [file_key(file.file.library_root, file.file.library_path.raw) for file in files]
        events = await self._store.read_of_file(keys, asked.position.cursor, len(keys) * _EVENTS_A_FILE)
        coming = {part for event in events for part in _keys(event)}
        return [file for file, key in zip(files, keys, strict=True) if key not in coming]


class _Questions:
    """Asks one subscriber whether it has files: many at once where it knows that call."""

    def __init__(self, subscriber: Subscriber, name: str) -> None:
        self._subscriber = subscriber
        self._name = name
        self._many = True

    async def lacking(self, files: Sequence[catalog_pb2.CatalogFile]) -> list[catalog_pb2.CatalogFile]:
        """Those of `files` that it does not have."""
        asked = [AskedFile(file.file.library_path.raw, file.file.library_root, file.file.digest.value) for file in files]
        return [file for file, there in zip(files, await self._ask(asked), strict=True) if not there]

    async def _ask(self, files: Sequence[AskedFile]) -> Sequence[bool]:
        if not self._many:
            return await self._one_by_one(files)
        try:
            answer = await self._subscriber.hold(files)
        except CallFailed as error:
            if error.failure is Failure.UNIMPLEMENTED:
                self._many = False
                return await self._one_by_one(files)
            if error.failure is Failure.TOO_LARGE and len(files) > 1:
                half = len(files) // 2
                return [*await self._ask(files[:half]), *await self._ask(files[half:])]
            raise self._failed(error) from error
        if len(answer) != len(files):
            raise self._misbehaves(f"answered {len(answer)} times when it was asked about {len(files)} files")
        return answer

    async def _one_by_one(self, files: Sequence[AskedFile]) -> Sequence[bool]:
        answers: list[bool] = []
        for start in range(0, len(files), CALLS_AT_ONCE):
            calls = [self._subscriber.holds(file) for file in files[start : start + CALLS_AT_ONCE]]
            for answer in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(answer, CallFailed):
                    raise self._failed(answer) from answer
                if isinstance(answer, BaseException):
                    raise answer
                answers.append(answer)
        return answers

    def _failed(self, error: CallFailed) -> MediasyncError:
        if error.failure is Failure.UNIMPLEMENTED:
            return self._misbehaves("does not answer VerifyFileExists")
        if error.failure in (Failure.UNREACHABLE, Failure.BUSY):
            return MediasyncError(Reason.SUBSCRIBER_UNREACHABLE, f"the subscriber {self._name!r} gave no answer: {error}")
        return self._misbehaves(f"gave no answer: {error}")

    def _misbehaves(self, what: str) -> MediasyncError:
        return MediasyncError(Reason.SUBSCRIBER_MISBEHAVES, f"the subscriber {self._name!r} {what}")


def _wanted(file: catalog_pb2.CatalogFile, subscription: Subscription) -> bool:
    """Whether a subscription is told of that file."""
    wanted = subscription.filter
    if not wanted.kinds and wanted.plain:
        return True
    return any(event.kind in _OF_FILES for event in wanted_of(events_of(file), wanted))


def _light(record: pb.FileRecord) -> pb.FileRecord:
    """The file without what may be megabytes of what was found in it."""
    light = pb.FileRecord()
    light.CopyFrom(record)
    light.ClearField("metadata")
    return light


def _keys(event: LoggedEvent) -> list[bytes]:
    key = event.file_key
    return [key[start : start + 16] for start in range(0, len(key), 16)]
