"""`Events` on the wire."""

from __future__ import annotations

import grpc.aio

from mediasync.runtime import paging
from mediasync.v1 import events_pb2 as pb
from mediasync.v1.events_pb2_grpc import EventsServicer as EventsBase
from services.ingest import convert
from services.ingest.subscriptions import Subscriptions

MAX_PAGE_BYTES = 4 * 1024 * 1024


class EventsServicer(EventsBase):
    """Parses, calls the subscriptions, converts. Publish is in `registration`."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    async def WaitDelivered(
        self, request: pb.WaitDeliveredRequest, context: grpc.aio.ServicerContext[pb.WaitDeliveredRequest, pb.WaitDeliveredResponse]
    ) -> pb.WaitDeliveredResponse:
        """Waits for a subscription; gRPC cancels it when the call's deadline passes."""
        return pb.WaitDeliveredResponse(cursor=await self._subscriptions.wait_delivered(request.subscription, request.sequence))

    async def AddSubscription(
        self, request: pb.AddSubscriptionRequest, context: grpc.aio.ServicerContext[pb.AddSubscriptionRequest, pb.AddSubscriptionResponse]
    ) -> pb.AddSubscriptionResponse:
        """Adds a subscription."""
        request_id = convert.request_id_from_pb(request.request_id)
        subscription = convert.subscription_from_pb(request.subscription)
        status = await self._subscriptions.add(request_id, subscription, from_beginning=request.from_beginning)
        return pb.AddSubscriptionResponse(subscription=convert.status_to_pb(status))

    async def RemoveSubscription(
        self,
        request: pb.RemoveSubscriptionRequest,
        context: grpc.aio.ServicerContext[pb.RemoveSubscriptionRequest, pb.RemoveSubscriptionResponse],
    ) -> pb.RemoveSubscriptionResponse:
        """Removes a subscription."""
        await self._subscriptions.remove(convert.request_id_from_pb(request.request_id), request.name)
        return pb.RemoveSubscriptionResponse()

    async def ListSubscriptions(
        self,
        request: pb.ListSubscriptionsRequest,
        context: grpc.aio.ServicerContext[pb.ListSubscriptionsRequest, pb.ListSubscriptionsResponse],
    ) -> pb.ListSubscriptionsResponse:
        """A page of subscriptions."""
        size = paging.page_size(request.page_size)
        after = paging.decode(request.page_token, str)
        found = self._subscriptions.list(str(after[0]) if after else "", size + 1)
        token = paging.encode([found[size - 1].subscription.name]) if len(found) > size else ""
        return pb.ListSubscriptionsResponse(subscriptions=[convert.status_to_pb(status) for status in found[:size]], next_page_token=token)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: grpc.aio.ServicerContext[pb.ListDeadLettersRequest, pb.ListDeadLettersResponse]
    ) -> pb.ListDeadLettersResponse:
        """A page of dead letters, shorter than asked for where the events are large."""
        size = paging.page_size(request.page_size)
        before = paging.decode(request.page_token, int)
        found = await self._subscriptions.dead_letters(request.subscription, int(before[0]) if before else 0, size + 1)
        response = pb.ListDeadLettersResponse()
        room = MAX_PAGE_BYTES
        for index, letter in enumerate(found):
            room -= len(letter.event.payload)
            if index and (index == size or room < 0):
                response.next_page_token = paging.encode([found[index - 1].number])
                break
            response.dead_letters.append(convert.dead_letter_to_pb(letter))
        return response
