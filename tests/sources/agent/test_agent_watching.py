"""Watching without the kernel's help, and what is told while nothing moves: the agent's own watcher on pipes."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mediasync.sources.agent import requests, scanned, wire
from mediasync.sources.agent.program import watching
from mediasync.sources.agent.program.frames import HEADER, Fields, GoneError, Output
from mediasync.sources.agent.program.selecting import Selecting
from mediasync.sources.agent.program.tree import Tree
from mediasync.sources.selection import EVERYTHING

pytestmark = pytest.mark.timeout(60)


@dataclass
class Watch:
    """A watcher in a thread, and what it tells."""

    root: Path
    watcher: watching.Watcher
    output: int
    end: Callable[[], None]
    thread: threading.Thread
    seen: set[bytes] = field(default_factory=set)

    def told(self) -> frozenset[bytes]:
        """The next message."""
        kind, length = HEADER.unpack(self._read(HEADER.size))
        assert kind == wire.Answer.MOVED
        return scanned.moved(self._read(length))

    def until(self, *paths: bytes) -> None:
        while not set(paths) <= self.seen:
            self.seen |= self.told()
        self.seen.clear()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += os.read(self.output, count - len(data))
        return data


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watch]]:
    """Starts a watcher of the folders that it is given."""
    here = Path.cwd()
    # The working directory is the process's: only the watcher's thread may use it here.
    monkeypatch.setattr(watching, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(watching, "SHARE", 1)
    root = tmp_path / "source"
    started: list[Watch] = []

    def begin(*known: str, heartbeat: float = 5.0) -> Watch:
        monkeypatch.setattr(watching, "HEARTBEAT_SECONDS", heartbeat)
        for path in known:
            (root / path).mkdir(parents=True, exist_ok=True)
        stdin, ours = os.pipe()
        theirs, stdout = os.pipe()
        fd = os.open(root, os.O_RDONLY)
        selection = Selecting(Fields(requests.select(EVERYTHING)[HEADER.size :]))
        directories = {path.encode(): 0 for path in known}
        watcher = watching.Watcher(stdin, Output(stdout), Tree(fd, [], 0), os.fsencode(root), selection, b"", directories)

        def run() -> None:
            with pytest.raises(GoneError):
                watcher.run()
            for end in (stdin, stdout, fd):
                os.close(end)

        thread = threading.Thread(target=run)
        thread.start()
        watch = Watch(root, watcher, theirs, lambda: os.close(ours), thread)
        started.append(watch)
        assert watch.told() == frozenset()
        return watch

    yield begin
    for watch in started:
        watch.end()
        watch.thread.join(20)
        os.close(watch.output)
        assert not watch.thread.is_alive()
    os.chdir(here)


@pytest.fixture
def without_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel that has none, or has no more room."""

    def init(self: watching.Inotify) -> None:
        self.fd, self.paths, self.watches = -1, {}, {}

    monkeypatch.setattr(watching.Inotify, "__init__", init)


@pytest.mark.usefixtures("without_inotify")
def test_without_inotify_what_comes_and_goes_is_seen_by_looking(start: Callable[..., Watch]) -> None:
    watch = start("", "a", "b")
    (watch.root / "a" / "x.txt").touch()
    watch.until(b"a")
    (watch.root / "a" / "x.txt").rename(watch.root / "b" / "x.txt")
    watch.until(b"a", b"b")
    (watch.root / "b" / "new" / "deep").mkdir(parents=True)
    watch.until(b"b", b"b/new/deep")
    (watch.root / "b" / "new" / "deep" / "y.txt").touch()
    watch.until(b"b/new/deep")
    shutil.rmtree(watch.root / "b")
    watch.until(b"", b"b", b"b/new")
    (watch.root / "b").mkdir()
    watch.until(b"b")


