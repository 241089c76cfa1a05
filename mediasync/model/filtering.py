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

    @property
    def because(self) -> str:
        """Why, for people."""
        return _BECAUSE[self]


_BECAUSE = {
    FilterReason.HIDDEN: "its name, or that of its folder, is one that programs hide",
    FilterReason.TEMPORARY: "its name is that of an unfinished file",
    FilterReason.FOREIGN: "it belongs to a file manager",
    FilterReason.LINK: "it is a link that is not followed",
    FilterReason.SPECIAL: "it is no file, but a FIFO, a socket or a device",
    FilterReason.EXTENSION: "its extension is not among allowed_extensions",
    FilterReason.TOO_SMALL: "it is smaller than min_size_bytes",
    FilterReason.TOO_LARGE: "it is larger than max_size_bytes",
    FilterReason.EXCLUDED: "it matches excluded_patterns",
    FilterReason.NOT_INCLUDED: "it matches none of include_patterns",
    FilterReason.TOO_YOUNG: "it is younger than min_age_minutes",
    FilterReason.TOO_OLD: "it is older than max_age_days",
    FilterReason.OUTSIDE: "it is a link out of the root, or into a folder that leads to itself",
}
