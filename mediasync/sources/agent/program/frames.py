"""Frames, and the two byte streams that carry them.

A frame is its kind (1 byte), the length of its payload (4 bytes, big-endian) and the payload. Numbers are big-endian; `text` and names
are a 2-byte length and bytes. Paths are bytes, relative to the root. Before its first frame the agent writes a marker that holds a number
drawn for this connection, because login scripts print greetings.
"""

import _thread
import errno
import os
import struct
import time

VERSION = 4
MARKER = b"\0mediasync-agent "

# Requests.
HELLO, LIST, MISSING, KNOWN, SCAN, READ, SELECT, HASH, DELETE, WATCH, SURROUNDINGS = range(1, 12)
MOVE_ASIDE, EMPTY_ASIDE, REMOVE_FOLDERS = range(12, 15)
# Answers.
READY, FAILED, NAMES, DIRECTORY, UNREADABLE_DIRECTORY, SCANNED, BEGIN, END, SKIPPED, TICK = range(65, 75)
ALIVE, GONE, FILTERED, HASHED, DELETED, MOVED, FREE, EMPTIED = range(75, 83)
# What FAILED says first.
ROOT_MISSING, ROOT_UNREADABLE, BROKEN = 1, 2, 3
# What became of a file that was to be read or hashed.
OK, UNSETTLED, CHANGED, VANISHED, UNREADABLE = range(5)
# What became of one that was to be deleted.
IS_DELETED, IS_CHANGED, IS_VANISHED, IS_REFUSED, IS_KEPT = range(5)
# Flags of SCAN.
EXACT, QUICK, EXPLAIN, AGES = 1, 2, 4, 8
# Flags of DIRECTORY.
COMPLETE, HAS_NAMES, MORE, YOUNG, AGED = 1, 2, 4, 8, 16
# Flags of BEGIN, SKIPPED and HASHED.
HAS_ENTRY, INCOMPLETE = 1, 2

MAX_FRAME = 1 << 20
MAX_PATH = 4095
MAX_NAME = 255
PIECE = 256 * 1024  # bytes of one read or write of a larger file
BUFFERED = 256 * 1024  # bytes of small answers that are gathered before they are written
TICK_SECONDS = 1.0  # long work writes at least so often, and so notices that nobody reads it any more
ALIVE_SECONDS = 5.0  # and while it waits for a disk, a second thread does

HEADER = struct.Struct(">BI")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
I64 = struct.Struct(">q")
F64 = struct.Struct(">d")


class GoneError(Exception):
    """Nobody is at the other end any more."""


class RefusedError(Exception):
    """A request that cannot be served; the other end is told and the agent ends."""

    def __init__(self, payload):
        Exception.__init__(self)
        self.payload = payload


class Fields:
    """Takes a payload apart."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def number(self, form):
        (value,) = form.unpack_from(self.data, self.at)
        self.at += form.size
        return value

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def take(self, length):
        if self.at + length > len(self.data):
            raise ValueError("a cut request")
        self.at += length
        return bytes(self.data[self.at - length : self.at])

    def text(self):
        return self.take(self.number(U16))

    def texts(self):
        return [self.text() for _ in range(self.number(U32))]


def text(value):
    if not isinstance(value, bytes):
        value = value.encode("utf-8", "backslashreplace")
    return U16.pack(len(value[:65535])) + value[:65535]


def texts(values):
    return U32.pack(len(values)) + b"".join([text(value) for value in values])


def says(error):
    """An OSError in words, without the path, which the other end knows."""
    return os.strerror(error.errno) if error.errno else str(error)


def now_ns():
    return int(time.time() * 1e9)


class Output:
    """Stdout: frames are gathered, file data goes out by sendfile."""

    def __init__(self, out):
        self.out = out
        self.gathered = []
        self.size = 0
        self.sendfile = hasattr(os, "sendfile")
        self.held = self.holds()
        self.ticked = self.written = time.monotonic()
        # For the second thread: a frame may only come between two others, never into a file's bytes.
        self.lock = _thread.allocate_lock()
        self.busy = self.raw = False

    def holds(self):
        """How many bytes can be on their way between us and the reader at most."""
        import fcntl

        try:
            return fcntl.fcntl(self.out, getattr(fcntl, "F_GETPIPE_SZ", 1032))
        except OSError:
            pass
        import socket

        try:
            with socket.socket(fileno=os.dup(self.out)) as connection:
                return connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        except OSError:
            return 1 << 20

    def frame(self, kind, payload=b""):
        self.bytes(HEADER.pack(kind, len(payload)) + payload)

    def bytes(self, data):
        self.gathered.append(data)
        self.size += len(data)
        if self.size >= BUFFERED:
            self.flush()

    def flush(self):
        if self.gathered:
            data = self.gathered[0] if len(self.gathered) == 1 else b"".join(self.gathered)
            self.gathered = []
            self.size = 0
            self.write(data)

    def write(self, data):
        view = memoryview(data)
        with self.lock:
            self.written = time.monotonic()
            try:
                while len(view):
                    view = view[os.write(self.out, view) :]
            except OSError:
                raise GoneError()

    def tick(self):
        """To be called often by whatever takes long."""
        if time.monotonic() - self.ticked >= TICK_SECONDS:
            self.ticked = time.monotonic()
            self.frame(TICK)
            self.flush()

    def say_alive(self):
        """The second thread: says that the line is alive while the first one waits for a disk."""
        while True:
            time.sleep(ALIVE_SECONDS)
            if not self.busy or self.raw or time.monotonic() - self.written < ALIVE_SECONDS or not self.lock.acquire(False):
                continue
            try:
                if not self.raw:
                    os.write(self.out, HEADER.pack(ALIVE, 0))
            except OSError:
                return
            finally:
                self.lock.release()

    def send(self, fd, offset, end):
        """Sends [offset, end) of a file, which was announced; returns how far it came and the OSError that stopped it."""
        self.raw = True
        self.flush()
        referenced = end - self.held
        while self.sendfile and offset < referenced:
            try:
                sent = os.sendfile(self.out, fd, offset, referenced - offset)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSOCK):
                    self.sendfile = False
                    break
                if error.errno in (errno.EPIPE, errno.ECONNRESET):
                    raise GoneError()
                # The file's error, or the pipe's: reading it tells which.
                break
            if not sent:
                return offset, None
            offset += sent
        while offset < end:
            try:
                data = os.pread(fd, min(PIECE, end - offset), offset)
            except OSError as error:
                return offset, error
            if not data:
                return offset, None
            self.write(data)
            offset += len(data)
        return offset, None

    def pad(self, count):
        """Ends what `send` began: zeros in place of what is missing."""
        zeros = bytes(min(count, PIECE))
        while count:
            self.write(zeros[:count])
            count -= min(count, len(zeros))
        self.raw = False
