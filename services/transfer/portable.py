"""Names for file systems that do not take every name: SMB, exFAT and NTFS refuse characters, eCryptfs long names.

Used for a name only after the file system refused it. A byte that may not be in a name becomes `%` and its two hexadecimal digits, like
in a URL: `a:b.png` becomes `a%3Ab.png`. In a name that is changed, and in one that could be taken for a changed one, `%` itself becomes
`%25`. So no two names become the same, and `original_name` gives back what was there.

Changed are: `" * : < > ? \\ |`, control characters, bytes that are not UTF-8, a dot or blank at the end, and the first letter of a
name that Windows reserves for a device (`CON`, `NUL`, `COM1`, …, also with an extension).

A name that is longer than the file system takes loses the end of its stem, and gets `~` and 8 digits of the SHA-256 of the whole name
instead. That cannot be computed back: the manifest has the whole name.
"""

from __future__ import annotations

import errno
import hashlib
import re

from services.transfer.naming import cut, split_name

REFUSED = frozenset({errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG})
"""What file systems say to a name that they cannot hold."""

ECRYPTFS_NAME_BYTES = 143
"""What eCryptfs takes while it claims 255: names are encrypted and encoded into the 255 of the file system below."""

_OFFENDING = re.compile(rb'[\x00-\x1f\x7f"*:<>?\\|]')
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_DEVICE = re.compile(rb"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?=\.|\Z)", re.IGNORECASE)


def portable_name(name: bytes) -> bytes:
    """A name that every file system takes as far as its characters go; the same one if it is such already."""
    offending = {match.start() for match in _OFFENDING.finditer(name)}
    try:
        name.decode()
    except UnicodeDecodeError:
        offending.update(_undecodable(name))
    if name.endswith((b".", b" ")):
        offending.add(len(name) - 1)
    if _DEVICE.match(name):
        offending.add(0)
    if not offending and not _ESCAPE.search(name):
        return name
    return b"".join(b"%%%02X" % byte if position in offending or byte == 0x25 else bytes((byte,)) for position, byte in enumerate(name))


def original_name(name: bytes) -> bytes:
    """The name that `portable_name` made `name` of."""
    return _ESCAPE.sub(lambda match: bytes((int(match.group(1), 16),)), name)


def fitting_name(name: bytes, limit: int) -> bytes:
    """`name` in at most `limit` bytes."""
    if len(name) <= limit:
        return name
    stem, rest = split_name(name)
    if len(rest) > limit // 2:
        stem, rest = name, b""
    digest = b"~" + hashlib.sha256(name).hexdigest()[:8].encode()
    return cut(stem, limit - len(digest) - len(rest)) + digest + rest


def portable_path(path: bytes, limit: int, *, characters: bool) -> bytes:
    """A path whose every part fits into `limit` bytes, and with `characters` is portable as well."""
    return b"/".join(fitting_name(portable_name(part) if characters else part, limit) for part in path.split(b"/"))


def _undecodable(name: bytes) -> set[int]:
    """Where bytes are that belong to no UTF-8 character."""
    found: set[int] = set()
    start = 0
    while start < len(name):
        try:
            name[start:].decode()
        except UnicodeDecodeError as error:
            found.update(range(start + error.start, start + error.end))
            start += error.end
        else:
            break
    return found
