"""Puts files into a folder of their own in place of deleting them, empties it of what is old, and removes folders that nothing is in.

Every folder is opened part by part, without following a link, those that are made too. Nothing is replaced, and nothing is moved to another
file system. What was moved aside is still exactly the file that the other end meant, as `deleting` has it.
"""

import errno
import os
import re
import stat

from mediasync.sources.agent.program.frames import says
from mediasync.sources.agent.program.system import Renaming
from mediasync.sources.agent.program.tree import NOT_THERE, OPEN_DIRECTORY, descend

DAY = re.compile(b"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Aside:
    """The folder `into` below the root, as `remove` of a `Deleter`. Closed after it."""

    def __init__(self, root, into):
        self.root = root
        self.into = into
        self.renaming = Renaming()
        self.folder = None
        self.fd = -1

    def __call__(self, doomed):
        folder = b"/".join([self.into] + doomed.path.split(b"/")[:-1])
        if folder != self.folder:
            self.close()
            self.fd = self.made(folder)
            self.folder = folder
        if os.fstat(self.fd).st_dev != doomed.before[0]:
            raise OSError(errno.EXDEV, "")
        return self.renaming.move(doomed.directory, doomed.name, self.fd, os.fstat(doomed.fd))

    def made(self, folder):
        """Opens a folder below the root; what of it is not there is made."""
        fd = os.dup(self.root)
        try:
            for part in folder.split(b"/"):
                try:
                    os.mkdir(part, 0o700, dir_fd=fd)
                except FileExistsError:
                    pass
                below = os.open(part, OPEN_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
        except OSError as error:
            os.close(fd)
            if error.errno in NOT_THERE or error.errno == errno.ELOOP:
                # Of the file itself that would say that it is gone.
                raise OSError(errno.EACCES, "")
            raise
        return fd

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.folder = None


class Emptying:
    """Removes what was moved aside on days before another one."""

    def __init__(self, output, root):
        self.output = output
        self.root = root
        self.files = 0
        self.failed = ""

    def run(self, folder, before):
        try:
            top = descend(self.root, folder)
        except OSError as error:
            # A link in its place is none, and is told.
            if error.errno != errno.ENOENT:
                self.failed = says(error)
            return
        try:
            device = os.fstat(top).st_dev
            for day in sorted(self.listed(top)):
                if DAY.fullmatch(day) and day < before:
                    self.remove(top, day, device)
        finally:
            os.chdir("/")
            os.close(top)

    @staticmethod
    def listed(fd):
        os.fchdir(fd)
        return os.listdir(b".")

    def remove(self, top, day, device):
        """A folder and all that is in it. Each is opened anew from `top`: they may be deeper than files can be open."""
        waiting, folders = [day], []
        while waiting:
            way = waiting.pop()
            try:
                fd = descend(top, way)
            except OSError as error:
                self.failed = says(error)
                continue
            try:
                if os.fstat(fd).st_dev != device:
                    self.failed = "another file system is mounted in it"
                    continue
                folders.append(way)
                for name in self.listed(fd):
                    try:
                        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                            waiting.append(way + b"/" + name)
                        else:
                            os.unlink(name, dir_fd=fd)
                            self.files += 1
                    except OSError as error:
                        self.failed = says(error)
                    self.output.tick()
            except OSError as error:
                self.failed = says(error)
            finally:
                os.close(fd)
        for way in reversed(folders):
            remove_folder(top, way)


def remove_folder(top, way):
    """Removes an empty folder below an open one; whether it went."""
    above, _, name = way.rpartition(b"/")
    try:
        fd = descend(top, above)
        try:
            os.rmdir(name, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True
