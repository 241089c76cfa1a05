"""Watches directories: says in which ones something moved, soon after it did.

Where the kernel lets it, by inotify. A few times a minute, and several times a second where there is no inotify or too many directories for
it, every directory's own mtime is looked at too: overlay and network file systems show changes there that inotify does not see. Between two
such rounds a hundred times the processor time of one is waited, so that watching costs less than a hundredth of a core.

What a round does not see, and only inotify does, is a file that is written in place. Directories that appear are watched from then on.
"""

import errno
import os
import select
import stat
import struct
import time

from mediasync.sources.agent.program.frames import MOVED, GoneError, text, texts
from mediasync.sources.agent.program.tree import FOLLOW_ALL, OPEN_DIRECTORY, below

GATHER_SECONDS = 0.05  # several changes become one message
HEARTBEAT_SECONDS = 5.0
ROUND_SECONDS = 0.1  # between rounds without inotify
NET_SECONDS = 3.0  # and with it
LONGEST_SECONDS = 10.0
SHARE = 100  # times the cost of a round

IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
IN_DELETE_SELF, IN_MOVE_SELF, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x400, 0x800, 0x4000, 0x8000, 0x40000000
IN_ONLYDIR = 0x01000000
IN_MASK = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
IN_EVENT = struct.Struct("iIII")
MANY = 4000  # paths in one frame at most, fewer where they are long
FRAME_ROOM = 512 * 1024


class Inotify:
    """The kernel's word on what happens in directories. `fd` is -1 where there is none."""

    def __init__(self):
        self.fd = -1
        self.paths = {}
        self.watches = {}
        try:
            import ctypes

            library = ctypes.CDLL(None, use_errno=True)
            self.add_watch = library.inotify_add_watch
            self.add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
            self.remove_watch = library.inotify_rm_watch
            self.get_errno = ctypes.get_errno
            self.fd = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (ImportError, OSError, AttributeError):
            # No ctypes, or another system.
            pass

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.paths, self.watches = {}, {}

    def add(self, fd, path):
        """Watches an open directory; False once there is no more room for one."""
        if self.fd < 0:
            return False
        # By way of the working directory, so that it is the very one that was opened.
        os.fchdir(fd)
        watch = self.add_watch(self.fd, b".", IN_MASK)
        if watch < 0:
            if self.get_errno() in (errno.ENOSPC, errno.ENOMEM):
                self.close()
            return False
        old = self.paths.get(watch)
        if old is not None and old != path:
            # One directory by two names, such as a link that is followed: only the first is told by the kernel.
            return False
        self.paths[watch] = path
        self.watches[path] = watch
        return True

    def forget(self, path):
        watch = self.watches.pop(path, None)
        if watch is not None:
            self.paths.pop(watch, None)
            self.remove_watch(self.fd, watch)

    def events(self):
        """(path or None when some were lost, kind, name) of what happened."""
        result = []
        while self.fd >= 0:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            at = 0
            while at < len(data):
                watch, kind, _, length = IN_EVENT.unpack_from(data, at)
                name = data[at + IN_EVENT.size : at + IN_EVENT.size + length].rstrip(b"\0")
                at += IN_EVENT.size + length
                if kind & IN_Q_OVERFLOW:
                    result.append((None, kind, b""))
                elif watch in self.paths:
                    result.append((self.paths[watch], kind, name))
                    if kind & IN_IGNORED:
                        self.watches.pop(self.paths.pop(watch), None)
        return result


