"""Looks for files: full, exact and quick scans (`mediasync.sources.base.ScanRequest` says what each reports)."""

import errno
import os
import stat

from mediasync.sources.agent.program.dividing import SCAN_TOTALS, WORTH_DIRECTORIES, known_below, processes_for, scan_divided
from mediasync.sources.agent.program.frames import (
    AGED,
    COMPLETE,
    DIRECTORY,
    FILTERED,
    GONE,
    HAS_NAMES,
    MAX_NAME,
    MAX_PATH,
    MORE,
    SCANNED,
    U32,
    U64,
    UNREADABLE_DIRECTORY,
    YOUNG,
    now_ns,
    says,
    text,
    texts,
)
from mediasync.sources.agent.program.selecting import LINK, OUTSIDE, SPECIAL, TOO_YOUNG
from mediasync.sources.agent.program.system import Births
from mediasync.sources.agent.program.tree import (
    AGED_ENTRY,
    ENTRY,
    FOLLOW_ALL,
    FOLLOW_NONE,
    FUTURE,
    NOT_THERE,
    UNKNOWN,
    age_of,
    aged_entry_of,
    below,
    descend,
    entry_of,
    inode_of,
)

FEW = 2 * WORTH_DIRECTORIES  # directories that are still to be gone into, from which on others are asked to help
CHUNK = 1000  # names in one DIRECTORY frame, which keeps it below MAX_FRAME
S_IFMT = 0o170000
LINK_ERRORS = (errno.ELOOP, errno.ENOTDIR)