@pytest.mark.usefixtures("without_inotify")
def test_a_root_that_is_replaced_is_watched_anew(start: Callable[..., Watch]) -> None:
    watch = start("", "a")
    watch.root.rename(watch.root.with_name("old"))
    (watch.root / "a").mkdir(parents=True)
    watch.until(b"", b"a")
    (watch.root / "a" / "x.txt").touch()
    watch.until(b"a")


def test_a_replaced_root_is_watched_with_inotify_too(start: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "NET_SECONDS", 0.01)
    watch = start("", "a")
    watch.root.rename(watch.root.with_name("old"))
    (watch.root / "a").mkdir(parents=True)
    watch.until(b"", b"a")
    monkeypatch.setattr(watching, "NET_SECONDS", 1000.0)
    (watch.root / "a" / "x.txt").touch()
    watch.until(b"a")


def test_a_file_written_in_place_is_seen_by_inotify_alone(start: Callable[..., Watch]) -> None:
    watch = start("", "a")
    if watch.watcher.inotify.fd < 0:
        pytest.skip("no inotify here")
    (watch.root / "a" / "x.txt").touch()
    watch.until(b"a")
    with (watch.root / "a" / "x.txt").open("r+b") as file:
        file.write(b"other")
    watch.until(b"a")


def test_unfinished_files_are_not_told(start: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "NET_SECONDS", 0.2)
    watch = start("", "a", "b", heartbeat=0.05)
    if watch.watcher.inotify.fd < 0:
        pytest.skip("no inotify here")
    for name in (".hidden", "x.png.tmp"):
        (watch.root / "a" / name).touch()
    (watch.root / "b" / "x.png").touch()
    told = watch.told()
    while not told:
        told = watch.told()
    assert told == {b"b"}


def test_nothing_is_told_every_few_seconds_as_a_sign_of_life(start: Callable[..., Watch]) -> None:
    watch = start("", "a", heartbeat=0.01)
    assert [watch.told() for _ in range(3)] == [frozenset()] * 3


def test_more_directories_than_the_kernel_watches_are_looked_at(start: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch) -> None:
    add = watching.Inotify.add

    def full(self: watching.Inotify, fd: int, path: bytes) -> bool:
        if len(self.paths) == 2:
            self.close()
            return False
        return bool(add(self, fd, path))

    monkeypatch.setattr(watching.Inotify, "add", full)
    watch = start("", "a", "b", "c")
    assert watch.watcher.inotify.fd == -1
    for path in ("a", "c"):
        (watch.root / path / "x.txt").touch()
    watch.until(b"a", b"c")


def test_more_paths_than_fit_into_a_frame_are_told_in_several(start: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MANY", 3)
    monkeypatch.setattr(watching, "GATHER_SECONDS", 0.0)
    watch = start("", *[f"{number:02}" for number in range(10)])
    for number in range(10):
        (watch.root / f"{number:02}" / "x").touch()
    watch.until(*[f"{number:02}".encode() for number in range(10)])


def test_the_pause_between_rounds_follows_their_cost(start: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch) -> None:
    watch = start("", "a")
    monkeypatch.setattr(watching, "SHARE", 100)
    watch.watcher.inotify.close()
    assert watch.watcher.pause(0.0) == watching.ROUND_SECONDS
    assert watch.watcher.pause(0.02) == pytest.approx(2.0)
    assert watch.watcher.pause(60.0) == watching.LONGEST_SECONDS


def test_a_tree_that_is_moved_into_a_known_ones_place_is_watched_in_full(
    start: Callable[..., Watch], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(watching, "NET_SECONDS", 1000.0)
    watch = start("", "a", "a/b")
    if watch.watcher.inotify.fd < 0:
        pytest.skip("no inotify here")
    (tmp_path / "new" / "b").mkdir(parents=True)
    (watch.root / "a").rename(tmp_path / "old")
    watch.until(b"")
    (tmp_path / "new").rename(watch.root / "a")
    watch.until(b"", b"a", b"a/b")
    (watch.root / "a" / "b" / "x.txt").touch()
    watch.until(b"a/b")
