"""Whether a file's own end is there, by its format."""

import os
import struct

from mediasync.sources.agent.program.frames import PIECE, U32, U64

WALK_LIMIT = 100000  # parts of one file that are looked at to find its end
WALK_BYTES = 1 << 28  # and bytes of picture data


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
