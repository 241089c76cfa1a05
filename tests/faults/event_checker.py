"""Compares what a subscriber wrote down with a library, from outside: the standard library, and nothing of ours.

A subscriber's notes are a SQLite database with two tables. `offers` has a row for every event that came, in the order of their coming, also
those that were refused: n, event_id, sequence, kind, sync_id, path, moved_from, content (of the event, hashed). `pictures` is what it made
of them: path, sha256. Every check raises AssertionError that says what is wrong.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

SYNC_COMPLETE = 4


@dataclass(frozen=True)
class Offer:
    """An event as it came."""

    event_id: str
    sequence: int
    kind: int
    sync_id: str
    path: bytes
    moved_from: bytes
    content: bytes

    @property
    def paths(self) -> set[bytes]:
        """Of the files that it is about."""
        return {path for path in (self.path, self.moved_from) if path}


def check(
    notes: Path, library: Path, published: Collection[str] | None, refused: Collection[str] = (), dead_letters: Collection[str] = ()
) -> None:
    """All of it: `published` are the ids of all events (None: nobody knows, but the library), `refused` of those that this subscriber takes
    never, `dead_letters` of those that were given up."""
    with closing(sqlite3.connect(notes)) as connection:
        rows = connection.execute("SELECT event_id, sequence, kind, sync_id, path, moved_from, content FROM offers ORDER BY n")
        offers = [Offer(*row) for row in rows]
        pictures = dict(connection.execute("SELECT path, sha256 FROM pictures"))
    if published is not None:
        check_nothing_is_missing(offers, published)
    check_ids_are_stable(offers)
    check_order(offers)
    check_dead_letters(refused, dead_letters)
    never = {path for offer in offers if offer.event_id in refused for path in offer.paths}
    check_pictures(pictures, library, never)


def check_nothing_is_missing(offers: Iterable[Offer], published: Collection[str]) -> None:
    """I6: every event came at least once, and none that nobody published."""
    came = {offer.event_id for offer in offers}
    assert not (missing := set(published) - came), f"I6: {len(missing)} events never came: {sorted(missing)[:3]}"
    assert not (strange := came - set(published)), f"I6: {len(strange)} events came that nobody published: {sorted(strange)[:3]}"


def check_ids_are_stable(offers: Iterable[Offer]) -> None:
    """I6: an event has the same id, number and content whenever it comes, and shares them with no other."""
    by_id: dict[str, Offer] = {}
    by_sequence: dict[int, str] = {}
    for offer in offers:
        first = by_id.setdefault(offer.event_id, offer)
        assert offer == first, f"I6: an event came back as another: {first}, {offer}"
        owner = by_sequence.setdefault(offer.sequence, offer.event_id)
        assert owner == offer.event_id, f"I6: two events have the number {offer.sequence}: {owner}, {offer.event_id}"


def check_order(offers: list[Offer]) -> None:
    """I6: a file's events come in order. They may begin again from an earlier one, and then come in order from there to the last."""
    by_path: dict[bytes, list[int]] = {}
    for offer in offers:
        for path in offer.paths:
            by_path.setdefault(path, []).append(offer.sequence)
    for path, came in by_path.items():
        place = {sequence: index for index, sequence in enumerate(sorted(set(came)))}
        reached = -1
        for sequence in came:
            assert place[sequence] <= reached + 1, f"I6: event {sequence} of {path!r} came before an earlier one: {came}"
            reached = place[sequence]
        assert reached == len(place) - 1, f"I6: the last word on {path!r} was an earlier event: {came}"
    check_ends_of_syncs(offers)


def check_ends_of_syncs(offers: list[Offer]) -> None:
    """I6: a sync is said to have ended after everything earlier of it came."""
    came: set[int] = set()
    sequences: dict[str, set[int]] = {}
    for offer in offers:
        sequences.setdefault(offer.sync_id, set()).add(offer.sequence)
    for offer in offers:
        came.add(offer.sequence)
        if offer.kind == SYNC_COMPLETE:
            late = {sequence for sequence in sequences[offer.sync_id] if sequence < offer.sequence} - came
            assert not late, f"I6: {offer.sync_id} was said to have ended before its events {sorted(late)[:5]}"


def check_dead_letters(refused: Collection[str], dead_letters: Collection[str]) -> None:
    """I6: dead letters are what was refused, each once, and nothing else."""
    assert sorted(dead_letters) == sorted(set(refused)), f"I6: dead letters {sorted(dead_letters)}, refused {sorted(refused)}"


def check_pictures(pictures: dict[bytes, bytes], library: Path, never: Collection[bytes]) -> None:
    """I6: the subscriber's table is the library. What it refused, it need not have."""
    there = {path: sha256 for path, sha256 in files_below(library).items() if path not in never}
    found = {path: sha256 for path, sha256 in pictures.items() if path not in never}
    assert found == there, f"I6: the table and the library differ in {sorted(set(found.items()) ^ set(there.items()))[:3]}"


def files_below(root: Path) -> dict[bytes, bytes]:
    """sha256 by path of every file, but what is in the library's own folder."""
    found = {}
    base = os.fsencode(root)
    for folder, folders, names in os.walk(base):
        folders[:] = [name for name in folders if name != b".mediasync"]
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, base)] = hashlib.sha256(file.read()).digest()
    return found
