"""Looks at a library and a transfer database from outside, with nothing of ours but the format of an event.

Every check raises AssertionError with the invariant's number in it.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from mediasync.v1 import media_ingest_pb2

Files = dict[bytes, bytes]
"""sha256 by path relative to a root."""


def files_below(root: Path) -> Files:
    """Every regular file, but what is in the library's own folder."""
    found = {}
    base = os.fsencode(root)
    for folder, folders, names in os.walk(base):
        if folder == base and b".mediasync" in folders:
            folders.remove(b".mediasync")
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, base)] = hashlib.sha256(file.read()).digest()
    return found


def check_visible_files_are_on_record(library: Path, database: Path) -> None:
    """I1: what is visible has its hash on record, in an intent or in the manifest, at any moment."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        recorded = dict(connection.execute("SELECT path, sha256 FROM library_files"))
        intended = dict(connection.execute("SELECT path, sha256 FROM landings"))
    for path, sha256 in files_below(library).items():
        assert sha256 in (recorded.get(path), intended.get(path)), f"I1: {path!r} is visible and not on record with its hash"


def check_nothing_was_replaced(before: Files, now: Files) -> None:
    """I2: what was there is there, with the same content."""
    for path, sha256 in before.items():
        assert now.get(path) == sha256, f"I2: {path!r} was replaced or removed"


def check_end(source: Path, library: Path, database: Path) -> None:
    """I5: the same end as if nothing had happened: every file once, on record once, told once, and nothing left lying about."""
    wanted, there = files_below(source), files_below(library)
    copies = Counter(there.values())
    doubled = {path: count for path, sha256 in there.items() if (count := copies[sha256]) > 1}
    assert not doubled, f"I5: doubled: {doubled}"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        manifest = {
            (directory + b"/" + name if directory else name): (sha256, library_path)
            for directory, name, sha256, library_path in connection.execute("SELECT directory, name, sha256, library_path FROM manifest")
        }
        index = dict(connection.execute("SELECT path, sha256 FROM library_files"))
        assert connection.execute("SELECT count(*) FROM landings").fetchone() == (0,), "I5: an intent was left open"
        events = [media_ingest_pb2.Event.FromString(row[0]) for row in connection.execute("SELECT event FROM outbox")]
    for path, sha256 in wanted.items():
        assert copies[sha256] == 1, f"I5: {path!r} is not in the library"
        assert path in manifest, f"I5: {path!r} is not in the manifest"
        assert manifest[path][0] == sha256, f"I5: {path!r} is in the manifest with another hash"
        assert there[manifest[path][1]] == sha256, f"I5: the manifest points to another file than {path!r}"
    assert index == there, "I5: the index and the library differ"
    told = Counter(event.file.library_path.raw for event in events if event.type == media_ingest_pb2.EVENT_TYPE_FILE_SYNCED)
    assert told == Counter(list(there)), f"I6: not every file was told once: {told - Counter(list(there))}, {Counter(list(there)) - told}"
    own = library / ".mediasync"
    assert sorted(path.name for path in own.iterdir()) == ["library.json", "partial", "staging"], "I5: something lies about"
    assert not list((own / "staging").iterdir()), "I5: something was left in staging"
