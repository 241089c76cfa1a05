"""Deletes files, or moves them aside, that are still exactly what the other end says of them.

Files that go together or not at all are a group; most are one of their own. For each file its folder is opened without following links, but
those that the user named; the name has to be a regular file there, with that size, mtime and inode; it is opened and hashed. Once all
of a group are, each is looked at again, by its open file and by its name, and only if every one stood still in all that its inode tells,
its ctime too, the names are removed from the open folders, one after the other, each after one more look at it.

What remains is the moment between that last look and the removal, in which another file could be moved to that name, or the same one be
written by a program that has had it open: no system call deletes a name only if it is a certain file's. A mapping of a file in memory that
a program writes through may show in its mtime later than in its bytes.

Several groups are open at a time, and hashed by threads where there are processors for it; they are removed in their order.
"""

import errno
import os
import stat
import struct

from mediasync.sources.agent.program.frames import (
    DELETED,
    IS_CHANGED,
    IS_DELETED,
    IS_KEPT,
    IS_REFUSED,
    IS_VANISHED,
    says,
    text,
)
from mediasync.sources.agent.program.hashing import Hashers
from mediasync.sources.agent.program.reading import settled
from mediasync.sources.agent.program.tree import NOT_THERE, OPEN_FILE, inode_of, nanoseconds

DOOMED = struct.Struct(">QqQB32s")
JOINED, NOT_HASHED = 1, 2
MOST_OPEN = 32  # files of groups that are open at a time, unless one group has more
GET_FLAGS = 0x80086601 if struct.calcsize("P") == 8 else 0x80046601
IMMUTABLE, APPEND_ONLY = 0x10, 0x20


class Doomed:
    """One file that is to go."""

    def __init__(self, path, doomed):
        self.path = path
        self.size, self.mtime, self.inode, self.flags, self.sha256 = doomed
        self.fd = self.directory = -1
        self.name = path.rpartition(b"/")[2]
        self.before = self.verdict = None
        self.message = ""
        self.digest = b""
        self.error = None

    def close(self):
        for fd in (self.fd, self.directory):
            if fd >= 0:
                os.close(fd)
        self.fd = self.directory = -1

    def fail(self, error):
        """What became of it, for an OSError."""
        if error.errno in NOT_THERE:
            self.verdict = IS_VANISHED
        elif error.errno == errno.ELOOP:
            self.verdict = IS_CHANGED
        else:
            self.verdict, self.message = IS_REFUSED, says(error)
            if error.errno == errno.EPERM and self.locked():
                self.message += " (it is immutable)"

    def locked(self):
        """Whether the file may not be changed by anybody."""
        if self.fd < 0:
            return False
        try:
            import fcntl

            told = fcntl.ioctl(self.fd, GET_FLAGS, bytes(8))
        except (ImportError, OSError):
            return False
        return bool(int.from_bytes(told[:4], "little" if struct.pack("=H", 1)[0] else "big") & (IMMUTABLE | APPEND_ONLY))

    def open(self, output, folders):
        directory, name = folders.locate(self.path)
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "no regular file")
        self.directory = os.dup(directory)
        self.fd = os.open(name, OPEN_FILE, dir_fd=directory)
        before = settled(output, self.fd)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.ELOOP, "no regular file")
        if (before.st_size, nanoseconds(before.st_mtime_ns), inode_of(before)) != (self.size, self.mtime, self.inode):
            raise OSError(errno.ELOOP, "another file")
        self.before = look_at_all(before)

    def compare(self, gone=()):
        """Whether it stood still, by its open file and by its name. The ctime does not count if another name of it went with this group."""
        known = self.before[:-1] if self.before[:2] in gone else self.before
        if look_at_all(os.fstat(self.fd))[: len(known)] != known:
            raise OSError(errno.ELOOP, "it was changed")
        if look_at_all(os.stat(self.name, dir_fd=self.directory, follow_symlinks=False))[: len(known)] != known:
            raise OSError(errno.ELOOP, "another file is there")


def look_at_all(status):
    return (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Deleter:
    """The files of one request. `remove` takes one that may go away from its place."""

    def __init__(self, output, folders, remove):
        self.output = output
        self.folders = folders
        self.remove = remove
        self.hashers = Hashers(output)

    def run(self, groups):
        """Every group in order."""
        waiting, files, inodes = [], 0, set()
        try:
            for group in groups:
                # Other names of one file are looked at after the first is gone: that moves its ctime.
                while waiting and (files + len(group) > MOST_OPEN or any(doomed.inode in inodes for doomed in group)):
                    files -= len(waiting[0])
                    inodes.difference_update([doomed.inode for doomed in waiting[0]])
                    self.finish(waiting.pop(0))
                waiting.append(group)
                files += len(group)
                inodes.update([doomed.inode for doomed in group])
                for doomed in group:
                    try:
                        doomed.open(self.output, self.folders)
                    except OSError as error:
                        doomed.fail(error)
                self.hashers.begin([doomed for doomed in group if doomed.verdict is None and not doomed.flags & NOT_HASHED])
            while waiting:
                self.finish(waiting.pop(0))
        finally:
            self.hashers.end()
            for group in waiting:
                for doomed in group:
                    doomed.close()

    def finish(self, group):
        self.hashers.wait()
        try:
            self.check(group)
            if all(doomed.verdict is None for doomed in group):
                self.remove_all(group)
        finally:
            for doomed in group:
                doomed.close()
        for doomed in group:
            verdict = IS_KEPT if doomed.verdict is None else doomed.verdict
            self.output.frame(DELETED, bytes([verdict]) + text(doomed.message))
        self.output.tick()

    def check(self, group):
        for doomed in group:
            if doomed.verdict is not None:
                continue
            try:
                if doomed.error is not None:
                    raise doomed.error
                if not doomed.flags & NOT_HASHED and doomed.digest != doomed.sha256:
                    raise OSError(errno.ELOOP, "it holds something else")
                doomed.compare()
                if len(group) > 1:
                    self.may_go(doomed)
            except OSError as error:
                doomed.fail(error)

    @staticmethod
    def may_go(doomed):
        """Refuses what cannot be removed before another one of its group is."""
        if doomed.locked():
            raise OSError(errno.EPERM, "")
        if not os.access(b".", os.W_OK | os.X_OK, dir_fd=doomed.directory, effective_ids=os.access in os.supports_effective_ids):
            read_only = os.fstatvfs(doomed.directory).f_flag & os.ST_RDONLY
            raise OSError(errno.EROFS if read_only else errno.EACCES, "")

    def remove_all(self, group):
        """Removes a group's files until one cannot be."""
        gone = set()
        for doomed in group:
            try:
                doomed.compare(gone)
                if not self.remove(doomed):
                    raise OSError(errno.ELOOP, "another file was there")
                doomed.verdict = IS_DELETED
                gone.add(doomed.before[:2])
            except OSError as error:
                doomed.fail(error)
                return


def unlink(doomed):
    os.unlink(doomed.name, dir_fd=doomed.directory)
    return True


def grouped(doomed):
    """Files as the groups that they make."""
    groups = []
    for one in doomed:
        if one.flags & JOINED and groups:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups
