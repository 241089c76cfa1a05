"""The agent: the program that is sent to a source and runs there for the length of a connection.

Python 3.6 and later, standard library only, one file. It speaks binary frames on stdin and stdout, answers one request after
the other, never writes to a file, and ends when stdin ends or nobody reads its stdout any more. The next requests may be sent while it is
still busy: they wait in the pipe. `mediasync.sources.agent.wire` holds the other end's view of the same frames.

A frame is its kind (1 byte), the length of its payload (4 bytes, big-endian) and the payload. Numbers are big-endian;
`text` and names are a 2-byte length and bytes. Paths are bytes, relative to the root. Before its first frame the agent
writes a marker that holds a number drawn for this connection, because login scripts print greetings.

How the races are closed at the file:

- Every part of a path below the root is opened relative to its parent without following a link, so that swapping a folder for a
  link leads nowhere. Only the folders that the user named (`entries` of a read, the folder of a scan) may be links.
- A file is opened only if it is a regular one, and only sent if size, mtime and inode are what the scan saw.
- They are looked at again after the last byte was read. `sendfile` puts references to the file's pages into a pipe, not copies, so
  that a write after that look could still change what the reader gets: the last part of a file, as much as the pipe can hold, is
  therefore copied, and by the time it is in the pipe every referenced page has been read out of it.
- Kernels stamp files with a clock of some milliseconds' grain: a file written in this instant could be written again without a
  new mtime, so it is looked at again a moment later.
- Once a length was announced, so many bytes follow, whatever happens to the file: the rest is zeros and the verdict says so.

Which file counts as complete, and what an mtime in the future means, is said at `Reader.verdict` and `age_of`.
"""

import errno
import os
import stat
import struct
import sys
import time

VERSION = 1
MARKER = b"\0mediasync-agent "

# Requests.
HELLO, LIST, MISSING, KNOWN, SCAN, READ = 1, 2, 3, 4, 5, 6
# Answers.
READY, FAILED, NAMES, DIRECTORY, UNREADABLE_DIRECTORY, SCANNED, BEGIN, END, SKIPPED, TICK = range(65, 75)
# What FAILED says first.
ROOT_MISSING, ROOT_UNREADABLE, BROKEN = 1, 2, 3
# What became of a file.
OK, UNSETTLED, CHANGED, VANISHED, UNREADABLE = range(5)
# Flags of DIRECTORY.
COMPLETE, HAS_NAMES, MORE = 1, 2, 4
# Flags of BEGIN and SKIPPED.
HAS_ENTRY, INCOMPLETE = 1, 2

MAX_FRAME = 1 << 20
MAX_PATH = 4095
MAX_NAME = 255
CHUNK = 1000  # names in one DIRECTORY frame, which keeps it below MAX_FRAME
INLINE = 256 * 1024  # files up to this size are read in one piece and known to be unchanged before the first byte leaves
PIECE = 256 * 1024  # bytes of one read or write of a larger one
BUFFERED = 256 * 1024  # bytes of small answers that are gathered before they are written
TICK_SECONDS = 1.0  # a long scan writes at least so often, and so notices that nobody reads it any more
GRAIN_SECONDS = 0.05  # more than the grain of any kernel's file clock
CLOCK_WAS_SET_SECONDS = 3600.0
WALK_LIMIT = 100000  # parts of one file that are looked at to find its end
WALK_BYTES = 1 << 28  # and bytes of picture data
FUTURE = 1 << 62
INODES = (1 << 63) - 1

HEADER = struct.Struct(">BI")
ENTRY = struct.Struct(">QqqQ")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
WANTED = struct.Struct(">QqQdd")

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK the opening of a FIFO that took a file's place would wait for a writer.
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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

    def text(self):
        length = self.number(U16)
        self.at += length
        return bytes(self.data[self.at - length : self.at])

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


def nanoseconds(value):
    # Some file systems hold times that 64 bits do not.
    return max(-FUTURE, min(FUTURE, value))