class Scanner:
    """One scan."""

    def __init__(self, output, tree, selection, known, since, explain, ages=False):
        self.output = output
        self.tree = tree
        self.selection = selection
        self.known = known
        self.since = since
        self.explain = explain
        self.births = Births() if ages else None
        self.form = AGED_ENTRY if ages else ENTRY
        self.seen = self.size = 0
        self.filtered = [0] * (OUTSIDE + 1)  # by reason, of which that is the last

    def run(self, folder, quick):
        started = now_ns()
        processes = 1
        if self.since is not None and not self.explain and folder in self.known and self.tree.follow != FOLLOW_ALL:
            processes = processes_for(len(self.known))
        try:
            # A folder that was named may be a link, also one that leads elsewhere: the user said so.
            top = self.tree.directory(folder)
        except OSError as error:
            if error.errno not in NOT_THERE:
                self.unreadable(folder, says(error))
            elif quick:
                for path in sorted(self.known):
                    if not folder or below(path, folder) is not None:
                        self.output.frame(GONE, text(path))
            top = None
        if top is not None:
            try:
                if quick:
                    self.quick(top, folder)
                elif processes > 1:
                    scan_divided(self, top, folder, known_below(self, folder), processes)
                else:
                    left = self.walk([(folder, top, b"", ())], until=FEW if self.divisible() else None)
                    if left:
                        paths = [path for path, _, _, _ in reversed(left)]
                        scan_divided(self, top, folder, paths, processes_for(len(paths)))
            finally:
                os.chdir("/")
                os.close(top)
        self.output.frame(SCANNED, SCAN_TOTALS.pack(started, self.seen, self.size, *self.filtered[1:]))

    def quick(self, top, folder):
        """Looks at the known directories, and only into those that moved."""
        known, since, moved = self.known, self.since, []
        for path in sorted(known):
            rest = below(path, folder) if folder else path
            if rest is None:
                continue
            try:
                status = os.stat(rest or b".", dir_fd=top, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode) and self.tree.follow == FOLLOW_ALL:
                    status = os.stat(rest, dir_fd=top)
            except OSError as error:
                if error.errno not in NOT_THERE:
                    self.unreadable(path, says(error))
                else:
                    self.output.frame(GONE, text(path))
                continue
            if not stat.S_ISDIR(status.st_mode):
                self.output.frame(GONE, text(path))
            elif status.st_mtime_ns >= since or inode_of(status) != known[path]:
                moved.append((path, rest))
        self.since = None
        for path, rest in moved:
            try:
                # By way of the whole path: a part of it may be a link that is followed.
                fd = self.tree.directory(path) if self.tree.follow == FOLLOW_ALL else descend(top, rest)
            except OSError as error:
                if error.errno in NOT_THERE or error.errno in LINK_ERRORS:
                    self.output.frame(GONE, text(path))
                else:
                    self.unreadable(path, says(error))
                continue
            try:
                self.walk([(path, fd, b"", self.chain(path))], known)
            finally:
                os.close(fd)

    def chain(self, path):
        """What is above a directory, where links could lead back there."""
        chain = []
        while path and self.tree.follow == FOLLOW_ALL:
            path = path.rpartition(b"/")[0]
            try:
                fd = self.tree.directory(path)
            except OSError:
                continue
            status = os.fstat(fd)
            os.close(fd)
            chain.append((status.st_dev, status.st_ino))
        return tuple(chain)

    def divisible(self):
        """Whether a full scan may be divided among processes: what is in a directory is not known to be elsewhere too."""
        return self.since is None and not self.explain and not self.known and self.tree.follow != FOLLOW_ALL and processes_for(FEW) > 1

    def walk(self, waiting, but=(), until=None):
        """Reports directories and what is below them, but not what is in `but`. One is (path, an open directory, the way from there, what
        is above it). Leaves off, and returns what is left, once `until` are waiting."""
        following = self.tree.follow == FOLLOW_ALL
        while waiting:
            if until is not None and len(waiting) >= until:
                return waiting
            path, start, way, chain = waiting.pop()
            try:
                fd = descend(start, way)
            except OSError as error:
                # Gone since its name was read, or a link by now: the next look tells.
                if error.errno not in NOT_THERE and error.errno not in LINK_ERRORS:
                    self.unreadable(path, says(error))
                continue
            try:
                if following:
                    status = os.fstat(fd)
                    if (status.st_dev, status.st_ino) in chain:
                        self.drop(path, OUTSIDE)
                        continue
                    chain = chain + ((status.st_dev, status.st_ino),)
                found = self.directory(fd, path)
            except OSError as error:
                self.unreadable(path, says(error))
                continue
            finally:
                os.close(fd)
            found.sort(key=lambda item: item[0], reverse=True)
            for name, place in found:
                under = path + b"/" + name if path else name
                if under in but:
                    continue
                if place is None:
                    waiting.append((under, start, way + b"/" + name if way else name, chain))
                else:
                    waiting.append((under, place[0], place[1], chain))
        return waiting

    def unreadable(self, path, message):
        self.output.frame(UNREADABLE_DIRECTORY, text(path) + text(message))

    def drop(self, path, reason, size=0):
        """Something that is no result."""
        self.filtered[reason] += 1
        if self.explain:
            self.output.frame(FILTERED, bytes([reason]) + U64.pack(size) + text(path))

    def directory(self, fd, path):
        """Reports the files of one directory; returns the directories in it: names, and where to if they are links."""
        status = os.fstat(fd)
        since = self.since
        complete = since is None or self.known.get(path) != inode_of(status)
        moved = not complete and status.st_mtime_ns >= since
        if complete or moved:
            since = -FUTURE * 4
        # Names are taken relative to the working directory: as bytes, which an open directory's number would not give.
        os.fchdir(fd)
        selection, explain = self.selection, self.explain
        selection.enter(path)
        prefixes, suffixes, skipped = selection.prefixes, selection.suffixes, selection.names
        narrow, limits, following = selection.narrow, selection.limits, self.tree.follow != FOLLOW_NONE
        prefix = path + b"/" if path else b""
        directories, files, long, failed, young = [], [], 0, "", False
        births = self.births
        room = min(MAX_NAME, MAX_PATH - len(prefix))
        seen = size = looked = 0
        with os.scandir(b".") as entries:
            for entry in entries:
                looked += 1
                if not looked & 1023:
                    self.output.tick()
                name = entry.name
                try:
                    # A million files pass here in a scan of three seconds.
                    status_of = None
                    if not entry.is_file(follow_symlinks=False):
                        if entry.is_dir(follow_symlinks=False):
                            reason = selection.folder_reason(prefix + name, name)
                            if reason:
                                self.drop(prefix + name, reason)
                            elif len(name) > room:
                                long += 1
                            else:
                                directories.append((name, None))
                            continue
                        if not following or not entry.is_symlink():
                            self.drop(prefix + name, LINK if entry.is_symlink() else SPECIAL)
                            continue
                        place, status_of, reason = self.link(prefix + name, name)
                        if reason:
                            self.drop(prefix + name, reason)
                            continue
                        if place is not None:
                            if len(name) > room:
                                long += 1
                            else:
                                directories.append((name, place))
                            continue
                    lowered = name.lower()
                    if (
                        name.startswith(prefixes)
                        or lowered.endswith(suffixes)
                        or name in skipped
                        or (narrow and selection.narrow_reason(prefix + name, lowered))
                    ):
                        reason = selection.name_reason(prefix + name, name)
                        if explain:
                            self.drop(prefix + name, reason, (status_of or entry.stat(follow_symlinks=False)).st_size)
                        else:
                            self.filtered[reason] += 1
                        continue
                    if status_of is None:
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
                if status_of.st_mode & S_IFMT != stat.S_IFREG:
                    self.drop(prefix + name, LINK if stat.S_ISLNK(status_of.st_mode) else SPECIAL)
                    continue
                if limits:
                    reason = selection.look_reason(status_of.st_size, age_of(status_of))
                    if reason:
                        young = young or reason == TOO_YOUNG
                        self.drop(prefix + name, reason, status_of.st_size)
                        continue
                seen += 1
                size += status_of.st_size
                if status_of.st_ctime_ns >= since:
                    # One bytes object a file: a directory may hold a million. NUL sorts before anything in a name.
                    if births is None:
                        files.append(name + b"\0" + entry_of(status_of))
                    else:
                        files.append(name + b"\0" + aged_entry_of(status_of, births.of(name, status_of)))
        self.seen += seen
        self.size += size
        if moved and len(files) > CHUNK:
            # So many names would not fit into one frame, and cost little less than everything.
            complete, moved = True, False
        self.report(path, inode_of(status), files, (COMPLETE if complete else 0) | (HAS_NAMES if moved else 0) | (YOUNG if young else 0))
        if long:
            self.unreadable(path, "%d names in it are too long (over 255 bytes, or 4095 with their folders)" % long)
        if failed:
            self.unreadable(path, "a name in it cannot be looked at: " + failed)
        return directories

    def link(self, path, name):
        """Where a link in the working directory leads: (place of a folder or None, how a file looks or None, why it is no result or 0)."""
        selection, tree = self.selection, self.tree
        try:
            folder = stat.S_ISDIR(os.stat(name).st_mode)
        except OSError:
            return None, None, LINK
        reason = selection.folder_reason(path, name) if folder else selection.name_reason(path, name)
        if reason:
            return None, None, reason
        if folder and tree.follow != FOLLOW_ALL:
            return None, None, LINK
        place = tree.place(os.path.realpath(name))
        if place is None:
            return None, None, OUTSIDE
        way, _, last = place[1].rpartition(b"/")
        try:
            fd = descend(place[0], way)
            try:
                status = os.stat(last or b".", dir_fd=fd, follow_symlinks=False)
            finally:
                os.close(fd)
        except OSError:
            return None, None, LINK
        if stat.S_ISDIR(status.st_mode):
            return (place, None, 0) if tree.follow == FOLLOW_ALL else (None, None, LINK)
        return (None, status, 0) if stat.S_ISREG(status.st_mode) else (None, None, SPECIAL)

    def report(self, path, inode, files, flags):
        files.sort()
        names, width = [], self.form.size
        if self.births is not None:
            flags |= AGED
        if flags & HAS_NAMES:
            names = [item[: -width - 1] for item in files]
            files = [item for item in files if self.form.unpack(item[-width:])[2] >= self.since]
        head = text(path) + U64.pack(inode)
        for start in range(0, len(files) or 1, CHUNK):
            some = files[start : start + CHUNK]
            more = MORE if start + CHUNK < len(files) else 0
            parts = [bytes([flags | more]) + head + U32.pack(len(some))]
            parts.extend(columns(some, self.form))
            parts.append(texts(names))
            self.output.frame(DIRECTORY, b"".join(parts))
        self.output.tick()


def columns(items, form=ENTRY):
    """Names, sizes, mtimes, how much later the ctimes are, and inodes, each as one text: a database makes the same of what it has on
    record, so that files that did not move are never taken apart at the other end."""
    width = form.size
    entries = form.iter_unpack(b"".join([item[-width:] for item in items]))
    sizes, mtimes, ctimes, inodes, *ages = zip(*entries) if items else ((),) * (4 if form is ENTRY else 6)
    yield sized(b"/".join([item[: -width - 1] for item in items]))
    # One form for all makes text of numbers in the least time.
    numbered = ",".join(["%d"] * len(items))
    for numbers in (sizes, mtimes, tuple(map(int.__sub__, ctimes, mtimes)), inodes):
        yield sized((numbered % numbers).encode())
    for moments in ages:
        yield sized(",".join(["-" if moment == UNKNOWN else "%d" % moment for moment in moments]).encode())


def sized(value):
    return U32.pack(len(value)) + value
