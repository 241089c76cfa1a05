"""What an event makes of a file in the catalog, in any order and any number of times."""

from __future__ import annotations

from services.ingest.subscribers.catalog.files import CatalogFile, Change, Changes, Facts, FileEvent, apply, changes

PLAIN = Facts(10, b"hash-a", 5, "image/png", 0, 0, False, "", "", "", "", None, None, "", "", b"plain", b"")
FOUND = PLAIN._replace(prompt="a cat", seed="18446744073709551615", record=b"found", bulk=b"workflow")
SYNCED = FileEvent("synced", Change.SYNCED, 100, "sync_1", "forge", "/media", b"a.png", PLAIN)
PROCESSED = SYNCED._replace(event_id="processed", change=Change.PROCESSED, time_ns=200, facts=FOUND)
DELETED = SYNCED._replace(event_id="deleted", change=Change.DELETED, time_ns=300)


def after(*events: FileEvent) -> CatalogFile:
    file = None
    for event in events:
        file = apply(file, event)
    assert file is not None
    return file


def test_a_file_is_what_its_events_say() -> None:
    file = after(SYNCED, PROCESSED, DELETED)
    assert (file.sync_id, file.source, file.sync_time_ns, file.processed, file.delete_time_ns) == ("sync_1", "forge", 100, True, 300)
    assert file.facts == FOUND


def test_processed_before_synced_ends_the_same() -> None:
    assert after(PROCESSED, SYNCED, DELETED) == after(SYNCED, PROCESSED, DELETED)


def test_a_repeated_event_changes_nothing() -> None:
    file = after(SYNCED, PROCESSED, DELETED)
    for event in (SYNCED, PROCESSED, DELETED):
        assert apply(file, event) is file


def test_a_file_that_comes_back_to_its_source_is_no_longer_deleted_there() -> None:
    assert after(SYNCED, DELETED, SYNCED._replace(event_id="again", time_ns=400)).delete_time_ns is None
    assert after(DELETED, SYNCED).delete_time_ns == 300


def test_other_content_at_the_path_starts_the_file_afresh() -> None:
    other = SYNCED._replace(event_id="other", time_ns=500, sync_id="sync_2", facts=PLAIN._replace(sha256=b"hash-b", record=b"other"))
    file = after(SYNCED, PROCESSED, DELETED, other)
    assert (file.processed, file.delete_time_ns, file.facts.record, file.sync_id) == (False, None, b"other", "sync_2")


def test_old_news_of_earlier_content_is_passed_over() -> None:
    other = SYNCED._replace(event_id="other", time_ns=500, facts=PLAIN._replace(sha256=b"hash-b"))
    file = after(SYNCED, other)
    assert apply(file, PROCESSED) is file
    assert apply(file, DELETED) is file


MOVED = SYNCED._replace(event_id="moved", time_ns=400, library_path=b"b.png", moved_from=b"a.png", place=b"+b")
# What a library may hold at b.png before the move.
THERE = SYNCED._replace(event_id="there", time_ns=300, library_path=b"b.png", sync_id="sync_2")
OTHER = THERE._replace(facts=PLAIN._replace(sha256=b"hash-b", record=b"other"))


def library(*events: FileEvent) -> dict[bytes, CatalogFile]:
    """The files that there are after `events`."""
    return {file.library_path: file for file in changes([], events).added}


def stored(*events: FileEvent) -> list[CatalogFile]:
    """The same as the database has them."""
    return [file._replace(number=number) for number, file in enumerate(changes([], events).added, 1)]


def test_a_file_that_moved_stays_the_file_it_was() -> None:
    (path, file), *rest = library(SYNCED, PROCESSED, MOVED).items()
    assert (path, rest) == (b"b.png", [])
    assert (file.sync_id, file.sync_time_ns, file.processed, file.facts.prompt) == ("sync_1", 100, True, "a cat")
    assert (file.facts.record, file.facts.bulk) == (b"found+b", b"workflow")
    assert changes(stored(SYNCED, PROCESSED), [MOVED]) == Changes([], [file._replace(number=1)], [], [])


def test_a_file_that_nobody_knew_moves_to_where_it_is_new() -> None:
    (file,) = library(MOVED).values()
    assert (file.library_path, file.facts, file.sync_time_ns) == (b"b.png", PLAIN, 400)


def test_what_is_at_the_old_path_by_now_stays_there() -> None:
    assert library(SYNCED, OTHER._replace(library_path=b"a.png"), MOVED).keys() == {b"a.png", b"b.png"}
    again = SYNCED._replace(event_id="again", time_ns=500)
    assert library(SYNCED, MOVED, again, MOVED).keys() == {b"a.png", b"b.png"}


def test_of_two_at_the_new_path_the_content_that_came_last_stays() -> None:
    assert changes(stored(SYNCED, OTHER), [MOVED]).dropped == [2]
    later = OTHER._replace(time_ns=900)
    assert changes(stored(SYNCED, later), [MOVED]) == Changes([1], [], [], [])
    assert library(SYNCED, later, MOVED)[b"b.png"].facts.record == b"other"


def test_two_that_are_the_same_become_the_one_that_more_is_known_of() -> None:
    assert changes(stored(SYNCED, PROCESSED, THERE), [MOVED]).dropped == [2]
    assert changes(stored(SYNCED, THERE), [MOVED]).dropped == [1]
    assert library(SYNCED, PROCESSED, THERE, MOVED)[b"b.png"].processed


def test_a_life_with_a_move_that_is_told_again_ends_the_same() -> None:
    life = (OTHER, SYNCED, PROCESSED, MOVED, PROCESSED._replace(event_id="p", library_path=b"b.png", time_ns=500))
    ended = library(*life)
    assert ended.keys() == {b"b.png"}
    for start in range(len(life)):
        again = library(*life, *life[start:])
        assert {path: (file.facts.sha256, file.processed) for path, file in again.items()} == {b"b.png": (b"hash-a", True)}
    back = MOVED._replace(event_id="back", time_ns=600, library_path=b"a.png", moved_from=b"b.png", place=b"+a")
    assert library(*life, back, *life, back).keys() == {b"a.png"}


def test_files_may_change_places_in_one_batch() -> None:
    files = stored(SYNCED, OTHER)
    there = [MOVED._replace(event_id=f"m{number}") for number in range(3)]
    aside = there[0]._replace(library_path=b"c.png")
    over = there[1]._replace(library_path=b"a.png", moved_from=b"b.png", facts=OTHER.facts)
    back = there[2]._replace(moved_from=b"c.png")
    result = changes(files, [aside, over, back])
    assert [(file.number, file.library_path) for file in result.moved] == [(2, b"a.png"), (1, b"b.png")]
    assert (result.dropped, result.changed, result.added) == ([], [], [])
