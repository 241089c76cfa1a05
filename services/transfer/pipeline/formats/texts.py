"""The texts that a file carries beside its pixels, collected within bounds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from services.transfer.pipeline.formats.limits import MAX_TEXT_BYTES, MAX_TEXTS, MAX_TEXTS_BYTES


class Texts:
    """Named texts in file order; the first of a name counts. Silently refuses what is over a bound: a text cut short is of no use."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._room = MAX_TEXTS_BYTES

    def add(self, name: str, text: str) -> None:
        """Takes a text under a name; both may be anything."""
        if not name or name in self._texts or len(self._texts) >= MAX_TEXTS or len(name) > 200:
            return
        if len(text) > min(MAX_TEXT_BYTES, self._room):
            return
        self._room -= len(text)
        self._texts[name] = text

    def get(self, name: str) -> str:
        """The text of that name, or an empty one."""
        return self._texts.get(name, "")

    def find(self, name: str) -> str:
        """The text of that name in any case (Matroska writes tag names in capitals), or an empty one."""
        return self.get(name) or next((text for key, text in self._texts.items() if key.lower() == name), "")

    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self._texts)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._texts.items())

    def __len__(self) -> int:
        return len(self._texts)


def decode(data: bytes) -> str:
    """Bytes of unsaid encoding: UTF-8 if they are, else Latin-1, which takes anything. PNG says Latin-1, but some writers put UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def inflate(data: bytes) -> bytes | None:
    """Decompressed zlib data; None if it is broken or larger than one text may be."""
    try:
        inflater = zlib.decompressobj()
        result = inflater.decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return result if inflater.eof else None
