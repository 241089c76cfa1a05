"""Rows of the log that every database has alike: how they are numbered, counted, cut into pages, and found by their file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.ingest import framing
from services.ingest.events import FILE_KEY_BYTES, LoggedEvent, NewEvent
from services.ingest.requests_store import Raw

SEGMENT_EVENTS = 10_000
"""The log is measured, and pruned, by segments of so many sequence numbers."""
ROW_BYTES = 250
"""What an event takes beside its payload, roughly: its other columns and its places in three indexes."""
LOOKED_AT = 20_000
"""Events that one reading looks at, however few of them are wanted."""
COLUMNS = "sequence, event_id, kind, file_key, sync_id, traceparent, append_time_ns, payload"
MOVE_BYTES = 2 * FILE_KEY_BYTES
HIGHEST = b"\xff" * FILE_KEY_BYTES
"""Behind a key: no key that begins with it is larger."""
_ALL = 1 << 62
SEGMENT_OF = f"(({{}} - 1) / {SEGMENT_EVENTS})"
"""The number of the segment that a sequence number is in. Files are indexed within it: over the whole log the keys, which are hashes, would
make every event touch a page of its own of a large index."""
_SEGMENTS_A_READING = 10
_OF_SYNC = f"""WITH keys (key) AS (
        SELECT substr(file_key, 1, {FILE_KEY_BYTES}) FROM log WHERE sync_id = ? AND length(file_key) > 0
        UNION SELECT substr(file_key, {FILE_KEY_BYTES + 1}, {FILE_KEY_BYTES}) FROM log WHERE sync_id = ? AND length(file_key) = {MOVE_BYTES}
    )
    SELECT sequence FROM log WHERE sync_id = ? AND sequence > ? AND sequence <= ?
    UNION SELECT sequence FROM log WHERE {SEGMENT_OF.format("sequence")} = ? AND +sequence > ? AND +sequence <= ?
        AND (substr(file_key, 1, {FILE_KEY_BYTES}) IN (SELECT key FROM keys)
            OR substr(file_key, {FILE_KEY_BYTES + 1}, {FILE_KEY_BYTES}) IN (SELECT key FROM keys))
    ORDER BY 1 LIMIT ?"""


def of_file(raw: Raw, key: bytes, after: int, limit: int = _ALL) -> list[int]:
    """The first events after one that are about a file, wherever in their key it stands. Looked up in one segment after the other."""
    # The signs: SQLite takes the index for a bare value only, and would rather go by the sequence number than by it.
    found = raw.execute(
        f"SELECT log.sequence FROM segments CROSS JOIN log WHERE {SEGMENT_OF.format('log.sequence')} = +segments.number"
        " AND log.file_key >= ? AND log.file_key <= ? AND segments.number >= ? AND +log.sequence > ?"
        " UNION SELECT sequence FROM log_moves WHERE old_key = ? AND sequence > ? ORDER BY 1 LIMIT ?",
        (key, key + HIGHEST, after // SEGMENT_EVENTS, after, key, after, limit),
    )
    return [number for (number,) in found]


def of_sync(raw: Raw, sync_id: str, after: int, upto: int, limit: int) -> tuple[list[int], int]:
    """The first events after one that are of a sync, or of its files from its first event on, and up to where was looked."""
    (first,) = raw.execute("SELECT min(sequence) FROM log WHERE sync_id = ?", (sync_id,)).fetchone()
    if first is None:
        return [], max(after, upto)
    after = max(after, first - 1)
    for _ in range(_SEGMENTS_A_READING):
        if after >= upto:
            break
        segment = after // SEGMENT_EVENTS
        end = min(upto, (segment + 1) * SEGMENT_EVENTS)
        found = raw.execute(_OF_SYNC, (sync_id, sync_id, sync_id, after, end, segment, after, end, limit)).fetchall()
        if found:
            return [number for (number,) in found], found[-1][0] if len(found) >= limit else end
        after = end
    return [], after


def measured(events: str) -> str:
    """A query for the first of `events` that have no more than so many bytes of payload, one at least: for a driver that fetches all that
    a query gives. Behind the columns stands how many there would have been but for their size."""
    sizes = "sum(length(payload)) OVER (ORDER BY sequence ROWS UNBOUNDED PRECEDING) AS size"
    counts = "count(*) OVER () AS found, row_number() OVER (ORDER BY sequence) AS place"
    return (
        f"SELECT {COLUMNS}, found FROM (SELECT *, {sizes}, {counts} FROM ({events}) AS these) AS measured"
        " WHERE place = 1 OR size <= ? ORDER BY sequence"
    )


def measured_page(rows: Sequence[Sequence[object]], upto: int, limit: int) -> tuple[list[LoggedEvent], int]:
    """As `page`, of rows of `measured`."""
    events = [LoggedEvent._make(row[:-1]) for row in rows]
    ended = not rows or (rows[0][-1] == len(events) < limit)
    return events, upto if ended else events[-1].sequence


def page(rows: Iterable[Sequence[object]], upto: int, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
    """The events of rows, before `max_bytes` but for the first, and up to where was read: `upto` when the rows ended by themselves."""
    events: list[LoggedEvent] = []
    size = 0
    for event in map(LoggedEvent._make, rows):
        size += len(event.payload)
        if events and size > max_bytes:
            return events, events[-1].sequence
        events.append(event)
    return events, events[-1].sequence if len(events) >= limit else upto


def numbered(events: Sequence[NewEvent], last: int, now: int, known: dict[str, int]) -> tuple[list[int], list[LoggedEvent]]:
    """The number of each, and rows of those that have none yet."""
    rows: list[LoggedEvent] = []
    numbers: list[int] = []
    for event in events:
        number = known.get(event.event_id)
        if number is None:
            last += 1
            number = known[event.event_id] = last
            payload = framing.with_sequence(event.payload, number)
            rows.append(
                LoggedEvent(number, event.event_id, int(event.kind), event.file_key, event.sync_id, event.traceparent, now, payload)
            )
        numbers.append(number)
    return numbers, rows


def moves_of(rows: Iterable[LoggedEvent]) -> list[tuple[bytes, int]]:
    """The places that files left, and by which event."""
    return [(row.file_key[FILE_KEY_BYTES:], row.sequence) for row in rows if len(row.file_key) == MOVE_BYTES]


def counted(rows: Iterable[LoggedEvent]) -> list[tuple[int, int, int]]:
    """Of each segment that the rows are in, its number, their bytes and how many they are."""
    segments: dict[int, list[int]] = {}
    for row in rows:
        count = segments.setdefault((row.sequence - 1) // SEGMENT_EVENTS, [0, 0])
        count[0] += len(row.payload) + ROW_BYTES
        count[1] += 1
    return [(number, size, events) for number, (size, events) in segments.items()]
