"""The root, and the ways below it that may be gone.

A path below the root is opened part by part, each relative to the one before and without following a link. Two kinds of links are
followed. The folders that the user named may be links, and the system follows those. Others only where the selection says so: where
such a link leads is worked out first, part by part (`os.path.realpath`), has to be below the root's real path or that of a folder that
was named, and is then opened from there like any other path, without following anything. So a link that is swapped in between leads
to what was there a moment before, to an error, or to something else below the same root; never out of it. What remains: a folder that
is moved out of the root after it was opened is still read, and whoever may mount things there may put anything below the root.
"""

import errno
import os
import stat
import struct
import time

from mediasync.sources.agent.program.frames import ROOT_MISSING, ROOT_UNREADABLE, U32, RefusedError, says, text, texts

FOLLOW_NONE, FOLLOW_FILES, FOLLOW_ALL = 0, 1, 2
FUTURE = 1 << 62
INODES = (1 << 63) - 1
CLOCK_WAS_SET_SECONDS = 3600.0
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)

ENTRY = struct.Struct(">QqqQ")
AGED_ENTRY = struct.Struct(">QqqQqq")
UNKNOWN = -(1 << 63)

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a FIFO that took a file's place would wait for a writer.
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def nanoseconds(value):
    # Some file systems hold times that 64 bits do not.
    return max(-FUTURE, min(FUTURE, value))


def inode_of(status):
    # Overlay and network file systems use the highest bit too, which a database's signed number has no room for.
    return status.st_ino & INODES


def entry_of(status):
    return ENTRY.pack(status.st_size, nanoseconds(status.st_mtime_ns), nanoseconds(status.st_ctime_ns), inode_of(status))


def aged_entry_of(status, birth):
    times = nanoseconds(status.st_mtime_ns), nanoseconds(status.st_ctime_ns), nanoseconds(status.st_atime_ns)
    return AGED_ENTRY.pack(status.st_size, times[0], times[1], inode_of(status), UNKNOWN if birth is None else nanoseconds(birth), times[2])


def age_of(status):
    """How long a file was left alone, in seconds, by this machine's clock.

    An mtime in the future was set by a program or stems from another clock: the ctime, which no program can set, counts instead. A ctime in
    the future means that the clock was set back, or that a file server's is ahead. Up to an hour it counts as young, so that it
    settles within the hour as time passes; further ahead, nothing that is being written now could have it, and it counts as old.
    """
    now = time.time()
    age = now - status.st_mtime
    if age >= 0:
        return age
    age = now - status.st_ctime
    if age >= 0:
        return age
    return 0.0 if age > -CLOCK_WAS_SET_SECONDS else -age


class Root:
    """The folder below which everything happens. Opened anew for each request: it may have been replaced meanwhile."""

    def __init__(self, candidates):
        problems = []
        self.path = None
        for candidate in candidates:
            # Relative ones are below the login's home, like `~/` ones.
            path = os.path.normpath(os.path.join(os.path.expanduser(b"~"), os.path.expanduser(candidate)))
            try:
                fd = os.open(path, OPEN_DIRECTORY)
                try:
                    os.fchdir(fd)
                    with os.scandir(b".") as entries:
                        next(entries, None)
                finally:
                    os.close(fd)
            except OSError as error:
                problems.append((path, error))
                continue
            self.path = path
            return
        self.refuse(problems)

    def open(self):
        try:
            return os.open(self.path, OPEN_DIRECTORY)
        except OSError as error:
            return self.refuse([(self.path, error)])

    @staticmethod
    def refuse(problems):
        kind = ROOT_MISSING
        parts = []
        for path, error in problems:
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
            if not missing:
                kind = ROOT_UNREADABLE
            parent, entries = path, []
            while True:
                # A file in the folder's place is "what is there" too: its parent is shown.
                parent = os.path.dirname(parent)
                try:
                    entries = sorted(os.listdir(parent))
                    break
                except OSError:
                    if parent in (b"/", b""):
                        break
            parts.append(bytes([missing]) + text(path) + text(says(error)) + text(parent) + U32.pack(len(entries)) + texts(entries[:12]))
        raise RefusedError(bytes([kind]) + U32.pack(len(parts)) + b"".join(parts))


