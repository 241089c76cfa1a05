"""Resume tokens: a version of one run's picture, opaque to whoever holds it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

from mediasync.errors import FieldViolation, MediasyncError, Reason

_LAYOUT = struct.Struct(">Q4s")


def encode_token(sync_id: str, version: int) -> str:
    """The token of `version` of the run `sync_id`."""
    return base64.urlsafe_b64encode(_LAYOUT.pack(version, _mark(sync_id))).decode("ascii")


def decode_token(sync_id: str, token: str) -> int:
    """The version that `token` stands for; 0, which is before any, for an empty one.

    Raises INVALID_ARGUMENT for one that was not given out for this run.
    """
    if not token:
        return 0
    try:
        version, mark = _LAYOUT.unpack(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        raise _refused("is not a resume token of a progress watch") from None
    if mark != _mark(sync_id):
        raise _refused(f"was given out for another run than {sync_id}")
    return int(version)


def _mark(sync_id: str) -> bytes:
    return hashlib.sha256(sync_id.encode()).digest()[:4]


def _refused(why: str) -> MediasyncError:
    return MediasyncError(
        Reason.INVALID_ARGUMENT,
        f"the resume token {why}",
        "Watch again without a token.",
        fields=(FieldViolation("resume_token", why),),
    )
