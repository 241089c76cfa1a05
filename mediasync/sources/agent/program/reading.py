"""Sends files."""

import errno
import os
import stat
import struct
import time

from mediasync.sources.agent.program.endings import Ending
from mediasync.sources.agent.program.frames import (
    BEGIN,
    CHANGED,
    END,
    HAS_ENTRY,
    HASHED,
    HEADER,
    INCOMPLETE,
    OK,
    PIECE,
    SKIPPED,
    U64,
    UNREADABLE,
    UNSETTLED,
    VANISHED,
    says,
    text,
)
from mediasync.sources.agent.program.tree import NOT_THERE, age_of, entry_of, inode_of, nanoseconds

INLINE = 256 * 1024  # files up to this size are read in one piece and known to be unchanged before the first byte leaves
AHEAD = 4 << 20  # bytes of a file that the system is asked to have ready
PREADV = getattr(os, "preadv", None)  # from Python 3.7 on
GRAIN_SECONDS = 0.05  # more than the grain of any kernel's file clock

WANTED = struct.Struct(">QqQddQ")


def same(before, after):
    """Whether a file stood still between two looks."""
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        return False
    # The ctime too: an mtime can be set back after a write. But what was deleted while it was read is complete, and gone for
    # ever if it were thrown away for that.
    return before.st_ctime_ns == after.st_ctime_ns or before.st_nlink != after.st_nlink


def settled(output, fd):
    """How an open file looks, once its times can be told apart from those of a later write."""
    status = os.fstat(fd)
    fresh = time.time() - status.st_ctime
    if 0 <= fresh < GRAIN_SECONDS:
        output.flush()
        time.sleep(GRAIN_SECONDS - fresh)
        status = os.fstat(fd)
    return status


def digest_of(output, fd, count):
    """The sha256 of the first `count` bytes; None if there are fewer."""
    advise(fd, count)
    return hash_of(fd, count, bytearray(min(PIECE, count)), output.tick)


def advise(fd, count):
    """Tells the system that a file is about to be read from its beginning to its end."""
    if hasattr(os, "posix_fadvise"):
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            os.posix_fadvise(fd, 0, min(count, AHEAD), os.POSIX_FADV_WILLNEED)
        except OSError:
            return


def hash_of(fd, count, space, tick):
    """The same, read into `space`: memory that is taken anew for each piece costs a fifth of the hashing."""
    import hashlib

    digest, offset, view = hashlib.sha256(), 0, memoryview(space)
    if PREADV is None:
        while offset < count:
            data = os.pread(fd, min(PIECE, count - offset), offset)
            if not data:
                return None
            digest.update(data)
            offset += len(data)
            tick()
        return digest.digest()
    while offset < count:
        got = PREADV(fd, [view[: count - offset]], offset)
        if not got:
            return None
        digest.update(view[:got])
        offset += got
        tick()
    return digest.digest()


class Reader:
    """The files of one request to read or to hash."""

    def __init__(self, output, folders, hashing=False):
        self.output = output
        self.folders = folders
        self.hashing = hashing

    def skip(self, verdict, status=None, message=""):
        entry = bytes([verdict, HAS_ENTRY]) + entry_of(status) if status is not None else bytes([verdict, 0])
        self.output.frame(HASHED if self.hashing else SKIPPED, entry + text(message))

    def read(self, path, wanted, partial):
        """Sends or hashes one file, or says why not. `partial` is the hash of what the other end has of it."""
        try:
            directory, name = self.folders.locate(path)
            fd = self.folders.tree.opened(directory, name)
        except OSError as error:
            if error.errno in NOT_THERE:
                return self.skip(VANISHED)
            if error.errno == errno.ELOOP:
                return self.skip(CHANGED)
            return self.skip(UNREADABLE, None, says(error))
        try:
            return self.hash(fd, wanted) if self.hashing else self.send(fd, name, wanted, partial)
        except OSError as error:
            return self.skip(UNREADABLE, None, says(error))
        finally:
            os.close(fd)

    def unlike(self, status, wanted):
        """Whether this is not what the scan saw; says so then."""
        if not stat.S_ISREG(status.st_mode):
            self.skip(CHANGED)
            return True
        if (status.st_size, nanoseconds(status.st_mtime_ns), inode_of(status)) != wanted[:3]:
            self.skip(CHANGED, status)
            return True
        return False

    def hash(self, fd, wanted):
        status = settled(self.output, fd)
        if self.unlike(status, wanted):
            return None
        digest = digest_of(self.output, fd, status.st_size)
        after = os.fstat(fd)
        if digest is None or not same(status, after):
            return self.skip(CHANGED, after)
        return self.output.frame(HASHED, bytes([OK, HAS_ENTRY]) + entry_of(after) + text("") + digest)

    def send(self, fd, name, wanted, partial):
        """Everything after the opening. An OSError out of here comes before anything was announced."""
        size, _, _, settle, incomplete_after, have = wanted
        status = settled(self.output, fd)
        if self.unlike(status, wanted):
            return None
        take, incomplete = self.verdict(fd, name, status, settle, incomplete_after)
        if not take:
            return self.skip(UNSETTLED, status)
        offset = have if have and have <= size and digest_of(self.output, fd, have) == partial else 0
        begin = bytes([HAS_ENTRY | (INCOMPLETE if incomplete else 0)]) + entry_of(status) + U64.pack(offset)
        if size - offset <= INLINE:
            data = self.rest(fd, offset, size)
            after = os.fstat(fd)
            if len(data) != size - offset or not same(status, after):
                return self.skip(CHANGED, after)
            # In one piece, so that nothing comes in between.
            self.output.bytes(HEADER.pack(BEGIN, len(begin)) + begin + data)
            return self.end(OK, after)
        self.output.frame(BEGIN, begin)
        reached, error = self.output.send(fd, offset, size)
        self.output.pad(size - reached)
        if error is not None:
            return self.end(UNREADABLE, status, says(error))
        try:
            after = os.fstat(fd)
        except OSError as late:
            return self.end(UNREADABLE, status, says(late))
        return self.end(OK if reached == size and same(status, after) else CHANGED, after)

    def end(self, verdict, status, message=""):
        self.output.frame(END, bytes([verdict]) + entry_of(status) + text(message))

    @staticmethod
    def rest(fd, offset, size):
        """The bytes from `offset` on; one more than there should be, if it is there."""
        data = os.pread(fd, size + 1 - offset, offset)
        while data and offset + len(data) <= size:
            more = os.pread(fd, size + 1 - offset - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    @staticmethod
    def verdict(fd, name, status, settle, incomplete_after):
        """(take it, it is incomplete).

        A format with an end that is there: taken at once. One whose end is missing: only once it was left alone for `incomplete_after`. One
        without an end to look at: once it was left alone for `settle`.
        """
        whole = Ending(fd, status.st_size, name).reached()
        if whole:
            return True, False
        age = age_of(status)
        if whole is None:
            return age >= settle, False
        return age >= incomplete_after, True
