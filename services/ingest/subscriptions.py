"""Who follows the log: the built-in and configured subscriptions and those added by calls, each with its delivery under way."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Sequence
from contextvars import Context

from mediasync.errors import FieldViolation, MediasyncError, Reason
from services.ingest.delivery import Delivery
from services.ingest.events import MAX_BATCH_SIZE, DeadLetter, Subscription, SubscriptionPosition, SubscriptionStatus
from services.ingest.log import EventLog
from services.ingest.sqlite_store import SqliteEventStore
from services.ingest.subscriber import Subscriber

_SAVE_EVERY_SECONDS = 0.05
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def violations(subscription: Subscription) -> list[FieldViolation]:
    """What is wrong with the form of a subscription."""
    found = []
    if not _NAME.fullmatch(subscription.name):
        found.append(FieldViolation("name", "1 to 64 of a-z A-Z 0-9 . _ -"))
    if not _host_and_port(subscription.address) and not subscription.address.startswith("unix:/"):
        found.append(FieldViolation("address", "host:port or unix:/path"))
    if not 1 <= subscription.batch_size <= MAX_BATCH_SIZE:
        found.append(FieldViolation("batch_size", f"1 to {MAX_BATCH_SIZE}"))
    return found


def check(subscription: Subscription, reason: Reason) -> None:
    """Raises MediasyncError with `reason` for a subscription of the wrong form, ADDRESS_NOT_LOOPBACK for one that would send names and
    prompts over a network in the clear."""
    if found := violations(subscription):
        said = "; ".join(f"{violation.field} must be {violation.description}" for violation in found)
        raise MediasyncError(reason, f"the subscription {subscription.name!r} cannot be used: {said}", fields=found)
    if not subscription.address.startswith("unix:") and not _is_loopback(_host_and_port(subscription.address)):
        raise MediasyncError(
            Reason.ADDRESS_NOT_LOOPBACK,
            f"the subscription {subscription.name!r} is at {subscription.address}, which is not on this machine",
        )


class Subscriptions:
    """Runs one delivery for each subscription. `connect` opens the way to an address."""

    def __init__(self, store: SqliteEventStore, log: EventLog, connect: Callable[[str], Subscriber]) -> None:
        self._store = store
        self._log = log
        self._connect = connect
        self._deliveries: dict[str, Delivery] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._changing = asyncio.Lock()
        self._moved: dict[str, SubscriptionPosition] = {}
        self._any_moved = asyncio.Event()

    async def load(self, fixed: Sequence[Subscription]) -> None:
        """Takes up the subscriptions of the configuration and those added earlier. One that the configuration no longer holds sleeps:
        its cursor stays, so that it misses nothing if it comes back."""
        names = [subscription.name for subscription in fixed]
        for subscription in fixed:
            check(subscription, Reason.CONFIGURATION_INVALID)
            if names.count(subscription.name) > 1:
                raise MediasyncError(
                    Reason.CONFIGURATION_INVALID,
                    f"there are two subscriptions {subscription.name!r}",
                    "Give each of ingest.subscribers a name of its own; `catalog` is the built-in one's.",
                )
        await self._store.put_fixed([(subscription, 0, None) for subscription in fixed])
        for stored in await self._store.subscriptions():
            if not stored.subscription.fixed or stored.subscription.name in names:
                self._create(stored.subscription, stored.position)

    async def run(self) -> None:
        """Delivers until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name in self._deliveries:
                self._start(name)
            await self._keep_positions()

    async def close(self) -> None:
        """Stores the cursors and ends the connections. After `run` has ended."""
        await self._save_moved()
        for delivery in self._deliveries.values():
            await delivery.close()

    async def add(self, request_id: str, subscription: Subscription, *, from_beginning: bool) -> SubscriptionStatus:
        """Adds a subscription and starts its delivery. A repeated request answers as the first did.

        Raises INVALID_ARGUMENT, ADDRESS_NOT_LOOPBACK, SUBSCRIPTION_EXISTS, REQUEST_ID_REUSED.
        """
        check(subscription, Reason.INVALID_ARGUMENT)
        kinds = sorted(int(kind) for kind in subscription.filter.kinds)
        body = _digest("add", subscription.name, subscription.address, kinds, subscription.batch_size, from_beginning)
        async with self._changing:
            dormant = subscription.name not in self._deliveries
            stored, new = await self._store.add_subscription(
                request_id, body, subscription, cursor=0 if from_beginning else None, side=None, replaces_dormant=dormant
            )
            position = stored.position
            if new:
                self._create(stored.subscription, position)
                self._start(stored.subscription.name)
        return SubscriptionStatus(stored.subscription, position, self._log.tail.value - position.cursor)

    async def remove(self, request_id: str, name: str) -> None:
        """Ends a subscription's delivery and forgets it. Raises SUBSCRIPTION_NOT_FOUND, SUBSCRIPTION_FIXED, REQUEST_ID_REUSED."""
        body = _digest("remove", name)
        async with self._changing:
            if await self._store.was_answered(request_id, body):
                return
            delivery = self._find(name)
            if delivery.subscription.fixed:
                raise MediasyncError(Reason.SUBSCRIPTION_FIXED, f"the subscription {name!r} is built in or stands in the configuration")
            await self._stop(name)
            await self._store.remove_subscription(request_id, body, name)

    def list(self, after: str, limit: int) -> Sequence[SubscriptionStatus]:
        """At most `limit` subscriptions whose name comes after `after`, by name."""
        names = sorted(name for name in self._deliveries if name > after)[:limit]
        return [self._status(self._deliveries[name]) for name in names]

    async def wait_delivered(self, name: str, sequence: int) -> int:
        """Waits until a subscription has dealt with everything up to `sequence`, and returns how far it is. Not bounded.

        Raises SUBSCRIPTION_NOT_FOUND, also when it is removed meanwhile.
        """
        return await self._find(name).cursor.reach(sequence)

    async def dead_letters(self, name: str, before: int, limit: int) -> Sequence[DeadLetter]:
        """See `EventStore.dead_letters`. Raises SUBSCRIPTION_NOT_FOUND."""
        if name:
            self._find(name)
        return await self._store.dead_letters(name, before, limit)

    def _find(self, name: str) -> Delivery:
        try:
            return self._deliveries[name]
        except KeyError:
            there = ", ".join(sorted(self._deliveries))
            raise MediasyncError(Reason.SUBSCRIPTION_NOT_FOUND, f"there is no subscription {name!r}; there are: {there}") from None

    def _status(self, delivery: Delivery) -> SubscriptionStatus:
        position = delivery.position
        return SubscriptionStatus(delivery.subscription, position, max(0, self._log.tail.value - position.cursor))

    def _create(self, subscription: Subscription, position: SubscriptionPosition) -> None:
        self._deliveries[subscription.name] = Delivery(
            subscription, position, self._log, self._connect(subscription.address), moved=self._note_moved, bury=self._store.bury
        )

    def _start(self, name: str) -> None:
        if self._group is not None:
            # An empty context: the delivery must not inherit the sync and the span of the call that added the subscription.
            self._tasks[name] = self._group.create_task(self._deliveries[name].run(), name=f"deliver to {name}", context=Context())

    async def _stop(self, name: str) -> None:
        delivery = self._deliveries.pop(name)
        if task := self._tasks.pop(name, None):
            task.cancel()
            await asyncio.wait([task])
        # A later subscription of the same name must not inherit this one's cursor.
        self._moved.pop(name, None)
        delivery.cursor.close(MediasyncError(Reason.SUBSCRIPTION_NOT_FOUND, f"the subscription {name!r} was removed"))
        await delivery.close()

    def _note_moved(self, name: str, position: SubscriptionPosition) -> None:
        self._moved[name] = position
        self._any_moved.set()

    async def _keep_positions(self) -> None:
        """Stores cursors as they move: one transaction for all that moved in a while, because each costs a flush to the disk."""
        while True:
            await self._any_moved.wait()
            await asyncio.sleep(_SAVE_EVERY_SECONDS)
            self._any_moved.clear()
            await self._save_moved()

    async def _save_moved(self) -> None:
        if self._moved:
            moved, self._moved = self._moved, {}
            await self._store.save_positions(moved)


def _host_and_port(address: str) -> str:
    """The host of `host:port` or `[address]:port`; empty for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        return ""
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return "" if ":" in host or "/" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
