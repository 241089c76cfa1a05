"""Scans by way of `find` and `stat`.

A full or exact scan is one request. Only what nothing but a second look can tell costs another round trip: directories that an exact scan
does not know and whose files did not move, links that are to be followed, and what could not be listed. A quick scan asks for the known
directories first, then for what is in those that moved.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from dataclasses import replace

from mediasync.errors import MediasyncError, Reason
from mediasync.model import FilterReason, FollowSymlinks
from mediasync.paths import display
from mediasync.sources.base import DirectoryGone, DirectoryUnreadable, ScanRecord, ScanRequest
from mediasync.sources.listing import Listed, Tally, ends_with, link_reason
from mediasync.sources.posix import wire
from mediasync.sources.posix.gathering import Gatherer, check, records
from mediasync.sources.posix.stream import Stream

_EVERY_DEPTH = 100_000
_DENIED = "Permission denied"


class Scan:
    """One scan on a stream that nobody else reads meanwhile. `physical_root` is the root without links in it."""

    def __init__(self, stream: Stream, request: ScanRequest, root: bytes, physical_root: bytes) -> None:
        self._stream = stream
        self._request = request
        self._root = root
        self._physical_root = physical_root
        self._follow = request.selection.follow_symlinks
        self._tally = Tally(request, 0)
        self._clock_ns: int | None = None
        self._failed = False
        self._empty: list[Listed] = []
        self._again: list[bytes] = []
        self._linked: list[Listed] = []
        # The real paths of the folders that lead to a folder, itself the last; only of those that a link leads to.
        self._chains: dict[bytes, tuple[bytes, ...]] = {}

    async def run(self) -> AsyncGenerator[ScanRecord, None]:
        """Every record of it."""
        request = self._request
        if self._follow is not FollowSymlinks.NONE:
            reals, _ = await self._leads_to([request.folder])
            if request.folder in reals:
                self._chains[request.folder] = (reals[request.folder],)
        if request.quick and request.changed_since_ns is not None:
            async for record in self._quick(request.changed_since_ns):
                yield record
        else:
            async for record in self._whole():
                yield record
        yield self._tally.finished(self._clock_ns or 0)

    async def _whole(self) -> AsyncIterator[ScanRecord]:
        """Everything below the folder."""
        request, selection = self._request, self._request.selection
        # When a file was changed decides whether it is a result: then that has to be known of every one.
        short = request.changed_since_ns is not None and not (selection.min_age_seconds or selection.max_age_seconds or request.ages)
        nothing = True
        async for record in self._tree([request.folder], since_ns=request.changed_since_ns if short else None):
            nothing = False
            yield record
        if nothing and not self._again and not self._linked and await check(self._stream, [request.folder]) == ["u"]:
            yield DirectoryUnreadable(request.folder, _DENIED)
        async for record in self._rest(()):
            yield record

    async def _quick(self, since_ns: int) -> AsyncIterator[ScanRecord]:
        """The known directories, and what is in those that moved."""
        folder, known = self._request.folder, self._request.known_directories
        asked = sorted(path for path in known if not folder or path == folder or path.startswith(folder + b"/"))
        looks = await self._looks(asked)
        missing = [path for path in asked if path not in looks]
        unseen = {path for path, letter in zip(missing, await check(self._stream, missing), strict=True) if letter == "u"}
        moved: list[bytes] = []
        gone: set[bytes] = set()
        for path in asked:
            look = looks.get(path)
            if path in unseen:
                yield DirectoryUnreadable(path, _DENIED)
            elif look is None or look.kind != "d" or path.rpartition(b"/")[0] in gone:
                gone.add(path)
                yield DirectoryGone(path)
            elif ends_with(look.mtime_ns) >= since_ns or look.inode != known[path]:
                moved.append(path)
        # What is looked at now is reported in full.
        self._tally = Tally(replace(self._request, changed_since_ns=None), self._clock_ns or 0)
        below: list[bytes] = []
        async for record in self._tree(moved, depth=1, but=known, below=below):
            yield record
        async for record in self._trees(below, known):
            yield record
        async for record in self._rest(known):
            yield record

    async def _looks(self, paths: Sequence[bytes]) -> dict[bytes, wire.Seen]:
        """What is at each of `paths`; only the folder itself may be a link, unless all may."""
        named = self._request.folder
        plain = [path for path in paths if path != named] if self._follow is not FollowSymlinks.ALL else []
        followed = [path for path in paths if path == named or self._follow is FollowSymlinks.ALL]
        looks: dict[bytes, wire.Seen] = {}
        for kind, asked in ((b"stat", followed), (b"lstat", plain)):
            expected = set(asked)
            async for name, fields in records(self._stream, wire.request(kind), asked):
                if not name:
                    self._about(fields)
                    continue
                path = wire.listed_path(name)
                if path not in expected:
                    raise wire.broken("a path that was not asked for")
                looks[path] = wire.seen(fields)
        return looks

    async def _rest(self, but: Collection[bytes]) -> AsyncIterator[ScanRecord]:
        """What takes a second look: directories that have to be known in full, and links that are to be followed."""
        while self._again or self._linked:
            again, self._again = self._again, []
            async for record in self._tree(again, depth=1, flat=True):
                yield record
            linked, self._linked = self._linked, []
            folders = await self._resolve(linked)
            for listed in linked:
                for record in self._tally.records(listed, full=bool(listed.path in set(again))):
                    yield record
            async for record in self._trees([path for path in folders if path not in but], but):
                yield record

    async def _trees(self, starts: Sequence[bytes], but: Collection[bytes]) -> AsyncIterator[ScanRecord]:
        """Lists all below each of `starts`, less what is in `but`."""
        # Where one of them may lie in what another leaves out, the records could not be told apart.
        apart = bool(starts) and _any_below(but, frozenset(starts))
        for asked in [[start] for start in starts] if apart else [starts]:
            async for record in self._tree(asked, but=but):
                yield record

    async def _tree(
        self,
        starts: Sequence[bytes],
        *,
        depth: int = _EVERY_DEPTH,
        since_ns: int | None = None,
        but: Collection[bytes] = (),
        below: list[bytes] | None = None,
        flat: bool = False,
    ) -> AsyncIterator[ScanRecord]:
        """Lists what is in and below each of `starts`; see `Gatherer` for the rest."""
        if not starts:
            return
        since = b"-" if since_ns is None else b"%d.%09d" % divmod(max(since_ns - 1, 0), 10**9)
        gatherer: Gatherer | None = None
        self._failed = False
        asked = wire.request(b"tree", b"%d" % depth, since, *([b"ages"] if self._request.ages else []))
        async for name, fields in records(self._stream, asked, starts):
            if not name:
                self._about(fields)
                continue
            if self._clock_ns is None:
                raise wire.broken("a listing without its clock")
            gatherer = gatherer or Gatherer(self._tally, but, below, flat=flat)
            for listed in gatherer.take(wire.listed_path(name), fields):
                for record in self._done(listed, full=flat):
                    yield record
        for listed in gatherer.end() if gatherer is not None else ():
            for record in self._done(listed, full=flat):
                yield record
        # Whether these are empty or could not be listed shows only now.
        empty, self._empty = self._empty, []
        states = await check(self._stream, [listed.path for listed in empty]) if self._failed else ["r"] * len(empty)
        for listed, state in zip(empty, states, strict=True):
            if state == "u":
                yield DirectoryUnreadable(listed.path, _DENIED)
            elif state == "r":
                for record in self._tally.records(listed, full=flat):
                    yield record

    def _about(self, fields: bytes) -> None:
        """A record about the listing itself."""
        if fields.startswith(b"@"):
            clock_ns = wire.clock_ns(fields[1:])
            if self._clock_ns is None:
                self._clock_ns = clock_ns
                self._tally = Tally(self._request, clock_ns)
        elif fields == b"!":
            self._failed = True
        elif fields == b"?":
            raise MediasyncError(
                Reason.SOURCE_ROOT_MISSING, f"the folder {display(self._root)} at {self._stream.place} is not there any more"
            )
        else:
            raise wire.broken("a record of no kind")

    def _done(self, listed: Listed, *, full: bool) -> Iterator[ScanRecord]:
        """One directory is whole."""
        if self._tally.incomplete(listed):
            self._again.append(listed.path)
        elif listed.links:
            self._linked.append(listed)
        elif listed.files or listed.unmoved or listed.others:
            yield from self._tally.records(listed, full=full)
        else:
            self._empty.append(listed)

    # Links.

    async def _leads_to(self, links: Sequence[bytes]) -> tuple[dict[bytes, bytes], dict[bytes, wire.Seen]]:
        """The real path of what each of `links` leads to, and what is there."""
        reals: dict[bytes, bytes] = {}
        looks: dict[bytes, wire.Seen] = {}
        path: bytes | None = None
        async for name, fields in records(self._stream, wire.request(b"links"), links):
            if not name:
                self._about(fields)
            elif fields != b"=":
                path = wire.listed_path(name)
                looks[path] = wire.seen(fields)
            elif path is None or not name.startswith(b"/"):
                raise wire.broken("a real path that is none")
            else:
                reals[path] = name
        return reals, looks

    async def _resolve(self, linked: Sequence[Listed]) -> list[bytes]:
        """Looks where the links of directories lead: adds the files to them, and returns the folders."""
        reals, looks = await self._leads_to([path for listed in linked for path in listed.links])
        folders = []
        for listed in linked:
            chain = self._chain(listed.path)
            for path in listed.links:
                real, look = reals.get(path), looks.get(path)
                if real is None or look is None:
                    listed.others.append((path, FilterReason.LINK))
                    continue
                reason = link_reason(self._request.selection, path, look.kind, real, chain, self._physical_root)
                if reason is not None:
                    listed.others.append((path, reason))
                elif look.kind == "d":
                    self._chains[path] = (*chain, real)
                    folders.append(path)
                else:
                    listed.files.append(look.entry(path))
            listed.links.clear()
        return folders

    def _chain(self, path: bytes) -> tuple[bytes, ...]:
        """The real paths of the folders that lead to `path`, itself the last."""
        above = path
        while above and above not in self._chains:
            above = above.rpartition(b"/")[0]
        chain = list(self._chains.get(above, (self._physical_root,)))
        rest = path[len(above) :].strip(b"/")
        for part in rest.split(b"/") if rest else ():
            chain.append(chain[-1].rstrip(b"/") + b"/" + part)
        return tuple(chain)


def _any_below(paths: Collection[bytes], folders: frozenset[bytes]) -> bool:
    """Whether any of `paths` lies below one of `folders`."""
    for path in paths:
        above = path
        while above:
            above = above.rpartition(b"/")[0]
            if above in folders:
                return True
    return False
