"""What others do to a source and a library while they are cleaned up, at random: `log` says what it was."""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable

from tests.faults.cleanup.byte_checker import Ledger

# Below 64 KiB the agent hashes in its one thread, so that nothing of it moves while it waits.
_SIZES = (0, 1, 7, 7, 7, 300, 5_000, 40_000)
_NAMES = (
    *(b"%05d-%d.txt" % (number, number * 7) for number in range(8)),
    *(b"%05d-%d.json" % (number, number * 7) for number in range(3)),
    b"note.txt",
    b"not-utf8-\xff.txt",
    b"n" * 251 + b".txt",
    b"grid-0001.txt",
)
_FOLDERS = (b"", b"2026-11-20", b"2026-11-21", b"deep/er")
_NOW_NS = 1_790_000_000_000_000_000


class Disturber:
    """Does things, and tells the ledger. `sacred` are the hashes of what nobody may touch in the library at the moment: it was read, and
    the files are about to go. `focus` are paths of files at the source that are being dealt with: they are the most interesting ones.
    """

    def __init__(self, rng: random.Random, ledger: Ledger, source: bytes, library: bytes, outside: bytes) -> None:
        self._rng = rng
        self._ledger = ledger
        self._source = source
        self._library = library
        self._outside = outside
        self._count = 0
        self.sacred: Counter[bytes] = Counter()
        self.focus: list[bytes] = []
        self.log: list[str] = []

    def disturb(self) -> None:
        """One thing, anywhere."""
        acts = self._here if self._rng.random() < 0.8 else self._there
        self._do(self._rng.choice(acts))

    def work(self) -> None:
        """A generator at work: some new files, and now and then an older one again."""
        for _ in range(self._rng.randint(1, 5)):
            self._do(self.write)

    def damage(self) -> None:
        """Something in the library."""
        self._do(self._rng.choice(self._there))

    def _do(self, act: Callable[[], str]) -> None:
        self._ledger.check()
        self.log.append(f"{act.__name__}: {act()}")

    def write(self) -> str:
        """A new file, or the content of a file anew, in place."""
        path = self._any_name()
        self._prepare(path)
        content = self._content()
        with open(path, "wb") as file:
            file.write(content)
        self._age(path)
        self._ledger.changed(path)
        return repr(path)

    def append(self) -> str:
        path = self._any_file()
        self._ledger.rewrites(path)
        with open(path, "ab") as file:
            file.write(b"more %d" % self._number())
        self._ledger.changed(path)
        return repr(path)

    def truncate(self) -> str:
        path = self._any_file()
        self._ledger.rewrites(path)
        os.truncate(path, self._rng.randint(0, os.lstat(path).st_size))
        self._ledger.changed(path)
        return repr(path)

    def overwrite_unseen(self) -> str:
        """In place, as many bytes, and the time put back."""
        path = self._any_file()
        before = os.lstat(path)
        self._ledger.rewrites(path)
        with open(path, "r+b") as file:
            file.write((b"%d" % self._number()).ljust(before.st_size, b"?")[: before.st_size])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        self._ledger.changed(path)
        return repr(path)

    def rename_over(self) -> str:
        """Another file takes the place of one; now and then with its size and its time."""
        path = self._any_file()
        before = os.lstat(path)
        temporary = os.path.join(self._source, b".%d" % self._number())
        content = self._content()
        if unseen := self._rng.random() < 0.5:
            content = content.ljust(before.st_size, b"?")[: before.st_size]
        with open(temporary, "wb") as file:
            file.write(content)
        if unseen:
            os.utime(temporary, ns=(before.st_atime_ns, before.st_mtime_ns))
        else:
            self._age(temporary)
        self._ledger.removes(path)
        os.replace(temporary, path)
        self._ledger.wrote(path)
        return repr(path)

    def replace_by_link(self) -> str:
        """A link to what is nobody's to touch, or to another file of the source, which goes under its own name only."""
        path = self._any_file()
        self._ledger.removes(path)
        os.unlink(path)
        os.symlink(self._rng.choice([self._treasure(path), os.path.join(self._source, b"note.txt")]), path)
        return repr(path)

    def hard_link(self) -> str:
        path, other = self._any_file(), self._any_name()
        if os.path.lexists(other):
            return f"{other!r} is there"
        os.makedirs(os.path.dirname(other), exist_ok=True)
        os.link(path, other)
        self._ledger.wrote(other)
        return f"{path!r} {other!r}"

    def delete(self) -> str:
        path = self._any_file()
        self._ledger.removes(path)
        os.unlink(path)
        return repr(path)

    def rename(self) -> str:
        path, other = self._any_file(), self._any_name()
        if os.path.lexists(other):
            return f"{other!r} is there"
        os.makedirs(os.path.dirname(other), exist_ok=True)
        os.rename(path, other)
        self._ledger.moved(path, other)
        return f"{path!r} {other!r}"

    def touch(self) -> str:
        path = self._any_file()
        os.utime(path)
        return repr(path)

    def touch_back(self) -> str:
        path = self._any_file()
        self._age(path)
        return repr(path)

    def swap_folder(self) -> str:
        """A folder goes elsewhere, and a link to one outside that looks the same takes its place; or it comes back."""
        folder = os.path.join(self._source, self._rng.choice(_FOLDERS[1:3]))
        aside = folder + b".aside"
        if os.path.islink(folder):
            os.unlink(folder)
            os.rename(aside, folder)
            self._ledger.moved(aside, folder)
            return f"{folder!r} is back"
        if not os.path.isdir(folder):
            return f"{folder!r} is not there"
        for name in os.listdir(folder):
            if os.path.isfile(path := os.path.join(folder, name)) and not os.path.islink(path):
                self._treasure(path)
        os.rename(folder, aside)
        self._ledger.moved(folder, aside)
        os.symlink(os.path.join(self._outside, os.path.basename(folder)), folder)
        return repr(folder)

    def flip_a_bit(self) -> str:
        """In the library, unseen."""

        def act(path: bytes) -> None:
            before = os.lstat(path)
            if before.st_size:
                with open(path, "r+b") as file:
                    first = file.read(1)[0]
                    file.seek(0)
                    file.write(bytes([first ^ 1]))
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        return self._damage(act)

    def cut_a_copy(self) -> str:
        return self._damage(lambda path: os.truncate(path, os.lstat(path).st_size // 2))

    def delete_a_copy(self) -> str:
        return self._damage(os.unlink)

    def replace_a_copy_by_a_link(self) -> str:
        """To the very file at the source, so that both would look the same."""

        def act(path: bytes) -> None:
            original = os.path.join(self._source, os.path.relpath(path, self._library))
            os.unlink(path)
            os.symlink(original, path)

        return self._damage(act)

    def edit_a_copy(self) -> str:
        def act(path: bytes) -> None:
            with open(path, "ab") as file:
                file.write(b"edited")

        return self._damage(act)

    def move_a_copy(self) -> str:
        return self._damage(lambda path: os.rename(path, path[:200] + b".%d" % self._number()))

    def _damage(self, act: Callable[[bytes], object]) -> str:
        copies = [path for path in self._files(self._library) if not self._is_sacred(path)]
        if not copies:
            return "nothing there"
        # Mostly a copy of what is still at the source: of the others no clean-up wants to know anything.
        wanted = [path for path in copies if os.path.lexists(os.path.join(self._source, os.path.relpath(path, self._library)))]
        path = self._rng.choice(wanted if wanted and self._rng.random() < 0.8 else copies)
        content = self._ledger.damages(path)
        act(path)
        self._ledger.damaged(content)
        return repr(path)

    def _is_sacred(self, path: bytes) -> bool:
        with open(path, "rb") as file:
            return self.sacred[hashlib.sha256(file.read()).digest()] > 0

    @property
    def _here(self) -> list[Callable[[], str]]:
        acts: list[Callable[[], str]] = [self.write, self.swap_folder]
        if self._files(self._source):
            acts += [self.append, self.truncate, self.overwrite_unseen, self.rename_over, self.replace_by_link, self.hard_link]
            acts += [self.delete, self.rename, self.touch, self.touch_back]
        return acts

    @property
    def _there(self) -> list[Callable[[], str]]:
        acts = [self.flip_a_bit, self.cut_a_copy, self.delete_a_copy, self.replace_a_copy_by_a_link, self.edit_a_copy, self.move_a_copy]
        return list(acts)

    def _prepare(self, path: bytes) -> None:
        """Room for a file that is written in place."""
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        if os.path.islink(path):
            os.unlink(path)
        elif os.path.exists(path):
            self._ledger.rewrites(path)

    def _treasure(self, path: bytes) -> bytes:
        """A file outside that looks just like the one at `path`, if there is one."""
        treasure = os.path.join(self._outside, os.path.relpath(path, self._source))
        os.makedirs(os.path.dirname(treasure), exist_ok=True)
        if not os.path.exists(treasure):
            content = self._content()
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
            with open(treasure, "wb") as file:
                file.write(content)
            if os.path.isfile(path):
                status = os.stat(path)
                os.utime(treasure, ns=(status.st_atime_ns, status.st_mtime_ns))
            self._ledger.keeps(treasure)
        return treasure

    def _any_name(self) -> bytes:
        while True:
            folder = os.path.join(self._source, self._rng.choice(_FOLDERS)) if self._rng.random() < 0.9 else self._source
            if not os.path.islink(folder):
                return os.path.join(folder, self._rng.choice(_NAMES))

    def _any_file(self) -> bytes:
        """One that is there, if it can be had one of those that are being dealt with."""
        files = self._files(self._source)
        focus = [path for path in files if os.path.relpath(path, self._source) in self.focus]
        return self._rng.choice(focus if focus and self._rng.random() < 0.8 else files)

    @staticmethod
    def _files(root: bytes) -> list[bytes]:
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name != b".mediasync")
            paths = (os.path.join(folder, name) for name in sorted(names))
            found += [path for path in paths if not os.path.islink(path)]
        return found

    def _content(self) -> bytes:
        """New bytes; now and then some that another file has too."""
        number = self._number() if self._rng.random() < 0.85 else 0
        size = self._rng.choice(_SIZES)
        return (b"%d " % number * (size // 2 + 1))[:size] if size < 7 else (b"%07d" % number).ljust(size, b".")

    def _number(self) -> int:
        self._count += 1
        return self._count

    def _age(self, path: bytes) -> None:
        """As if it had been written some hours or days ago; a few have times of one series."""
        at = _NOW_NS - self._rng.randrange(20) * 3_600_000_000_000 - self._rng.choice((0, 0, 123_456_789))
        os.utime(path, ns=(at, at))