def inode_of(status):
    # Overlay and network file systems use the highest bit too, which a database's signed number has no room for.
    return status.st_ino & INODES


def entry_of(status):
    return ENTRY.pack(status.st_size, nanoseconds(status.st_mtime_ns), nanoseconds(status.st_ctime_ns), inode_of(status))


def now_ns():
    return int(time.time() * 1e9)


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


class Output:
    """Stdout: frames are gathered, file data goes out by sendfile."""

    def __init__(self, out):
        self.out = out
        self.gathered = []
        self.size = 0
        self.sendfile = hasattr(os, "sendfile")
        self.held = self.holds()

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
        try:
            while len(view):
                view = view[os.write(self.out, view) :]
        except OSError:
            raise GoneError()

    def send(self, fd, offset, end):
        """Sends [offset, end) of a file; returns how far it came and the OSError that stopped it."""
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
        zeros = bytes(min(count, PIECE))
        while count:
            self.write(zeros[:count])
            count -= min(count, len(zeros))


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


class Scanner:
    """One scan."""

    def __init__(self, output, filters, known, since):
        self.output = output
        self.prefixes, self.suffixes, self.names = filters
        self.known = known
        self.since = since
        self.seen = self.size = self.filtered = 0
        self.ticked = time.time()

    def run(self, root, folder):
        started = now_ns()
        try:
            # The named folder may be a link, also one that leads elsewhere: the user said so.
            top = os.open(folder, OPEN_DIRECTORY, dir_fd=root) if folder else os.dup(root)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self.unreadable(folder, says(error))
            top = None
        if top is not None:
            self.walk(top, folder)
            os.chdir("/")
            os.close(top)
        self.output.frame(SCANNED, struct.pack(">qQQQ", started, self.seen, self.size, self.filtered))

    def walk(self, top, folder):
        waiting = [b""]
        while waiting:
            below = waiting.pop()
            path = folder + b"/" + below if folder and below else folder or below
            try:
                fd = descend(top, below)
            except OSError as error:
                # Gone since its name was read, or a link by now: the next look tells.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    self.unreadable(path, says(error))
                continue
            try:
                found = self.directory(fd, path)
            except OSError as error:
                self.unreadable(path, says(error))
                continue
            finally:
                os.close(fd)
            found.sort(reverse=True)
            waiting.extend([below + b"/" + name if below else name for name in found])

    def unreadable(self, path, message):
        self.output.frame(UNREADABLE_DIRECTORY, text(path) + text(message))

    def directory(self, fd, path):
        """Reports the files of one directory; returns the names of the directories in it."""
        status = os.fstat(fd)
        since = self.since
        complete = since is None or self.known.get(path) != inode_of(status)
        moved = not complete and status.st_mtime_ns >= since
        if complete or moved:
            since = -FUTURE * 4
        # Names are taken relative to the working directory: as bytes, which an open directory's number would not give.
        os.fchdir(fd)
        prefixes, suffixes, skipped = self.prefixes, self.suffixes, self.names
        directories, files, long, failed = [], [], 0, ""
        room = min(MAX_NAME, MAX_PATH - len(path) - 1)
        seen = size = filtered = looked = 0
        with os.scandir(b".") as entries:
            for entry in entries:
                looked += 1
                if not looked & 1023:
                    self.tick()
                name = entry.name
                try:
                    # A million files pass here in a scan of three seconds.
                    if not entry.is_file(follow_symlinks=False):
                        if not entry.is_dir(follow_symlinks=False) or name.startswith(prefixes) or name in skipped:
                            filtered += 1
                        elif len(name) > room:
                            long += 1
                        else:
                            directories.append(name)
                        continue
                    if name.startswith(prefixes) or name.lower().endswith(suffixes) or name in skipped:
                        filtered += 1
                        continue
                    status_of = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    # It went away between its name and the look at it.
                    continue
                except OSError as error:
                    failed = says(error)
                    continue
                if len(name) > room:
                    long += 1
                    continue
                if status_of.st_mode & 0o170000 != stat.S_IFREG:
                    filtered += 1
                    continue
                seen += 1
                size += status_of.st_size
                if status_of.st_ctime_ns >= since:
                    # One bytes object a file: a directory may hold a million. NUL sorts before anything in a name.
                    files.append(name + b"\0" + entry_of(status_of))
        self.seen += seen
        self.size += size
        self.filtered += filtered
        if moved and len(files) > CHUNK:
            # So many names would not fit into one frame, and cost little less than everything.
            complete, moved = True, False
        self.report(path, inode_of(status), files, complete, moved)
        if long:
            self.unreadable(path, "%d names in it are too long (over 255 bytes, or 4095 with their folders)" % long)
        if failed:
            self.unreadable(path, "a name in it cannot be looked at: " + failed)
        return directories

    def report(self, path, inode, files, complete, moved):
        files.sort()
        names = []
        if moved:
            names = [item[: -ENTRY.size - 1] for item in files]
            files = [item for item in files if ENTRY.unpack(item[-ENTRY.size :])[2] >= self.since]
        head = text(path) + U64.pack(inode)
        flags = (COMPLETE if complete else 0) | (HAS_NAMES if moved else 0)
        for start in range(0, len(files) or 1, CHUNK):
            some = files[start : start + CHUNK]
            more = MORE if start + CHUNK < len(files) else 0
            parts = [bytes([flags | more]) + head + U32.pack(len(some))]
            for item in some:
                parts.append(item[-ENTRY.size :])
                parts.append(text(item[: -ENTRY.size - 1]))
            parts.append(texts(names))
            self.output.frame(DIRECTORY, b"".join(parts))
        self.tick()

    def tick(self):
        moment = time.time()
        if not 0 <= moment - self.ticked < TICK_SECONDS:
            self.ticked = moment
            self.output.frame(TICK)
            self.output.flush()


