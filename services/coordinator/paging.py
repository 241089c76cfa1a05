"""Pages of a list in keyset order: a token holds the last key of the page before, so that a page is never shifted by a change."""

from __future__ import annotations

import base64
import binascii

from mediasync.errors import FieldViolation, MediasyncError, Reason

DEFAULT_PAGE = 50
MAX_PAGE = 500


def page_size(asked: int) -> int:
    """How many to give for `asked`: 0 is the default, more than the most gives the most. INVALID_ARGUMENT when negative."""
    if asked < 0:
        violation = FieldViolation("page_size", f"must be 0 to {MAX_PAGE}, is {asked}")
        raise MediasyncError(Reason.INVALID_ARGUMENT, f"page_size {violation.description}", fields=(violation,))
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def encode(last_key: str) -> str:
    """The token for the page after `last_key`."""
    return base64.urlsafe_b64encode(b"1:" + last_key.encode()).decode("ascii")


def decode(token: str) -> str:
    """The key that `token` goes on after; empty for no token. INVALID_ARGUMENT for a token that was not made here."""
    if not token:
        return ""
    try:
        version, separator, key = base64.urlsafe_b64decode(token.encode("ascii")).partition(b":")
        if version != b"1" or not separator or not key:
            raise ValueError
        return key.decode()
    except (ValueError, binascii.Error) as error:
        violation = FieldViolation("page_token", "is not one that a list gave out")
        raise MediasyncError(Reason.INVALID_ARGUMENT, f"page_token {violation.description}", fields=(violation,)) from error
