"""The short way and the long way of finding that nothing moved say the same, of anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasync.sources.agent.program.scanning import columns
from mediasync.sources.agent.program.tree import ENTRY, FUTURE
from mediasync.sources.base import FileEntry
from mediasync.sources.packed import Columns, PackedFiles
from mediasync.storage.database import Database
from services.transfer import manifest_store
from services.transfer.diff import diff_directory
from services.transfer.entities import LibraryId, Origin
from services.transfer.manifest_store import ManifestStore
from services.transfer.schema import MIGRATIONS, manifest

ORIGIN = Origin(1, "name:one", "one", LibraryId(1, "uuid", b"/library"))
State = tuple[int, int, int, int]


class Bench:
    """A manifest, and a loop to use it in."""

    def __init__(self, path: Path) -> None:
        self._runner = asyncio.Runner()
        self._database = Database.open(f"sqlite:///{path}", MIGRATIONS)
        self.store = ManifestStore(self._database)

    def record(self, directory: bytes, rows: dict[bytes, tuple[State, bool]]) -> None:
        """Makes `rows` all that is on record."""
        keys = ["name", "size_bytes", "mtime_ns", "ctime_ns", "inode", "vanished"]
        same = {"origin": 1, "directory": directory, "sha256": bytes(32), "library_path": b"", "incomplete": False, "sync_id": "sync_1"}
        values = [same | dict(zip(keys, (name, *state, gone), strict=True)) for name, (state, gone) in rows.items()]
        self._runner.run(self._database.write(lambda connection: connection.execute(manifest.delete())))
        if values:
            self._runner.run(self._database.write(lambda connection: connection.execute(manifest.insert(), values)))

    def both(self, directory: bytes, files: list[FileEntry], after: bytes | None, upto: bytes | None) -> tuple[bool, bool]:
        """What the short way says, and what the long one."""
        packed = pack(directory, files)
        held = self._runner.run(self.store.holds(ORIGIN, directory, after, upto, packed))
        rows = self._runner.run(self.store.states(ORIGIN, directory, after, upto, 10_000))
        difference = diff_directory(directory, files, rows, complete=True)
        return held, not (difference.wanted or difference.doubtful or difference.vanished)

    def close(self) -> None:
        self._runner.run(self._database.close())
        self._runner.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "transfer.db")
    yield made
    made.close()


def pack(directory: bytes, files: list[FileEntry]) -> PackedFiles:
    """Files as the agent tells them."""
    prefix = directory + b"/" if directory else b""
    items = [
        entry.path.removeprefix(prefix) + b"\0" + ENTRY.pack(entry.size_bytes, entry.mtime_ns, entry.ctime_ns, entry.inode)
        for entry in files
    ]
    # Each column comes with its length in front.
    return PackedFiles(prefix, len(files), Columns(*(column[4:] for column in columns(items))), 255)


def unpack(directory: bytes, states: dict[bytes, State]) -> list[FileEntry]:
    prefix = directory + b"/" if directory else b""
    return [FileEntry(prefix + name, *state) for name, state in sorted(states.items())]


_names = st.binary(min_size=1, max_size=3).filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))
_times = st.sampled_from([0, 1, 10, 11, -1, 1_790_000_000_000_000_000, FUTURE, -FUTURE])
_states = st.tuples(st.sampled_from([0, 1, 11, (1 << 63) - 1]), _times, _times, st.sampled_from([1, (1 << 63) - 1]))
_directories = st.sampled_from([b"", b"d", b"\xff/e"])


@given(_directories, st.dictionaries(_names, _states, min_size=1))
def test_what_the_agent_tells_comes_out_as_it_went_in(directory: bytes, states: dict[bytes, State]) -> None:
    files = unpack(directory, states)
    packed = pack(directory, files)
    assert (list(packed), len(packed), packed.last_name) == (files, len(files), max(states))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    directory=_directories,
    rows=st.dictionaries(_names, st.tuples(_states, st.booleans())),
    moved=st.dictionaries(_names, st.none() | _states, max_size=2),
    ends=st.tuples(st.none() | _names, st.none() | _names),
)
def test_the_short_way_says_what_the_long_one_says(
    bench: Bench,
    directory: bytes,
    rows: dict[bytes, tuple[State, bool]],
    moved: dict[bytes, State | None],
    ends: tuple[bytes | None, bytes | None],
) -> None:
    after, upto = ends
    there = {name: state for name, (state, gone) in rows.items() if not gone} | moved
    states = {
        name: state
        for name, state in there.items()
        if state is not None and (after is None or name > after) and (upto is None or name <= upto)
    }
    if not states:
        return
    bench.record(directory, rows)
    short, long = bench.both(directory, unpack(directory, states), after, upto)
    # SQLite has no whole number for the widest lag there is: there the long way decides.
    assert short == (long and all(ctime - mtime < 1 << 63 for _, mtime, ctime, _ in states.values()))


def test_columns_that_only_look_alike_are_told_apart(bench: Bench) -> None:
    bench.record(b"d", {b"a": ((1, 11, 11, 1), False), b"b": ((11, 1, 1, 1), False)})
    files = unpack(b"d", {b"a": (11, 1, 1, 1), b"b": (1, 11, 11, 1)})
    assert bench.both(b"d", files, None, None) == (False, False)


def test_many_rows_that_the_source_has_no_more_are_not_gathered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_store, "_SURPLUS_ROWS", 3)
    there = {b"%03d" % number: (1, 1, 1, 1) for number in range(10)}
    bench.record(b"d", {name: (state, False) for name, state in there.items()} | {b"x%03d" % n: ((1, 1, 1, 1), True) for n in range(14)})
    assert bench.both(b"d", unpack(b"d", there), None, None) == (False, True), "the long way goes by pages"
    assert bench.both(b"d", unpack(b"d", there), None, b"009") == (True, True)
