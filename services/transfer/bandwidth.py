"""How fast bytes may come: a limit for each run and one for all runs together, by timetable, changed while they run.

Where bytes are read in this process, the connections of a run share a token bucket: `Limits.pace` gives what counts them. A bucket
may be overdrawn, by the piece of data that was just read; nothing more is to be read until that is made up for, so that the rate holds
whatever the size of the pieces. It saves up a tenth of a second's worth at most.

Where they are read in receiver processes, each of these *lanes* keeps a bucket of its own (`LanePace`), which `Limits.share` tells
how fast to fill. The limit for all is divided among runs, and a run's limit among its lanes, twice a second from what was counted:
those that use up their part share equally what the others leave. An idle one keeps a little beyond what it uses, so as to show when it
wants more; what came too fast by that is made up for in the next second.

Pure but for the clocks, which can be handed in. What it does not promise: that the far side is held back at once. What was on its way
still comes; it is counted, and made up for.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from datetime import time as time_of_day

from mediasync.bandwidth import limit_at
from mediasync.model import SyncOptions

_BURST_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_DIVIDE_SECONDS = 0.5
_HUNGRY = 0.9
# What one that does not use up its part may have beyond what it uses: this times that, and a share of the whole.
_GROWTH = 1.25
_KEPT = 0.02
_REPAID_SECONDS = 1.0
_LEAST = 0.1
_MOST_OVERRIDES = 1000
_BYTES_A_MEGABIT = 125_000.0


class _Bucket:
    """Bytes that may come. Below zero, more came than might have. Without a rate there is no limit."""

    def __init__(self, now: float) -> None:
        self._rate: float | None = None
        self._bytes = 0.0
        self._filled = now

    def fill(self, rate: float | None, now: float) -> None:
        """Adds what has become free since the last time, and goes on at `rate` bytes a second."""
        if self._rate is None or rate is None:
            self._bytes = 0.0
        else:
            self._bytes = min(self._bytes + (now - self._filled) * self._rate, rate * _BURST_SECONDS)
        self._rate, self._filled = rate, now

    def take(self, count: int) -> float:
        """So many bytes came. Returns the seconds until that is made up for."""
        if self._rate is None:
            return 0.0
        self._bytes -= count
        return max(-self._bytes / self._rate, 0.0)


class LanePace:
    """The pace of one lane, in its own process. See `mediasync.sources.base.Pace`."""

    def __init__(self, bytes_per_second: float | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._rate = bytes_per_second
        self._bucket = _Bucket(monotonic())
        self._bucket.fill(bytes_per_second, monotonic())

    def set_rate(self, bytes_per_second: float | None) -> None:
        """From now on it is this fast; None for no limit."""
        self._rate = bytes_per_second
        self._bucket.fill(bytes_per_second, self._monotonic())

    def took(self, count: int) -> float:
        """So many bytes came in. Returns for how many seconds nothing more should be taken."""
        if self._rate is None:
            return 0.0
        self._bucket.fill(self._rate, self._monotonic())
        return self._bucket.take(count)


@dataclass(eq=False)
class _Part:
    """What one of several gets of a limit. Bytes, and bytes a second."""

    counted: int = 0
    used: float | None = None
    given: float | None = None
    ceiling: float | None = None

    @property
    def hungry(self) -> bool:
        """Whether it might use more than it was given, as far as is known."""
        return self.used is None or self.given is None or self.used >= _HUNGRY * self.given

    @property
    def wanted(self) -> float:
        """What it uses, or all that it can get."""
        return self.most if self.used is None or self.hungry else min(self.used, self.most)

    @property
    def most(self) -> float:
        """More is of no use to it."""
        return float("inf") if self.ceiling is None else self.ceiling


class _Division:
    """A limit that several share."""

    def __init__(self) -> None:
        self._limit: float | None = None
        self._debt = 0.0

    def anew(self, parts: Sequence[_Part]) -> None:
        """Who they are, or what they may, has changed: what each used of the former says nothing."""
        self._limit, self._debt = None, 0.0
        for part in parts:
            part.counted, part.used, part.given = 0, None, None

    def divide(self, limit: float | None, parts: Sequence[_Part], seconds: float) -> None:
        """Gives each its part of `limit`; `seconds` have gone by since the last time."""
        if self._limit is not None and seconds > 0:
            counted = sum(part.counted for part in parts)
            self._debt = max(self._debt + counted - self._limit * seconds, -_BURST_SECONDS * self._limit)
            for part in parts:
                now = part.counted / seconds
                part.used = now if part.used is None else (part.used + now) / 2
        for part in parts:
            part.counted = 0
        self._limit = limit
        if limit is None:
            self._debt = 0.0
            for part in parts:
                part.given = part.ceiling
        elif parts:
            self._give(max(limit - max(self._debt, 0.0) / _REPAID_SECONDS, limit * _LEAST), parts)

    def _give(self, limit: float, parts: Sequence[_Part]) -> None:
        # Those that want the least first: what they leave goes to the others. Looked at before anything is given anew.
        wanting = sorted(((part.wanted, part.hungry, part) for part in parts), key=lambda entry: entry[0])
        left = limit
        for place, (wanted, hungry, part) in enumerate(wanting):
            level = left / (len(wanting) - place)
            if hungry or wanted > level:
                part.given = min(level, part.most)
                left -= part.given
            else:
                part.given = min(wanted * _GROWTH + limit * _KEPT, level, part.most)
                left -= wanted
        if left > 0 and not any(hungry for _, hungry, _ in wanting):
            # Nobody wants it; then whoever comes to want it need not wait.
            for wanted, _, part in wanting:
                part.given = min(wanted + left / len(parts), part.most)


class _Limit:
    """A limit as it is written, looked up at most once a second."""

    def __init__(self, megabits: float, timetable: Sequence[str]) -> None:
        self.megabits = megabits
        self.timetable = timetable
        self._rate: float | None = None
        self._looked: float | None = None

    def rate(self, now: float, local_time: Callable[[], time_of_day]) -> float | None:
        """Bytes a second, None for no limit."""
        if self._looked is None or now - self._looked >= _LOOK_SECONDS:
            megabits = limit_at(local_time(), self.megabits, self.timetable) if self.timetable else self.megabits
            self._rate = megabits * _BYTES_A_MEGABIT if megabits > 0 else None
            self._looked = now
        return self._rate


class _Run:
    """One run while anything of it is paced."""

    def __init__(self, limit: _Limit, now: float) -> None:
        self.limit = limit
        self.bucket = _Bucket(now)
        self.part = _Part()
        self.division = _Division()
        self.shares: weakref.WeakSet[Share] = weakref.WeakSet()

    def lanes(self) -> list[_Part]:
        return [lane for share in self.shares for lane in share.parts]


class RunPace:
    """The pace of a run's connections in this process. See `mediasync.sources.base.Pace`."""

    def __init__(self, limits: Limits, run: _Run) -> None:
        self._limits = limits
        self._run = run

    def took(self, count: int) -> float:
        """So many bytes came in. Returns for how many seconds nothing more should be taken."""
        return self._limits._took(self._run, count)


