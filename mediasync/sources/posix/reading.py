"""Files by way of the shell: one line asks for a file, and lines are sent ahead, so that no round trip is waited for.

Each answer says how the open file looked, brings its bytes, and says how it looks then. A file of up to `WHOLE_BYTES` is taken in here
before anything of it is handed on, which is when its format's end is looked for. Of a larger one, or one whose beginning is here already,
the parts that tell are asked for first, those of a batch together; that costs one round trip a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from mediasync.sources import endings
from mediasync.sources.base import FileRead, Pace, ReadStatus, Sink, SinkOpener, WantedFile
from mediasync.sources.listing import age_seconds
from mediasync.sources.posix import wire
from mediasync.sources.posix.answers import Answer, InGroup, checked, read_answer, read_bytes, read_group, verdict
from mediasync.sources.posix.pipeline import Far, Lines, Pipeline
from mediasync.sources.posix.stream import SLOWEST_HASH, STALL_SECONDS
from mediasync.sources.selection import Selection
from mediasync.sources.shell_posix import MOST_AT_ONCE

WHOLE_BYTES = 8 * 1024 * 1024
GROUPED_BYTES = 512 * 1024
GRAIN_SECONDS = 0.05  # more than the grain of any kernel's file clock
FRESH_SECONDS = 2.0  # whole seconds of the far side's clock, rounded
_PIECE = 256 * 1024
_LOOKS = 64  # at parts of one file


class Reading:
    """One `Connection.read`."""

    def __init__(self, far: Far, open_sink: SinkOpener, selection: Selection, pace: Pace | None, window_bytes: int) -> None:
        self._far = far
        self._stream = far.stream
        self._open_sink = open_sink
        self._pace = pace
        self._lines = Lines(far, selection.follow_symlinks)
        self._group: list[WantedFile] = []
        self._pipeline: Pipeline[WantedFile, FileRead] = Pipeline(far.stream, window_bytes)

    def run(self, batches: AsyncIterator[Sequence[WantedFile]]) -> AsyncGenerator[FileRead, None]:
        """The outcomes."""
        return self._pipeline.run(batches, self._prepare)

    async def _prepare(self, batch: Sequence[WantedFile]) -> None:
        if any(0 <= self._far.now_ns() - file.mtime_ns < FRESH_SECONDS * 1e9 for file in batch):
            # A kernel stamps files with a clock of some milliseconds' grain. What is written after this has another mtime than was seen.
            await asyncio.sleep(GRAIN_SECONDS)
        looks = [Look(file) for file in batch if file.size_bytes > WHOLE_BYTES or file.partial is not None]
        decided: dict[bytes, Look] = {look.wanted.path: look for look in looks}
        while undecided := [look for look in looks if not look.decided]:
            waiting = []
            for look in undecided:
                done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._lines.ask(b"peek", look.wanted, *[b"%d" % number for span in look.spans for number in span])
                self._pipeline.expect(partial(self._take_look, look, done))
                waiting.append(done)
            for done in waiting:
                await done
        for file in batch:
            known = decided.get(file.path)
            if known is None and file.size_bytes <= GROUPED_BYTES and self._far.groups:
                self._add_to_group(file)
                continue
            self._ask_group()
            if known is None:
                self._lines.ask(b"send", file, b"0", b"-")
                self._pipeline.expect(partial(self._take_whole, file))
            elif known.outcome is not None:
                self._pipeline.expect(partial(_given, known.outcome))
            else:
                partly = file.partial
                words = [b"%d" % partly.size_bytes, partly.sha256.hex().encode()] if partly is not None else [b"0", b"-"]
                self._lines.ask(b"send", file, *words)
                self._pipeline.expect(partial(self._take_streamed, file, known.incomplete))
        self._ask_group()

    def _add_to_group(self, file: WantedFile) -> None:
        """Small files of one folder are asked for together."""
        group = self._group
        if len(group) == MOST_AT_ONCE or (group and group[0].path.rpartition(b"/")[0] != file.path.rpartition(b"/")[0]):
            self._ask_group()
        self._group.append(file)

    def _ask_group(self) -> None:
        files, self._group = self._group, []
        if not files:
            return
        self._lines.ask_many(files)
        group = _Group(files)
        for index in range(len(files)):
            self._pipeline.expect(partial(self._take_of_group, group, index))

    async def _take_of_group(self, group: _Group, index: int) -> FileRead:
        """One of several files that were asked for together."""
        wanted = group.files[index]
        if index == 0:
            group.found = await read_group(self._stream, group.files)
        if group.found is None:
            return await self._take_whole(wanted)
        one = group.found[index]
        if one.data is None:
            return FileRead(wanted, ReadStatus.CHANGED, one.after.entry(wanted.path))
        delay = self._pace.took(len(one.data)) if self._pace is not None else 0.0
        if delay > 0:
            await asyncio.sleep(delay)
        return self._hand_on(wanted, one.before, one.after, one.data)

    async def _take_look(self, look: Look, done: asyncio.Future[None]) -> None:
        """Takes the parts of a file that were asked for, and decides about it or says which others it takes."""
        wanted = look.wanted
        answer = await read_answer(self._stream)
        if answer.status is not None:
            look.decide(_skipped(wanted, answer))
        else:
            before = checked(answer, wanted)
            data = bytearray()
            trailer = await read_bytes(self._stream, sum(count for _, count in look.spans), data.extend)
            status, after, message = verdict(before, trailer, wanted)
            if status is not ReadStatus.OK:
                look.decide(FileRead(wanted, status, after.entry(wanted.path), False, message))
            else:
                look.add(bytes(data), age_seconds(before.mtime_ns, before.ctime_ns, self._far.now_ns()), before)
        if not done.done():
            done.set_result(None)

    async def _take_whole(self, wanted: WantedFile) -> FileRead:
        """A file that is looked at here before any of it is handed on."""
        answer = await read_answer(self._stream)
        if answer.status is not None:
            return _skipped(wanted, answer)
        before = checked(answer, wanted)
        data = bytearray()
        trailer = await read_bytes(self._stream, wanted.size_bytes, data.extend, self._pace)
        status, after, message = verdict(before, trailer, wanted)
        if status is not ReadStatus.OK:
            return FileRead(wanted, status, after.entry(wanted.path), False, message)
        return self._hand_on(wanted, before, after, bytes(data))

    def _hand_on(self, wanted: WantedFile, before: wire.Seen, after: wire.Seen, content: bytes) -> FileRead:
        """A file that is here, and stood still: it is taken if it is complete."""
        spans = endings.Spans(wanted.size_bytes)
        spans.add(0, content)
        age = age_seconds(before.mtime_ns, before.ctime_ns, self._far.now_ns())
        reached = endings.ended(spans, wanted.path.rpartition(b"/")[2])
        take, incomplete = endings.verdict(reached, age, wanted.settle_seconds, wanted.incomplete_after_seconds)
        if not take:
            return FileRead(wanted, ReadStatus.UNSETTLED, before.entry(wanted.path))
        sink = self._open_sink(wanted, 0)
        for start in range(0, len(content), _PIECE):
            sink.write(content[start : start + _PIECE])
        return FileRead(wanted, ReadStatus.OK, after.entry(wanted.path), incomplete)

    async def _take_streamed(self, wanted: WantedFile, incomplete: bool) -> FileRead:
        """A file that was looked at before: its bytes are handed on as they come."""
        self._stream.patience_seconds = STALL_SECONDS + (wanted.partial.size_bytes if wanted.partial else 0) / SLOWEST_HASH
        answer = await read_answer(self._stream)
        self._stream.patience_seconds = STALL_SECONDS
        if answer.status is not None:
            return _skipped(wanted, answer)
        before = checked(answer, wanted, wanted.partial.size_bytes if wanted.partial is not None else 0)
        expected = wanted.size_bytes - answer.offset
        sink: Sink = self._open_sink(wanted, answer.offset)
        trailer = await read_bytes(self._stream, expected, sink.write, self._pace)
        left = expected - trailer.count
        while left > 0:
            # Whoever takes it was told a length.
            sink.write(bytes(min(left, _PIECE)))
            left -= _PIECE
        status, after, message = verdict(before, trailer, wanted)
        return FileRead(wanted, status, after.entry(wanted.path), incomplete, message)


@dataclass
class _Group:
    """Files that were asked for together, and what came of them; None if an answer of its own comes for each."""

    files: list[WantedFile]
    found: list[InGroup] | None = None


@dataclass
class Look:
    """What is known of a file's end before it is asked for."""

    wanted: WantedFile
    spans: list[tuple[int, int]] = field(default_factory=list)
    decided: bool = False
    incomplete: bool = False
    outcome: FileRead | None = None
    _looked: int = 0
    _parts: endings.Spans | None = None

    def __post_init__(self) -> None:
        self.spans = endings.first_spans(self.wanted.size_bytes)
        self._parts = endings.Spans(self.wanted.size_bytes)

    def decide(self, outcome: FileRead | None) -> None:
        """The file is not asked for, for `outcome`; or it is, for None."""
        self.decided = True
        self.outcome = outcome

    def add(self, data: bytes, age: float, before: wire.Seen) -> None:
        """The parts that were asked for came."""
        assert self._parts is not None
        wanted = self.wanted
        for offset, count in self.spans:
            self._parts.add(offset, data[:count])
            data = data[count:]
        self._looked += 1
        try:
            reached = endings.ended(self._parts, wanted.path.rpartition(b"/")[2])
        except endings.SpanMissingError as missing:
            if self._looked < _LOOKS:
                self.spans = [endings.next_span(missing, wanted.size_bytes)]
                return
            reached = None
        take, self.incomplete = endings.verdict(reached, age, wanted.settle_seconds, wanted.incomplete_after_seconds)
        self.decide(None if take else FileRead(wanted, ReadStatus.UNSETTLED, before.entry(wanted.path)))


async def _given(outcome: FileRead) -> FileRead:
    return outcome


def _skipped(wanted: WantedFile, answer: Answer) -> FileRead:
    """A file of which no byte came."""
    assert answer.status is not None
    entry = answer.before.entry(wanted.path) if answer.before is not None else None
    return FileRead(wanted, answer.status, entry, False, answer.message)
