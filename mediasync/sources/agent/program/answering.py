"""Takes requests from stdin and answers them, until it ends."""

import _thread
import os
import stat
import struct
import sys

from mediasync.sources.agent.program.aside import Aside, Emptying, remove_folder
from mediasync.sources.agent.program.deleting import DOOMED, Deleter, Doomed, grouped, unlink
from mediasync.sources.agent.program.frames import (
    AGES,
    BROKEN,
    DELETE,
    EMPTIED,
    EMPTY_ASIDE,
    EXACT,
    EXPLAIN,
    FAILED,
    FREE,
    HASH,
    HEADER,
    HELLO,
    I64,
    KNOWN,
    LIST,
    MARKER,
    MAX_FRAME,
    MAX_NAME,
    MISSING,
    MOVE_ASIDE,
    NAMES,
    QUICK,
    READ,
    READY,
    REMOVE_FOLDERS,
    SCAN,
    SELECT,
    SURROUNDINGS,
    U16,
    U32,
    U64,
    VERSION,
    WATCH,
    Fields,
    GoneError,
    Output,
    RefusedError,
    now_ns,
    text,
    texts,
)
from mediasync.sources.agent.program.reading import WANTED, Reader
from mediasync.sources.agent.program.scanning import Scanner
from mediasync.sources.agent.program.selecting import Selecting
from mediasync.sources.agent.program.tree import FOLLOW_NONE, Folders, Root, Tree
from mediasync.sources.agent.program.watching import Watcher

TOOLS = (b"rsync", b"sha256sum", b"find", b"tar")


class Agent:
    """Answers requests until stdin ends."""

    def __init__(self, source, out):
        self.source = source
        self.output = Output(out)
        self.root = None
        self.selection = None
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
            self.output.flush()
            _thread.start_new_thread(self.output.say_alive, ())
            while True:
                kind, fields = self.request()
                self.output.busy = kind != WATCH
                self.answer(kind, fields)
                self.output.flush()
                # What is known comes before what is asked, and may take long on a slow line.
                self.output.busy = kind == KNOWN
        except GoneError:
            return 0
        except RefusedError as refused:
            payload = refused.payload
        except Exception as error:  # whatever it is, the other end is told before this one ends
            line = sys.exc_info()[2]
            while line.tb_next:
                line = line.tb_next
            where = (type(error).__name__, error, line.tb_frame.f_code.co_name, line.tb_lineno)
            payload = bytes([BROKEN]) + text("%s: %s (%s, line %d)" % where)
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
        self.selection = Selecting(fields)
        self.root = Root(candidates)
        os.chdir("/")
        system = "%s %s %s" % os.uname()[0:5:2]
        self.output.frame(READY, I64.pack(now_ns()) + text(self.python()) + text(system) + text(self.root.path))

    @staticmethod
    def python():
        return "%s %d.%d.%d" % ((sys.implementation.name,) + sys.version_info[:3])

    def answer(self, kind, fields):
        if kind == KNOWN:
            for _ in range(fields.number(U32)):
                inode = fields.number(U64)
                self.known[fields.text()] = inode
            return
        if kind == SELECT:
            self.selection = Selecting(fields)
            return
        root = self.root.open()
        try:
            if kind == LIST:
                self.list(root, fields)
            elif kind == MISSING:
                self.missing(root, fields)
            elif kind == SCAN:
                self.scan(root, fields)
            elif kind == READ or kind == HASH:
                self.read(root, fields, kind == HASH)
            elif kind == DELETE:
                self.delete(root, fields, unlink)
            elif kind == MOVE_ASIDE:
                aside = Aside(root, fields.text())
                try:
                    self.delete(root, fields, aside)
                finally:
                    aside.close()
            elif kind == EMPTY_ASIDE:
                emptying = Emptying(self.output, root)
                emptying.run(fields.text(), fields.text())
                self.output.frame(EMPTIED, U64.pack(emptying.files) + text(emptying.failed))
            elif kind == REMOVE_FOLDERS:
                self.remove_folders(root, fields)
            elif kind == WATCH:
                self.watch(root, fields)
            elif kind == SURROUNDINGS:
                self.surroundings(root)
            else:
                raise RefusedError(bytes([BROKEN]) + text("a request of kind %d" % kind))
        finally:
            os.close(root)

    def list(self, root, fields):
        limit = fields.number(U32)
        os.fchdir(root)
        prefixes, skipped = self.selection.prefixes, self.selection.names
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

    def take_known(self):
        known, self.known = self.known, {}
        return known

    def scan(self, root, fields):
        since, flags = fields.number(I64), fields.byte()
        folder = fields.text()
        tree = Tree(root, fields.texts(), self.selection.follow)
        try:
            scanner = Scanner(
                self.output, tree, self.selection, self.take_known(), since if flags & EXACT else None, flags & EXPLAIN, flags & AGES
            )
            scanner.run(folder, flags & QUICK)
        finally:
            tree.close()

    def read(self, root, fields, hashing):
        folders = Folders(Tree(root, fields.texts(), self.selection.follow))
        try:
            reader = Reader(self.output, folders, hashing)
            for _ in range(fields.number(U32)):
                wanted = WANTED.unpack(fields.take(WANTED.size))
                path = fields.text()
                reader.read(path, wanted, fields.take(32) if wanted[-1] else b"")
        finally:
            folders.close()

    def delete(self, root, fields, remove):
        folders = Folders(Tree(root, fields.texts(), FOLLOW_NONE))
        try:
            files = []
            for _ in range(fields.number(U32)):
                doomed = DOOMED.unpack(fields.take(DOOMED.size))
                files.append(Doomed(fields.text(), doomed))
            Deleter(self.output, folders, remove).run(grouped(files))
        finally:
            folders.close()

    def remove_folders(self, root, fields):
        tree = Tree(root, fields.texts(), FOLLOW_NONE)
        gone = []
        for path in fields.texts():
            above, _, name = path.rpartition(b"/")
            try:
                top, rest = tree.top(above)
            except OSError:
                continue
            try:
                if remove_folder(top, rest + b"/" + name if rest else name):
                    gone.append(path)
            finally:
                os.close(top)
            self.output.tick()
        self.output.frame(NAMES, texts(gone))

    def watch(self, root, fields):
        folder = fields.text()
        tree = Tree(root, fields.texts(), self.selection.follow)
        try:
            Watcher(self.source, self.output, tree, self.root.path, self.selection, folder, self.take_known()).run()
        finally:
            tree.close()

    def surroundings(self, root):
        try:
            status = os.fstatvfs(root)
            free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
        except OSError:
            free = total = 0
        places = os.environb.get(b"PATH", os.defpath.encode()).split(os.pathsep.encode())
        tools = [self.python().encode()]
        for tool in TOOLS:
            if any(place and os.access(os.path.join(place, tool), os.X_OK) for place in places):
                tools.append(tool)
        self.output.frame(FREE, struct.pack(">QQ", free, total) + texts(tools))


def main():
    # A shell or an SSH server may hand over ends that do not wait.
    os.set_blocking(0, True)
    os.set_blocking(1, True)
    return Agent(0, 1).run()


if __name__ == "__main__":
    sys.exit(main())
