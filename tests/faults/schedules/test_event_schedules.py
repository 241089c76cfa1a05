"""Random schedules of deaths against the real event log and subscribers as outsiders write them.

A schedule is drawn from its number alone: what happens to a library's files, and who is killed when, the event log or a subscriber, at a
named point or at no particular one. In the end everybody is left in peace, and then each subscriber must have heard of everything, in
order, and have in its table what is in the library. `SCHEDULES=300` runs so many, `SCHEDULES=17:18` that one.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from mediasync.convert import file_path
from mediasync.ids import event_id
from mediasync.runtime.home import Home
from mediasync.v1 import events_pb2
from mediasync.v1 import media_ingest_pb2 as pb
from tests.faults import event_checker, note_taker
from tests.fixtures.ingest import BOUND_SECONDS, Ingest, file_event, sync_event

IN_ONE_RUN = 5
NAMES = (b"a.png", b"-rf.png", b"new\nline.png", b"caf\xe9.png", b"never.png", b"breaks.png", b"later.png", b"later never.png", b"[x].png")
FOLDERS = (b"", b"txt2img-images/", b"-x/", b"\xff\xfe/")
POINTS = (
    "ingest.before_append",
    "ingest.after_append",
    "ingest.before_delivery",
    "ingest.after_delivery",
    "ingest.after_bury",
    "ingest.before_position",
    "catalog.after_upsert",
)


def _numbers() -> range:
    said = os.environ.get("SCHEDULES", str(IN_ONE_RUN))
    first, colon, last = said.partition(":")
    return range(int(first), int(last)) if colon else range(int(first))


class Programs:
    """Starts and ends processes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asking = asyncio.Lock()

    async def ask(self, **wish: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._asking:
            self._process.stdin.write(json.dumps(wish).encode() + b"\n")
            return int(json.loads(await self._process.stdout.readline())["pid"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def programs() -> AsyncIterator[Programs]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.schedules.event_programs", stdin=pipe, stdout=pipe, limit=1 << 20
    )
    yield Programs(process)
    assert process.stdin is not None
    process.stdin.close()
    await process.wait()


@dataclass
class Follower:
    """A subscriber, and what it wrote down."""

    name: str
    address: str
    notes: Path
    habits: note_taker.Habits
    pid: int = 0


@dataclass
class Schedule:
    """One number's library and what happens to it."""

    number: int
    folder: Path
    draw: random.Random = field(init=False)
    contents: Any = field(init=False)
    published: dict[str, pb.Event] = field(default_factory=dict)
    syncs: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.number)
        self.contents = (b"%d %d" % (self.number, serial) for serial in itertools.count())
        self.library.mkdir(parents=True)
        names = ("picky", "single", "plain")
        habits = (note_taker.Habits(refuses=True), note_taker.Habits(batches=False), note_taker.Habits())
        self.followers = [
            Follower(name, f"unix:{self.folder}/{name}.sock", self.folder / f"{name}.db", habit)
            for name, habit in zip(names, habits, strict=True)
        ]

    @property
    def library(self) -> Path:
        return self.folder / "library"

    def happenings(self) -> list[pb.Event]:
        """What a sync does to the library, and the events of it, in order."""
        sync_id = f"sync_{self.number}_{next(self.syncs)}"
        events = [event for _ in range(self.draw.randint(0, 25)) for event in self.happening(sync_id)]
        if self.draw.random() < 0.7:
            events.append(sync_event(sync_id))
        for event in events:
            self.published[event.event_id] = event
        return events

    def mark(self, name: str) -> pb.Event:
        """An event about no file."""
        event = sync_event(f"sync_{self.number}_{name}")
        self.published[event.event_id] = event
        return event

    def happening(self, sync_id: str) -> list[pb.Event]:
        """One file lands, or moves."""
        present = sorted(event_checker.files_below(self.library))
        name = self.draw.choice(NAMES) if self.draw.random() < 0.3 else b"%05d.png" % self.draw.randint(0, 40)
        path = self.draw.choice(FOLDERS) + name
        absolute = os.fsencode(self.library) + b"/" + path
        os.makedirs(os.path.dirname(absolute), exist_ok=True)
        if present and self.draw.random() < 0.25 and path not in present:
            old = self.draw.choice(present)
            os.rename(os.fsencode(self.library) + b"/" + old, absolute)
            moved = self.about(path, sync_id)
            moved.event_id = event_id("moved", old, path, str(len(self.published)), sync_id, str(self.draw.random()))
            moved.file.moved_from.CopyFrom(file_path(old))
            return [moved]
        if path in present:
            return [self.about(path, sync_id, pb.EVENT_TYPE_FILE_PROCESSED)]
        Path(os.fsdecode(absolute)).write_bytes(next(self.contents))
        kinds = (pb.EVENT_TYPE_FILE_SYNCED, pb.EVENT_TYPE_FILE_PROCESSED)
        return [self.about(path, sync_id, kind) for kind in kinds[: self.draw.randint(1, 2)]]

    def about(self, path: bytes, sync_id: str, kind: pb.EventType.ValueType = pb.EVENT_TYPE_FILE_SYNCED) -> pb.Event:
        content = Path(os.fsdecode(os.fsencode(self.library) + b"/" + path)).read_bytes()
        event = file_event(path, kind, content=content, sync_id=sync_id)
        event.event_id = hashlib.sha256(event.SerializeToString(deterministic=True)).hexdigest()[:32]
        return event

    def refused(self, follower: Follower) -> list[str]:
        if not follower.habits.refuses:
            return []
        return [name for name, event in self.published.items() if note_taker.refuses(event.file.library_path.raw)]


class Play:
    """Runs one schedule."""

    def __init__(self, schedule: Schedule, programs: Programs) -> None:
        self.schedule = schedule
        self.programs = programs
        self.home = Home(schedule.folder / "home", {})
        self.home.prepare()
        self.ingest = Ingest(self.home)
        self.pid = 0

    async def start_ingest(self, crash_at: str = "") -> None:
        if self.pid:
            await self.programs.ask(kill=self.pid)
        for crashed in self.home.run.glob("crashed.*"):
            crashed.unlink()
        self.pid = await self.programs.ask(ingest=str(self.home.path), crash_at=crash_at, log=str(self.schedule.folder / "log"))

    async def start_follower(self, follower: Follower, **deaths: int) -> None:
        if follower.pid:
            await self.programs.ask(kill=follower.pid)
        habits = asdict(follower.habits) | deaths
        log = str(self.schedule.folder / "log")
        follower.pid = await self.programs.ask(subscriber=follower.address, notes=str(follower.notes), habits=habits, log=log)

    async def publish(self, events: Sequence[pb.Event]) -> None:
        """As an outbox does: again, until there is an answer; whoever is dead by then comes back."""
        request = events_pb2.EventsPublishRequest(events=events)
        while events:
            if not await self.programs.ask(alive=self.pid):
                await self.start_ingest()
            try:
                # Not bounded by much: it may die before this call finds it.
                await self.ingest.events.Publish(request, timeout=5, wait_for_ready=True)
                return
            except grpc.aio.AioRpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
                await self.start_ingest()

    async def disturb(self, events: Sequence[pb.Event]) -> None:
        """Somebody dies while events are published."""
        draw, kind = self.schedule.draw, self.schedule.draw.random()
        follower = draw.choice(self.schedule.followers)
        if kind < 0.5:
            await self.start_ingest(f"{draw.choice(POINTS)}:{draw.choice((1, 1, 2, 3, 7))}")
            await self.publish(events)
        elif kind < 0.7:
            publishing = asyncio.create_task(self.publish(events))
            for _ in range(draw.randint(0, 30)):
                await asyncio.sleep(0)
            await self.programs.ask(kill=self.pid)
            await publishing
        else:
            death = draw.choice(("dies_before_commit", "dies_after_commit"))
            await self.start_follower(follower, **{death: draw.randint(1, 4)})
            await self.publish(events)
        if draw.random() < 0.5:
            await self.start_follower(follower)

    async def settle(self) -> None:
        """Everybody is there, until everything is delivered."""
        for follower in self.schedule.followers:
            await self.start_follower(follower)
        await self.start_ingest()
        last = (await self.ingest.publish([self.schedule.mark("end")]))[0]
        for name in ("catalog", *(follower.name for follower in self.schedule.followers)):
            await self.ingest.delivered(last, name)

    async def dead_letters(self, name: str) -> list[str]:
        request = events_pb2.ListDeadLettersRequest(subscription=name, page_size=500)
        response = await self.ingest.events.ListDeadLetters(request, timeout=BOUND_SECONDS)
        assert not response.next_page_token
        return [letter.event.event_id for letter in response.dead_letters]

    async def close(self) -> None:
        await self.ingest.close()
        for pid in (self.pid, *(follower.pid for follower in self.schedule.followers)):
            if pid:
                await self.programs.ask(kill=pid)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", _numbers())
async def test_i6_whoever_dies_every_subscriber_hears_of_everything_in_order(programs: Programs, tmp_path: Path, number: int) -> None:
    schedule = Schedule(number, tmp_path / "schedule")
    play = Play(schedule, programs)
    try:
        await play.start_ingest()
        for follower in schedule.followers:
            await play.ingest.subscribe(follower.name, follower.address, from_beginning=True, batch_size=schedule.draw.choice((2, 7, 50)))
        for _ in range(schedule.draw.randint(1, 5)):
            await play.disturb(schedule.happenings())
        await play.settle()
        for follower in schedule.followers:
            letters = await play.dead_letters(follower.name)
            event_checker.check(follower.notes, schedule.library, schedule.published, schedule.refused(follower), letters)
        with closing(sqlite3.connect(play.home.path / "catalog.db")) as catalog:
            rows = dict(catalog.execute("SELECT library_path, sha256 FROM files"))
        event_checker.check_pictures(rows, schedule.library, ())
    finally:
        await play.close()
    shutil.rmtree(schedule.folder)
