"""Hashes several files at a time: reading and hashing leave the interpreter to others, so that each of a few threads keeps a processor
busy.

They answer in the order in which they were asked. Only the first thread writes to the other end: it says that it gets on while bytes are
hashed, and nothing while a disk hangs.
"""

import _thread
import os

from mediasync.sources.agent.program.frames import PIECE, TICK_SECONDS
from mediasync.sources.agent.program.reading import advise, hash_of

MOST_THREADS = 4
HASHED_AT_ONCE = 64 * 1024  # files that come to less are hashed in less time than it takes to hand them over


class Hashers:
    """The threads of one request. `begin` is called for one group after the other, `wait` for the same ones in the same order."""

    def __init__(self, output):
        self.output = output
        self.waiting = []
        self.threads = 0
        self.space = bytearray(PIECE)
        self.queue = None
        self.hashed = self.told = 0
        try:
            processors = len(os.sched_getaffinity(0))
        except (AttributeError, OSError):
            processors = os.cpu_count() or 1
        self.most = min(MOST_THREADS, processors) if processors > 1 else 0

    def begin(self, files):
        """Files that are open; each gets its `digest`, or the `error` that stopped it."""
        done = None
        if self.most and sum([file.size for file in files]) >= HASHED_AT_ONCE:
            if self.queue is None:
                import queue

                self.queue = queue.Queue()
            if self.threads < self.most:
                self.threads += 1
                _thread.start_new_thread(self.work, ())
            done = _thread.allocate_lock()
            done.acquire()
            self.queue.put((files, done))
        for file in files:
            advise(file.fd, file.size)
        self.waiting.append((files, done))

    def wait(self):
        """Returns once the files that were begun first have what they get."""
        files, done = self.waiting.pop(0)
        if done is None:
            self.hash(files, self.space, self.output.tick)
            return
        while not done.acquire(timeout=TICK_SECONDS):
            if self.hashed != self.told:
                self.told = self.hashed
                self.output.tick()

    def end(self):
        """Lets the threads go, once they are done with what they have in hand."""
        for _ in range(self.threads):
            self.queue.put(None)

    def work(self):
        """One thread."""
        space = bytearray(PIECE)
        while True:
            task = self.queue.get()
            if task is None:
                return
            files, done = task
            try:
                self.hash(files, space, self.moved)
            finally:
                done.release()

    def moved(self):
        self.hashed += 1

    @staticmethod
    def hash(files, space, tick):
        for file in files:
            try:
                file.digest = hash_of(file.fd, file.size, space, tick)
            except OSError as error:
                file.error = error