class Share:
    """A run's lanes that are open together, numbered from 0. Let go of it when they are closed."""

    def __init__(self, limits: Limits, run: _Run, lanes: int) -> None:
        self._limits = limits
        self._run = run
        self.parts = tuple(_Part() for _ in range(lanes))

    def took(self, lane: int, count: int) -> None:
        """The lane has reported that so many more bytes came in."""
        self.parts[lane].counted += count
        self._limits._count(self._run, count)

    def rate(self, lane: int) -> float | None:
        """How fast the lane may be now, in bytes a second; None for no limit. To be asked again a few times a second."""
        self._limits._divided()
        return self.parts[lane].given

    def close(self) -> None:
        """The lanes are closed; what they had goes to others."""
        self._run.shares.discard(self)
        self._limits._divide_anew()


class Limits:
    """The limits of all runs of a worker. Belongs to the event loop's thread.

    A run is known while any of its paces or shares is held.
    """

    def __init__(
        self,
        total_megabits: float = 0.0,
        total_timetable: Sequence[str] = (),
        *,
        monotonic: Callable[[], float] = time.monotonic,
        local_time: Callable[[], time_of_day] = lambda: datetime.now().astimezone().time(),
    ) -> None:
        self._monotonic = monotonic
        self._local_time = local_time
        self._total = _Limit(total_megabits, total_timetable)
        self._division = _Division()
        self._divided_at: float | None = None
        self._runs: weakref.WeakValueDictionary[str, _Run] = weakref.WeakValueDictionary()
        self._overrides: OrderedDict[str, float] = OrderedDict()
        self.changed = asyncio.Event()
        """Set, and replaced by another, when a limit was changed."""

    def pace(self, sync_id: str, options: SyncOptions) -> RunPace:
        """What counts the bytes of a run that are read in this process."""
        return RunPace(self, self._run(sync_id, options))

    def share(self, sync_id: str, options: SyncOptions, lanes: int) -> Share:
        """What tells so many receivers of a run how fast they may be."""
        run = self._run(sync_id, options)
        share = Share(self, run, lanes)
        run.shares.add(share)
        self._divide_anew()
        return share

    def rate_for(self, sync_id: str, lanes: int) -> float | None:
        """How fast each of so many equal lanes of a run may be now, in bytes a second, if they are all that it has; None for no limit."""
        now = self._monotonic()
        self._divided()
        run = self._runs.get(sync_id)
        rate = self._total.rate(now, self._local_time) if run is None else run.part.given
        return None if rate is None else rate / lanes

    def set(self, sync_id: str, megabits: float | None) -> None:
        """Changes the limit of a run, now and for what of it begins later: megabits a second in place of its options and its timetable, 0
        for none. None gives it back what its options say."""
        if megabits is None:
            self._overrides.pop(sync_id, None)
        else:
            self._overrides[sync_id] = megabits
            self._overrides.move_to_end(sync_id)
            while len(self._overrides) > _MOST_OVERRIDES:
                self._overrides.popitem(last=False)
        self._divide_anew()
        self.changed.set()
        self.changed = asyncio.Event()

    def _run(self, sync_id: str, options: SyncOptions) -> _Run:
        run = self._runs.get(sync_id)
        written = _Limit(options.bandwidth_limit_mbps, options.bandwidth_timetable)
        if run is None:
            run = self._runs[sync_id] = _Run(written, self._monotonic())
            self._divide_anew()
        run.limit = written
        return run

    def _rate_of(self, sync_id: str, run: _Run, now: float) -> float | None:
        megabits = self._overrides.get(sync_id)
        if megabits is None:
            return run.limit.rate(now, self._local_time)
        return megabits * _BYTES_A_MEGABIT if megabits > 0 else None

    def _count(self, run: _Run, count: int) -> None:
        self._divided()
        run.part.counted += count

    def _took(self, run: _Run, count: int) -> float:
        self._count(run, count)
        run.bucket.fill(run.part.given, self._monotonic())
        return run.bucket.take(count)

    def _divide_anew(self) -> None:
        """At the next opportunity: those who share, or what they share, are others now."""
        self._divided_at = None

    def _divided(self) -> None:
        """Divides what there is among runs and lanes, if it is time to."""
        now = self._monotonic()
        seconds = now - self._divided_at if self._divided_at is not None else 0.0
        if self._divided_at is not None and seconds < _DIVIDE_SECONDS:
            return
        runs = list(self._runs.items())
        total = self._total.rate(now, self._local_time)
        ceilings = [self._rate_of(sync_id, run, now) for sync_id, run in runs]
        if self._divided_at is None or ceilings != [run.part.ceiling for _, run in runs]:
            self._division.anew([run.part for _, run in runs])
            for (_, run), ceiling in zip(runs, ceilings, strict=True):
                run.part.ceiling = ceiling
                run.division.anew(run.lanes())
        self._divided_at = now
        self._division.divide(total, [run.part for _, run in runs], seconds)
        for _, run in runs:
            run.division.divide(run.part.given, run.lanes(), seconds)
