"""Why something at a source is no result."""

from __future__ import annotations

import enum


class FilterReason(enum.Enum):
    """Why something at a source is no result. The value is what the far side says for it."""

    HIDDEN = 1
    """Its name is of a kind that programs hide."""
    TEMPORARY = 2
    """Its name is that of an unfinished file."""
    FOREIGN = 3
    """Its name is a file manager's own."""
    LINK = 4
    """It is a link that is not followed."""
    SPECIAL = 5
    """It is a FIFO, a socket or a device."""
    EXTENSION = 6
    """Its extension is not among those allowed."""
    TOO_SMALL = 7
    """It is smaller than asked for."""
    TOO_LARGE = 8
    """It is larger than asked for."""
    EXCLUDED = 9
    """A pattern excludes it."""
    NOT_INCLUDED = 10
    """No pattern includes it."""
    TOO_YOUNG = 11
    """It was changed too short a while ago; it will be a result later."""
    TOO_OLD = 12
    """It was changed too long ago."""
    OUTSIDE = 13
    """It is a link out of the root, or into a folder that leads to itself."""
