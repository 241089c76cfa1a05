"""Pages: how large, and where the next one starts. A token is opaque to clients and checked when it comes back."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence

from mediasync.errors import FieldViolation, MediasyncError, Reason

DEFAULT_SIZE = 50
MAX_SIZE = 500


def page_size(asked: int) -> int:
    """The size to use for the one asked for; raises INVALID_ARGUMENT for a negative one."""
    if asked < 0:
        raise _invalid("page_size", f"0 for {DEFAULT_SIZE}, or 1 to {MAX_SIZE}; it is {asked}")
    return min(asked or DEFAULT_SIZE, MAX_SIZE)


def encode(position: Sequence[int | str]) -> str:
    """The token that leads on after `position`."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def decode(token: str, *kinds: type) -> tuple[int | str, ...] | None:
    """The position in a token, one value of each of `kinds`; None for an empty token. Raises INVALID_ARGUMENT for one that is not ours."""
    if not token:
        return None
    try:
        position = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        position = None
    if not isinstance(position, list) or [type(value) for value in position] != list(kinds):
        raise _invalid("page_token", "empty, or the next_page_token of a page")
    if any(isinstance(value, int) and abs(value) >= 2**63 for value in position):
        raise _invalid("page_token", "empty, or the next_page_token of a page")
    return tuple(position)


def _invalid(field: str, description: str) -> MediasyncError:
    return MediasyncError(
        Reason.INVALID_ARGUMENT, f"{field} is not usable: it must be {description}", fields=[FieldViolation(field, description)]
    )
