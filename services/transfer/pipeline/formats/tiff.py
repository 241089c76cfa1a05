"""EXIF, which is a small TIFF: the texts that generators put there.

A1111 and Forge write UserComment, "UNICODE" and UTF-16 big-endian whatever the byte order of the TIFF; others write little-endian or
UTF-8 under the same label. ComfyUI writes `prompt:{...}` as the camera's model, `workflow:{...}` as its make, and further keys in
descending tags.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from services.transfer.pipeline.formats.texts import Texts, decode

USER_COMMENT = "exif:UserComment"
_USER_COMMENT_TAG = 0x9286
_EXIF_POINTER = 0x8769
_NAMED_TAGS = {0x010E: "exif:ImageDescription", 0x010F: "exif:Make", 0x0110: "exif:Model", 0x0131: "exif:Software"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # byte, ascii, short, long, undefined; what is needed here
_KEYED_JSON = re.compile(r"([A-Za-z_][\w.-]{0,60}): ?(?=[{\[])")
_MAX_ENTRIES = 512


class _Entry(NamedTuple):
    tag: int
    kind: int
    data: bytes


def read_texts(data: bytes, texts: Texts) -> None:
    """Collects the texts of an EXIF block, with or without its `Exif` marker. Broken blocks give what can be read."""
    if data.startswith(b"Exif\0\0"):
        data = data[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return
    first = struct.unpack(order + "I", data[4:8])[0]
    nested = 0
    for entry in _entries(data, first, order):
        if entry.tag == _EXIF_POINTER and entry.kind == 4 and len(entry.data) >= 4:
            nested = struct.unpack(order + "I", entry.data[:4])[0]
        elif entry.tag == _USER_COMMENT_TAG:
            texts.add(USER_COMMENT, user_comment(entry.data))
        elif entry.kind == 2:
            _add_ascii(entry, texts)
    if nested:
        for entry in _entries(data, nested, order):
            if entry.tag == _USER_COMMENT_TAG:
                texts.add(USER_COMMENT, user_comment(entry.data))


def user_comment(data: bytes) -> str:
    """The text of a UserComment: an 8-byte label of its encoding, and the text."""
    label, body = data[:8], data[8:]
    if label == b"UNICODE\0":
        return _unicode(body)
    if label == b"ASCII\0\0\0":
        return decode(body.rstrip(b"\0"))
    if label == b"JIS\0\0\0\0\0":
        return body.decode("iso2022_jp", "replace")
    body = body if label == bytes(8) else data
    return _unicode(body) if b"\0" in body.rstrip(b"\0") or body[:2] in (b"\xfe\xff", b"\xff\xfe") else decode(body.rstrip(b"\0"))


def _add_ascii(entry: _Entry, texts: Texts) -> None:
    text = decode(entry.data.rstrip(b"\0"))
    if keyed := _KEYED_JSON.match(text):
        texts.add(keyed[1], text[keyed.end() :])
    elif entry.tag in _NAMED_TAGS:
        texts.add(_NAMED_TAGS[entry.tag], text)


def _unicode(body: bytes) -> str:
    """The decoding that gives the most ASCII: generators' texts always hold some ("Steps: ", JSON), and a wrong decoding hardly any."""
    for mark, encoding in ((b"\xfe\xff", "utf-16-be"), (b"\xff\xfe", "utf-16-le"), (b"\xef\xbb\xbf", "utf-8")):
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace").rstrip("\0")
    even = body[: len(body) & ~1]
    candidates = [even.decode(encoding, "replace").rstrip("\0") for encoding in ("utf-16-be", "utf-16-le")]
    try:
        candidates.append(body.rstrip(b"\0").decode("utf-8"))
    except UnicodeDecodeError:
        pass  # then it is not UTF-8
    return max(candidates, key=_ascii_share)


def _ascii_share(text: str) -> float:
    sample = text[:4096]
    return sum(1 for c in sample if " " <= c <= "~" or c == "\n") / (len(sample) or 1)


def _entries(data: bytes, offset: int, order: str) -> Iterator[_Entry]:
    if offset < 8 or offset + 2 > len(data):
        return
    count = struct.unpack_from(order + "H", data, offset)[0]
    room = 2 * len(data)  # many entries may point to the same bytes
    for index in range(min(count, _MAX_ENTRIES)):
        position = offset + 2 + 12 * index
        if position + 12 > len(data):
            return
        tag, kind, length = struct.unpack_from(order + "HHI", data, position)
        size = length * _SIZES.get(kind, 0)
        if not size:
            continue
        start = position + 8 if size <= 4 else struct.unpack_from(order + "I", data, position + 8)[0]
        if start + size <= len(data) and size <= room:
            room -= size
            yield _Entry(tag, kind, data[start : start + size])
