"""Dead letters and side queues, in SQL that every database speaks. See `store.DeadLetterStore`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from services.ingest import framing
from services.ingest.events import FILE_KEY_BYTES, DeadLetter, LoggedEvent
from services.ingest.log_rows import measured, measured_page, of_file
from services.ingest.requests_store import Raw, RawDatabase, earlier_answer, remember
from services.ingest.subscription_store import check_known

_EVENT = "event_id, kind, file_key, sync_id, traceparent, append_time_ns, payload"
_BURIED = f"subscription, sequence, {_EVENT}, reason, answer, attempts, first_attempt_ns, time_ns"
_LETTER = f"number, {_BURIED}"


class SqlLetterStore:
    """Dead letters, and the queues that they are offered again from."""

    def __init__(self, database: RawDatabase) -> None:
        self._raw_database = database

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> None:
            now = time.time_ns()
            raw.executemany(
                f"INSERT INTO letters ({_BURIED}) VALUES (?{', ?' * 13})"
                " ON CONFLICT (subscription, event_id) DO UPDATE SET"
                " reason = excluded.reason, answer = excluded.answer, attempts = excluded.attempts, time_ns = excluded.time_ns",
                [_letter_values(letter, now) for letter in letters],
            )

        await self._raw_database.write(work)

    async def dead_letters(self, subscription: str, before: int, limit: int) -> list[DeadLetter]:
        """See `DeadLetterStore`."""
        found, values = ["true"], []
        if subscription:
            found.append("subscription = ?")
            values.append(subscription)
        if before:
            found.append(f"number < {int(before)}")
        query = f"SELECT {_LETTER} FROM letters WHERE {' AND '.join(found)} ORDER BY number DESC LIMIT {int(limit)}"
        return await self._raw_database.read(lambda raw: [_letter(row) for row in raw.execute(query, values)])

    async def dead_letter(self, number: int) -> DeadLetter | None:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> DeadLetter | None:
            row = raw.execute(f"SELECT {_LETTER} FROM letters WHERE number = ?", (number,)).fetchone()
            return _letter(row) if row else None

        return await self._raw_database.read(work)

    async def count_dead_letters(self) -> Mapping[str, int]:
        """See `DeadLetterStore`."""
        query = "SELECT subscription, count(*) FROM letters GROUP BY subscription"
        return await self._raw_database.read(lambda raw: dict(raw.execute(query).fetchall()))

    async def rejected_of_sync(self, subscription: str, sync_id: str) -> int:
        """See `DeadLetterStore`."""
        query = "SELECT count(*) FROM letters WHERE subscription = ? AND sync_id = ?"
        return await self._raw_database.read(lambda raw: int(raw.execute(query, (subscription, sync_id)).fetchone()[0]))

    async def drop_dead_letters(self, request_id: str, body: str, subscription: str, numbers: Sequence[int]) -> int:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> int:
            if (answer := earlier_answer(raw, request_id, body)) is not None:
                return int(answer["letters"])
            chosen = _chosen(raw, subscription, numbers)
            raw.executemany("DELETE FROM letters WHERE number = ?", [(number,) for number, _, _ in chosen])
            remember(raw, request_id, body, {"letters": len(chosen)})
            return len(chosen)

        return await self._raw_database.write(work)

    async def retry_dead_letters(self, request_id: str, body: str, subscription: str, numbers: Sequence[int]) -> int:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> int:
            if (answer := earlier_answer(raw, request_id, body)) is not None:
                return int(answer["letters"])
            chosen = _chosen(raw, subscription, numbers)
            _queue(raw, subscription, chosen)
            remember(raw, request_id, body, {"letters": len(chosen)})
            return len(chosen)

        return await self._raw_database.write(work)

    async def forgive(self, subscription: str, event_ids: Sequence[str]) -> None:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> None:
            raw.executemany(
                "DELETE FROM letters WHERE subscription = ? AND event_id = ?", [(subscription, event_id) for event_id in event_ids]
            )

        await self._raw_database.write(work)

    async def put_side_events(self, subscription: str, events: Sequence[LoggedEvent]) -> None:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> None:
            raw.executemany(
                f"INSERT INTO side_events (subscription, {_EVENT}) VALUES (?{', ?' * 7})", [(subscription, *event[1:]) for event in events]
            )

        await self._raw_database.write(work)

    async def side_events(self, subscription: str, after: int, limit: int, max_bytes: int) -> tuple[list[LoggedEvent], int]:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> tuple[list[LoggedEvent], int]:
            queued = f"SELECT number AS sequence, {_EVENT} FROM side_events WHERE subscription = ? AND number > ? ORDER BY number LIMIT ?"
            rows = raw.execute(measured(queued), (subscription, after, limit, max_bytes)).fetchall()
            events, _ = measured_page(rows, after, limit)
            return events, events[-1].sequence if events else after

        return await self._raw_database.read(work)

    async def drop_side_events(self, subscription: str, upto: int) -> None:
        """See `DeadLetterStore`."""

        def work(raw: Raw) -> None:
            raw.execute("DELETE FROM side_events WHERE subscription = ? AND number <= ?", (subscription, upto))

        await self._raw_database.write(work, durable=False)


def _chosen(raw: Raw, subscription: str, numbers: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """Number, sequence and file key of the letters meant, by sequence."""
    check_known(raw, subscription)
    asked = f" AND number IN ({','.join(str(int(number)) for number in numbers)})" if numbers else ""
    return raw.execute(
        f"SELECT number, sequence, file_key FROM letters WHERE subscription = ?{asked} ORDER BY sequence, number", (subscription,)
    ).fetchall()


def _queue(raw: Raw, subscription: str, letters: Iterable[tuple[int, int, bytes]]) -> None:
    """Puts the letters and the later events of their files into the side queue, each once, in log order."""
    entries: dict[int, tuple[str, int]] = {}
    made_up: list[tuple[str, int]] = []
    first: dict[bytes, int] = {}
    for number, sequence, key in letters:
        if sequence:
            entries[sequence] = ("letters WHERE number", number)
        else:
            # From a snapshot: in no log, and older than all that the log has of its file.
            made_up.append(("letters WHERE number", number))
        for at in range(0, len(key), FILE_KEY_BYTES):
            file = key[at : at + FILE_KEY_BYTES]
            first[file] = min(sequence, first.get(file, sequence))
    for file, sequence in first.items():
        for later in of_file(raw, file, sequence):
            entries.setdefault(later, ("log WHERE sequence", later))
    for place, value in [*made_up, *(entry for _, entry in sorted(entries.items()))]:
        raw.execute(f"INSERT INTO side_events (subscription, {_EVENT}) SELECT ?, {_EVENT} FROM {place} = ?", (subscription, value))


def _letter_values(letter: DeadLetter, now: int) -> tuple[object, ...]:
    said = letter.time_ns or now
    # Read from a side queue, an event has its place there as its sequence; what counts is the one in its bytes.
    sequence = framing.sequence_of(letter.event.payload)
    return (
        letter.subscription,
        sequence,
        *letter.event[1:],
        letter.reason,
        letter.answer,
        letter.attempts,
        letter.first_attempt_ns or said,
        said,
    )


def _letter(row: tuple[object, ...]) -> DeadLetter:
    number, subscription, *event = row[:10]
    reason, answer, attempts, first_attempt_ns, time_ns = row[10:]
    return DeadLetter(number, subscription, LoggedEvent._make(event), reason, attempts, answer, first_attempt_ns, time_ns)  # type: ignore[arg-type]
