"""Deletes files that are still exactly what the other end says of them.

One file: its folder is opened without following links, but those that the user named; the name has to be a regular file there, with that
size, mtime and inode; it is opened, hashed, and looked at again, by its open file and by its name; then the name is removed from the open
folder. What remains is the moment between that last look and the removal, in which another file could be moved to that name, or the same
one be written by a program that has had it open: no system call deletes a name only if it is a certain file's.
"""

import errno
import os
import stat
import struct

from mediasync.sources.agent.program.frames import DELETED, IS_CHANGED, IS_DELETED, IS_REFUSED, IS_VANISHED, says, text
from mediasync.sources.agent.program.reading import digest_of, same, settled
from mediasync.sources.agent.program.tree import NOT_THERE, OPEN_FILE, inode_of, nanoseconds

DOOMED = struct.Struct(">QqQ32s")


class Deleter:
    """The files of one request."""

    def __init__(self, output, folders):
        self.output = output
        self.folders = folders

    def delete(self, path, doomed):
        try:
            verdict, message = self.attempt(path, doomed), ""
        except OSError as error:
            verdict, message = IS_REFUSED, says(error)
            if error.errno in NOT_THERE:
                verdict, message = IS_VANISHED, ""
            elif error.errno == errno.ELOOP:
                verdict, message = IS_CHANGED, ""
        self.output.frame(DELETED, bytes([verdict]) + text(message))
        self.output.tick()

    def attempt(self, path, doomed):
        directory, name = self.folders.locate(path)
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return IS_CHANGED
        fd = os.open(name, OPEN_FILE, dir_fd=directory)
        try:
            size, mtime, inode, sha256 = doomed
            before = settled(self.output, fd)
            if not stat.S_ISREG(before.st_mode):
                return IS_CHANGED
            if (before.st_size, nanoseconds(before.st_mtime_ns), inode_of(before)) != (size, mtime, inode):
                return IS_CHANGED
            if digest_of(self.output, fd, size) != sha256:
                return IS_CHANGED
            named = os.stat(name, dir_fd=directory, follow_symlinks=False)
            after = os.fstat(fd)
            if not same(before, after) or before.st_ctime_ns != after.st_ctime_ns:
                return IS_CHANGED
            if (named.st_dev, named.st_ino) != (before.st_dev, before.st_ino):
                return IS_CHANGED
            os.unlink(name, dir_fd=directory)
            return IS_DELETED
        finally:
            os.close(fd)
