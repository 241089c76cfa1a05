"""Divides a scan of many directories among a few processes: looking at a million files is a matter of processor time. They are the known
ones of an exact scan, and of a full one those that are still to be gone into once they are many.

Each takes its share of the directories, and what is new below them. This one passes on what the others found, a directory at a time,
and adds up what they counted. A helper that ends before it said that it is done fails the scan, which is then begun anew.
"""

import errno
import os
import select
import struct

from mediasync.sources.agent.program.frames import (
    BROKEN,
    DIRECTORY,
    HEADER,
    MORE,
    SCANNED,
    TICK,
    TICK_SECONDS,
    GoneError,
    Output,
    RefusedError,
    says,
    text,
)
from mediasync.sources.agent.program.selecting import OUTSIDE
from mediasync.sources.agent.program.tree import NOT_THERE, below, descend

MOST_PROCESSES = 4
WORTH_DIRECTORIES = 64  # fewer are looked at in less time than a process takes to begin
PIPE_BYTES = 1 << 20
# When it began, files and bytes that are results, and what is none: a number a reason.
SCAN_TOTALS = struct.Struct(">qQQ%dQ" % OUTSIDE)


def processes_for(directories):
    """Among how many processes to divide so many directories."""
    try:
        processors = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        processors = os.cpu_count() or 1
    return max(1, min(MOST_PROCESSES, processors, directories // WORTH_DIRECTORIES))


class Helper:
    """Another process, and what it says."""

    def __init__(self, scanner, top, folder, paths):
        self.done = False
        self.waiting = b""
        self.fd, out = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(out)
            return
        status = 1
        try:
            os.close(self.fd)
            # The line is the other process's alone: it must not be held open from here.
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(nothing, fd)
            scanner.output = Output(out)
            # What was counted before is the other process's.
            scanner.seen = scanner.size = 0
            scanner.filtered = [0] * len(scanner.filtered)
            look_at(scanner, top, folder, paths)
            scanner.output.frame(SCANNED, SCAN_TOTALS.pack(0, scanner.seen, scanner.size, *scanner.filtered[1:]))
            scanner.output.flush()
            status = 0
        except GoneError:
            pass
        finally:
            # Whatever happened: what comes after a scan is the other process's too.
            os._exit(status)

    def take(self, scanner):
        """Passes on what there is; goes on until a directory that was begun is complete."""
        begun = False
        while True:
            data = os.read(self.fd, PIPE_BYTES)
            if not data:
                raise RefusedError(bytes([BROKEN]) + text("a part of the scan ended early"))
            self.waiting += data
            at = 0
            while len(self.waiting) - at >= HEADER.size:
                kind, length = HEADER.unpack_from(self.waiting, at)
                end = at + HEADER.size + length
                if len(self.waiting) < end:
                    break
                if kind == SCANNED:
                    totals = SCAN_TOTALS.unpack_from(self.waiting, at + HEADER.size)
                    scanner.seen, scanner.size = scanner.seen + totals[1], scanner.size + totals[2]
                    for reason, count in enumerate(totals[3:], 1):
                        scanner.filtered[reason] += count
                    self.done = True
                    return
                if kind != TICK:
                    scanner.output.bytes(self.waiting[at:end])
                if kind == DIRECTORY:
                    begun = bool(self.waiting[at + HEADER.size] & MORE)
                at = end
            self.waiting = self.waiting[at:]
            if not begun:
                return

    def end(self):
        os.close(self.fd)
        if not self.done:
            try:
                os.kill(self.pid, 9)
            except OSError:
                pass
        os.waitpid(self.pid, 0)


def known_below(scanner, folder):
    """What an exact scan has to look at."""
    return sorted(path for path in scanner.known if not folder or below(path, folder) is not None)


def scan_divided(scanner, top, folder, paths, processes):
    """Looks at directories below `folder`, which is open as `top`, and at what is below them and not known."""
    helpers = []
    try:
        scanner.output.flush()
        for number in range(1, processes):
            helpers.append(Helper(scanner, top, folder, paths[number::processes]))

        def pass_on(seconds):
            waiting = {helper.fd: helper for helper in helpers if not helper.done}
            poller = select.poll()
            for fd in waiting:
                poller.register(fd, select.POLLIN | select.POLLHUP)
            for fd, _ in poller.poll(seconds * 1000):
                waiting[fd].take(scanner)
            scanner.output.tick()

        look_at(scanner, top, folder, paths[::processes], lambda: pass_on(0))
        while not all(helper.done for helper in helpers):
            pass_on(TICK_SECONDS)
    finally:
        for helper in helpers:
            helper.end()


def look_at(scanner, top, folder, paths, after_each=lambda: None):
    """Reports some directories, and those below them that are not known."""
    for path in paths:
        rest = below(path, folder) if folder else path
        try:
            fd = descend(top, rest)
        except OSError as error:
            if error.errno not in NOT_THERE and error.errno != errno.ELOOP and is_readable(top, rest.rpartition(b"/")[0]):
                scanner.unreadable(path, says(error))
            continue
        try:
            scanner.walk([(path, fd, b"", ())], scanner.known)
        finally:
            os.close(fd)
        after_each()


def is_readable(top, path):
    """Whether a folder can be opened. What is below one that cannot is not told of."""
    try:
        os.close(descend(top, path))
    except OSError:
        return False
    return True
