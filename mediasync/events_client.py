"""The part of the client that is about events and who follows them; see `mediasync.client`."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from mediasync.convert import events as convert
from mediasync.errors import MediasyncError, Reason
from mediasync.ids import new_request_id
from mediasync.model import CatalogFile
from mediasync.model.events import (
    DeadLetter,
    EventFilter,
    EventLogState,
    EventPage,
    EventStart,
    StartKind,
    SubscriberProgress,
    SubscriberVerified,
    Subscription,
)
from mediasync.runtime.channels import rpc_errors
from mediasync.v1 import events_pb2, events_pb2_grpc

_PAGE_SIZE = 200
_AWAY_SECONDS = 60.0
_PAUSE_SECONDS = 0.5
_WHO = "the event log"


class EventCalls:
    """What a client can ask of events and subscribers."""

    _channel: Any
    _call: Any
    _pages: Any

    # Subscribers.

    async def add_subscriber(self, subscription: Subscription, start: EventStart | None = None) -> Subscription:
        """Adds who is told about files, from `start` on (the next event unless given); returns it as it was stored.
        Raises INVALID_ARGUMENT, SUBSCRIPTION_EXISTS, ADDRESS_NOT_LOOPBACK."""
        request = events_pb2.AddSubscriptionRequest(
            request_id=new_request_id(),
            subscription=convert.subscription_to_pb(subscription),
            start=convert.start_to_pb(start or EventStart()),
        )
        return convert.subscription_from_pb((await self._call(self._events.AddSubscription, request)).subscription)

    async def list_subscribers(self) -> AsyncGenerator[Subscription, None]:
        """Everybody who is told about files, by name, the built-in catalog among them."""

        def page(token: str) -> events_pb2.ListSubscriptionsRequest:
            return events_pb2.ListSubscriptionsRequest(page_size=_PAGE_SIZE, page_token=token)

        async for response in self._pages(self._events.ListSubscriptions, page):
            for subscription in response.subscriptions:
                yield convert.subscription_from_pb(subscription)

    async def get_subscriber(self, name: str) -> Subscription:
        """One of them. Raises SUBSCRIPTION_NOT_FOUND."""
        response = await self._call(self._events.GetSubscription, events_pb2.GetSubscriptionRequest(name=name))
        return convert.subscription_from_pb(response.subscription)

    async def pause_subscriber(self, name: str) -> Subscription:
        """Holds one, across restarts; returns it with that. Raises SUBSCRIPTION_NOT_FOUND."""
        request = events_pb2.PauseSubscriptionRequest(request_id=new_request_id(), name=name)
        return convert.subscription_from_pb((await self._call(self._events.PauseSubscription, request)).subscription)

    async def resume_subscriber(self, name: str) -> Subscription:
        """Lets a held one go on, and one that is not reached be tried at once. Raises SUBSCRIPTION_NOT_FOUND."""
        request = events_pb2.ResumeSubscriptionRequest(request_id=new_request_id(), name=name)
        return convert.subscription_from_pb((await self._call(self._events.ResumeSubscription, request)).subscription)

    async def remove_subscriber(self, name: str) -> None:
        """Forgets one, with its cursor and its dead letters. Raises SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_FIXED."""
        await self._call(self._events.RemoveSubscription, events_pb2.RemoveSubscriptionRequest(request_id=new_request_id(), name=name))

    async def verify_subscriber(
        self, name: str, *, repair: bool = False, library_root: str = ""
    ) -> AsyncGenerator[SubscriberProgress | CatalogFile | SubscriberVerified, None]:
        """Asks one about every file of the libraries: progress, the files that it lacks, then one summary. With `repair` it is sent them.
        Raises SUBSCRIPTION_NOT_FOUND, SUBSCRIBER_UNREACHABLE, SUBSCRIBER_MISBEHAVES."""
        call = self._events.VerifySubscription(events_pb2.VerifySubscriptionRequest(name=name, repair=repair, library_root=library_root))
        try:
            with rpc_errors(_WHO):
                async for message in call:
                    if (found := convert.verify_from_pb(message)) is not None:
                        yield found
        finally:
            call.cancel()

    # Events.

    async def replay_events(self, name: str, start: EventStart | None = None, *, sync_id: str = "") -> int | None:
        """Sends a subscriber events again: everything from `start` on, or what belongs to a sync and what came of the same files since.
        Returns how many are to come, None where that is not known. Raises SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_BUSY,
        SUBSCRIBER_TOO_FAR_BEHIND."""
        request = events_pb2.ReplayRequest(request_id=new_request_id(), name=name)
        if sync_id:
            request.sync_id = sync_id
        else:
            request.start.CopyFrom(convert.start_to_pb(start or EventStart()))
        events = (await self._call(self._events.Replay, request)).events
        return None if events < 0 else int(events)

    async def read_events(
        self,
        name: str = "",
        *,
        start: EventStart | None = None,
        wanted: EventFilter | None = None,
        follow: bool = False,
        batch_size: int = 0,
    ) -> AsyncGenerator[EventPage, None]:
        """Events in pages, to the log's end, or for ever with `follow`; a page without events is a sign of life.

        With a `name` it reads from that cursor, which is made where there is none, and moves by `ack_events` only: what was not
        acknowledged comes again. `start` and `wanted` then count for a new one. Goes on by itself after a restart of the services.
        Raises SUBSCRIBER_TOO_FAR_BEHIND, SUBSCRIPTION_BUSY when another reader takes the cursor, SUBSCRIPTION_WRONG_KIND.
        """
        start, away_since, told = start or EventStart(), 0.0, False
        while True:
            request = events_pb2.EventsSubscribeRequest(
                name=name,
                start=convert.start_to_pb(start),
                filter=convert.filter_to_pb(wanted or EventFilter()),
                follow=follow,
                batch_size=batch_size,
            )
            call = self._events.Subscribe(request)
            try:
                with rpc_errors(_WHO):
                    async for message in call:
                        away_since = 0.0
                        page = convert.page_from_pb(message)
                        if page.sequence:
                            start = EventStart(StartKind.SEQUENCE, sequence=page.sequence + 1)
                        told = told or bool(page.events)
                        yield page
                if not follow:
                    return
                raise MediasyncError(Reason.SERVICES_UNREACHABLE, "the services ended the stream of events")
            except MediasyncError as error:
                now = time.monotonic()
                away_since = away_since or now
                # What was told of a snapshot has no number to go on from: without a cursor it would be told twice.
                lost = not name and told and start.kind is not StartKind.SEQUENCE
                if error.reason is not Reason.SERVICES_UNREACHABLE or lost or now - away_since > _AWAY_SECONDS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)
            finally:
                call.cancel()

    async def ack_events(self, name: str, upto: EventPage | int, rejected: Mapping[str, str] | None = None) -> int:
        """Everything up to a page, or to a sequence number, is dealt with; of it the events with the ids in `rejected` will never be taken
        and become dead letters, each with the reason given. Returns how many events are left. Raises SUBSCRIPTION_NOT_FOUND."""
        request = events_pb2.EventsAckRequest(name=name, rejected=convert.rejected_to_pb(rejected or {}))
        if isinstance(upto, int):
            request.sequence = upto
        else:
            request.token = upto.token
        return int((await self._call(self._events.Ack, request)).lag)

    async def event_log(self) -> EventLogState:
        """What the log of events holds."""
        return convert.log_state_from_pb(await self._call(self._events.GetLog, events_pb2.GetLogRequest()))

    # Dead letters.

    async def list_dead_letters(self, subscriber: str = "") -> AsyncGenerator[DeadLetter, None]:
        """Events that subscribers, or one of them, will never take, newest first. Raises SUBSCRIPTION_NOT_FOUND."""

        def page(token: str) -> events_pb2.ListDeadLettersRequest:
            return events_pb2.ListDeadLettersRequest(subscription=subscriber, page_size=_PAGE_SIZE, page_token=token)

        async for response in self._pages(self._events.ListDeadLetters, page):
            for letter in response.dead_letters:
                yield convert.dead_letter_from_pb(letter)

    async def get_dead_letter(self, number: int) -> DeadLetter:
        """One of them, complete. Raises DEAD_LETTER_NOT_FOUND."""
        response = await self._call(self._events.GetDeadLetter, events_pb2.GetDeadLetterRequest(number=number))
        return convert.dead_letter_from_pb(response.dead_letter)

    async def retry_dead_letters(self, numbers: Sequence[int] = (), *, subscriber: str = "") -> int:
        """Offers dead letters again, by number or all of a subscriber, each with what came of the same file since; returns how many.
        Raises DEAD_LETTER_NOT_FOUND, SUBSCRIPTION_NOT_FOUND."""
        done = 0
        for name, of_it in (await self._by_subscriber(numbers, subscriber)).items():
            request = events_pb2.RetryDeadLettersRequest(request_id=new_request_id(), subscription=name, numbers=of_it)
            done += (await self._call(self._events.RetryDeadLetters, request)).dead_letters
        return done

    async def drop_dead_letters(self, numbers: Sequence[int] = (), *, subscriber: str = "") -> int:
        """Forgets dead letters, by number or all of a subscriber; returns how many.
        Raises DEAD_LETTER_NOT_FOUND, SUBSCRIPTION_NOT_FOUND."""
        done = 0
        for name, of_it in (await self._by_subscriber(numbers, subscriber)).items():
            request = events_pb2.DropDeadLettersRequest(request_id=new_request_id(), subscription=name, numbers=of_it)
            done += (await self._call(self._events.DropDeadLetters, request)).dead_letters
        return done

    async def _by_subscriber(self, numbers: Sequence[int], subscriber: str) -> Mapping[str, Sequence[int]]:
        """Whose they are. All are looked up before the first is touched, so that a wrong number changes nothing."""
        if subscriber:
            return {subscriber: numbers}
        if not numbers:
            raise MediasyncError(Reason.INVALID_ARGUMENT, "neither a dead letter nor a subscriber was named", "Name one of the two.")
        found = defaultdict(list)
        for number in numbers:
            found[(await self.get_dead_letter(number)).subscription].append(number)
        return found

    @property
    def _events(self) -> Any:
        return events_pb2_grpc.EventsStub(self._channel)