def descend(fd, path):
    """Opens the folder `path` below `fd` part by part, following no link. The caller closes the result."""
    fd = os.dup(fd)
    try:
        for part in path.split(b"/") if path else ():
            below = os.open(part, OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError:
        os.close(fd)
        raise
    return fd


class Tree:
    """The root during one request: which folders in it were named, and which links are followed. Closed after it."""

    def __init__(self, root, entries, follow):
        self.root = root
        # Longest first: a named folder may lie in another one.
        self.entries = sorted(entries, key=len, reverse=True)
        self.follow = follow
        self.tops = []
        self.renew()

    def renew(self):
        self.close()
        self.tops = [] if self.follow == FOLLOW_NONE else self.real_tops()

    def close(self):
        for fd, _ in self.tops:
            os.close(fd)
        self.tops = []

    def real_tops(self):
        """Open folders with their real paths; what is below one of them is inside."""
        tops = []
        for entry in [b"."] + self.entries:
            try:
                fd = os.open(entry, OPEN_DIRECTORY, dir_fd=self.root)
            except OSError:
                continue
            try:
                os.fchdir(fd)
                real = os.getcwdb()
            except OSError:
                os.close(fd)
                continue
            if any(below(real, path) is not None for _, path in tops):
                os.close(fd)
            else:
                tops.append((fd, real))
        os.chdir("/")
        return tops

    def place(self, real):
        """(open folder, path below it) of a real path, or None for one that is outside."""
        for fd, path in self.tops:
            rest = below(real, path)
            if rest is not None:
                return fd, rest
        return None

    def top(self, path):
        """The nearest folder to `path` that may be a link, opened, and the path below it."""
        for entry in self.entries:
            if path == entry or path.startswith(entry + b"/"):
                return os.open(entry, OPEN_DIRECTORY, dir_fd=self.root), path[len(entry) + 1 :]
        return os.dup(self.root), path

    def directory(self, path):
        """Opens a folder. The caller closes the result."""
        top, rest = self.top(path)
        try:
            try:
                return descend(top, rest)
            except OSError as error:
                if self.follow != FOLLOW_ALL or error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
            place = self.followed(top, rest)
            if place is None:
                raise OSError(errno.ELOOP, "a link out of the root")
            return descend(*place)
        finally:
            os.close(top)

    def followed(self, directory, path):
        """The place that `path` below an open directory leads to, links followed; None if that is outside."""
        os.fchdir(directory)
        try:
            return self.place(os.path.realpath(path or b"."))
        finally:
            os.chdir("/")

    def file(self, directory, name):
        """(open directory, name) of a file that may be a link: the caller closes the directory."""
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode) or self.follow == FOLLOW_NONE:
            return os.dup(directory), name
        place = self.followed(directory, name)
        if place is None:
            raise OSError(errno.ELOOP, "a link out of the root")
        folder, _, last = place[1].rpartition(b"/")
        return descend(place[0], folder), last or b"."

    def opened(self, directory, name):
        """Opens a regular file of an open directory. Raises OSError; ELOOP for what is none."""
        there, last = self.file(directory, name)
        try:
            # Looked at before it is opened: opening a device can do things.
            if not stat.S_ISREG(os.stat(last, dir_fd=there, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, "no regular file")
            return os.open(last, OPEN_FILE, dir_fd=there)
        finally:
            os.close(there)


def below(path, top):
    """The path from `top` to `path`, or None if it is not below."""
    if path == top:
        return b""
    top = top.rstrip(b"/") + b"/"
    return path[len(top) :] if path.startswith(top) else None


class Folders:
    """The open directory of one file after the other. The last one is kept: neighbours come together."""

    def __init__(self, tree):
        self.tree = tree
        self.folder = None
        self.fd = -1

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.tree.close()

    def locate(self, path):
        """The open directory that holds `path`, and the name in it."""
        folder, _, name = path.rpartition(b"/")
        if self.fd < 0 or folder != self.folder:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1
            self.fd = self.tree.directory(folder)
            self.folder = folder
        return self.fd, name