class Reader:
    """The files of one read request."""

    def __init__(self, output, root, entries):
        self.output = output
        self.root = root
        # Longest first: a named folder may lie in another one.
        self.entries = sorted(entries, key=len, reverse=True)
        self.folder = None
        self.fd = -1

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def locate(self, path):
        """The open directory that holds `path`, and the name in it. The last directory is kept: neighbours come together."""
        folder, _, name = path.rpartition(b"/")
        if self.fd < 0 or folder != self.folder:
            self.close()
            for entry in self.entries:
                if folder == entry or folder.startswith(entry + b"/"):
                    top = os.open(entry, OPEN_DIRECTORY, dir_fd=self.root)
                    try:
                        self.fd = descend(top, folder[len(entry) + 1 :])
                    finally:
                        os.close(top)
                    break
            else:
                self.fd = descend(self.root, folder)
            self.folder = folder
        return self.fd, name

    def skip(self, verdict, status=None, message=""):
        entry = bytes([verdict, HAS_ENTRY]) + entry_of(status) if status is not None else bytes([verdict, 0])
        self.output.frame(SKIPPED, entry + text(message))

    def read(self, path, wanted):
        try:
            directory, name = self.locate(path)
            # Looked at before it is opened: opening a device can do things.
            if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                return self.skip(CHANGED)
            fd = os.open(name, OPEN_FILE, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                return self.skip(VANISHED)
            if error.errno == errno.ELOOP:
                return self.skip(CHANGED)
            return self.skip(UNREADABLE, None, says(error))
        try:
            return self.opened(fd, name, wanted)
        except OSError as error:
            return self.skip(UNREADABLE, None, says(error))
        finally:
            os.close(fd)

    def opened(self, fd, name, wanted):
        """Everything after the opening. An OSError out of here comes before anything was announced."""
        size, mtime, inode, settle, incomplete_after = wanted
        status = os.fstat(fd)
        fresh = time.time() - status.st_ctime
        if 0 <= fresh < GRAIN_SECONDS:
            self.output.flush()
            time.sleep(GRAIN_SECONDS - fresh)
            status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return self.skip(CHANGED)
        if (status.st_size, nanoseconds(status.st_mtime_ns), inode_of(status)) != (size, mtime, inode):
            return self.skip(CHANGED, status)
        take, incomplete = self.verdict(fd, name, status, settle, incomplete_after)
        if not take:
            return self.skip(UNSETTLED, status)
        begin = bytes([HAS_ENTRY | (INCOMPLETE if incomplete else 0)]) + entry_of(status)
        if size <= INLINE:
            data = self.whole(fd, size)
            after = os.fstat(fd)
            if len(data) != size or not self.same(status, after):
                return self.skip(CHANGED, after)
            self.output.bytes(HEADER.pack(BEGIN, len(begin)) + begin)
            self.output.bytes(data)
            return self.end(OK, after)
        self.output.frame(BEGIN, begin)
        reached, error = self.output.send(fd, 0, size)
        self.output.pad(size - reached)
        if error is not None:
            return self.end(UNREADABLE, status, says(error))
        try:
            after = os.fstat(fd)
        except OSError as late:
            return self.end(UNREADABLE, status, says(late))
        return self.end(OK if reached == size and self.same(status, after) else CHANGED, after)

    def end(self, verdict, status, message=""):
        self.output.frame(END, bytes([verdict]) + entry_of(status) + text(message))

    @staticmethod
    def same(before, after):
        if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
            return False
        # The ctime too: an mtime can be set back after a write. But what was deleted while it was read is complete, and gone for
        # ever if it were thrown away for that.
        return before.st_ctime_ns == after.st_ctime_ns or before.st_nlink != after.st_nlink

    @staticmethod
    def whole(fd, size):
        data = os.pread(fd, size + 1, 0)
        while data and len(data) <= size:
            more = os.pread(fd, size + 1 - len(data), len(data))
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


class Ending:
    """Looks whether a file's own end is there: True, False, or None where its format has none to look at."""

    BY_NAME = {
        b"png": "png", b"apng": "png", b"jpg": "jpeg", b"jpeg": "jpeg", b"webp": "riff", b"wav": "riff", b"avi": "riff", b"gif": "gif",
        b"mp4": "boxes", b"m4v": "boxes", b"m4a": "boxes", b"mov": "boxes", b"heic": "boxes", b"avif": "boxes",
        b"webm": "matroska", b"mkv": "matroska",
    }  # fmt: skip

    def __init__(self, fd, size, name):
        self.fd = fd
        self.size = size
        self.name = name

    def at(self, offset, count):
        return os.pread(self.fd, count, offset) if 0 <= offset < self.size else b""

    def reached(self):
        head = self.at(0, 16)
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            kind = "png"
        elif head.startswith(b"\xff\xd8\xff"):
            kind = "jpeg"
        elif head[:4] == b"RIFF":
            kind = "riff"
        elif head.startswith((b"GIF87a", b"GIF89a")):
            kind = "gif"
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            kind = "boxes"
        elif head.startswith(b"\x1a\x45\xdf\xa3"):
            kind = "matroska"
        else:
            # Nothing known in it: if its name promises a format, its first bytes are still to come.
            _, dot, kind = self.name.rpartition(b".")
            return False if dot and kind.lower() in self.BY_NAME else None
        return getattr(self, kind)()

    def png(self):
        if self.at(self.size - 8, 8) == b"IEND\xaeB`\x82":
            return True
        # Some tools append after the end: walk there.
        offset = 8
        for _ in range(WALK_LIMIT):
            head = self.at(offset, 8)
            if len(head) < 8:
                return False
            offset += U32.unpack_from(head)[0] + 12
            if head[4:] == b"IEND":
                return offset <= self.size
        return False

    def jpeg(self):
        if self.at(self.size - 2, 2) == b"\xff\xd9":
            return True
        # Phones append previews and films after the end. Segments have a length; picture data runs to the next marker
        # that is neither a stuffed byte nor a restart.
        offset = 2
        for _ in range(WALK_LIMIT):
            head = self.at(offset, 4)
            if len(head) < 2 or head[0] != 0xFF:
                return False
            kind = head[1]
            if kind == 0xD9:
                return True
            if kind == 0xFF:
                offset += 1
                continue
            if kind == 0x01 or 0xD0 <= kind <= 0xD8:
                offset += 2
                continue
            if len(head) < 4:
                return False
            offset += 2 + (head[2] << 8 | head[3])
            if kind == 0xDA:
                offset = self.after_picture_data(offset)
                if offset < 0:
                    return False
        return False

    def after_picture_data(self, offset):
        import re

        marker = re.compile(b"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
        limit = offset + WALK_BYTES
        while offset < limit:
            data = self.at(offset, PIECE)
            if len(data) < 2:
                return -1
            found = marker.search(data)
            if found:
                return offset + found.start()
            offset += len(data) - 1
        return -1

    def riff(self):
        length = struct.unpack("<I", self.at(4, 4).ljust(4, b"\0"))[0]
        # Writers put 0 or all ones there first, and the length at their end.
        return 0 < length != 0xFFFFFFFF and length + 8 <= self.size

    def gif(self):
        head = self.at(0, 13)
        if len(head) < 13:
            return False
        offset = 13 + (3 << (head[10] & 7) + 1 if head[10] & 0x80 else 0)
        for _ in range(WALK_LIMIT):
            block = self.at(offset, 11)
            if block[:1] == b"\x3b":
                return True
            if block[:1] == b"\x21":
                offset += 2
            elif block[:1] == b"\x2c" and len(block) >= 10:
                offset += 11 + (3 << (block[9] & 7) + 1 if block[9] & 0x80 else 0)
            else:
                return False
            offset = self.after_sub_blocks(offset)
            if offset < 0:
                return False
        return False

    def after_sub_blocks(self, offset):
        data, start = b"", offset
        while True:
            if offset - start >= len(data):
                data, start = self.at(offset, 32768), offset
                if not data:
                    return -1
            length = data[offset - start]
            offset += length + 1
            if not length:
                return offset

    def boxes(self):
        """ISO media: complete once its boxes fill the file, and there are both the data and its table of contents. ffmpeg
        writes that table last, and without `faststart` nothing after it."""
        offset, kinds = 0, set()
        for _ in range(WALK_LIMIT):
            head = self.at(offset, 16)
            if len(head) < 8:
                break
            length, kind = U32.unpack_from(head)[0], head[4:8]
            if length == 1 and len(head) == 16:
                length = U64.unpack_from(head, 8)[0]
            elif length == 0:
                length = self.size - offset
            if length < 8 or offset + length > self.size:
                return False
            kinds.add(kind)
            offset += length
        if b"moof" in kinds and b"mfra" not in kinds:
            # In fragments, which end anywhere.
            return None
        if b"mdat" in kinds:
            return b"moov" in kinds or b"meta" in kinds
        return None if b"moov" in kinds or b"meta" in kinds else False

    def matroska(self):
        """Its segment has a length of all ones until the writer ends."""
        data, offset = self.at(0, 4096), 4
        length, _, offset = self.number(data, offset)
        offset += length
        if data[offset : offset + 4] != b"\x18\x53\x80\x67":
            return False
        length, unknown, offset = self.number(data, offset + 4)
        return not unknown and 0 < length and offset + length <= self.size

    @staticmethod
    def number(data, offset):
        """EBML: as many bytes as the first one's leading zeros say. (value, all ones, where it ends)"""
        first = data[offset] if offset < len(data) else 0
        width = 9 - first.bit_length()
        if width > 8 or offset + width > len(data):
            return 0, True, len(data)
        value = int.from_bytes(data[offset : offset + width], "big") & (1 << 7 * width) - 1
        return value, value == (1 << 7 * width) - 1, offset + width


class Agent:
    """Answers requests until stdin ends."""

    def __init__(self, source, out):
        self.source = source
        self.output = Output(out)
        self.root = None
        self.filters = None
        self.known = {}

    def receive(self, count):
        parts = []
        while count:
            data = os.read(self.source, count)
            if not data:
                raise GoneError()
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    def request(self):
        kind, length = HEADER.unpack(self.receive(HEADER.size))
        if length > MAX_FRAME:
            raise RefusedError(bytes([BROKEN]) + text("a request of %d bytes" % length))
        return kind, Fields(self.receive(length))

    def run(self):
        try:
            kind, fields = self.request()
            self.output.write(MARKER + fields.text() + b"\n")
            self.hello(kind, fields)
            while True:
                self.output.flush()
                self.answer(*self.request())
        except GoneError:
            return 0
        except RefusedError as refused:
            payload = refused.payload
        except Exception as error:  # whatever it is, the other end is told before this one ends
            line = sys.exc_info()[2]
            while line.tb_next:
                line = line.tb_next
            payload = bytes([BROKEN]) + text("%s: %s (line %d)" % (type(error).__name__, error, line.tb_lineno))
        try:
            self.output.frame(FAILED, payload)
            self.output.flush()
        except GoneError:
            pass
        return 1

    def hello(self, kind, fields):
        version = fields.number(U16)
        if kind != HELLO or version != VERSION:
            raise RefusedError(bytes([BROKEN]) + text("version %d was asked for, this is %d" % (version, VERSION)))
        candidates = fields.texts()
        self.filters = tuple(fields.texts()), tuple(fields.texts()), frozenset(fields.texts())
        self.root = Root(candidates)
        os.chdir("/")
        python = "%s %d.%d.%d" % ((sys.implementation.name,) + sys.version_info[:3])
        system = "%s %s %s" % os.uname()[0:5:2]
        self.output.frame(READY, struct.pack(">q", now_ns()) + text(python) + text(system) + text(self.root.path))

    def answer(self, kind, fields):
        if kind == KNOWN:
            for _ in range(fields.number(U32)):
                inode = fields.number(U64)
                self.known[fields.text()] = inode
            return
        root = self.root.open()
        try:
            if kind == LIST:
                self.list(root, fields)
            elif kind == MISSING:
                self.missing(root, fields)
            elif kind == SCAN:
                since = fields.number(struct.Struct(">q"))
                exact = fields.number(struct.Struct(">B"))
                known, self.known = self.known, {}
                Scanner(self.output, self.filters, known, since if exact else None).run(root, fields.text())
            elif kind == READ:
                self.read(root, fields)
            else:
                raise RefusedError(bytes([BROKEN]) + text("a request of kind %d" % kind))
        finally:
            os.close(root)

    def list(self, root, fields):
        limit = fields.number(U32)
        os.fchdir(root)
        prefixes, _, skipped = self.filters
        names = []
        with os.scandir(b".") as entries:
            for entry in entries:
                # A linked folder is one that can be named, so it is shown.
                if not entry.name.startswith(prefixes) and entry.name not in skipped and len(entry.name) <= MAX_NAME and entry.is_dir():
                    names.append(entry.name)
        os.chdir("/")
        self.output.frame(NAMES, texts(sorted(names)[:limit]))

    def missing(self, root, fields):
        missing = []
        for folder in fields.texts():
            try:
                if stat.S_ISDIR(os.stat(folder, dir_fd=root).st_mode):
                    continue
            except OSError:
                pass
            missing.append(folder)
        self.output.frame(NAMES, texts(missing))

    def read(self, root, fields):
        reader = Reader(self.output, root, fields.texts())
        try:
            for _ in range(fields.number(U32)):
                wanted = WANTED.unpack_from(fields.data, fields.at)
                fields.at += WANTED.size
                reader.read(fields.text(), wanted)
        finally:
            reader.close()


def main():
    # A shell or an SSH server may hand over ends that do not wait.
    os.set_blocking(0, True)
    os.set_blocking(1, True)
    return Agent(0, 1).run()


if __name__ == "__main__":
    sys.exit(main())