class Watcher:
    """One request to watch. Runs until the other end is gone."""

    def __init__(self, source, output, tree, root_path, selection, folder, known):
        self.source = source
        self.output = output
        self.tree = tree
        self.root_path = root_path
        self.selection = selection
        self.folder = folder
        self.inotify = Inotify()
        # How each directory looked last: None while it is not there.
        self.looks = {path: None for path in known if not folder or below(path, folder) is not None}
        self.moved = set()

    def run(self):
        try:
            for path in list(self.looks):
                self.begin(path)
            # Whatever moved before now is for the scan that comes after this first word.
            self.tell()
            self.loop()
        finally:
            self.inotify.close()
            os.chdir("/")

    def loop(self):
        poller = select.poll()
        poller.register(self.source, select.POLLIN | select.POLLHUP)
        listening = self.inotify.fd
        if listening >= 0:
            poller.register(listening, select.POLLIN)
        said = time.monotonic()
        due = said + self.pause(0.0)
        while True:
            if listening >= 0 and self.inotify.fd < 0:
                poller.unregister(listening)
                listening = -1
            now = time.monotonic()
            wait = max(0.0, min(due, said + HEARTBEAT_SECONDS) - now)
            ready = [fd for fd, _ in poller.poll(wait * 1000)]
            if self.source in ready:
                # Nothing is asked while this goes on: it is the end.
                raise GoneError()
            if ready:
                time.sleep(GATHER_SECONDS)
                for path, kind, name in self.inotify.events():
                    self.event(path, kind, name)
            now = time.monotonic()
            if now >= due:
                spent = time.process_time()
                self.round()
                due = now + self.pause(time.process_time() - spent)
            if self.moved or now - said >= HEARTBEAT_SECONDS:
                self.tell()
                said = now

    def pause(self, cost):
        return min(LONGEST_SECONDS, max(NET_SECONDS if self.inotify.fd >= 0 else ROUND_SECONDS, cost * SHARE))

    def open(self, path):
        return self.tree.directory(path)

    def begin(self, path):
        """Watches one more directory; it looks as it does now."""
        try:
            fd = self.open(path)
        except OSError:
            self.looks[path] = None
            return
        try:
            self.inotify.add(fd, path)
            # After the watch was set: what moves in between is told twice rather than never.
            self.looks[path] = self.look(path)
        finally:
            os.close(fd)

    def look(self, path):
        try:
            follow = self.tree.follow == FOLLOW_ALL or path in self.tree.entries
            status = os.stat(path or b".", dir_fd=self.tree.root, follow_symlinks=follow)
        except OSError:
            return None
        return (status.st_dev, status.st_ino, status.st_mtime_ns) if stat.S_ISDIR(status.st_mode) else None

    def event(self, path, kind, name):
        if path is None:
            self.moved.update(self.looks)
            return
        selection = self.selection
        if name and (name.startswith(selection.prefixes) or not kind & IN_ISDIR and name.lower().endswith(selection.suffixes)):
            # Half a file, which is renamed or removed in the end.
            self.looks[path] = self.look(path)
            return
        if kind & IN_IGNORED:
            return
        self.moved.add(path)
        if kind & IN_ISDIR and kind & (IN_CREATE | IN_MOVED_TO):
            under = path + b"/" + name if path else name
            self.inotify.forget(under)
            self.looks.pop(under, None)
            self.appear(path)
        self.looks[path] = self.look(path)

    def round(self):
        """Looks at every directory's own mtime."""
        try:
            status = os.stat(self.root_path)
            mine = os.fstat(self.tree.root)
            if (status.st_dev, status.st_ino) != (mine.st_dev, mine.st_ino):
                self.replaced()
                return
        except OSError:
            # The root is gone; so are the directories, as their own looks tell.
            pass
        for path in list(self.looks):
            found = self.look(path)
            if found == self.looks[path]:
                continue
            self.moved.add(path)
            if found is not None and (self.looks[path] is None or found[:2] != self.looks[path][:2]):
                self.inotify.forget(path)
                self.begin(path)
            self.looks[path] = found
            if found is not None:
                self.appear(path)

    def replaced(self):
        """Another folder is in the root's place: everything moved."""
        fd = os.open(self.root_path, OPEN_DIRECTORY)
        os.dup2(fd, self.tree.root, False)
        os.close(fd)
        self.tree.renew()
        for path in list(self.looks):
            self.inotify.forget(path)
            self.begin(path)
        self.moved.update(self.looks)

    def appear(self, path):
        """Watches the directories in `path` that are not yet, and what is in them."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            try:
                fd = self.open(path)
            except OSError:
                continue
            try:
                self.selection.enter(path)
                os.fchdir(fd)
                with os.scandir(b".") as entries:
                    names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
            finally:
                os.close(fd)
            for name in names:
                under = path + b"/" + name if path else name
                if self.selection.folder_reason(under, name):
                    continue
                old, new = self.looks.get(under), self.look(under)
                if old is None or new is None or old[:2] != new[:2]:
                    # Another one of that name, with other ones in it.
                    self.inotify.forget(under)
                    self.begin(under)
                    self.moved.add(under)
                    waiting.append(under)

    def tell(self):
        """Says what moved; nothing is a sign of life."""
        paths, self.moved = sorted(self.moved), set()
        while True:
            size = count = 0
            while count < len(paths) and count < MANY and size < FRAME_ROOM:
                size += len(text(paths[count]))
                count += 1
            self.output.frame(MOVED, texts(paths[:count]))
            paths = paths[count:]
            if not paths:
                break
        self.output.flush()
