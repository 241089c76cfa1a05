"""What is not a result at any source: names that programs use for what is not finished, and file managers for their own things.

The table goes to the far side with the connection, so that such names never cross it; they are counted as filtered.
A name is filtered by its last part. Folders are filtered by prefix and full name only: a folder may well be called `set.part`.
Links, FIFOs, sockets and devices are filtered whatever their name.
"""

from __future__ import annotations

HIDDEN_PREFIXES: tuple[bytes, ...] = (
    b".",  # .DS_Store, .ipynb_checkpoints, .Trash-0, rsync's and editors' unfinished files, .~tmp~
    b"~$",  # office lock files
)
"""Beginnings of names, files and folders alike. Letter case counts."""

TEMPORARY_SUFFIXES: tuple[bytes, ...] = (
    b".tmp",  # Forge and A1111 write `<stem>.tmp` and rename it
    b".temp",
    b".part",  # Firefox, curl scripts
    b".partial",
    b".crdownload",  # Chromium
    b".download",
    b".filepart",  # WinSCP
    b".aria2",
    b".rsync-tmp",
    b".swp",
    b"~",
)
"""Endings of file names, in lower case; letter case does not count."""

FOREIGN_NAMES: tuple[bytes, ...] = (b"Thumbs.db", b"desktop.ini", b"lost+found", b"@eaDir", b"#recycle", b"$RECYCLE.BIN", b"__MACOSX")
"""Full names, files and folders alike."""
