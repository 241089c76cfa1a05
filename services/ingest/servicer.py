"""`Events` on the wire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

import grpc.aio

from mediasync.convert import event_bytes
from mediasync.runtime import paging
from mediasync.runtime.context import trace_parent
from mediasync.runtime.interceptors import DEFAULT_DEADLINE_SECONDS
from mediasync.v1 import events_pb2 as pb
from mediasync.v1 import types_pb2
from mediasync.v1.events_pb2_grpc import EventsServicer as EventsBase
from services.ingest import convert_subscriptions as convert
from services.ingest.convert import request_id_from_pb
from services.ingest.events import DEFAULT_BATCH_SIZE, MAX_BATCH_SIZE, DeadLetter
from services.ingest.library_client import LibraryClient
from services.ingest.log import EventLog
from services.ingest.publishing import events_from_request
from services.ingest.pulling import Page, open_stream
from services.ingest.replaying import Start, StartKind
from services.ingest.store import EventStore
from services.ingest.subscriptions import CATALOG, Subscriptions
from services.ingest.verifying import Verifier

MAX_PAGE_BYTES = 4 * 1024 * 1024
_ANSWER_SECONDS = 1.0
"""Left of a call's time to answer in."""


class EventsServicer(EventsBase):
    """Parses, calls the subscriptions, converts. `draining` ends streams."""

    def __init__(
        self,
        store: EventStore,
        log: EventLog,
        subscriptions: Subscriptions,
        verifier: Verifier,
        library: LibraryClient,
        draining: asyncio.Event,
    ) -> None:
        self._store = store
        self._log = log
        self._subscriptions = subscriptions
        self._verifier = verifier
        self._library = library
        self._draining = draining

    async def Publish(  # type: ignore[override]  # bytes: see registration
        self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        """Appends events."""
        events = events_from_request(request, trace_parent())
        return pb.EventsPublishResponse(sequences=await self._log.append(events) if events else []).SerializeToString()

    async def WaitDelivered(
        self, request: pb.WaitDeliveredRequest, context: grpc.aio.ServicerContext[pb.WaitDeliveredRequest, pb.WaitDeliveredResponse]
    ) -> pb.WaitDeliveredResponse:
        """Waits for a subscription; gRPC cancels it when the call's deadline passes."""
        return pb.WaitDeliveredResponse(cursor=await self._subscriptions.wait_delivered(request.subscription, request.sequence))

    async def WaitAccepted(
        self, request: pb.WaitAcceptedRequest, context: grpc.aio.ServicerContext[pb.WaitAcceptedRequest, pb.WaitAcceptedResponse]
    ) -> pb.WaitAcceptedResponse:
        """Waits for subscriptions, and says how they stand while there is time to say it."""
        if not request.sync_id:
            raise convert.invalid("sync_id", "set")
        remaining = context.time_remaining()
        seconds = (DEFAULT_DEADLINE_SECONDS if remaining is None else remaining) - _ANSWER_SECONDS
        found = await self._subscriptions.wait_accepted(list(dict.fromkeys(request.subscriptions)), request.sync_id, max(0.0, seconds))
        by_name = {one.subscription: convert.acceptance_to_pb(one) for one in found}
        return pb.WaitAcceptedResponse(subscriptions=[by_name[name] for name in request.subscriptions])

    async def AddSubscription(
        self, request: pb.AddSubscriptionRequest, context: grpc.aio.ServicerContext[pb.AddSubscriptionRequest, pb.AddSubscriptionResponse]
    ) -> pb.AddSubscriptionResponse:
        """Adds a subscription."""
        request_id = request_id_from_pb(request.request_id)
        subscription = convert.subscription_from_pb(request.subscription)
        start = convert.start_from_pb(request.start)
        if start.kind is StartKind.NEXT and request.from_beginning:
            start = Start(StartKind.BEGINNING)
        status = await self._subscriptions.add(request_id, subscription, start)
        return pb.AddSubscriptionResponse(subscription=convert.status_to_pb(status))

    async def RemoveSubscription(
        self,
        request: pb.RemoveSubscriptionRequest,
        context: grpc.aio.ServicerContext[pb.RemoveSubscriptionRequest, pb.RemoveSubscriptionResponse],
    ) -> pb.RemoveSubscriptionResponse:
        """Removes a subscription."""
        await self._subscriptions.remove(request_id_from_pb(request.request_id), request.name)
        return pb.RemoveSubscriptionResponse()

    async def ListSubscriptions(
        self,
        request: pb.ListSubscriptionsRequest,
        context: grpc.aio.ServicerContext[pb.ListSubscriptionsRequest, pb.ListSubscriptionsResponse],
    ) -> pb.ListSubscriptionsResponse:
        """A page of subscriptions."""
        size = paging.page_size(request.page_size)
        after = paging.decode(request.page_token, str)
        found = await self._subscriptions.statuses(str(after[0]) if after else "", size + 1)
        token = paging.encode([found[size - 1].subscription.name]) if len(found) > size else ""
        return pb.ListSubscriptionsResponse(subscriptions=[convert.status_to_pb(status) for status in found[:size]], next_page_token=token)

    async def GetSubscription(
        self, request: pb.GetSubscriptionRequest, context: grpc.aio.ServicerContext[pb.GetSubscriptionRequest, pb.GetSubscriptionResponse]
    ) -> pb.GetSubscriptionResponse:
        """One subscription."""
        return pb.GetSubscriptionResponse(subscription=convert.status_to_pb(await self._subscriptions.status(request.name)))

    async def PauseSubscription(
        self,
        request: pb.PauseSubscriptionRequest,
        context: grpc.aio.ServicerContext[pb.PauseSubscriptionRequest, pb.PauseSubscriptionResponse],
    ) -> pb.PauseSubscriptionResponse:
        """Holds a subscription."""
        status = await self._subscriptions.pause(request_id_from_pb(request.request_id), request.name, True)
        return pb.PauseSubscriptionResponse(subscription=convert.status_to_pb(status))

    async def ResumeSubscription(
        self,
        request: pb.ResumeSubscriptionRequest,
        context: grpc.aio.ServicerContext[pb.ResumeSubscriptionRequest, pb.ResumeSubscriptionResponse],
    ) -> pb.ResumeSubscriptionResponse:
        """Lets a subscription go on."""
        status = await self._subscriptions.pause(request_id_from_pb(request.request_id), request.name, False)
        return pb.ResumeSubscriptionResponse(subscription=convert.status_to_pb(status))

    async def Replay(
        self, request: pb.ReplayRequest, context: grpc.aio.ServicerContext[pb.ReplayRequest, pb.ReplayResponse]
    ) -> pb.ReplayResponse:
        """Sends again."""
        request_id = request_id_from_pb(request.request_id)
        start = convert.start_from_pb(request.start)
        if not request.sync_id and start.kind is StartKind.NEXT:
            raise convert.invalid("start", "a place to start from, or sync_id set")
        status, events = await self._subscriptions.replay(request_id, request.name, start, request.sync_id)
        return pb.ReplayResponse(subscription=convert.status_to_pb(status), events=events)

    async def Subscribe(  # type: ignore[override]  # bytes: see registration
        self,
        request: pb.EventsSubscribeRequest,
        context: grpc.aio.ServicerContext[pb.EventsSubscribeRequest, pb.EventsSubscribeResponse],
    ) -> AsyncGenerator[bytes]:
        """Streams events, as their bytes."""
        if not 0 <= request.batch_size <= MAX_BATCH_SIZE:
            raise convert.invalid("batch_size", f"0 for {DEFAULT_BATCH_SIZE}, or 1 to {MAX_BATCH_SIZE}")
        limit = request.batch_size or DEFAULT_BATCH_SIZE
        wanted, start = convert.filter_from_pb(request.filter), convert.start_from_pb(request.start)
        if request.name:
            cursor = await self._subscriptions.cursor(request.name, start, wanted, DEFAULT_BATCH_SIZE)
            pages = cursor.pages(self._draining, follow=request.follow, limit=limit)
        else:
            reading = await self._subscriptions.reading(start, wanted, limit)
            pages = open_stream(reading, self._draining, follow=request.follow)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield _page_bytes(page)

    async def Ack(
        self, request: pb.EventsAckRequest, context: grpc.aio.ServicerContext[pb.EventsAckRequest, pb.EventsAckResponse]
    ) -> pb.EventsAckResponse:
        """Moves a cursor."""
        cursor = self._subscriptions.find_cursor(request.name)
        await cursor.ack(convert.upto_from_pb(request), convert.rejected_from_pb(request.rejected))
        place = cursor.position.cursor
        return pb.EventsAckResponse(cursor=place, lag=max(0, self._log.tail.value - place))

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: grpc.aio.ServicerContext[pb.ListDeadLettersRequest, pb.ListDeadLettersResponse]
    ) -> pb.ListDeadLettersResponse:
        """A page of dead letters, shorter than asked for where the events are large."""
        size = paging.page_size(request.page_size)
        before = paging.decode(request.page_token, int)
        found = await self._subscriptions.dead_letters(request.subscription, int(before[0]) if before else 0, size + 1)
        fitting = _fitting(found, size)
        token = paging.encode([fitting[-1].number]) if len(fitting) < len(found) else ""
        return pb.ListDeadLettersResponse(dead_letters=[convert.dead_letter_to_pb(letter) for letter in fitting], next_page_token=token)

    async def GetDeadLetter(
        self, request: pb.GetDeadLetterRequest, context: grpc.aio.ServicerContext[pb.GetDeadLetterRequest, pb.GetDeadLetterResponse]
    ) -> pb.GetDeadLetterResponse:
        """One dead letter."""
        return pb.GetDeadLetterResponse(dead_letter=convert.dead_letter_to_pb(await self._subscriptions.dead_letter(request.number)))

    async def RetryDeadLetters(
        self,
        request: pb.RetryDeadLettersRequest,
        context: grpc.aio.ServicerContext[pb.RetryDeadLettersRequest, pb.RetryDeadLettersResponse],
    ) -> pb.RetryDeadLettersResponse:
        """Offers dead letters again."""
        request_id = request_id_from_pb(request.request_id)
        numbers = convert.numbers_from_pb(request.subscription, request.numbers)
        return pb.RetryDeadLettersResponse(dead_letters=await self._subscriptions.retry(request_id, request.subscription, numbers))

    async def DropDeadLetters(
        self, request: pb.DropDeadLettersRequest, context: grpc.aio.ServicerContext[pb.DropDeadLettersRequest, pb.DropDeadLettersResponse]
    ) -> pb.DropDeadLettersResponse:
        """Forgets dead letters."""
        request_id = request_id_from_pb(request.request_id)
        numbers = convert.numbers_from_pb(request.subscription, request.numbers)
        return pb.DropDeadLettersResponse(dead_letters=await self._subscriptions.drop(request_id, request.subscription, numbers))

    async def VerifySubscription(
        self,
        request: pb.VerifySubscriptionRequest,
        context: grpc.aio.ServicerContext[pb.VerifySubscriptionRequest, pb.VerifySubscriptionResponse],
    ) -> AsyncGenerator[pb.VerifySubscriptionResponse]:
        """Asks a subscriber about every file. The catalog is not asked about what it says itself, but about what the libraries have."""
        follower = self._subscriptions.find(request.name)
        libraries = self._library.index if request.name == CATALOG else self._library.catalog
        found = self._verifier.verify(follower, libraries, request.library_root, repair=request.repair)
        async with contextlib.aclosing(found):
            async for one in found:
                yield convert.verified_to_pb(one)

    async def GetLog(
        self, request: pb.GetLogRequest, context: grpc.aio.ServicerContext[pb.GetLogRequest, pb.GetLogResponse]
    ) -> pb.GetLogResponse:
        """What the log holds."""
        return convert.log_to_pb(await self._store.bounds())


def _fitting(letters: Sequence[DeadLetter], size: int) -> Sequence[DeadLetter]:
    room = MAX_PAGE_BYTES
    for index, letter in enumerate(letters[:size]):
        room -= len(letter.event.payload)
        if index and room < 0:
            return letters[:index]
    return letters[:size]


def _page_bytes(page: Page) -> bytes:
    rest = pb.EventsSubscribeResponse(token=page.token, sequence=page.sequence)
    if page.heartbeat:
        rest.heartbeat.CopyFrom(types_pb2.Heartbeat())
    return event_bytes.batch(event.payload for event in page.events) + rest.SerializeToString()
