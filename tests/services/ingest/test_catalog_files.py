"""What an event makes of a file in the catalog, in any order and any number of times."""

from __future__ import annotations

from dataclasses import replace

from services.ingest.subscribers.catalog.files import CatalogFile, Change, Facts, FileEvent, apply

PLAIN = Facts(10, b"hash-a", 5, "image/png", 0, 0, False, "", "", "", "", None, None, "", "", b"plain", b"")
FOUND = replace(PLAIN, prompt="a cat", seed="18446744073709551615", record=b"found", bulk=b"workflow")
SYNCED = FileEvent("synced", Change.SYNCED, 100, "sync_1", "forge", "/media", b"a.png", PLAIN)
PROCESSED = replace(SYNCED, event_id="processed", change=Change.PROCESSED, time_ns=200, facts=FOUND)
DELETED = replace(SYNCED, event_id="deleted", change=Change.DELETED, time_ns=300)


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
    assert after(SYNCED, DELETED, replace(SYNCED, event_id="again", time_ns=400)).delete_time_ns is None
    assert after(DELETED, SYNCED).delete_time_ns == 300


def test_other_content_at_the_path_starts_the_file_afresh() -> None:
    other = replace(SYNCED, event_id="other", time_ns=500, sync_id="sync_2", facts=replace(PLAIN, sha256=b"hash-b", record=b"other"))
    file = after(SYNCED, PROCESSED, DELETED, other)
    assert (file.processed, file.delete_time_ns, file.facts.record, file.sync_id) == (False, None, b"other", "sync_2")


def test_old_news_of_earlier_content_is_passed_over() -> None:
    other = replace(SYNCED, event_id="other", time_ns=500, facts=replace(PLAIN, sha256=b"hash-b"))
    file = after(SYNCED, other)
    assert apply(file, PROCESSED) is file
    assert apply(file, DELETED) is file
