"""Which files of a folder go together: a picture and what was written beside it.

- `X.png` with `X.txt`, `X.json`, `X.png.txt` and `X.png.json`: prompts and workflows;
- VideoHelperSuite's `P_00001.mp4` (or another video) with `P_00001.png`, which carries the metadata, and `P_00001-audio.mp4`.

The one that the others belong to is the main file. Where several share a companion (`X.png`, `X.jpg` and one `X.txt`), all of them and
what else belongs to them are one group with several main files. A companion whose main file is not there is a main file itself.

What it does not see: companions that the source's filters leave out. They stay.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mediasync.sources.base import MOST_JOINED

_NOTES = (b".txt", b".json")
_VIDEOS = (b".mp4", b".webm", b".gif", b".mov", b".mkv")
_NUMBERED = re.compile(rb".*_[0-9]{5,}", re.DOTALL)
_AUDIO = b"-audio"
_BESIDE = (*_NOTES, *_VIDEOS)


class Group(NamedTuple):
    """Files that go together or not at all, as their places in the folder: main files, then the rest, each in the order of their names."""

    mains: tuple[int, ...]
    others: tuple[int, ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        """All of them."""
        return self.mains + self.others

    @property
    def too_large(self) -> bool:
        """Whether it has more files than a source deletes together."""
        return len(self.mains) + len(self.others) > MOST_JOINED


class Companions:
    """The groups of one folder. `names` are sorted, each there once. Groups are found as they are asked for: of a large folder mostly few
    files matter."""

    def __init__(self, names: Sequence[bytes]) -> None:
        self._names = names
        # Of a folder that has nothing but pictures, nothing goes with anything.
        self._alone = not any(name.endswith(_BESIDE) for name in names)
        self._places: Mapping[bytes, int] = {} if self._alone else dict(zip(names, range(len(names)), strict=True))
        self._groups: dict[int, Group] = {}

    def group_of(self, place: int) -> Group:
        """The group that a file belongs to."""
        if self._alone:
            return Group((place,))
        known = self._groups.get(place)
        if known is not None:
            return known
        members, waiting, mains = {self._names[place]}, [self._names[place]], set()
        while waiting:
            name = waiting.pop()
            above = self._above(name)
            if not above:
                mains.add(name)
            for relative in (*above, *self._below(name)):
                if relative not in members:
                    members.add(relative)
                    waiting.append(relative)
        group = Group(self._at(mains), self._at(members - mains))
        for member in group.places:
            self._groups[member] = group
        return group

    def _at(self, names: set[bytes]) -> tuple[int, ...]:
        return tuple(sorted(self._places[name] for name in names))

    def _above(self, name: bytes) -> list[bytes]:
        """The files that it belongs to."""
        stem, ending = _split(name)
        if ending in _NOTES:
            if stem in self._places:
                return [stem]
            return [sibling for sibling in self._siblings(stem) if _split(sibling)[1] not in _NOTES]
        if ending == b".png" and _NUMBERED.fullmatch(stem):
            return self._there(stem, _VIDEOS)
        if ending in _VIDEOS and stem.endswith(_AUDIO) and _NUMBERED.fullmatch(stem.removesuffix(_AUDIO)):
            stem = stem.removesuffix(_AUDIO)
            return self._there(stem, _VIDEOS) or self._there(stem, (b".png",))
        return []

    def _below(self, name: bytes) -> list[bytes]:
        """The files that belong to it."""
        stem, ending = _split(name)
        found = self._there(name, _NOTES)
        if ending not in _NOTES and stem != name and stem not in self._places:
            found += self._there(stem, _NOTES)
        if _NUMBERED.fullmatch(stem):
            if ending in _VIDEOS:
                found += self._there(stem, (b".png",)) + self._there(stem + _AUDIO, _VIDEOS)
            elif ending == b".png" and not self._there(stem, _VIDEOS):
                found += self._there(stem + _AUDIO, _VIDEOS)
        return found

    def _there(self, stem: bytes, endings: Sequence[bytes]) -> list[bytes]:
        return [stem + ending for ending in endings if stem + ending in self._places]

    def _siblings(self, stem: bytes) -> list[bytes]:
        """Files with the same name but for the extension."""
        # "/" comes right after "." and is in no name.
        start, end = (bisect.bisect_left(self._names, stem + mark) for mark in (b".", b"/"))
        return [name for name in self._names[start:end] if _split(name)[0] == stem]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """A name and its extension, with the dot; a name that only begins with one has none."""
    stem, dot, ending = name.rpartition(b".")
    return (stem, dot + ending) if stem else (name, b"")
